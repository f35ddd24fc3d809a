"""The report as one HTML page: tables, and plots with a sentence each; no scripts, no network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from saerec_ray.evaluation.deletion import ORDERS
from saerec_ray.evaluation.family_tree import FAMILY_STYLE, family_tree
from saerec_ray.evaluation.markdown_report import RULE_NAMES, markdown_report
from saerec_ray.evaluation.markdown_tables import in_order
from saerec_ray.evaluation.steering_runs import MASS_PRESERVING, RAISING, RULES
from saerec_ray.evaluation.svg_plots import Series, bar_chart, line_chart

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1000px; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-top: 2.5rem; } h2 { font-size: 1.1rem; margin-top: 1.8rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 440px; max-width: 490px; } figure svg { width: 100%; height: auto; }
figcaption { font-size: 13px; color: #444; }
""".strip()
# The page may load nothing: not even a browser that is told to may fetch anything.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html_report(report: dict[str, Any]) -> str:
    """The whole page; parts that were not measured are absent."""
    sections = _sections(markdown_report(report))
    figures = _figures(report)
    body = []
    for title, content in sections:
        body.append(f"<section>{content}")
        if drawn := figures.get(title):
            body.append(f'<div class="figures">{"".join(drawn)}</div>')
        if title == "Intents":
            body.append(family_tree(report["intents"]["families"]))
        body.append("</section>")
    density = _density_figure(report)
    if density and "dictionary" not in report:
        body.append(f'<section><h1>Dictionary</h1><div class="figures">{density}</div></section>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation</title><style>{STYLE}\n{FAMILY_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _sections(markdown: str) -> list[tuple[str, str]]:
    """The text report cut at its first-level titles, each as (title, HTML)."""
    sections: list[tuple[str, list[str]]] = []
    rows: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.replace("\\|", "|") for cell in _cells(line)])
            continue
        if rows:
            sections[-1][1].append(_table(rows[0], rows[2:]))
            rows = []
        if line.startswith("# "):
            sections.append((line[2:], [f"<h1>{escape(line[2:])}</h1>"]))
        elif line.startswith("## "):
            sections[-1][1].append(f"<h2>{escape(line[3:])}</h2>")
        elif line:
            sections[-1][1].append(f"<p>{escape(line)}</p>")
    return [(title, "".join(parts)) for title, parts in sections]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(drawing: str, sentence: str) -> str:
    return f"<figure>{drawing}<figcaption>{escape(sentence)}</figcaption></figure>"


def _figures(report: dict[str, Any]) -> dict[str, list[str]]:
    """The plots by the title of their section."""
    figures: dict[str, list[str]] = {}
    if "explanations" in report:
        figures["Explanations"] = [_explained_figure(report["explanations"])]
    if "faithfulness" in report:
        figures["Faithfulness"] = _curve_figures(report["faithfulness"]["deletion_insertion"])
    if "steering" in report:
        figures["Steering"] = _steering_figures(report["steering"])
    if "representation" in report:
        figures["Over- and under-representation"] = _representation_figures(report["representation"])
    if "dictionary" in report:
        figures["Dictionary"] = _dictionary_figures(report["dictionary"])
    if "intents" in report:
        figures["Intents"] = _intents_figures(report["intents"])
    return figures


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
    strengths = found["strengths"]
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
    ):
        lines = [
            Series(rule, strengths, curve[name]) for rule, curve in served.items() if curve[name] is not None
        ]
        if lines:
            figures.append(_figure(line_chart(lines, "strength", axis, sentence), sentence))
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
    shares = sorted(rows[0]["preference"])
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
    return [
        _figure(line_chart(power, "history length", "power", found_it), found_it),
        _figure(line_chart(wrong, "history length", "share of wrong verdicts", wrongly), wrongly),
    ]


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


def _density_figure(report: dict[str, Any]) -> str:
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
