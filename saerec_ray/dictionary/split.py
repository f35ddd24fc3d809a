"""Which items a dictionary is trained on, which it is chosen by, and which it is measured on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saerec_ray.dictionary.sae import Floats, unit_rows

Indices = npt.NDArray[np.int64]

_DECIMALS = 5
"""Unit vectors that agree in so many decimals count as the same: variants of an item with one text."""


@dataclass(frozen=True)
class ItemSplit:
    """Item indices, ascending. Items with the same direction are in the same part."""

    train: Indices
    choosing: Indices
    """Never trained on: sets thresholds, ends training, chooses among seeds."""
    held_out: Indices
    """Neither trained on nor chosen by: figures are of these."""

    def without(self, items: Collection[int]) -> ItemSplit:
        """The same, but nothing is learnt from these items and nothing is chosen by them."""
        unseen = np.fromiter(items, dtype=np.int64, count=len(items))
        return ItemSplit(np.setdiff1d(self.train, unseen), np.setdiff1d(self.choosing, unseen), self.held_out)


def split_for_training(vectors: Floats, held_out_share: float, seed: int) -> ItemSplit:
    """The parts of raw vectors, (items, d): half of the share is for choosing, half for figures.

    The training items are those of `split_items`, where that holds two directions or more out.
    """
    group, shuffled, count = _shuffled_groups(vectors, held_out_share, seed, least=2)
    choosing, held_out = shuffled[: (count + 1) // 2], shuffled[(count + 1) // 2 : count]
    return ItemSplit(
        np.flatnonzero(~np.isin(group, shuffled[:count])),
        np.flatnonzero(np.isin(group, choosing)),
        np.flatnonzero(np.isin(group, held_out)),
    )


def split_items(vectors: Floats, held_out_share: float, seed: int) -> tuple[Indices, Indices]:
    """Training and held-out item indices of raw vectors, (items, d)."""
    group, shuffled, count = _shuffled_groups(vectors, held_out_share, seed, least=1)
    held_out = np.isin(group, shuffled[:count])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _shuffled_groups(vectors: Floats, share: float, seed: int, least: int) -> tuple[Indices, Indices, int]:
    """The group of each item, all groups in random order, and how many of them are held out."""
    _, group = np.unique(unit_rows(vectors).round(_DECIMALS), axis=0, return_inverse=True)
    groups = int(group.max()) + 1
    shuffled = np.random.default_rng(seed).permutation(groups)
    return group.ravel(), shuffled, max(least, round(share * groups))
