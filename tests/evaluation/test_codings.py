"""What a dictionary is compared with is what it is called: PCA, k-means, random directions of one size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import Dictionary, Floats, unit_rows
from saerec_ray.evaluation.codings import NAMES, Centroids, codings, mean_active
from tests.evaluation.planted_dictionary import ACTIVE, TOPICS, D, plant

PLANTED = plant()


def vectors(items: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(items, D)) * np.linspace(0.3, 1.5, D) + 0.7).astype(np.float32)


def test_an_item_becomes_its_nearest_centroid_in_one_hot() -> None:
    train = vectors(200)
    made = Centroids.fit(train, 7, seed=1)
    unit = unit_rows(train)
    distances = np.linalg.norm(unit[:, None] - made.centroids[None], axis=2)
    codes = made.encode(train)
    assert codes.shape == (200, 7)
    np.testing.assert_array_equal(codes.toarray().argmax(axis=1), distances.argmin(axis=1))
    np.testing.assert_array_equal(codes.toarray().sum(axis=1), 1)
    np.testing.assert_array_equal(made.reconstruct(train), made.centroids[distances.argmin(axis=1)])


def test_centroids_are_found_where_there_are_clusters_and_are_fewer_than_items() -> None:
    centres = np.eye(4, D, dtype=np.float32)
    items = np.repeat(centres, 20, axis=0) + 0.01 * vectors(80)
    found = Centroids.fit(items, 4, seed=0).reconstruct(items)
    assert np.linalg.norm(found - unit_rows(items), axis=1).max() < 0.1
    assert len(Centroids.fit(items[:6], 100, seed=0).centroids) == 3


def test_controls_are_of_the_size_of_the_dictionary() -> None:
    made = codings(PLANTED.dictionary, PLANTED.vectors, ACTIVE, seed=2)
    assert tuple(made) == NAMES
    assert mean_active(PLANTED.dictionary, PLANTED.vectors) == ACTIVE
    assert made["pca"].encode(PLANTED.vectors).shape[1] == ACTIVE
    assert made["k_means"].encode(PLANTED.vectors).shape[1] == TOPICS
    random = made["random_dictionary"]
    assert isinstance(random, Dictionary)
    codes = random.encode(PLANTED.vectors)
    assert isinstance(codes, csr_array)
    assert codes.nnz / len(PLANTED.vectors) == pytest.approx(ACTIVE, rel=0.1)
    assert np.abs(random.decoder @ PLANTED.directions.T).max() < 0.9
