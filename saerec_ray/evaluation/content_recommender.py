"""What a coding keeps of what ranks items: a fixed content recommender before and after reconstruction.

The recommender has nothing to learn. Vectors are centred on the training mean; the state of a user is the mean of
the vectors of the history, the latest item counting most and each one before it half as much as the next; items
are ranked by the inner product of their vector with the state. It is not the model that is served: that one
learns from interactions too, and reads codes, not reconstructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.backbone.validation import HeldOut, target_ranks, users_at_once
from saerec_ray.evaluation.accuracy import Ranks, target_cases
from saerec_ray.evaluation.intervals import RESAMPLES

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

CUTOFFS = (10, 20)
LIST_LENGTH = 10
RECENCY = 0.5
"""Weight of an item of the history, as a share of the weight of the one after it."""


@dataclass(frozen=True)
class Recommended:
    """Where the targets rank, and the best unseen items of every case."""

    ranks: Ranks  # (targets,)
    lists: Indices  # (cases, LIST_LENGTH), in no order


def recommend(vectors: Floats, cases: HeldOut, among: Mask | None = None) -> Recommended:
    """Ranks and lists of the content recommender on centred vectors, (items, d); what was met is left out.

    `among`: the items that compete, (items,); all without it.
    """
    states = _states(vectors, cases)
    lists: list[Indices] = []

    at_once = users_at_once(len(vectors))

    def batches() -> Iterator[tuple[int, Floats]]:
        for start in range(0, len(cases), at_once):
            scores = np.asarray(states[start : start + at_once] @ vectors.T, dtype=np.float32)
            if among is not None:
                scores[:, ~among] = -np.inf
            lists.append(_best_unseen(scores, cases.histories[start : start + at_once]))
            yield start, scores

    ranks = target_ranks(cases, batches)
    return Recommended(ranks, np.concatenate(lists))


def _states(vectors: Floats, cases: HeldOut) -> Floats:
    """The weighted mean of the vectors of each history: (cases, d)."""
    weights = [
        RECENCY ** np.arange(len(history) - 1, -1, -1, dtype=np.float64) for history in cases.histories
    ]
    values = np.concatenate([own / own.sum() for own in weights]).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in weights])])
    shape = (len(cases), len(vectors))
    met = csr_array((values, np.concatenate(cases.histories), offsets), shape=shape)
    return np.asarray(met @ vectors, dtype=np.float32)


def _best_unseen(scores: Floats, histories: list[npt.NDArray[np.int32]]) -> Indices:
    open_scores = scores.copy()
    for row, history in enumerate(histories):
        open_scores[row, history] = -np.inf
    length = min(LIST_LENGTH, scores.shape[1])
    return np.argpartition(-open_scores, length - 1, axis=1)[:, :length]


def ndcg_recovered(
    unit: Floats,
    mean: Floats,
    reconstructions: Mapping[str, Callable[[], Floats]],
    cases: HeldOut,
    seed: int,
    among: Mask | None = None,
) -> dict[str, Any]:
    """R = (NDCG(x') - NDCG(0)) / (NDCG(x) - NDCG(0)) for each reconstruction of all items.

    x: unit vectors, (items, d); x': their reconstructions, in the same space, made when they are needed;
    0: every item is the mean vector, (d,). R is 1 where nothing is lost and 0 where nothing is kept; None
    where x ranks no better than 0. The interval is that of R@10 when users are drawn anew. `change` is
    NDCG(x') / NDCG(x) - 1; `overlap` the mean share of the ten listed items that x lists too. With `among`, (items,),
    only these items compete, and all targets must be of them.
    """
    whole = recommend(unit - mean, cases, among)
    nothing = recommend(np.zeros_like(unit), cases, among)
    users = target_cases(cases)
    best, floor = (_gains(each.ranks, users) for each in (whole, nothing))
    found: dict[str, Any] = {
        "users": len(cases),
        "ndcg": {str(k): float(best[k].mean()) for k in CUTOFFS},
        "ndcg_of_mean_vector": {str(k): float(floor[k].mean()) for k in CUTOFFS},
        "codings": {},
    }
    for name, reconstruct in reconstructions.items():
        coded = recommend(reconstruct() - mean, cases, among)
        gains = _gains(coded.ranks, users)
        found["codings"][name] = {
            "ndcg": {str(k): float(gains[k].mean()) for k in CUTOFFS},
            "recovered": {str(k): _recovered(gains[k], floor[k], best[k]) for k in CUTOFFS},
            "recovered_interval": _interval(gains[CUTOFFS[0]], floor[CUTOFFS[0]], best[CUTOFFS[0]], seed),
            "change": {str(k): _change(gains[k], best[k]) for k in CUTOFFS},
            "overlap": _overlap(coded.lists, whole.lists),
        }
    return found


def _gains(ranks: Ranks, users: Indices) -> dict[int, Doubles]:
    """NDCG@k of every user, the mean over the user's targets: (users,)."""
    targets = np.bincount(users)
    return {
        k: np.bincount(users, weights=np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0)) / targets
        for k in CUTOFFS
    }


def _recovered(gains: Doubles, floor: Doubles, best: Doubles) -> float | None:
    span = float(best.mean() - floor.mean())
    return float(gains.mean() - floor.mean()) / span if span > 0 else None


def _change(gains: Doubles, best: Doubles) -> float | None:
    return float(gains.mean() / best.mean() - 1) if best.mean() > 0 else None


def _interval(gains: Doubles, floor: Doubles, best: Doubles, seed: int) -> list[float] | None:
    """The 95% bootstrap interval of R over users; None where some draw has nothing to recover."""
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(gains), size=len(gains))
        ratio = _recovered(gains[drawn], floor[drawn], best[drawn])
        if ratio is None:
            return None
        ratios.append(ratio)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return [float(low), float(high)]


def _overlap(lists: Indices, others: Indices) -> float:
    shared = [len(np.intersect1d(a, b)) for a, b in zip(lists, others, strict=True)]
    return float(np.mean(shared) / lists.shape[1])
