"""Accuracy of a ranking: HR, NDCG and MRR at cutoffs, over full-catalogue ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import HeldOut, ndcg, target_ranks

Ranks = npt.NDArray[np.int64]


def accuracy(ranks: Ranks, cutoffs: Sequence[int]) -> dict[str, float]:
    """HR@k (share of targets ranked within k), NDCG@k (1 / log2(rank + 1)) and MRR@k (1 / rank)."""
    result: dict[str, float] = {"targets": float(len(ranks))}
    for cutoff in cutoffs:
        within = ranks <= cutoff
        result[f"HR@{cutoff}"] = float(within.mean()) if len(ranks) else 0.0
        result[f"NDCG@{cutoff}"] = ndcg(ranks, cutoff)
        result[f"MRR@{cutoff}"] = float(np.where(within, 1 / ranks, 0).mean()) if len(ranks) else 0.0
    return result


def popularity_ranks(popularity: npt.NDArray[np.float32], cases: HeldOut) -> Ranks:
    """Ranks when every user gets the most popular items not yet met: the baseline any model must beat."""

    def batches() -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        for case in range(len(cases)):
            yield case, popularity[None].copy()

    return target_ranks(cases, batches)
