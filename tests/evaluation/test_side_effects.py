"""What steering changes beside its intent: by hand, by definition, and where nothing changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.evaluation.side_effects import (
    SMOOTHING,
    SideEffects,
    category_shares,
    divergence,
    divergence_terms,
    mean_effects,
    rank_biased_overlap,
    rank_correlation,
)
from saerec_ray.evaluation.steering_curves import steering
from saerec_ray.evaluation.steering_runs import RULES, SteeredIntent
from tests.evaluation.toy_models import planted_toy

lists = st.permutations(range(12)).map(lambda order: np.array(order[:8]))


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(lists, lists)
def test_rank_biased_overlap_is_the_sum_over_depths_it_is_defined_by(
    one: np.ndarray, other: np.ndarray
) -> None:
    p = 0.8
    shared = [len(set(one[:d]) & set(other[:d])) / d for d in range(1, 9)]
    expected = (1 - p) * sum(share * p ** (d - 1) for d, share in enumerate(shared, 1)) + shared[-1] * p**8
    assert rank_biased_overlap(one, other, p) == pytest.approx(expected)
    assert rank_biased_overlap(one, other) == pytest.approx(rank_biased_overlap(other, one))


def test_the_same_list_overlaps_wholly_a_disjoint_one_not_and_first_places_count_most() -> None:
    assert rank_biased_overlap(ints(3, 1, 2), ints(3, 1, 2)) == pytest.approx(1)
    assert rank_biased_overlap(ints(1, 2), ints(3, 4)) == 0
    assert rank_biased_overlap(ints(), ints(1)) == 1
    base = ints(1, 2, 3, 4)
    late, early = rank_biased_overlap(base, ints(1, 2, 4, 3)), rank_biased_overlap(base, ints(2, 1, 3, 4))
    assert 1 > late > early > 0


def test_divergence_by_hand_is_finite_and_nothing_for_the_same_mix() -> None:
    half, one = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert divergence(half, half) == 0
    assert divergence(half, one) == pytest.approx(
        0.5 * math.log(0.5 / (1 - SMOOTHING + SMOOTHING / 2)) + 0.5 * math.log(1 / SMOOTHING)
    )
    assert divergence(one, half) == pytest.approx(math.log(1 / (0.5 * (1 - SMOOTHING) + SMOOTHING)))
    less, more = divergence_terms(half, np.array([0.9, 0.1]))
    assert less < 0 < more, "what is shown more lowers it, what is shown less raises it"


def test_an_item_of_two_categories_counts_half_in_each_and_one_category_is_no_mix() -> None:
    shares = category_shares([["a", "b", "a"], [], ["b"]])
    assert shares is not None
    np.testing.assert_array_equal(shares.toarray(), [[0.5, 0.5], [0, 0], [0, 1]])
    assert category_shares([["a"], ["a"], []]) is None
    assert category_shares([[], []]) is None


def test_spearman_is_of_order_alone_and_says_nothing_of_a_flat_line() -> None:
    assert rank_correlation(np.array([0.0, 1.0, 10.0])) == pytest.approx(1)
    assert rank_correlation(np.array([3.0, 2.0, 1.0])) == pytest.approx(-1)
    assert rank_correlation(np.array([0.0, 2.0, 1.0])) == pytest.approx(0.5)
    assert rank_correlation(np.array([1.0, 1.0])) is None
    assert rank_correlation(np.array([1.0])) is None


def test_effects_are_measured_over_the_lists_of_all_users() -> None:
    effects = SideEffects(2, 10, category_shares([["a"]] * 5 + [["b"]] * 5))
    effects.add([ints(0, 1), ints(0, 5)])
    effects.add([ints(5, 6), ints(5, 6)])
    found = effects.summary()
    assert found["coverage"] == [0.4, 0.3]
    similar = found["rank_biased_overlap"]
    assert similar is not None
    assert similar == pytest.approx([1, (1 + rank_biased_overlap(ints(0, 1), ints(0, 5))) / 2])
    mixed = found["category_divergence"]
    assert mixed == pytest.approx([0, divergence(np.array([0.5, 0.5]), np.array([0.25, 0.75]))])


def test_without_categories_there_is_no_mix_to_compare() -> None:
    effects = SideEffects(2, 10, None)
    effects.add([ints(0), ints(1)])
    assert effects.summary()["category_divergence"] is None
    assert mean_effects([effects, effects])["category_divergence"] is None


def test_steering_reports_its_side_effects_as_means_over_intents() -> None:
    toy = planted_toy(3, users=10)
    intents = [SteeredIntent(intent, str(intent)) for intent in (0, 6)]
    categories = category_shares([["a", "b"][item % 2 : item % 2 + 1] for item in range(400)])
    counted = np.ones(400)

    def steered(*chosen: SteeredIntent) -> dict[str, dict[str, list[float]]]:
        found = steering(
            *(toy.space, toy.table, toy.steering, toy.users, chosen, (0.5, 1.0), 10, 1, counted),
            categories=categories,
        )
        curves: dict[str, dict[str, list[float]]] = found["random"]
        return curves

    both, first, second = steered(*intents), steered(intents[0]), steered(intents[1])
    for rule in RULES:
        for name in ("rank_biased_overlap", "category_divergence", "coverage"):
            mean = np.mean([first[rule][name], second[rule][name]], axis=0)
            assert both[rule][name] == pytest.approx(mean.tolist())
        assert both[rule]["rank_biased_overlap"][0] == pytest.approx(1)
        assert both[rule]["category_divergence"][0] == 0
    assert both["boost"]["rank_biased_overlap"][-1] < 1
    assert both["boost"]["spearman"] == pytest.approx(1)
    assert both["suppress"]["spearman"] < -0.8, "the end may be reached before full strength"
