"""How sure a mean is: bootstrap intervals over users."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
_VALUES_AT_ONCE = 4_000_000


def bootstrap_interval(values: npt.ArrayLike, seed: int, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of the mean of `values`, one value a user; (0, 0) without values."""
    array = np.asarray(values, dtype=np.float64)
    return _interval(array, np.ones(len(array)), seed, level)


def target_interval(
    values: npt.NDArray[np.float64], users: npt.NDArray[np.int64], seed: int, level: float = 0.95
) -> tuple[float, float]:
    """The percentile interval of the mean of `values`, one value a target, when users are drawn with all theirs."""
    _, rows = np.unique(users, return_inverse=True)
    sums = np.asarray(np.bincount(rows, weights=values), dtype=np.float64)
    return _interval(sums, np.bincount(rows), seed, level)


def _interval(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[Any], seed: int, level: float
) -> tuple[float, float]:
    """The interval of sums over counts, one of both a user."""
    if len(sums) == 0:
        return 0.0, 0.0
    rng = np.random.default_rng(seed)
    rounds = max(1, _VALUES_AT_ONCE // len(sums))
    means: list[float] = []
    while len(means) < RESAMPLES:
        drawn = rng.integers(len(sums), size=(min(rounds, RESAMPLES - len(means)), len(sums)))
        means += (sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).tolist()
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def mean_by_user(values: npt.NDArray[np.float64], users: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Mean of the values of each user, in the order of the user numbers: (distinct users,)."""
    _, rows = np.unique(users, return_inverse=True)
    return np.asarray(np.bincount(rows, weights=values) / np.bincount(rows))
