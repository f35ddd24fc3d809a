"""Every prefix of a training sequence as one sample, in batches of nearly equal length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saerec_ray.data.prepared import PreparedSequences

_POOL_BATCHES = 64
"""Batches drawn together and sorted by length: enough for next to no padding, few enough to stay random."""


@dataclass(frozen=True)
class Batch:
    """Histories with the latest item last, where they are present, and the item that came next."""

    items: npt.NDArray[np.int64]  # (batch, longest)
    present: npt.NDArray[np.bool_]  # (batch, longest)
    targets: npt.NDArray[np.int64]  # (batch,)


class PrefixSamples:
    """All (history, next item) pairs of the training parts of the sequences."""

    def __init__(self, sequences: PreparedSequences, max_length: int) -> None:
        lengths = np.maximum(sequences.train_lengths - 1, 0).astype(np.int64)
        users = np.repeat(np.arange(len(sequences)), lengths)
        firsts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        self._starts = sequences.offsets[:-1][users]
        self._targets = self._starts + 1 + np.arange(len(users)) - firsts
        self._items = sequences.items
        self._max_length = max_length

    def __len__(self) -> int:
        return len(self._targets)

    def lengths(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many items the histories of these samples have."""
        return np.asarray(
            np.minimum(self._targets[samples] - self._starts[samples], self._max_length), dtype=np.int64
        )

    def batch(self, samples: npt.NDArray[np.int64]) -> Batch:
        """Gathers samples into one right-aligned batch."""
        lengths = self.lengths(samples)
        ages = np.arange(int(lengths.max()), 0, -1)  # (longest,)
        present = ages[None, :] <= lengths[:, None]
        places = np.where(present, self._targets[samples][:, None] - ages, 0)
        return Batch(
            items=np.where(present, self._items[places], 0).astype(np.int64),
            present=present,
            targets=self._items[self._targets[samples]].astype(np.int64),
        )

    def epoch(self, batch_size: int, seed: int, epoch: int, skip: int = 0) -> Iterator[npt.NDArray[np.int64]]:
        """Sample numbers of each batch of an epoch; the order depends on seed and epoch alone.

        `skip` leaves out batches that begin before that many samples: a resumed epoch goes on where it was.
        """
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(self))
        begun = 0
        for start in range(0, len(order), batch_size * _POOL_BATCHES):
            pool = order[start : start + batch_size * _POOL_BATCHES]
            pool = pool[np.argsort(self.lengths(pool), kind="stable")]
            batches = [pool[place : place + batch_size] for place in range(0, len(pool), batch_size)]
            for choice in random.permutation(len(batches)):
                if begun >= skip:
                    yield batches[choice]
                begun += len(batches[choice])
