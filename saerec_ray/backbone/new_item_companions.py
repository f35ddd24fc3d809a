"""Companions of items that nobody took in training, judged by their texts.

    C_ij = M exp(SHARPNESS cos(x_i, x_j)) / sum over k in N_j of exp(SHARPNESS cos(x_k, x_j))    for i in N_j

x: text vectors less the mean of the items that training met. N_j: the met items whose texts are closest to that of the
new item j, as many as the average met item is a companion of. M: what the rates of such an item sum to. So a new item
has as many companions as others, and they are worth as much; only which ones they are is read from its text.
"""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array

from saerec_ray.text.centred import centred

Floats = npt.NDArray[np.float32]

SHARPNESS = 10.0
"""How much more the closest texts count than the next; from 7 to 15 it hardly matters what new items gain."""
MOST_MET = 100_000
"""So many met items are compared with each new one: the rest of a larger catalogue is seldom in a history."""
_NEW_AT_ONCE = 65_536


def with_companions_of_new_items(
    companions: csr_array, vectors: Floats, taken: npt.NDArray[np.int64]
) -> csr_array:
    """C with columns for new items, (items, items) float32; the rows of new items stay empty.

    `companions`: C as it was counted, in which new items have none; `vectors`: text vectors, (items, d); `taken`:
    training interactions, (items,), 0 of new items. Without new items, without met ones and where nothing was counted
    C stays as it is. Of more than MOST_MET met items only those taken most are companions.
    """
    new, met = np.flatnonzero(taken == 0), np.flatnonzero(taken)
    if not len(new) or not companions.nnz:
        return companions
    count = max(1, round(companions.nnz / len(met)))
    rate = companions.sum() / len(met)
    centre = vectors[met].mean(axis=0)
    if len(met) > MOST_MET:
        met = np.sort(met[np.argsort(-taken[met], kind="stable")[:MOST_MET]])
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(centred(vectors[met], centre))
    estimated = [
        _closest(index, centred(vectors[some], centre), min(count, len(met)), rate)
        for some in np.array_split(new, -(-len(new) // _NEW_AT_ONCE))
    ]
    places, rates = (np.concatenate(each) for each in zip(*estimated, strict=True))  # (new items, closest)
    columns = np.repeat(new, places.shape[1])
    found = coo_array((rates.ravel(), (met[places].ravel(), columns)), shape=companions.shape)
    return csr_array(companions + found.tocsr()).astype(np.float32)


def _closest(
    index: faiss.IndexFlatIP, vectors: Floats, count: int, rate: float
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The places in the index of the closest texts and their rates, which sum to `rate`: (vectors, count) each."""
    cosines, places = index.search(vectors, count)
    weights = np.exp(SHARPNESS * (cosines - cosines[:, :1]))
    return places, rate * weights / weights.sum(axis=1, keepdims=True)
