"""The part `cold` as text."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.cold import ALONE, AMONG, SCORERS
from saerec_ray.evaluation.cold_exposure import AS_TEXT, EXPOSURES, NO_BIAS, NO_COMPANIONS, SERVED, TEXT
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, table

SCORER_NAMES = {
    "intents": "intents",
    ALONE: ALONE,
    "text mean": "text: mean of the history",
    "text recent": "text: mean with the latest items counting most",
    "text closest": "text: closest item of the history",
    "centred text mean": "centred text: mean of the history",
    "centred text recent": "centred text: mean with the latest items counting most",
    "centred text closest": "centred text: closest item of the history",
    "popularity": "popularity",
}
METRICS = ("HR@10", "NDCG@10", "MRR@10")


def cold_lines(found: dict[str, Any]) -> Lines:
    """How well items that training never met are found."""
    by_text = (
        ", and are companions of the items with the closest texts" if ALONE in found.get("models", {}) else ""
    )
    lines = [
        "# Cold items",
        "",
        f"{found['cold_items']} items were kept out of training. {found['targets']} of them are to be found, by "
        f"{found['users']} of {found['all_users']} users. Each is ranked among all items, and among the cold items "
        "alone. Centred text: embeddings less the mean of the items that training met.",
        f"Cold items have their intents and one bias for all of them{by_text}: no residual. Popularity knows none of "
        "them: among all items what it finds is 0 by definition, and among cold items it keeps the order of the "
        "catalogue.",
        "",
    ]
    if "models" not in found:
        return lines
    lines += table(
        ["ranked by", *(f"{metric}, {among}" for among in AMONG for metric in METRICS)],
        (
            [SCORER_NAMES[name], *(f"{row[among][metric]:.4f}" for among in AMONG for metric in METRICS)]
            for name, row in in_order(found["models"], SCORERS)
        ),
    )
    lines += [*(_verdict(among, found["against_best"][among]) for among in AMONG), ""]
    return [*lines, *exposure_lines(found["exposure"], found["against_best"]["all"]["best"])]


def exposure_lines(exposure: dict[str, Any], best: str) -> Lines:
    """What cold items gain and others lose as they are listed more often; `best`: the reading of the texts beside."""
    names = {
        NO_BIAS: "intents, no bias",
        NO_COMPANIONS: f"{ALONE}, as often as served",
        SERVED: "intents, as served",
        AS_TEXT: "intents, as often as by the text",
        **{f"{times:g}": f"intents, {times:g} times the average item" for times in EXPOSURES},
        TEXT: SCORER_NAMES[best],
    }
    rows = [
        [
            names[name],
            f"{row['bias']:.3f}" if "bias" in row else "",
            f"{row['places']:.1%}",
            *(f"{row['cold'][metric]:.4f}" for metric in ("HR@10", "NDCG@10")),
            f"{row['HR_difference']:+.4f} ({interval(row['HR_difference_interval'], '+.4f')})"
            if "bias" in row
            else "",
            f"{row['others']['NDCG@10']:.4f}",
        ]
        for name, row in in_order(exposure["rows"], tuple(names))
    ]
    return [
        "How often new items are listed is a choice (`train.new_item_exposure`, `train.new_item_places`): their bias "
        "moves all of them alike. Places: of the first ten of the users with cold targets, among all items. Where a "
        "row says as often as another, the bias gives new items as many places among these very users; no target is "
        f"read for it. Others: {exposure['others']} users whose targets training met.",
        "",
        *table(
            [
                "ranked by",
                "bias",
                "places of new items",
                "HR@10, cold",
                "NDCG@10, cold",
                "HR@10 less the text's",
                "NDCG@10, others",
            ],
            rows,
        ),
        "",
    ]


def _verdict(among: str, found: dict[str, Any]) -> str:
    low, high = found["HR@10_difference_interval"]
    judged = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    where = "all items" if among == "all" else "cold items"
    return (
        f"Among {where}, against the best baseline ({SCORER_NAMES[found['best']]}, chosen on these targets): HR@10 "
        f"{found['HR@10_difference']:+.4f}, 95% interval {interval((low, high), '+.4f')}: {judged}."
    )
