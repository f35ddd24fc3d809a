"""A baseline that knows texts and nothing else: items whose text is closest to what the user met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import HeldOut, target_ranks, users_at_once
from saerec_ray.evaluation.content_recommender import RECENCY

Floats = npt.NDArray[np.float32]
Closeness = Literal["mean", "recent", "closest"]
CLOSENESS: tuple[Closeness, ...] = get_args(Closeness)

_MET_AT_ONCE = 32


def text_scores(
    vectors: Floats, histories: Sequence[Floats], closeness: Closeness = "mean"
) -> Iterator[tuple[int, Floats]]:
    """Scores of all items, in batches: the first user of the batch and scores (batch, items).

    `vectors`: unit rows, (items, d); `histories`: for each user the vectors of what was met, oldest first,
    (length, d). What is close to a history:
    mean      the inner product with the mean of the history, which orders items as the cosine with it does
    recent    the same, the latest item counting most and each one before it half as much as the next
    closest   the largest cosine with any item of the history
    No one of them is the best everywhere, so a model that knows more should beat all three; of centred vectors too.
    """
    at_once = users_at_once(len(vectors))
    for start in range(0, len(histories), at_once):
        batch = histories[start : start + at_once]
        if closeness == "closest":
            yield start, np.stack([_largest_cosine(vectors, history) for history in batch])
        else:
            states = np.stack([_weights(len(history), closeness) @ history for history in batch])
            yield start, np.asarray(states @ vectors.T, dtype=np.float32)


def _weights(length: int, closeness: Closeness) -> Floats:
    """What each item of a history counts, oldest first; sums to 1."""
    base = RECENCY if closeness == "recent" else 1.0
    weights = base ** np.arange(length - 1, -1, -1, dtype=np.float64)
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def _largest_cosine(vectors: Floats, history: Floats) -> Floats:
    best = np.full(len(vectors), -np.inf, dtype=np.float32)
    for start in range(0, len(history), _MET_AT_ONCE):
        cosines = history[start : start + _MET_AT_ONCE] @ vectors.T
        np.maximum(best, cosines.max(axis=0), out=best)
    return best


def text_neighbour_ranks(
    vectors: Floats,
    cases: HeldOut,
    histories: Sequence[Floats] | None = None,
    closeness: Closeness = "mean",
) -> npt.NDArray[np.int64]:
    """Ranks of the targets by text_scores.

    `histories` stand in for the vectors of the cases' own histories, where those lie in another catalogue.
    """
    own = [vectors[history] for history in cases.histories] if histories is None else histories
    return target_ranks(cases, lambda: text_scores(vectors, own, closeness))
