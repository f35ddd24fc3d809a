"""The plots of the report, each with a sentence that says what it shows."""

from __future__ import annotations

import itertools
import math
from html import escape
from typing import Any

import numpy as np

from saerec_ray.evaluation.ablation import CONTROLS
from saerec_ray.evaluation.cold import ALONE, AMONG, SCORERS
from saerec_ray.evaluation.cold_exposure import NO_COMPANIONS, TEXT
from saerec_ray.evaluation.cold_tables import SCORER_NAMES
from saerec_ray.evaluation.deletion import ORDERS
from saerec_ray.evaluation.dictionary_tables import TOGETHER
from saerec_ray.evaluation.list_against_history import LISTS
from saerec_ray.evaluation.markdown_report import MODELS, SPLITS, history_lengths, shown_metric
from saerec_ray.evaluation.markdown_tables import in_order
from saerec_ray.evaluation.segments import shown_segment
from saerec_ray.evaluation.steering_runs import MASS_PRESERVING, RAISING, RULES
from saerec_ray.evaluation.steering_tables import CONCEPT_RULES, RULE_NAMES
from saerec_ray.evaluation.svg_plots import Bars, Series, bar_chart, grouped_bars, line_chart
from saerec_ray.evaluation.transfer_part import CODINGS, RECENTRED, TEXTS
from saerec_ray.evaluation.transfer_tables import DICTIONARIES, DICTIONARY_NAMES


def _figure(drawing: str, sentence: str) -> str:
    return f"<figure>{drawing}<figcaption>{escape(sentence)}</figcaption></figure>"


def report_figures(report: dict[str, Any]) -> dict[str, list[str]]:
    """The plots by the title of their section."""
    figures: dict[str, list[str]] = {}
    if "accuracy" in report:
        figures["Accuracy"] = _accuracy_figures(report)
    if "models" in report.get("cold", {}):
        figures["Cold items"] = [_cold_figure(report["cold"]), _exposure_figure(report["cold"])]
    if "explanations" in report:
        figures["Explanations"] = [_explained_figure(report["explanations"])]
    if "faithfulness" in report:
        found = report["faithfulness"]
        figures["Faithfulness"] = [*_cited_figures(found), *_curve_figures(found["deletion_insertion"])]
    if "steering" in report:
        figures["Steering"] = _steering_figures(report["steering"])
    if "representation" in report:
        figures["Over- and under-representation"] = _representation_figures(report["representation"])
    if "transfer" in report:
        figures["Transfer between domains"] = _transfer_figures(report["transfer"])
    for title, part, draw in (
        ("Dictionary", "dictionary", _dictionary_figures),
        ("Intents", "intents", _intents_figures),
    ):
        if part in report:
            figures[title] = draw(report[part])
        if second := report.get(part, {}).get("cooccurrence"):
            figures[f"{title} of {TOGETHER}"] = draw(second)
    return figures


def _accuracy_figures(report: dict[str, Any]) -> list[str]:
    metric = shown_metric(report["cutoffs"])
    splits = [(split, models) for split, models in in_order(report["accuracy"], SPLITS) if models]
    if not splits:
        return []
    names = [name for name, _ in in_order(splits[0][1], MODELS)]
    details = report.get("accuracy_details", {}).get("test", {})
    bars = []
    for split, models in splits:
        known = split == "test" and metric == "NDCG@10" and all(name in details for name in names)
        bars.append(
            Bars(
                split,
                [models[name][metric] for name in names],
                [details[name]["NDCG@10_interval"] for name in names] if known else None,
            )
        )
    sentence = f"{metric} of the models: higher is better; thin lines are 95% intervals over users."
    figures = [_figure(grouped_bars(names, bars, "model", metric, sentence), sentence)]
    if details:
        lengths = history_lengths(details)
        groups = [
            Bars(name, [each["by_history_length"][length][metric] for length in lengths])
            for name, each in in_order(details, MODELS)
        ]
        sentence = f"{metric} of test users with so many known interactions: short histories are harder."
        drawing = grouped_bars(lengths, groups, "known interactions", metric, sentence)
        figures.append(_figure(drawing, sentence))
    return figures


def _cold_figure(found: dict[str, Any]) -> str:
    models = in_order(found["models"], SCORERS)
    bars = [Bars(f"among {among} items", [row[among]["HR@10"] for _, row in models]) for among in AMONG]
    sentence = (
        "How often an item that training never met is in the top 10, by what ranks it: intents should find more than "
        "any reading of the texts."
    )
    drawing = grouped_bars([name for name, _ in models], bars, "ranked by", "HR@10", sentence)
    return _figure(drawing, sentence)


def _exposure_figure(found: dict[str, Any]) -> str:
    """What finding cold items costs the others, as their bias grows."""
    rows = found["exposure"]["rows"]
    intents = sorted(
        (rows[name] for name in rows if name not in (NO_COMPANIONS, TEXT)), key=lambda row: row["bias"]
    )
    sentence = (
        "How well cold items are found among all items, and what is left to the targets of other users, the more often "
        "cold items are listed: further right and higher is better."
    )
    drawn = {"intents": intents, SCORER_NAMES[found["against_best"]["all"]["best"]]: [rows[TEXT]]}
    if NO_COMPANIONS in rows:
        drawn[ALONE] = [rows[NO_COMPANIONS]]
    lines = [
        Series(name, [row["cold"]["HR@10"] for row in own], [row["others"]["NDCG@10"] for row in own])
        for name, own in drawn.items()
    ]
    return _figure(line_chart(lines, "HR@10 of cold items", "NDCG@10 of others", sentence), sentence)


def _cited_figures(found: dict[str, Any]) -> list[str]:
    """Win rates and falls of cited against random intents, by how many are taken away."""
    rates = []
    for key, cited in (("cited_against_random", "all"), ("named_against_random", "published")):
        for control in CONTROLS:
            rows = [(int(m), row[control]) for m, row in found[key].items() if control in row]
            if rows:
                name = f"{cited}, {control.replace('_', ' ')}"
                rates.append(
                    Series(
                        name,
                        [m for m, _ in rows],
                        [row["win_rate"] for _, row in rows],
                        [row["win_rate_interval"] for _, row in rows],
                    )
                )
    won = (
        "Share of cases in which the cited intents make an item fall further than random ones, with 95% intervals: "
        "1 is always, and ties count against the cited."
    )
    falls = []
    for control in CONTROLS:
        rows = [(int(m), row[control]) for m, row in found["cited_against_random"].items() if control in row]
        for who in ("cited", "random"):
            values = [row[f"mean_drop_{who}"] for _, row in rows]
            falls.append(Series(f"{who}, {control.replace('_', ' ')}", [m for m, _ in rows], values))
    fell = "Mean places an item falls when cited intents count for nothing, and when random ones of like density do."
    return [
        _figure(line_chart(rates, "intents taken away (m)", "share of cases won", won), won),
        _figure(line_chart(falls, "intents taken away (m)", "places fallen, mean", fell), fell),
    ]


def _explained_figure(explained: dict[str, Any]) -> str:
    counts = explained["explained_share_histogram"]
    edges = np.linspace(0, 1, len(counts) + 1).tolist()
    sentence = (
        "How much of the score of a recommended item its intents explain: most bars to the right is better."
    )
    return _figure(
        bar_chart(edges, counts, "explained share of the score", "recommended items", sentence), sentence
    )


def _curve_figures(curves: dict[str, Any]) -> list[str]:
    figures = []
    for kind, sentence in (
        (
            "deletion",
            "The list's score as intents are taken away, most important first: the explanation should fall fastest.",
        ),
        (
            "insertion",
            "The list's score when only the most important intents are kept: the explanation should rise fastest.",
        ),
    ):
        lines = [
            Series(f"by {name}", curves["shares"], row[kind])
            for name, row in in_order(curves["orders"], ORDERS)
            if kind in row
        ]
        share = "share of the list's intents " + ("removed" if kind == "deletion" else "kept")
        figures.append(_figure(line_chart(lines, share, "list's score, 0 to 1", sentence), sentence))
    return figures


def _steering_figures(found: dict[str, Any]) -> list[str]:
    served = {
        RULE_NAMES[rule]: curve for rule, curve in in_order(found["random"], RULES) if rule != MASS_PRESERVING
    }
    figures = []
    for name, axis, sentence in (
        ("exposure", "exposure", "How much the lists show of the steered intent as its strength rises."),
        (
            "attribute_share",
            "share with the attribute",
            "How many listed items have the attribute the intent stands for, which is the honest measure.",
        ),
        ("ndcg", "NDCG@20", "How well the lists still find the held-out items as the strength rises."),
        (
            "ndcg_segment",
            "NDCG@20 of the segment",
            "The same for users whose held-out item has the attribute of the steered intent: a boost should help them.",
        ),
    ):
        lines = [
            Series(rule, curve["strengths"], values)
            for rule, curve in served.items()
            if (values := shown_segment(curve) if name == "ndcg_segment" else curve[name]) is not None
        ]
        if lines:
            figures.append(_figure(line_chart(lines, "strength", axis, sentence), sentence))
    if "concepts" in found:
        concepts = found["concepts"]
        sentence = (
            "How many listed items have an attribute when one learnt intent, a group or its own is boosted."
        )
        lines = [
            Series(CONCEPT_RULES[rule], concepts["strengths"], row["attribute_share"])
            for rule, row in in_order(concepts["rules"], list(CONCEPT_RULES))
        ]
        figures.append(_figure(line_chart(lines, "strength", "share with the attribute", sentence), sentence))
    if kept := [line for rule in RAISING if (line := _cost_line(rule, found["random"][rule]))]:
        sentence = (
            "What exposure costs: NDCG@20 kept against lift, for the served boost and the rule compared with."
        )
        drawing = line_chart(kept, "lift of the exposure, log10", "share of NDCG@20 kept", sentence)
        figures.append(_figure(drawing, sentence))
    return figures


def _cost_line(rule: str, curve: dict[str, Any]) -> Series | None:
    if curve["lift"] is None or curve["ndcg_loss"] is None:
        return None
    points = [
        (math.log10(lift), 1 - loss)
        for lift, loss in zip(curve["lift"], curve["ndcg_loss"], strict=True)
        if lift > 0
    ]
    return Series(RULE_NAMES[rule], [x for x, _ in points], [y for _, y in points])


def _representation_figures(found: dict[str, Any]) -> list[str]:
    pairs = sorted((float(length), row) for length, row in found["lengths"].items())
    lengths, rows = [length for length, _ in pairs], [row for _, row in pairs]
    planted = rows[0]["preference"]
    shares = [share for share in sorted(planted) if planted[share]["power"] is not None]
    power = [
        Series(f"{float(share):.0%} planted", lengths, [row["preference"][share]["power"] for row in rows])
        for share in shares
    ]
    wrong = [
        Series(
            f"{float(share):.0%} planted",
            lengths,
            [row["preference"][share]["false_discovery_rate"] for row in rows],
        )
        for share in shares
    ]
    wrong.append(
        Series("chance users", lengths, [row["chance_users"]["share_with_any_verdict"] for row in rows])
    )
    promised = found["promised_false_discovery_rate"]
    wrong.append(Series("promised", lengths, [promised] * len(lengths)))
    found_it = "Share of simulated users whose planted intent is found, by how long their history is."
    wrongly = "Share of wrong verdicts by history length: lines above the promised one break the promise."
    figures = [_figure(line_chart(wrong, "history length", "share of wrong verdicts", wrongly), wrongly)]
    if power:
        figures.insert(0, _figure(line_chart(power, "history length", "power", found_it), found_it))
    if compared := found.get("list_against_history"):
        edges = compared["edges"]
        middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
        lines = [Series(name, middles, row["histogram"]) for name, row in in_order(compared["lists"], LISTS)]
        sentence = (
            "How far the intents of a list are from those of the user's history: own lists should lie further left "
            "than lists of others."
        )
        figures.append(_figure(line_chart(lines, "KL divergence, nats", "users", sentence), sentence))
    return figures


def _transfer_figures(found: dict[str, Any]) -> list[str]:
    domains = sorted(found["domains"].items())
    figures = []
    read = [
        (name, each["dictionary"]) for name, each in domains if each["dictionary"]["fvu_native"] is not None
    ]
    if read:
        bars = [Bars(DICTIONARY_NAMES[key], [row[f"fvu_{key}"] for _, row in read]) for key in DICTIONARIES]
        sentence = (
            "What dictionaries of other domains lose of the items here, beside that of this run and random directions: "
            "lower is better."
        )
        drawing = grouped_bars(
            [name for name, _ in read], bars, "dictionary from", "variance unexplained", sentence
        )
        figures.append(_figure(drawing, sentence))
    labels = [
        (name, each["labels"][RECENTRED])
        for name, each in domains
        if each["labels"][RECENTRED].get("auc_away_shuffled") is not None
    ]
    if labels:
        bars = [
            Bars(shown, [row[key] for _, row in labels])
            for key, shown in (
                ("auc_home", "there"),
                ("auc_away", "here"),
                ("auc_away_shuffled", "here, name of another"),
            )
        ]
        sentence = (
            "How well names of other domains find the items of their latents there and here, with texts recentred: "
            ".5 is chance."
        )
        drawing = grouped_bars([name for name, _ in labels], bars, "names from", "AUC of the label", sentence)
        figures.append(_figure(drawing, sentence))
    if tried := [
        (name, each["profiles"]["models"]) for name, each in domains if "models" in each.get("profiles", {})
    ]:
        figures.append(_profile_figure(tried))
    return figures


def _profile_figure(tried: list[tuple[str, dict[str, Any]]]) -> str:
    """`tried`: by domain, the figures of every way to rank."""
    best = {
        "model, best coding": [f"model, {coding}" for coding in CODINGS],
        "popularity": ["popularity"],
        "texts, best reading": list(TEXTS),
    }
    bars = [
        Bars(shown, [max(row[name]["HR@10"] for name in names if name in row) for _, row in tried])
        for shown, names in best.items()
    ]
    sentence = (
        "How often an item that users took here is in the top 10 when only their history in another domain is known; "
        "the best of several is chosen on these very items."
    )
    return _figure(
        grouped_bars([name for name, _ in tried], bars, "history from", "HR@10", sentence), sentence
    )


def _dictionary_figures(found: dict[str, Any]) -> list[str]:
    densities = found["densities"]
    counts = densities["histogram"]["counts"]
    edges = np.linspace(densities["histogram"]["low"], 0, len(counts) + 1).tolist()
    spread = (
        "How many training items latents are active on: each bar counts latents of like density; "
        f"{densities['dead_share']:.1%} are active on none."
    )
    figures = [
        _figure(bar_chart(edges, counts, "log10 of the share of items", "latents", spread), spread),
    ]
    if points := found["curve"]:
        active = [point["l0"] for point in points]
        lines = [
            Series(name, active, [point[key] for point in points])
            for key, name in (
                ("fvu", "dictionary"),
                ("fvu_pca", "PCA, as many components"),
                ("fvu_random_dictionary", "random dictionary"),
            )
        ]
        lost = (
            "What is lost of items that training did not see, as the trained dictionary is made sparser and "
            "denser: lower is better."
        )
        drawing = line_chart(lines, "active latents an item (L0)", "variance unexplained", lost)
        figures.append(_figure(drawing, lost))
    return figures


def _intents_figures(found: dict[str, Any]) -> list[str]:
    histogram = found["detection"].get("histogram")
    if not histogram:
        return []
    edges = histogram["edges"]
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    lines = [
        Series("own label", middles, histogram["own"]),
        Series("label of another intent", middles, histogram["shuffled"]),
    ]
    sentence = (
        "How well published labels find held-out items of their intents, and how well labels of other intents "
        "do: the lines should lie apart, and .5 is chance."
    )
    drawing = line_chart(lines, "AUC of the label", "intents", sentence)
    return [_figure(drawing, sentence)]


def density_figure(report: dict[str, Any]) -> str:
    """How many items carry the intents of the model; empty where none carries any."""
    active = [math.log10(value) for value in report.get("dictionary_density", []) if value > 0]
    if not active:
        return ""
    low = math.floor(min(active))
    counts, edges = np.histogram(active, bins=40, range=(low, 0))
    silent = len(report["dictionary_density"]) - len(active)
    sentence = (
        "How many items the intents are carried by: each bar counts intents of like density; "
        f"{silent} of {len(report['dictionary_density'])} are carried by none."
    )
    drawing = bar_chart(edges.tolist(), counts.tolist(), "log10 of the share of items", "intents", sentence)
    return _figure(drawing, sentence)
