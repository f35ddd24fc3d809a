"""Intruders are found where latents mean something, and by chance where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.evaluation.independent_space import IndependentSpace, independent_spaces
from saerec_ray.evaluation.intruder import CHANCE, STRONGEST, intruder_accuracy, intruder_test
from tests.evaluation.planted_dictionary import ITEMS, TOPICS, plant

PLANTED = plant()
CODES = PLANTED.dictionary.encode(PLANTED.vectors)
ATTRIBUTES, TEXTS = independent_spaces(PLANTED.items)
EVERY = np.arange(TOPICS)


def clear_space() -> tuple[csr_array, IndependentSpace]:
    """Two latents, each on one half of the items, in a space that tells the halves apart."""
    half = np.arange(60) < 30
    sides = np.stack([half, ~half], axis=1).astype(np.float32)
    loadings = np.random.default_rng(0).uniform(1, 2, size=(60, 1)).astype(np.float32)
    return csr_array(sides * loadings), IndependentSpace("attributes", csr_array(sides))


def test_an_intruder_that_shares_nothing_is_always_found() -> None:
    codes, space = clear_space()
    assert intruder_accuracy(codes, space, np.array([0, 1]), seed=1).tolist() == [1, 1]


@pytest.mark.parametrize("space", [ATTRIBUTES, TEXTS], ids=["attributes", "texts"])
def test_planted_latents_are_near_the_ceiling_and_codes_of_other_items_at_chance(
    space: IndependentSpace,
) -> None:
    found = intruder_test(CODES, space, np.ones(TOPICS, dtype=bool), count=TOPICS, seed=2)
    assert found["latents"] == found["of_latents"] == TOPICS
    assert found["accuracy"] > 0.85
    assert found["accuracy_published"] == found["accuracy"]
    assert found["shuffled"] == pytest.approx(CHANCE, abs=0.1)
    low, high = found["accuracy_interval"]
    assert low <= found["accuracy"] <= high
    assert found["chance"] == pytest.approx(0.2)


def test_a_space_without_differences_leaves_the_judge_to_guess() -> None:
    blank = IndependentSpace("attributes", csr_array(np.ones((ITEMS, 1), dtype=np.float32)))
    np.testing.assert_allclose(intruder_accuracy(CODES, blank, EVERY, seed=1), CHANCE)


def test_members_are_among_the_strongest_and_the_intruder_is_inactive() -> None:
    seen: list[np.ndarray] = []

    class Watching(IndependentSpace):
        def similarity(self, items: np.ndarray) -> np.ndarray:
            seen.append(items)
            return super().similarity(items)

    intruder_accuracy(CODES, Watching(ATTRIBUTES.name, ATTRIBUTES.rows), np.array([3]), seed=1)
    values = CODES.toarray()[:, 3]
    strongest = set(np.argsort(-values)[:STRONGEST].tolist())
    assert seen, "or nothing below is looked at"
    for items in seen:
        assert set(items[:4].tolist()) <= strongest
        assert len(set(items[:4].tolist())) == 4
        assert values[items[4]] == 0


def test_latents_that_too_few_or_all_items_have_are_left_out() -> None:
    dense = np.zeros((40, 3), dtype=np.float32)
    dense[:3, 0] = 1
    dense[:, 1] = 1
    dense[::2, 2] = 1
    space = IndependentSpace("attributes", csr_array(dense))
    accuracy = intruder_accuracy(csr_array(dense), space, np.arange(3), seed=0)
    assert np.isnan(accuracy).tolist() == [True, True, False]
    found = intruder_test(csr_array(dense), space, np.zeros(3, dtype=bool), 10, 0)
    assert found["latents"] == 1
    assert found["accuracy_published"] is None
    assert intruder_test(csr_array(dense[:, :2]), space, np.zeros(2, dtype=bool), 10, 0) == {"latents": 0}


def test_a_bounded_number_of_latents_is_drawn_by_the_seed() -> None:
    published = EVERY < 12
    first, again, other = (
        intruder_test(CODES, ATTRIBUTES, published, count=5, seed=seed) for seed in (1, 1, 2)
    )
    assert first["latents"] == 5
    assert first == again
    assert first != other
