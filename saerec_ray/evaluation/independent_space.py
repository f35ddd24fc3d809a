"""How alike items are by something the dictionary was not trained on: their attributes, or the words they share.

Judging latents in the embedding they were learned from would be circular. Attributes and words are not wholly
independent of it either, because the embedding reads the same texts; but no distance in it is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer

from saerec_ray.data.prepared import PreparedItems

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MIN_DESCRIBED = 0.5
"""Share of the items that must have an attribute for attributes to be a space."""


@dataclass(frozen=True)
class IndependentSpace:
    """Items as sets of attribute values, or as words."""

    name: Literal["attributes", "texts"]
    rows: csr_array  # 1 where an item has a value, or unit rows of tf-idf: (items, values)

    def similarity(self, items: Indices) -> Doubles:
        """Jaccard of attribute sets, or cosine of tf-idf, of every pair: (n, n), from 0 to 1."""
        chosen = self.rows[items]
        shared = np.asarray((chosen @ chosen.T).todense(), dtype=np.float64)
        if self.name == "texts":
            return shared
        sizes = np.diag(shared)
        union = sizes[:, None] + sizes[None, :] - shared
        return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def independent_spaces(items: PreparedItems) -> list[IndependentSpace]:
    """Attributes where enough items have some, and texts where any item has a word."""
    spaces = []
    described = [values for values in items.attributes if any(values.values())]
    if described and len(described) >= MIN_DESCRIBED * len(items):
        spaces.append(IndependentSpace("attributes", attribute_sets(items.attributes)))
    if any(_words(text) for text in items.texts):
        vectorizer = TfidfVectorizer(analyzer=_words, sublinear_tf=True, dtype=np.float32)
        spaces.append(IndependentSpace("texts", csr_array(vectorizer.fit_transform(items.texts))))
    return spaces


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def attribute_sets(attributes: list[dict[str, list[str]]]) -> csr_array:
    """1 where an item has a value of an attribute: (items, values)."""
    columns: dict[tuple[str, str], int] = {}
    rows = [
        sorted(
            {
                columns.setdefault((name, value), len(columns))
                for name, values in own.items()
                for value in values
            }
        )
        for own in attributes
    ]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    flat = np.array([column for row in rows for column in row], dtype=np.int64)
    return csr_array(
        (np.ones(len(flat), dtype=np.float32), flat, offsets), shape=(len(rows), max(1, len(columns)))
    )
