"""Companions of an item: what people take soon after it, counted over training interactions.

    C_ij = sum over times j came k items after i of DECAY**(k - 1) / sqrt((n_i + SHRINKAGE) (n_j + SHRINKAGE))

n counts training interactions. This is item-to-item collaborative filtering (Linden, Smith and York 2003) of items
in order; the sequence encoder, made to generalise, forgets such pairs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array

from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary.samples import keep_largest

REACH = 7
"""The most items apart."""
DECAY = 0.5
SHRINKAGE = 5.0
"""Interactions added to those of every item, so that a pair met once among rare items is no certainty."""


def count_companions(met: PreparedSequences, items: int, most: int) -> csr_array:
    """C, (items, items) float32 with at most `most` companions a row; none with 0. Reads the training part of `met`."""
    users, taken = met.train_interactions()
    total = csr_array((items, items), dtype=np.float64)
    for apart in range(1, REACH + 1 if most else 1):
        same = (users[apart:] == users[:-apart]) & (taken[apart:] != taken[:-apart])
        pairs = (taken[:-apart][same], taken[apart:][same])
        weights = np.full(len(pairs[0]), DECAY ** (apart - 1))
        total = csr_array(total + coo_array((weights, pairs), shape=(items, items)).tocsr())
    sizes = np.sqrt(np.bincount(taken, minlength=items) + SHRINKAGE)
    rows = np.repeat(np.arange(items), np.diff(total.indptr))
    total.data /= sizes[rows] * sizes[total.indices]
    return keep_largest(total, most).astype(np.float32)


def without_items(companions: csr_array, items: npt.NDArray[np.bool_]) -> csr_array:
    """C or c without the given items as companions, (items,); nothing is kept of them, not even zeros."""
    kept = csr_array(companions.multiply(~items[None]))
    kept.eliminate_zeros()
    return kept


def reweighted(companions: csr_array, items: npt.NDArray[np.bool_], factor: float) -> csr_array:
    """C or c in which the given items, (items,), count as companions `factor` times as much."""
    factors = np.where(items, np.float32(factor), np.float32(1.0))[companions.indices]
    return csr_array((companions.data * factors, companions.indices, companions.indptr), companions.shape)


def typical_strength(strengths: csr_array) -> float:
    """The mean of c_ui where it is above 0; 0 where nobody has companions."""
    return float(strengths.data.mean()) if strengths.nnz else 0.0
