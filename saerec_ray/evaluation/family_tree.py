"""The families of intents on the page: nested lists, which a screen reader reads as they are."""

from __future__ import annotations

from html import escape
from typing import Any

FAMILY_STYLE = """
.families { columns: 3 260px; column-gap: 2rem; font-size: 13px; list-style: none; padding: 0; margin: .6rem 0; }
.families > li { break-inside: avoid; margin-bottom: .35rem; }
.families ul { padding-left: 1.1rem; margin: 0; list-style: "– "; }
.families small { color: #555; font-variant-numeric: tabular-nums; }
""".strip()


def family_tree(forest: list[dict[str, Any]]) -> str:
    """Intents with others below them as nested lists, then those that stand alone, all as HTML.

    `forest`: as intent_forest makes it. Nothing where there are no intents.
    """
    if not forest:
        return ""
    families = [tree for tree in forest if tree["children"]]
    alone = [tree for tree in forest if not tree["children"]]
    parts = []
    if families:
        members = sum(_size(tree) for tree in families)
        parts += [
            f"<h2>Families</h2><p>{members} published intents in {len(families)} families: a broader intent, and "
            "below it narrower ones that its items have. In brackets: how many items, and the AUC of the label."
            "</p>",
            _list(families, "families"),
        ]
    if alone:
        parts += [
            f"<h2>Without a family</h2><p>{len(alone)} published intents with none above or below them.</p>",
            _list(alone, "families"),
        ]
    return "".join(parts)


def _size(tree: dict[str, Any]) -> int:
    return 1 + sum(_size(child) for child in tree["children"])


def _list(trees: list[dict[str, Any]], kind: str = "") -> str:
    opening = f'<ul class="{kind}">' if kind else "<ul>"
    return opening + "".join(_entry(tree) for tree in trees) + "</ul>"


def _entry(tree: dict[str, Any]) -> str:
    judged = "" if tree["auc"] is None else f", {tree['auc']:.2f}"
    below = _list(tree["children"]) if tree["children"] else ""
    return f"<li>{escape(tree['label'])} <small>({tree['items']}{judged})</small>{below}</li>"
