"""A baseline that knows texts and nothing else: items whose text is closest to what the user met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import HeldOut, target_ranks

Floats = npt.NDArray[np.float32]

_USERS_AT_ONCE = 256


def text_scores(
    vectors: Floats, histories: Sequence[Floats], recency: float = 1.0
) -> Iterator[tuple[int, Floats]]:
    """Cosine-like scores of all items, in batches: the first user of the batch and scores (batch, items).

    `vectors`: unit rows, (items, d); `histories`: for each user the vectors of what was met, (length, d). The
    score is the inner product with their mean, which orders items as the cosine with it does. In the mean an
    item counts `recency` times as much as the one after it; 1 is the plain mean.
    """
    for start in range(0, len(histories), _USERS_AT_ONCE):
        means = np.stack([_mean(each, recency) for each in histories[start : start + _USERS_AT_ONCE]])
        yield start, np.asarray(means @ vectors.T, dtype=np.float32)


def _mean(history: Floats, recency: float) -> Floats:
    weights = recency ** np.arange(len(history) - 1, -1, -1, dtype=np.float64)
    return np.asarray((weights / weights.sum()) @ history, dtype=np.float32)


def text_neighbour_ranks(
    vectors: Floats,
    cases: HeldOut,
    histories: Sequence[Floats] | None = None,
    recency: float = 1.0,
) -> npt.NDArray[np.int64]:
    """Ranks of the targets by text_scores.

    `histories` stand in for the vectors of the cases' own histories, where those lie in another catalogue.
    """
    own = [vectors[history] for history in cases.histories] if histories is None else histories
    return target_ranks(cases, lambda: text_scores(vectors, own, recency))
