"""The part `steering` as text."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.markdown_tables import Lines, in_order, number, table
from saerec_ray.evaluation.segments import FEWEST_RUNS, shown_segment
from saerec_ray.evaluation.steering_runs import RULES

RULE_NAMES = {
    "boost": "boost",
    "avoid": "avoid",
    "suppress": "suppress",
    "mass_preserving": "mass-preserving (not served)",
}

CONCEPT_RULES = {
    "single": "strongest learnt intent",
    "group": "group of learnt intents",
    "exact": "intent of the attribute itself",
}


def steering_lines(found: dict[str, Any]) -> Lines:
    """What steering gains and costs."""
    lines = [
        "# Steering",
        "",
        f"{found['users']} users, {len(found['intents'])} intents each alone, lists of 20. Exposure: mean loading "
        "of the steered intent in the list; lift: exposure against no steering. Attribute: share of the list that "
        "has the attribute the intent stands for, where it has one. Segment: users whose held-out item has it, drawn "
        f"among all; of fewer than {FEWEST_RUNS} lists no figure is shown. "
        "Against the lists without steering: drift, the change of unrelated intents' exposure as a share of all; "
        "overlap, shared items; rank-biased overlap, the same with the first places counting most; mix, the KL "
        "divergence of the categories of all lists in nats. Coverage: share of the catalogue in any list. "
        f"Steps at which a stronger setting did less than promised: {found['violations']} (must be 0).",
        "",
    ]
    for key, title in (("random", "Every user, every intent"), ("own", "Each user's own recent intent")):
        for rule, curve in in_order(found[key], RULES):
            lines += [f"## {title}: {RULE_NAMES[rule]}", ""]
            lines += _curve_table(curve)
    if "concepts" in found:
        lines += ["## One intent, a group, the exact intent", "", *concept_lines(found["concepts"])]
    lines += ["## The intent in the middle, full strength", ""]
    lines += table(
        [
            "rule",
            "lift",
            "NDCG lost",
            "furthest lift at 2% loss",
            "selectivity",
            "Spearman",
            "NDCG lost at 2x",
            "at 3x",
        ],
        (
            [
                RULE_NAMES[rule],
                number(row["median_intent"]["lift"]),
                number(row["median_intent"]["ndcg_loss"], ".1%"),
                number(row["median_intent"]["lift_within_tolerated_loss"]),
                number(row["median_intent"]["selectivity"]),
                number(row["median_intent"]["spearman"]),
                *(number(row.get("ndcg_loss_at_lift", {}).get(lift), ".1%") for lift in ("2", "3")),
            ]
            for rule, row in in_order(found["random"], RULES)
        ),
    )
    return lines


def concept_lines(found: dict[str, Any]) -> Lines:
    """A group of learnt intents against the strongest of them and the intent made of the attribute itself."""
    exact = sum(each["exact"] for each in found["concepts"])
    apart = 0 < exact < len(found["concepts"])
    lines = [
        f"{len(found['concepts'])} attribute values of 40 items and more; {exact} have an intent of their own"
        f"{', and the second table is of these alone' if apart else ''}. "
        f"Learnt intents are found from 20 example items. Boosts, {found['users']} users; the segment is drawn for "
        "itself.",
        "",
    ]
    for part in ("rules", "paired") if apart else ("rules",):
        rows = [
            [
                CONCEPT_RULES[rule],
                f"{strength:g}",
                f"{row['attribute_share'][place]:.3f}",
                number(row["ndcg_loss"] and row["ndcg_loss"][place], ".1%"),
                segment_cell(row, place),
                str(row["segment_runs"]),
                f"{row['overlap'][place]:.2f}",
            ]
            for rule, row in in_order(found[part], list(CONCEPT_RULES))
            for place, strength in enumerate(found["strengths"])
        ]
        heads = (
            *("rule", "strength", "list with attribute", "NDCG lost"),
            *("NDCG@20, segment", "lists of segment", "overlap"),
        )
        lines += [*table(heads, rows), ""]
    return lines


def segment_cell(curve: dict[str, Any], place: int) -> str:
    """NDCG@20 of the segment at one strength; a dash where too few lists were measured."""
    values = shown_segment(curve)
    return number(values[place] if values else None, ".4f")


def _curve_table(curve: dict[str, Any]) -> Lines:
    columns: list[tuple[str, list[float] | None, str]] = [
        ("exposure", curve["exposure"], ".4f"),
        ("lift", curve["lift"], ".2f"),
        ("attribute", curve["attribute_share"], ".3f"),
        ("NDCG@20", curve["ndcg"], ".4f"),
        ("NDCG@20, segment", shown_segment(curve), ".4f"),
        ("drift of others", curve.get("drift_of_unrelated"), ".3f"),
        ("lists changed", curve["lists_changed"], ".0%"),
        ("overlap", curve["overlap"], ".2f"),
        ("rank-biased overlap", curve["rank_biased_overlap"], ".2f"),
        ("mix of categories", curve["category_divergence"], ".3f"),
        ("coverage", curve["coverage"], ".1%"),
        ("popularity", curve["popularity"], ".1f"),
    ]
    shown = [column for column in columns if column[1] is not None]
    rows = [
        [f"{strength:.2g}", *(format((values or [])[place], form) for _, values, form in shown)]
        for place, strength in enumerate(curve["strengths"])
    ]
    note = (
        f"{curve['runs']} lists a strength, {curve['segment_runs']} of the segment; broken steps: "
        f"{curve['violations']}; Spearman's correlation of strength and exposure {number(curve['spearman'])}."
    )
    return [*table(["strength", *(name for name, _, _ in shown)], rows), note, ""]
