"""The report as one HTML page: tables, and plots with a sentence each; no scripts, no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from saerec_ray.evaluation.family_tree import FAMILY_STYLE, family_tree
from saerec_ray.evaluation.markdown_report import markdown_report
from saerec_ray.evaluation.report_figures import density_figure, report_figures

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
    figures = report_figures(report)
    body = []
    for title, content in sections:
        body.append(f"<section>{content}")
        if drawn := figures.get(title):
            body.append(f'<div class="figures">{"".join(drawn)}</div>')
        if title == "Intents":
            body.append(family_tree(report["intents"]["families"]))
        body.append("</section>")
    density = density_figure(report)
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
