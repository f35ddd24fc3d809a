"""The score against its formula written out, and its ceiling and floor."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.evaluation.independent_space import IndependentSpace, independent_spaces
from saerec_ray.evaluation.monosemanticity import TOP_ITEMS, monosemanticity, monosemanticity_of
from tests.evaluation.planted_dictionary import ITEMS, TOPICS, plant

PLANTED = plant()
CODES = PLANTED.dictionary.encode(PLANTED.vectors)
ATTRIBUTES, _ = independent_spaces(PLANTED.items)


def written(values: np.ndarray, space: IndependentSpace) -> float:
    strongest = np.argsort(-values, kind="stable")[:TOP_ITEMS]
    scaled = (values - values.min()) / (values.max() - values.min())
    above = below = 0.0
    similarity = space.similarity(np.arange(len(values)))
    for i, j in itertools.combinations(strongest, 2):
        above += scaled[i] * scaled[j] * similarity[i, j]
        below += scaled[i] * scaled[j]
    return above / below


def test_the_score_is_its_formula_for_sparse_and_dense_features() -> None:
    found = monosemanticity(CODES, ATTRIBUTES, np.array([2, 7]))
    dense = monosemanticity(PLANTED.vectors, ATTRIBUTES, np.array([1]))
    assert found[0] == pytest.approx(written(CODES.toarray()[:, 2].astype(float), ATTRIBUTES))
    assert found[1] == pytest.approx(written(CODES.toarray()[:, 7].astype(float), ATTRIBUTES))
    assert dense[0] == pytest.approx(written(PLANTED.vectors[:, 1].astype(float), ATTRIBUTES))


def test_items_that_are_all_alike_score_one() -> None:
    same = IndependentSpace("attributes", csr_array(np.ones((ITEMS, 2), dtype=np.float32)))
    np.testing.assert_allclose(monosemanticity(CODES, same, np.arange(TOPICS)), 1)


def test_a_feature_with_fewer_than_two_raised_items_has_no_score() -> None:
    dense = np.zeros((ITEMS, 3), dtype=np.float32)
    dense[5, 1] = 2
    dense[:, 2] = 1
    for features in (dense, csr_array(dense)):
        assert np.isnan(monosemanticity(features, ATTRIBUTES, np.arange(3))).all()


def test_planted_latents_score_above_raw_dimensions_and_codes_of_other_items() -> None:
    order = np.random.default_rng(3).permutation(ITEMS)
    found = monosemanticity_of(
        {"dictionary": CODES, "raw": PLANTED.vectors, "permuted": CODES[order]}, ATTRIBUTES, 24, seed=1
    )
    assert found["dictionary"]["features"] == 24
    assert found["dictionary"]["score"] > found["raw"]["score"] + 0.02
    assert found["raw"]["score"] > found["permuted"]["score"] + 0.02
    assert found["dictionary"]["score"] > 2 * found["permuted"]["score"]
    few = monosemanticity_of({"dictionary": CODES}, ATTRIBUTES, 4, seed=1)
    assert few["dictionary"]["features"] == 4
    silent = csr_array((ITEMS, 3), dtype=np.float32)
    assert monosemanticity_of({"none": silent}, ATTRIBUTES, 4, 1)["none"] == {"features": 0, "score": None}
