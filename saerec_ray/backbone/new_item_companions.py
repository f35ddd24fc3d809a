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


def with_companions_of_new_items(
    companions: csr_array, vectors: Floats, new: npt.NDArray[np.bool_]
) -> csr_array:
    """C with columns for new items, (items, items) float32; the rows of new items stay empty.

    `companions`: C as it was counted, in which new items have none; `vectors`: text vectors, (items, d); `new`: the
    items without training interaction, (items,). Without new items, without met ones and where nothing was counted C
    stays as it is.
    """
    met = np.flatnonzero(~new)
    if not new.any() or not len(met) or not companions.nnz:
        return companions
    moved = centred(vectors, ~new)
    index = faiss.IndexFlatIP(moved.shape[1])
    index.add(moved[met])
    count = max(1, round(companions.nnz / len(met)))
    cosines, closest = index.search(moved[new], min(count, len(met)))  # (new items, closest)
    weights = np.exp(SHARPNESS * (cosines - cosines[:, :1]))
    weights *= companions.sum() / len(met) / weights.sum(axis=1, keepdims=True)
    columns = np.repeat(np.flatnonzero(new), closest.shape[1])
    estimated = coo_array((weights.ravel(), (met[closest].ravel(), columns)), shape=companions.shape)
    return csr_array(companions + estimated.tocsr()).astype(np.float32)
