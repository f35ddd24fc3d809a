"""Items made of known directions, and the dictionary that has exactly these: the ceiling of every metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saerec_ray.data.prepared import PreparedItems
from saerec_ray.dictionary.sae import Dictionary, Floats, Scaling
from saerec_ray.evaluation.coded_items import CodedItems

TOPICS, D, ACTIVE, ITEMS = 24, 32, 3, 600


@dataclass(frozen=True)
class PlantedItems:
    """Every item has three of 24 topics, which are orthogonal directions, attributes and words."""

    vectors: Floats  # (items, d)
    present: npt.NDArray[np.bool_]  # (items, topics)
    directions: Floats  # (topics, d)

    @property
    def dictionary(self) -> Dictionary:
        """Codes every item by its topics and nothing else, and loses nothing."""
        return Dictionary(
            encoder=self.directions,
            encoder_bias=np.zeros(TOPICS, dtype=np.float32),
            decoder=self.directions,
            decoder_bias=np.zeros(D, dtype=np.float32),
            scaling=Scaling(np.zeros(D, dtype=np.float32), 1.0),
            threshold=0.05,
            most_active=2 * ACTIVE,
        )

    @property
    def items(self) -> PreparedItems:
        topics = [np.flatnonzero(row).tolist() for row in self.present]
        return PreparedItems(
            ids=[f"item-{place}" for place in range(ITEMS)],
            titles=[""] * ITEMS,
            texts=[" ".join(f"topic{topic}" for topic in own) for own in topics],
            attributes=[{"category": [f"topic{topic}" for topic in own]} for own in topics],
        )

    @property
    def coded(self) -> CodedItems:
        order = np.random.default_rng(1).permutation(ITEMS)
        train, choosing, held_out = (np.sort(part) for part in np.split(order, [500, 550]))
        return CodedItems(self.dictionary, self.vectors, train, choosing, held_out, seed=3)


def plant(seed: int = 0) -> PlantedItems:
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(D, D)))
    directions = basis[:TOPICS].astype(np.float32)
    present = np.argsort(rng.random((ITEMS, TOPICS)), axis=1) < ACTIVE
    weights = present * rng.uniform(1, 2, size=present.shape)
    vectors = np.asarray(weights @ directions, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return PlantedItems(vectors, present, directions)
