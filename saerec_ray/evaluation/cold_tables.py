"""The part `cold` as text."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.cold import AMONG, SCORERS
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, table

SCORER_NAMES = {
    "intents": "intents",
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
    lines = [
        "# Cold items",
        "",
        f"{found['cold_items']} items were kept out of training. {found['targets']} of them are to be found, by "
        f"{found['users']} of {found['all_users']} users. Each is ranked among all items, and among the cold items "
        "alone. Centred text: embeddings less the mean of the items that training met.",
        "Cold items have their intents and one bias for all of them: no residual, no companions. So intents explain "
        "all of their order by construction. Popularity knows none of them: among all items what it finds is 0 by "
        "definition, and among cold items it keeps the order of the catalogue.",
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
    return [*lines, bias_sentence(found["bias"]), ""]


def bias_sentence(found: dict[str, Any]) -> str:
    """What the bias of cold items does to them and to others."""
    cold, others = found["cold"], found["others"]
    return (
        f"The bias of cold items is {found['value']:.3f} (`train.new_item_exposure`). With it their HR@10 among all "
        f"items is {cold['with']['HR@10']:.4f}, without it {cold['without']['HR@10']:.4f}. Targets that training met, "
        f"of {found['users']} other users: NDCG@10 {others['with']['NDCG@10']:.4f} with it, "
        f"{others['without']['NDCG@10']:.4f} without it."
    )


def _verdict(among: str, found: dict[str, Any]) -> str:
    low, high = found["HR@10_difference_interval"]
    judged = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    where = "all items" if among == "all" else "cold items"
    return (
        f"Among {where}, against the best baseline ({SCORER_NAMES[found['best']]}, chosen on these targets): HR@10 "
        f"{found['HR@10_difference']:+.4f}, 95% interval {interval((low, high), '+.4f')}: {judged}."
    )
