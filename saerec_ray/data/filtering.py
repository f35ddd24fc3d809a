"""k-core and splits, on plain index arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saerec_ray.errors import InputError

Indices = npt.NDArray[np.int64]
MIN_HELD_OUT_LENGTH = 3


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


@dataclass(frozen=True)
class Split:
    """Where training and validation end in every user's sequence."""

    train_lengths: npt.NDArray[np.int32]  # (users,)
    validation_lengths: npt.NDArray[np.int32]  # (users,)


def leave_one_out(lengths: Indices) -> Split:
    """The last interaction is for test, the one before for validation.

    Users with fewer than three interactions are for training alone.
    """
    short = lengths < MIN_HELD_OUT_LENGTH
    return Split(
        np.where(short, lengths, lengths - 2).astype(np.int32),
        np.where(short, lengths, lengths - 1).astype(np.int32),
    )


def split_by_time(
    times: npt.NDArray[np.int64] | None, offsets: Indices, validation_share: float, test_share: float
) -> Split:
    """The latest `test_share` of all interactions are for test, the `validation_share` before for validation.

    Cut at two moments that are the same for all users. Raises InputError when the source has no times.
    """
    if times is None:
        raise InputError(
            "A time split needs the time of every interaction; this source has none. Use leave-one-out."
        )
    validation_from, test_from = np.quantile(
        times, [1 - test_share - validation_share, 1 - test_share], method="higher"
    )

    def before(moment: int) -> npt.NDArray[np.int32]:
        earlier = np.concatenate([[0], np.cumsum(times < moment)])
        return np.asarray(earlier[offsets[1:]] - earlier[offsets[:-1]], dtype=np.int32)

    return Split(before(validation_from), before(test_from))
