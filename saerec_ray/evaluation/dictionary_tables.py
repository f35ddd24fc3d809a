"""The part `dictionary` as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from saerec_ray.evaluation.codings import NAMES
from saerec_ray.evaluation.content_recommender import CUTOFFS
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, number, table

CODING_NAMES = {
    "dictionary": "dictionary",
    "pca": "PCA, as many components",
    "k_means": "k-means, as many centroids",
    "random_dictionary": "random dictionary",
    "permuted": "dictionary, codes of other items",
    "raw": "raw dimensions",
}
TOGETHER = "what people take together"
SPLITS = ("validation", "test")


def dictionary_lines(found: dict[str, Any], splits: Sequence[str] = SPLITS) -> Lines:
    """Codings, sparsities, latents, and what a recommender loses on these splits."""
    lines = ["# Dictionary", "", *_origin(found), "", *_coding_lines(found)]
    lines += _recovered_lines(*(in_order(found[key], splits) for key in ("recovered", "recovered_held_out")))
    if second := found.get("cooccurrence"):
        lines += [f"# Dictionary of {TOGETHER}", "", *_second_origin(second), "", *_coding_lines(second)]
    return lines


def _coding_lines(found: dict[str, Any]) -> Lines:
    lines = [
        "## Reconstruction",
        "",
        "Of items that training did not see. Bias above 1: reconstructions are too short, below 1: too long.",
        "",
        *table(
            ["coding", "numbers an item", "out of", "FVU", "FVU, training", "cosine", "bias"],
            (
                [
                    CODING_NAMES[name],
                    f"{row['nonzeros']:.1f}",
                    f"{row['features']:.0f}",
                    f"{row['fvu']:.3f}",
                    f"{row['fvu_train']:.3f}",
                    f"{row['cosine']:.3f}",
                    f"{row['reconstruction_bias']:.3f}",
                ]
                for name, row in in_order(found["codings"], NAMES)
            ),
        ),
    ]
    if found["curve"]:
        lines += [
            "## Sparser and denser",
            "",
            "The trained dictionary under other thresholds, not trained again. FVU of held-out items.",
            "",
            *table(
                ["wanted", "active an item (L0)", "FVU", "PCA, as many components", "random dictionary"],
                (
                    [
                        f"{point['active']:.0f}",
                        f"{point['l0']:.1f}",
                        *(f"{point[key]:.3f}" for key in ("fvu", "fvu_pca", "fvu_random_dictionary")),
                    ]
                    for point in found["curve"]
                ),
            ),
        ]
    return [*lines, *_latent_lines(found)]


def _origin(found: dict[str, Any]) -> Lines:
    items = f"{found['latents']} latents; {found['held_out_items']} of {_items(found)} items held out."
    if found["trained_here"]:
        return [items]
    return [f"{items} The dictionary was trained on other items; all of these are new to it."]


def _second_origin(found: dict[str, Any]) -> Lines:
    lines = [
        *_origin(found),
        f"{met_sentence(found)} Vectors of co-occurrence are made of training interactions.",
    ]
    if found["agreement"] < 1:
        lines.append(
            f"Made again for this report they give {found['agreement']:.1%} of the items the latents they have in the "
            "model, so the figures of their reconstruction are of slightly other vectors."
        )
    return lines


def met_sentence(found: dict[str, Any]) -> str:
    """Which items the second dictionary knows."""
    return f"{found['items']} of {found['of_items']} items were met often enough to have a code."


def _items(found: dict[str, Any]) -> int:
    return int(found["held_out_items"] + found["train_items"])


def _latent_lines(found: dict[str, Any]) -> Lines:
    densities, directions = found["densities"], found["directions"]
    lines = [
        "## Latents",
        "",
        f"Dead on training items {densities['dead_share']:.1%}, on held-out items "
        f"{densities['dead_share_held_out']:.1%}; active on more than {densities['dense_limit']:.0%} of items "
        f"{densities['dense_share']:.1%}; Gini of densities {densities['gini']:.2f}.",
        f"Encoder and decoder of a latent: mean cosine {directions['alignment']:.2f}. Closest other latent: mean "
        f"cosine {directions['nearest']:.2f}, of random directions {directions['nearest_random']:.2f}; redundant "
        f"(above .9) {directions['redundant_share']:.1%}.",
    ]
    if stability := found.get("stability"):
        lines.append(
            f"Found again by trainings with other seeds, at a cosine of .7 or more: {stability['stable_share']:.0%} "
            f"of latents; mean cosine {stability['mean']:.2f}."
        )
    return [*lines, ""]


def _recovered_lines(splits: list[tuple[str, Any]], held_out: list[tuple[str, Any]]) -> Lines:
    if not splits:
        return []
    lines = [
        "## Ranking recovered",
        "",
        "A content recommender without weights ranks items by the inner product with the recency-weighted "
        "mean of a user's history; it is not the served model. R: share of its NDCG that is left when items "
        "are replaced by their reconstruction, 0 when all are the mean vector. Overlap: of lists of 10. The "
        "dictionary was trained on most items of the catalogue; of held-out items alone, which compete with each "
        "other and are easier to tell apart, it was not.",
        "",
    ]
    for name, found in (*splits, *((f"{split}, held-out items alone", found) for split, found in held_out)):
        lines += [
            f"NDCG@10 of the vectors themselves on {name}: {found['ndcg']['10']:.4f} ({found['users']} users), of "
            f"the mean vector {found['ndcg_of_mean_vector']['10']:.4f}.",
            "",
            *table(
                [
                    f"coding, {name}",
                    *(f"NDCG@{k}" for k in CUTOFFS),
                    "R@10",
                    "95% interval",
                    "R@20",
                    "change@10",
                    "overlap",
                ],
                _recovered_rows(found["codings"]),
            ),
        ]
    return lines


def _recovered_rows(codings: dict[str, Any]) -> Iterable[list[str]]:
    others = sorted(name for name in codings if name not in NAMES)
    for name, row in in_order(codings, (*NAMES, *others)):
        shown = row["recovered_interval"]
        yield [
            coding_name(name),
            *(f"{row['ndcg'][str(k)]:.4f}" for k in CUTOFFS),
            number(row["recovered"]["10"]),
            "–" if shown is None else interval(shown, ".2f"),
            number(row["recovered"]["20"]),
            number(row["change"]["10"], "+.1%"),
            f"{row['overlap']:.0%}",
        ]


def coding_name(name: str) -> str:
    """What a coding is called in tables; `dictionary_32` is the dictionary with 32 numbers an item."""
    if name in CODING_NAMES:
        return CODING_NAMES[name]
    base, _, count = name.rpartition("_")
    return {"dictionary": f"dictionary at {count} an item", "pca": f"PCA, {count} components"}[base]
