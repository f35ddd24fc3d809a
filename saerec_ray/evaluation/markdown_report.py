"""The report as text: tables and plain sentences, one section a part that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saerec_ray.evaluation.deletion import ORDERS
from saerec_ray.evaluation.dictionary_tables import dictionary_lines
from saerec_ray.evaluation.intents_tables import intents_lines
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, number, table
from saerec_ray.evaluation.steering_runs import RULES

SPLITS = ("validation", "test")
MODELS = ("intents", "no intents", "popularity")

RULE_NAMES = {
    "boost": "boost",
    "avoid": "avoid",
    "suppress": "suppress",
    "mass_preserving": "mass-preserving, strength cubed (not served)",
}


def markdown_report(report: dict[str, Any]) -> str:
    """The whole report; parts that were not measured are absent."""
    lines = ["# Evaluation", "", report["protocol"], ""]
    if "accuracy" in report:
        lines += accuracy_lines(report)
    if "explanations" in report:
        lines += explanation_lines(report["explanations"])
    if "faithfulness" in report:
        lines += faithfulness_lines(report["faithfulness"])
    if "steering" in report:
        lines += steering_lines(report["steering"])
    if "representation" in report:
        lines += representation_lines(report["representation"])
    if "dictionary" in report:
        lines += dictionary_lines(report["dictionary"])
    if "intents" in report:
        lines += intents_lines(report["intents"])
    return "\n".join(lines)


def _first_number(text: str) -> int:
    return int(text.rstrip("+").partition("-")[0])


def accuracy_lines(report: dict[str, Any]) -> Lines:
    """One table a split, then history lengths and lists of the test split."""
    names = [f"{metric}@{cutoff}" for metric in ("HR", "NDCG", "MRR") for cutoff in report["cutoffs"]]
    lines = ["# Accuracy", ""]
    for split, models in in_order(report["accuracy"], SPLITS):
        lines += [f"## {split.capitalize()}", ""]
        lines += table(
            ["model", *names],
            (
                [model, *(f"{metrics[name]:.4f}" for name in names)]
                for model, metrics in in_order(models, MODELS)
            ),
        )
    details = report.get("accuracy_details", {}).get("test", {})
    if not details:
        return lines
    shown = f"NDCG@{report['cutoffs'][len(report['cutoffs']) // 2]}"
    lengths = sorted(next(iter(details.values()))["by_history_length"], key=_first_number)
    lines += [
        "## By history length, test",
        "",
        f"{shown} of users with so many known interactions.",
        "",
        *table(
            ["model", *lengths],
            (
                [model, *(f"{each['by_history_length'][length][shown]:.4f}" for length in lengths)]
                for model, each in in_order(details, MODELS)
            ),
        ),
        "## Lists, test",
        "",
        "Popularity is the mean number of training interactions of an item. Bias above 1: lists are more "
        "popular than what the same users met. Coverage: share of the catalogue in any top 10.",
        "",
        *table(
            ["model", "NDCG@10, 95% interval", "popularity of lists", "of histories", "bias", "coverage"],
            (
                [
                    model,
                    interval(each["NDCG@10_interval"], ".4f"),
                    f"{each['lists']['list_popularity']:.1f}",
                    f"{each['lists']['history_popularity']:.1f}",
                    f"{each['lists']['popularity_bias']:.2f}",
                    f"{each['lists']['catalogue_coverage']:.1%}",
                ]
                for model, each in in_order(details, MODELS)
            ),
        ),
    ]
    return lines


def explanation_lines(explained: dict[str, Any]) -> Lines:
    """Whether explanations add up and how much they cover."""
    lines = [
        "# Explanations",
        "",
        f"Largest error when the parts of a score are added up again: {explained['completeness_error']:.1e} "
        f"(over {explained['items']} recommended items).",
        f"Share of a score that intents explain: median {explained['explained_share_median']:.0%}, "
        f"tenth percentile {explained['explained_share_p10']:.0%}.",
        f"Share that companions explain, items of the history that people take the item soon after: mean "
        f"{explained['companions_share_mean']:.0%}.",
        f"Intents that make 80% of the intents' part: median {explained['intents_for_80_percent_median']:.0f}, "
        f"ninetieth percentile {explained['intents_for_80_percent_p90']:.0f}.",
    ]
    if explained["cold_items"]:
        lines.append(
            f"For the {explained['cold_items']} listed items without training interactions: median "
            f"{explained['cold_explained_share_median']:.0%}."
        )
    return [*lines, ""]


def faithfulness_lines(found: dict[str, Any]) -> Lines:
    """Whether what is cited is what decides."""
    lines = ["# Faithfulness", ""]
    for key, title in (
        ("cited_against_random", "All intents can be cited"),
        ("named_against_random", "Only published intents can be cited, as in the served explanation"),
    ):
        lines += [
            f"## {title}",
            "",
            "The m strongest reasons of a recommended item count for nothing, for all items; the catalogue is "
            "ranked again. How many places the item falls, against m other intents of the same item, or of the "
            "items the user met, of like density. Won: share of cases in which the cited ones make it fall "
            "further.",
            "",
            *table(
                [
                    "m",
                    "control",
                    "cases",
                    "median fall, cited",
                    "random",
                    "ratio",
                    "won",
                    "95% interval",
                    "ties",
                ],
                (
                    [
                        m,
                        control.replace("_", " "),
                        str(row["cases"]),
                        f"{row['median_drop_cited']:.0f}",
                        f"{row['median_drop_random']:.0f}",
                        number(row["ratio"], ".1f"),
                        f"{row['win_rate']:.0%}",
                        interval(row["win_rate_interval"]),
                        f"{row['ties']:.0%}",
                    ]
                    for m, controls in found[key].items()
                    for control, row in controls.items()
                ),
            ),
        ]
    lines += _curve_lines(found["deletion_insertion"])
    return [*lines, *_history_lines(found["history"], found["stability"])]


def _curve_lines(curves: dict[str, Any]) -> Lines:
    kept = [f"{name}@{cutoff}" for name in ("POS", "NEG") for cutoff in (5, 10, 20)]
    return [
        "## Deletion and insertion",
        "",
        "The intents of a whole top 10 are removed, or kept, in some order. Deletion: area under the list's "
        "score, lower is better. Insertion: higher is better. POS: share of the top K left after the first went, "
        "lower is better. NEG: after the last went, higher is better. "
        f"{curves['users']} users, {curves['left_out']} left out of the areas because the intents add nothing "
        "to their lists.",
        "",
        *table(
            ["order by", "deletion", "insertion", *kept],
            (
                [
                    name,
                    number(row.get("deletion_area")),
                    number(row.get("insertion_area")),
                    *(f"{row[each]:.2f}" for each in kept),
                ]
                for name, row in in_order(curves["orders"], ORDERS)
            ),
        ),
    ]


def _history_lines(history: dict[str, Any], stable: dict[str, Any]) -> Lines:
    titles = {"any_item": "any item", "last_item_kept": "never the latest item"}
    lines = [
        "## Histories",
        "",
        "Another claim than the above: history items that carry the cited intents are removed and the user is "
        "encoded again, against equally many random others.",
        "",
        *table(
            [
                "removed",
                "compared",
                "median fall, carriers",
                "random",
                "mean fall",
                "random",
                "won",
                "95% interval",
            ],
            (
                [
                    title,
                    str(history[key]["compared"]),
                    f"{history[key]['median_drop_carriers']:.0f}",
                    f"{history[key]['median_drop_random']:.0f}",
                    f"{history[key]['mean_drop_carriers']:.1f}",
                    f"{history[key]['mean_drop_random']:.1f}",
                    f"{history[key]['win_rate']:.0%}",
                    interval(history[key]["win_rate_interval"]),
                ]
                for key, title in titles.items()
                if key in history
            ),
        ),
    ]
    if stable["top_3_jaccard_mean"] is not None:
        lines += [
            "Overlap (Jaccard) of an item's three strongest intents before and after one random earlier history "
            f"item is dropped: mean {stable['top_3_jaccard_mean']:.2f}, tenth percentile "
            f"{stable['top_3_jaccard_p10']:.2f} ({stable['users']} users).",
            "",
        ]
    return lines


def steering_lines(found: dict[str, Any]) -> Lines:
    """What steering gains and costs."""
    lines = [
        "# Steering",
        "",
        f"{found['users']} users, {len(found['intents'])} intents each alone, lists of 20. Exposure: mean loading "
        "of the steered intent in the list; lift: exposure against no steering. Attribute: share of the list that "
        "has the attribute the intent stands for, where it has one. Segment: users whose held-out item has it. "
        f"Steps at which a stronger setting did less than promised: {found['violations']} (must be 0).",
        "",
    ]
    for key, title in (("random", "Every user, every intent"), ("own", "Each user's own recent intent")):
        for rule, curve in in_order(found[key], RULES):
            lines += [f"## {title}: {RULE_NAMES[rule]}", ""]
            lines += _curve_table(found["strengths"], curve)
    lines += ["## The intent in the middle, full strength", ""]
    lines += table(
        ["rule", "lift", "NDCG lost", "furthest lift at 2% loss", "selectivity", "NDCG lost at 2x", "at 3x"],
        (
            [
                RULE_NAMES[rule],
                number(row["median_intent"]["lift"]),
                number(row["median_intent"]["ndcg_loss"], ".1%"),
                number(row["median_intent"]["lift_within_tolerated_loss"]),
                number(row["median_intent"]["selectivity"]),
                *(number(row.get("ndcg_loss_at_lift", {}).get(lift), ".1%") for lift in ("2", "3")),
            ]
            for rule, row in in_order(found["random"], RULES)
        ),
    )
    return lines


def _curve_table(strengths: Sequence[float], curve: dict[str, Any]) -> Lines:
    columns: list[tuple[str, list[float] | None, str]] = [
        ("exposure", curve["exposure"], ".4f"),
        ("lift", curve["lift"], ".2f"),
        ("attribute", curve["attribute_share"], ".3f"),
        ("NDCG@20", curve["ndcg"], ".4f"),
        ("NDCG@20, segment", curve["ndcg_segment"], ".4f"),
        ("drift of others", curve.get("drift_of_unrelated"), ".3f"),
        ("overlap", curve["overlap"], ".2f"),
        ("popularity", curve["popularity"], ".1f"),
    ]
    shown = [column for column in columns if column[1] is not None]
    rows = [
        [f"{strength:g}", *(format((values or [])[place], form) for _, values, form in shown)]
        for place, strength in enumerate(strengths)
    ]
    note = f"{curve['runs']} lists a strength; broken steps: {curve['violations']}."
    return [*table(["strength", *(name for name, _, _ in shown)], rows), note, ""]


def representation_lines(found: dict[str, Any]) -> Lines:
    """Verdicts on simulated users."""
    lengths = found["lengths"]
    shares = sorted(next(iter(lengths.values()))["preference"])
    heads = ["history length", "chance users with a verdict", "verdicts a chance user"]
    for share in shares:
        heads += [f"found, {float(share):.0%} planted", f"wrong, {float(share):.0%} planted"]
    heads += ["avoided intent found", "where possible"]
    rows = []
    for length, row in sorted(lengths.items(), key=lambda pair: int(pair[0])):
        cells = [
            length,
            f"{row['chance_users']['share_with_any_verdict']:.0%}",
            f"{row['chance_users']['mean_over'] + row['chance_users']['mean_under']:.2f}",
        ]
        for share in shares:
            cells += [
                f"{row['preference'][share]['power']:.0%}",
                f"{row['preference'][share]['false_discovery_rate']:.1%}",
            ]
        avoided = row["aversion"]
        rows.append([*cells, f"{avoided['power']:.0%}", number(avoided["power_where_possible"], ".0%")])
    return [
        "# Over- and under-representation",
        "",
        f"{found['users_of_each_kind']} simulated users of each kind. Chance users have no preference, so each "
        f"verdict on them is false; at most {found['promised_false_discovery_rate']:.0%} of them should get any. "
        "Planted users take so many of their items from one intent; wrong is the mean share of their verdicts "
        "that the planted mixture does not bear out.",
        "",
        *table(heads, rows),
    ]
