"""How pure latents are, against figures worked out by hand and codes of other items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.evaluation.independent_space import attribute_sets
from saerec_ray.evaluation.purity import category_purity, purity_against_controls
from tests.evaluation.planted_dictionary import plant

PLANTED = plant()
CODES = PLANTED.dictionary.encode(PLANTED.vectors)
CATEGORIES = attribute_sets(PLANTED.items.attributes)


def sparse(*rows: list[float]) -> csr_array:
    return csr_array(np.array(rows, dtype=np.float32))


def test_a_latent_of_one_category_is_pure_and_one_of_all_is_not() -> None:
    members = sparse([1, 0], [1, 0], [0, 1], [0, 1])
    pure = category_purity(sparse([2], [1], [0], [0]), members)
    assert pure == {
        "purity": pytest.approx(1),
        "entropy": pytest.approx(0),
        "divergence": pytest.approx(np.log(2)),
    }
    spread = category_purity(sparse([1], [1], [1], [1]), members)
    assert spread == {
        "purity": pytest.approx(0.5),
        "entropy": pytest.approx(1),
        "divergence": pytest.approx(0, abs=1e-9),
    }


def test_activation_weighs_items_and_latents() -> None:
    members = sparse([1, 0], [0, 1])
    found = category_purity(sparse([3, 0], [1, 1]), members)
    expected_first = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2)
    assert found["purity"] == pytest.approx((0.75 * 4 + 1 * 1) / 5)
    assert found["entropy"] == pytest.approx(expected_first * 4 / 5)


def test_an_item_in_several_categories_counts_whole_for_purity_and_in_parts_for_the_distribution() -> None:
    found = category_purity(sparse([1], [0]), sparse([1, 1], [0, 1]))
    assert found["purity"] == 1
    assert found["entropy"] == pytest.approx(1)
    assert found["divergence"] == pytest.approx(0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))


def test_items_without_a_category_and_silent_latents_are_left_out() -> None:
    found = category_purity(sparse([1, 0, 0], [0, 0, 0], [5, 0, 9]), sparse([1, 0], [0, 1], [0, 0]))
    assert found["purity"] == 1
    assert category_purity(sparse([0.0]), sparse([1, 1]))["purity"] == 0


@given(st.integers(0, 1000), st.floats(0.01, 100))
@example(102, 1.0)
def test_figures_stay_in_their_bounds_and_do_not_depend_on_the_unit(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((12, 3)) < 0.5, rng.uniform(0.1, 2, (12, 3)), 0).astype(np.float32)
    members = (rng.random((12, 4)) < 0.4).astype(np.float32)
    found = category_purity(csr_array(codes), csr_array(members))
    scaled = category_purity(csr_array(codes * np.float32(unit)), csr_array(members))
    assert 0 <= found["purity"] <= 1 + 1e-9
    assert -1e-9 <= found["entropy"] <= 1 + 1e-9
    assert found["divergence"] >= -1e-9
    assert scaled == {name: pytest.approx(value, abs=1e-5) for name, value in found.items()}


def test_planted_latents_are_pure_and_codes_of_other_items_are_at_the_base_rate() -> None:
    found = purity_against_controls({"dictionary": CODES}, CATEGORIES, seed=1)
    own, permuted = (found["codings"]["dictionary"][name] for name in ("own", "permuted"))
    assert own["purity"] == pytest.approx(1)
    assert own["divergence"] > permuted["divergence"] + 0.3
    assert own["entropy"] < permuted["entropy"] - 0.1
    assert permuted["purity"] < found["base_purity"] + 0.15
    assert found["base_purity"] == pytest.approx(PLANTED.present.sum(axis=0).max() / len(PLANTED.present))
    assert found["categories"] == PLANTED.present.shape[1]
