"""What a dictionary is compared with: other codings of the same vectors, fitted on the same training items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.cluster import KMeans

from saerec_ray.dictionary.metrics import PrincipalComponents, random_dictionary
from saerec_ray.dictionary.sae import Dictionary, unit_rows

Floats = npt.NDArray[np.float32]
Features: TypeAlias = Floats | csr_array

NAMES = ("dictionary", "pca", "k_means", "random_dictionary")
"""The codings that can be turned back into vectors, the one measured first."""
_CLUSTERING_ROUNDS = 20
_CHUNK = 8192


class Coding(Protocol):
    """Anything that says an item in a few numbers and can say the item back."""

    def encode(self, vectors: Floats) -> Features:
        """Features of raw vectors, (items, d) to (items, features)."""
        ...

    def reconstruct(self, vectors: Floats) -> Floats:
        """Raw vectors, (items, d), as they come back, in the space of unit vectors."""
        ...


@dataclass(frozen=True)
class Centroids:
    """k-means: an item is its nearest centroid and nothing else, a code with a single 1."""

    centroids: Floats  # (centroids, d), in the space of unit vectors

    @staticmethod
    def fit(vectors: Floats, count: int, seed: int) -> Centroids:
        """Lloyd's algorithm on raw vectors, (items, d); at most one centroid for two items."""
        clusters = max(1, min(count, len(vectors) // 2))
        found = KMeans(clusters, n_init=1, max_iter=_CLUSTERING_ROUNDS, random_state=seed)
        found.fit(unit_rows(vectors))
        return Centroids(np.asarray(found.cluster_centers_, dtype=np.float32))

    def nearest(self, vectors: Floats) -> npt.NDArray[np.int64]:
        """The centroid of every item: (items,)."""
        unit, half = unit_rows(vectors), np.square(self.centroids).sum(axis=1) / 2
        parts = [
            (half - unit[start : start + _CHUNK] @ self.centroids.T).argmin(axis=1)
            for start in range(0, len(unit), _CHUNK)
        ]
        return np.concatenate(parts).astype(np.int64)

    def encode(self, vectors: Floats) -> csr_array:
        """One-hot rows: (items, centroids)."""
        chosen = self.nearest(vectors)
        ones = np.ones(len(chosen), dtype=np.float32)
        return csr_array((ones, chosen, np.arange(len(chosen) + 1)), shape=(len(chosen), len(self.centroids)))

    def reconstruct(self, vectors: Floats) -> Floats:
        """The centroid of every item."""
        return self.centroids[self.nearest(vectors)]


def mean_active(dictionary: Dictionary, vectors: Floats) -> int:
    """Latents active an item, rounded, at least one."""
    count: int = dictionary.encode(vectors).nnz
    return max(1, round(count / len(vectors)))


def codings(dictionary: Dictionary, train: Floats, active: int, seed: int) -> dict[str, Coding]:
    """The dictionary and its controls by NAMES, fitted on `train`, raw vectors (items, d).

    `active`: latents of the dictionary that items have on average, of items it was not trained on.

    pca                as many components as the dictionary has active latents
    k_means            as many centroids as the dictionary has latents, so the code is as wide, with one 1
    random_dictionary  as many latents in random directions, active on as many items
    """
    return {
        "dictionary": dictionary,
        "pca": PrincipalComponents.fit(train).first(active),
        "k_means": Centroids.fit(train, dictionary.width, seed),
        "random_dictionary": random_dictionary(dictionary, train, active, seed),
    }
