"""Accuracy of a ranking: HR, NDCG and MRR at cutoffs, over full-catalogue ranks, and by history length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import HeldOut, ndcg, target_ranks
from saerec_ray.evaluation.intervals import target_interval

Ranks = npt.NDArray[np.int64]

HISTORY_LENGTHS = ((1, 4), (5, 9), (10, None))
"""Groups of users: shortest and longest history, None without a limit."""


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


def target_cases(cases: HeldOut) -> npt.NDArray[np.int64]:
    """The case each target belongs to, in the order of target_ranks: (targets,)."""
    return np.repeat(np.arange(len(cases)), [len(targets) for targets in cases.targets])


def accuracy_by_history_length(
    ranks: Ranks, cases: HeldOut, cutoffs: Sequence[int]
) -> dict[str, dict[str, float]]:
    """The accuracy of the users with 1 to 4, 5 to 9, and 10 or more known interactions.

    Groups without users are left out. `ranks` are those of target_ranks for the same cases.
    """
    lengths = np.array([len(history) for history in cases.histories])[target_cases(cases)]
    result = {}
    for shortest, longest in HISTORY_LENGTHS:
        inside = (lengths >= shortest) & (lengths <= (longest or np.inf))
        if inside.any():
            name = f"{shortest}-{longest}" if longest else f"{shortest}+"
            result[name] = accuracy(ranks[inside], cutoffs)
    return result


def ndcg_interval(ranks: Ranks, cases: HeldOut, cutoff: int, seed: int) -> list[float]:
    """The 95% bootstrap interval of NDCG@cutoff, users drawn with all their targets: low, high."""
    gains = np.where(ranks <= cutoff, 1 / np.log2(ranks + 1), 0.0)
    return list(target_interval(gains, target_cases(cases), seed))
