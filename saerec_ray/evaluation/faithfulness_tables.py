"""The part `faithfulness` as text: whether explanations add up, and whether what they cite decides."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.ablation import CONTROLS
from saerec_ray.evaluation.deletion import ORDERS
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, number, table


def explanation_lines(explained: dict[str, Any]) -> Lines:
    """Whether explanations add up and how much they cover."""
    lines = [
        "# Explanations",
        "",
        f"Largest error when the parts of a score are added up again: {explained['completeness_error']:.1e} "
        f"(over {explained['items']} recommended items of {explained['users']} users).",
        f"Share of a score that intents explain: median {explained['explained_share_median']:.0%}, "
        f"tenth percentile {explained['explained_share_p10']:.0%}.",
        "Share that companions explain, items of the history that people take the item soon after, or would by its "
        f"text: mean {explained['companions_share_mean']:.0%}.",
        f"Intents that make 80% of the intents' part: median {explained['intents_for_80_percent_median']:.0f}, "
        f"ninetieth percentile {explained['intents_for_80_percent_p90']:.0f}.",
    ]
    lines += ["", *table(["listed items", "items", "median share", "tenth percentile"], _shares(explained))]
    if explained["cold_items"]:
        lines += [
            "Cold items have no training interaction: what companions add to them is judged by their texts.",
            "",
        ]
    return lines


def _shares(explained: dict[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            str(explained[f"{name}_items"]),
            *(number(explained[f"{name}_explained_share_{figure}"], ".0%") for figure in ("median", "p10")),
        ]
        for name in ("warm", "cold")
    ]


def faithfulness_lines(found: dict[str, Any]) -> Lines:
    """Whether what is cited is what decides."""
    lines = ["# Faithfulness", ""]
    for key, title in (
        ("cited_against_random", "As if all intents were published"),
        ("named_against_random", "Only published intents can be cited, as in the served explanation"),
    ):
        lines += [
            f"## {title}",
            "",
            f"{found['users']} users. The m first reasons that a server lists for an item count for nothing, "
            "for all items; the catalogue is ranked again. It lists five that set the item apart from the user's 100 "
            "best, first the one without which the item moves furthest. So one alone seldom loses by construction: "
            "what counts against it are ties and intents that are not listed. How many places the item falls, "
            "against m other intents of the same item, or of the items the user met, of like density. Won: share of "
            "cases in which the cited ones make it fall further. There is no ratio where the control's median fall is "
            "0 or less: then half of all random removals leave the item where it was, and the mean falls and the "
            "share won must tell.",
            "",
            *table(
                [
                    "m",
                    "control",
                    "cases",
                    "median fall, cited",
                    "random",
                    "ratio",
                    "mean fall, cited",
                    "random",
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
                        f"{row['mean_drop_cited']:.1f}",
                        f"{row['mean_drop_random']:.1f}",
                        f"{row['win_rate']:.0%}",
                        interval(row["win_rate_interval"]),
                        f"{row['ties']:.0%}",
                    ]
                    for m, controls in found[key].items()
                    for control, row in in_order(controls, CONTROLS)
                ),
            ),
        ]
    lines += _curve_lines(found["deletion_insertion"])
    lines += _history_lines(found["history"], found["evidence"])
    return [*lines, *_stability_lines(found["stability"], found["seed_stability"])]


def _curve_lines(curves: dict[str, Any]) -> Lines:
    kept = [f"{name}@{cutoff}" for name in ("POS", "NEG") for cutoff in (5, 10, 20)]
    return [
        "## Deletion and insertion",
        "",
        "The intents of a whole top 10 are removed, or kept, in some order. Deletion: area under the list's "
        "score, lower is better. Insertion: higher is better. POS: share of the top K left after the first went, "
        "lower is better. NEG: after the last went, higher is better. The order by contribution is the best for both "
        "areas by construction: scores are sums, and no order takes away or keeps more of a sum than that of its "
        "parts. POS and NEG, in which other items compete, are the evidence. "
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


def _history_lines(carriers: dict[str, Any], cited: dict[str, Any]) -> Lines:
    return [
        "## Histories",
        "",
        "Another claim than the above: history items are removed and the user is encoded again, against equally many "
        "random others. Cited: exactly the items, up to three, that a server names behind a recommendation; the random "
        "ones may carry the same intents. Carriers: all items that carry one of the three first reasons; the "
        "random ones carry none.",
        "",
        *table(
            [
                "removed",
                "among",
                "compared",
                "median fall",
                "random",
                "mean fall",
                "random",
                "won",
                "95% interval",
                "ties",
                "lost",
            ],
            history_rows(carriers, cited),
        ),
    ]


HISTORY_VARIANTS = {"any_item": "any item", "last_item_kept": "never the latest item"}


def history_rows(carriers: dict[str, Any], cited: dict[str, Any]) -> list[list[str]]:
    """What was removed, how far items fell without it, and how often further than without random ones."""
    return [
        [
            removed,
            title,
            str(row["compared"]),
            *(f"{row[f'median_drop_{name}']:.0f}" for name in (key, "random")),
            *(f"{row[f'mean_drop_{name}']:.1f}" for name in (key, "random")),
            f"{row['win_rate']:.0%}",
            interval(row["win_rate_interval"]),
            f"{row['ties']:.0%}",
            f"{row['loss_rate']:.0%}",
        ]
        for removed, key, found in (("cited", "cited", cited), ("all carriers", "carriers", carriers))
        for variant, title in HISTORY_VARIANTS.items()
        if (row := found.get(variant))
    ]


def _stability_lines(history: dict[str, Any], members: dict[str, Any]) -> Lines:
    lines = [
        "## Stability of reasons",
        "",
        "Overlap (Jaccard) of the three first reasons that a server lists for the same item and user; 1: no change.",
        "",
    ]
    rows = [
        [
            title,
            str(found["users"]),
            *(number(found[f"top_3_jaccard_{name}"]) for name in ("mean", "p10")),
            chance,
        ]
        for title, found, chance in (
            ("one random earlier history item dropped", history, number(history.get("by_chance"))),
            ("another seed: member 1 against member 2", members, number(members["by_chance"])),
        )
        if found["top_3_jaccard_mean"] is not None
    ]
    lines += table(["change", "users", "mean", "tenth percentile", "random intents of the item"], rows)
    if members["members"] < 2:
        lines += [
            "Stability under another seed compares members of one model, which are trained apart on the same "
            f"dictionary. It needs two; this model has {members['members']}: set train.members to 2.",
            "",
        ]
    return lines
