"""k-core and splits, on plain index arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from saerec_ray.errors import InputError

Indices = npt.NDArray[np.int64]
MIN_HELD_OUT_LENGTH = 3
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Core:
    """Which interactions survive, and after how many rounds."""

    kept: npt.NDArray[np.bool_]  # (interactions,)
    rounds: int


def k_core(users: Indices, items: Indices, user_core: int, item_core: int) -> Core:
    """The largest subset in which every user and every item has enough interactions.

    `users` and `items` number the two ends of every interaction from 0.
    """
    kept = np.ones(len(users), dtype=bool)
    rounds = 0
    while True:
        user_counts = np.bincount(users[kept], minlength=int(users.max(initial=-1)) + 1)
        item_counts = np.bincount(items[kept], minlength=int(items.max(initial=-1)) + 1)
        weak = kept & ((user_counts[users] < user_core) | (item_counts[items] < item_core))
        if not weak.any():
            return Core(kept, rounds)
        kept &= ~weak
        rounds += 1


def in_order(users: Indices, times: Indices | None) -> Indices:
    """Places of the interactions, user by user, each user's by time and, where that is equal or missing, by row."""
    if times is None:
        return np.argsort(users, kind="stable")
    earliest = int(times.min(initial=_LARGEST))
    span = int(times.max(initial=earliest)) - earliest + 1
    if (int(users.max(initial=0)) + 1) * span > _LARGEST:
        return np.lexsort((times, users))
    return np.argsort(users * span + (times - earliest), kind="stable")  # one key is twice as fast as two


def without_repeats(users: Indices, items: Indices, keep: Literal["first", "last"]) -> Indices:
    """Places of the first or last interaction of every user with every item, rising."""
    pairs = users * (int(items.max(initial=0)) + 1) + items
    if keep == "first":
        return np.sort(np.unique(pairs, return_index=True)[1])
    return np.sort(len(pairs) - 1 - np.unique(pairs[::-1], return_index=True)[1])


@dataclass(frozen=True)
class Split:
    """Where training and validation end in every user's sequence."""

    train_lengths: npt.NDArray[np.int32]  # (users,)
    validation_lengths: npt.NDArray[np.int32]  # (users,)


def leave_one_out(lengths: Indices) -> Split:
    """The last interaction is for test, the one before for validation.

    Users with fewer than three interactions are for training alone. Raises InputError when all are.
    """
    if not (lengths >= MIN_HELD_OUT_LENGTH).any():
        raise InputError(
            f"No user has {MIN_HELD_OUT_LENGTH} interactions, so none can be held out; bring longer histories."
        )
    short = lengths < MIN_HELD_OUT_LENGTH
    return Split(
        np.where(short, lengths, lengths - 2).astype(np.int32),
        np.where(short, lengths, lengths - 1).astype(np.int32),
    )


def split_by_time(
    times: npt.NDArray[np.int64] | None, offsets: Indices, validation_share: float, test_share: float
) -> Split:
    """The latest `test_share` of all interactions are for test, the `validation_share` before for validation.

    Cut at two moments that are the same for all users. Raises InputError when the source has no times, or so many
    equal ones that no such moments exist.
    """
    if times is None:
        raise InputError(
            "A time split needs the time of every interaction; this source has none. Use leave-one-out."
        )
    validation_from, test_from = np.quantile(
        times, [1 - test_share - validation_share, 1 - test_share], method="higher"
    )

    if not times.min() < validation_from < test_from:
        raise InputError(
            "Too many interactions have the same time for a time split; use leave-one-out, or change "
            "prepare.validation_share and prepare.test_share."
        )

    def before(moment: int) -> npt.NDArray[np.int32]:
        earlier = np.concatenate([[0], np.cumsum(times < moment)])
        return np.asarray(earlier[offsets[1:]] - earlier[offsets[:-1]], dtype=np.int32)

    return Split(before(validation_from), before(test_from))
