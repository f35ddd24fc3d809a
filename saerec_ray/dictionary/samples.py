"""What a dictionary learns from: the texts of items, and what people wrote about them, where it is known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array

from saerec_ray.dictionary.sae import Dictionary, Floats, with_scaled_codes
from saerec_ray.text.embed import load_embeddings, load_review_embeddings

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Vectors of the texts of all items, in their order, then of reviews."""

    vectors: Floats  # (samples, d)
    items: Indices  # the item of each sample: (samples,)
    count: int  # items

    @property
    def texts(self) -> Floats:
        """The vectors of the items' own texts, (items, d)."""
        return self.vectors[: self.count]

    def of(self, items: Indices) -> Indices:
        """Places of all samples of these items, ascending."""
        chosen = np.zeros(self.count, dtype=bool)
        chosen[items] = True
        return np.flatnonzero(chosen[self.items])


def load_samples(folder: Path, without_reviews: Collection[int] = ()) -> Samples:
    """The samples of an embed folder; reviews of the items `without_reviews` are left out."""
    texts = load_embeddings(folder)
    reviews, items = load_review_embeddings(folder)
    kept = ~np.isin(items, list(without_reviews))
    return Samples(
        np.concatenate([texts, reviews[kept]]) if kept.any() else texts,
        np.concatenate([np.arange(len(texts)), items[kept]]),
        len(texts),
    )


def item_codes(dictionary: Dictionary, samples: Samples) -> csr_array:
    """The codes of all items, (items, latents).

    An item without reviews has the code of its text. With n reviews it has the weighted mean in which its text
    has weight 1 and all reviews together weight 1, so each 1 / n:

        z = (z_text + (1 / n) sum over reviews of z_review) / 2

    of which the `most_active` largest entries stay.
    """
    codes = dictionary.encode(samples.vectors)
    if len(samples.vectors) == samples.count:
        return codes
    counts = np.bincount(samples.items, minlength=samples.count) - 1  # reviews of each item
    shares = np.where(np.arange(len(samples.items)) < samples.count, 1, counts[samples.items])
    weights = 1 / (shares * np.where(counts > 0, 2, 1)[samples.items])
    places = np.arange(len(samples.items))
    mean = coo_array((weights.astype(np.float32), (samples.items, places)),
                     shape=(samples.count, len(places))).tocsr() @ codes  # fmt: skip
    return keep_largest(csr_array(mean), dictionary.most_active)


def keep_largest(codes: csr_array, most: int) -> csr_array:
    """The `most` largest entries of each row, of equal ones those of lower columns; columns ascend."""
    rows = np.repeat(np.arange(codes.shape[0]), np.diff(codes.indptr))
    order = np.lexsort((codes.indices, -codes.data, rows))
    kept = order[np.arange(len(order)) - codes.indptr[rows[order]] < most]
    result = csr_array((codes.data[kept], (rows[kept], codes.indices[kept])), shape=codes.shape)
    result.sort_indices()
    return result


def with_scaled_item_codes(dictionary: Dictionary, samples: Samples, items: Indices) -> Dictionary:
    """The dictionary with the scale at which the codes of these items have mean squared length 1."""
    if len(samples.vectors) == samples.count:
        return with_scaled_codes(dictionary, samples.vectors[items])
    codes = csr_array(item_codes(replace(dictionary, code_scale=1.0), samples)[items])
    mean_square = float(np.square(codes.data).sum() / len(items))
    return replace(dictionary, code_scale=1 / mean_square**0.5 if mean_square > 0 else 1.0)
