"""The part `transfer` as text."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, number, table
from saerec_ray.evaluation.transfer import LABEL_ITEMS, LIVE_ITEMS
from saerec_ray.evaluation.transfer_part import CENTRES, PROFILE_SCORERS

DICTIONARIES = ("native", "foreign", "foreign_recentred", "random")
DICTIONARY_NAMES = {
    "native": "of this run",
    "foreign": "of the other domain, kept centre",
    "foreign_recentred": "of the other domain, recentred",
    "random": "random directions",
}


def transfer_lines(found: dict[str, Any]) -> Lines:
    """What every other domain gives to this one."""
    lines = [
        "# Transfer between domains",
        "",
        f"What finished runs of other domains are worth on the {found['items']} items of this one. Nothing is trained. "
        "Kept centre: texts are centred as at home; recentred: on the mean of the items here.",
        "",
    ]
    for name, each in sorted(found["domains"].items()):
        lines += [f"## From {name}", "", f"{each['items']} items there.", ""]
        lines += _dictionary_lines(each["dictionary"], found["measured_items"])
        lines += _label_lines(each["labels"])
        if "profiles" in each:
            lines += _profile_lines(each["profiles"])
    if "no_profiles" in found:
        lines += ["## Histories there", "", found["no_profiles"], ""]
    return lines


def _dictionary_lines(found: dict[str, Any], measured: int) -> Lines:
    return [
        f"Variance unexplained is of the {measured} items here that the dictionary of this run was neither trained nor "
        "chosen by: lower is better. A latent is alive when it is active on at least "
        f"{LIVE_ITEMS} items here. Matched: latents of the two dictionaries that point the same way.",
        "",
        *table(
            [
                "dictionary",
                "variance unexplained",
                "times that of this run",
                "active latents an item",
                "alive",
                "matched",
            ],
            (
                [
                    DICTIONARY_NAMES[name],
                    number(found[f"fvu_{name}"], ".3f"),
                    number(found.get(f"fvu_ratio_{name}"), ".2f"),
                    number(found.get(f"l0_{name}"), ".1f"),
                    number(found.get(f"live_share_{name}"), ".1%"),
                    number(found.get(_MATCHED.get(name, "")), ".1%"),
                ]
                for name in DICTIONARIES
            ),
        ),
    ]


_MATCHED = {"foreign": "match_share", "random": "match_share_random"}


def _label_lines(found: dict[str, Any]) -> Lines:
    centres = in_order(found, CENTRES)
    published = centres[0][1]["published"]
    judged = [(centre, row) for centre, row in centres if row["judged"]]
    if not judged:
        return [
            f"None of the {published} names of texts there could be judged here: each needs {LABEL_ITEMS} items here "
            "that its latent is active on, and some that it is not.",
            "",
        ]
    return [
        f"Do names that were found there still find the items here that their latents are active on? Of {published} "
        f"published names of texts those are judged whose latents are active on at least {LABEL_ITEMS} items here; AUC "
        ".5 is chance. There, names had to pass a gate on the half of the items that they are judged by; here "
        "negatives are drawn from all items, so the nearest are nearer. Some of the fall is that. The control is the "
        "name of another latent.",
        "",
        *table(
            [
                "dictionary",
                "names judged",
                "AUC there",
                "AUC here",
                "AUC here, name of another",
                "at least .70 here",
            ],
            (
                [
                    centre,
                    str(row["judged"]),
                    *(number(row[key], ".3f") for key in ("auc_home", "auc_away", "auc_away_shuffled")),
                    f"{row['kept_share']:.1%}",
                ]
                for centre, row in judged
            ),
        ),
    ]


def _profile_lines(found: dict[str, Any]) -> Lines:
    if "models" not in found:
        return [
            "Nobody who has a history there has an item to be found here: no user id is in both, or none with enough "
            "interactions.",
            "",
        ]
    return [
        f"{found['users']} users with a history there and items to be found here: what they did there, before its own "
        "held-out items, is all that is known of them. AUC is the share of items ranked below the one to be found. "
        f"An item there has {found['exact_latents']:.1f} latents of attributes and phrases of this run.",
        "",
        *table(
            [
                "ranked by",
                "HR@10",
                "NDCG@10",
                "MRR@10",
                "AUC",
                "HR@10 above popularity, 95% interval",
                "judged",
                "above the best text neighbours",
                "judged",
            ],
            (
                [
                    name,
                    *(f"{row[key]:.4f}" for key in ("HR@10", "NDCG@10", "MRR@10")),
                    f"{row['AUC']:.3f}",
                    *_verdict(row, "popularity"),
                    *_verdict(row, "texts"),
                ]
                for name, row in in_order(found["models"], PROFILE_SCORERS)
            ),
        ),
    ]


def _verdict(row: dict[str, Any], other: str) -> tuple[str, str]:
    if f"HR@10_over_{other}_interval" not in row:
        return "–", "–"
    low, high = row[f"HR@10_over_{other}_interval"]
    judged = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{row[f'HR@10_over_{other}']:+.4f}, {interval((low, high), '+.4f')}", judged
