"""New items as companions of others: what their texts say where nobody took them in training.

    C_ij = M exp(SHARPNESS cos(x_i, x_j)) / sum over k in N_j of exp(SHARPNESS cos(x_k, x_j))    for i in N_j

x: text vectors less the mean of the items that training met. N_j: the met items whose texts are closest to that of the
new item j, as many as lead to the average met item. M: what the rates that lead to such an item sum to. So as much
leads to a new item as to others, and only from where is read from its text.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array, hstack

from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.dictionary.samples import keep_largest

Floats = npt.NDArray[np.float32]

SHARPNESS = 10.0
"""How much more the closest texts count than the next. Between 7 and 15 new items gain about the same."""
MOST_COMPARED = 10_000_000_000
"""Pairs of a new and a met item that are compared at most, some ten minutes of one core: all of 100,000 of each."""
_NEW_AT_ONCE = 65_536


def with_new_items(
    companions: csr_array, vectors: Floats, taken: npt.NDArray[np.int64], most: int
) -> csr_array:
    """C with new items among the companions of others, (items, items) float32; new items have none themselves.

    `companions`: C as it was counted, without new items; `vectors`: text vectors, (items, d); `taken`: training
    interactions, (items,), 0 of new items. Without new items, and where nothing was counted, C stays as it is. Where
    all pairs would be more than MOST_COMPARED only the met items taken most lead to new ones, for others are seldom in
    a history. An item leads to at most `most` new items, those of the largest rates: in a catalogue that is mostly new
    some get less than M.
    """
    new, met = np.flatnonzero(taken == 0), np.flatnonzero(taken)
    if not len(new) or not companions.nnz:
        return companions
    count = max(1, round(companions.nnz / len(met)))
    rate = float(companions.sum() / len(met))
    centre = (taken > 0).astype(np.float32) @ vectors / np.float32(len(met))
    affordable = max(1, MOST_COMPARED // len(new))
    if len(met) > affordable:
        met = np.sort(met[np.argsort(-taken[met], kind="stable")[:affordable]])
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(unit_rows(vectors[met] - centre))
    by_text = hstack(
        [
            _leading(index, unit_rows(vectors[some] - centre), min(count, len(met)), rate)
            for some in np.array_split(new, -(-len(new) // _NEW_AT_ONCE))
        ],
        format="csr",
    )
    found = keep_largest(csr_array(by_text), most).tocoo()  # (met items, new items)
    places = (met[found.row], new[found.col])
    return csr_array(companions + csr_array((found.data, places), shape=companions.shape)).astype(np.float32)


def _leading(index: faiss.IndexFlatIP, vectors: Floats, count: int, rate: float) -> csc_array:
    """The rates of the `count` closest texts of the index, which sum to `rate`: (texts of the index, vectors)."""
    cosines, places = index.search(vectors, count)  # (vectors, count) each, the closest first
    weights = np.exp(SHARPNESS * (cosines - cosines[:, :1]))
    weights *= rate / weights.sum(axis=1, keepdims=True)
    offsets = np.arange(len(vectors) + 1) * count
    return csc_array((weights.ravel(), places.ravel(), offsets), shape=(index.ntotal, len(vectors)))
