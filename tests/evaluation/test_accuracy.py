"""HR, NDCG and MRR against lists ranked by hand, and the groups they are split into."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.backbone.validation import target_ranks
from saerec_ray.evaluation.accuracy import (
    accuracy,
    accuracy_by_history_length,
    ndcg_interval,
    popularity_ranks,
    target_cases,
)
from saerec_ray.evaluation.intervals import bootstrap_interval, mean_by_user
from tests.evaluation.toy_models import held


def ranks_of(scores: list[list[float]], histories: list[list[int]], targets: list[list[int]]) -> list[int]:
    cases = held(histories, targets)
    array = np.array(scores, dtype=np.float32)
    return target_ranks(cases, lambda: iter([(0, array.copy())])).tolist()


def test_metrics_of_four_targets_equal_the_sums_by_hand() -> None:
    metrics = accuracy(np.array([1, 3, 6, 40]), [5, 10])
    assert metrics["targets"] == 4
    assert metrics["HR@5"] == pytest.approx(2 / 4)
    assert metrics["HR@10"] == pytest.approx(3 / 4)
    assert metrics["NDCG@5"] == pytest.approx((1 + 1 / 2) / 4)
    assert metrics["NDCG@10"] == pytest.approx((1 + 1 / 2 + 1 / math.log2(7)) / 4)
    assert metrics["MRR@5"] == pytest.approx((1 + 1 / 3) / 4)
    assert metrics["MRR@10"] == pytest.approx((1 + 1 / 3 + 1 / 6) / 4)


def test_a_rank_equal_to_the_cutoff_counts_and_the_next_does_not() -> None:
    assert accuracy(np.array([5]), [5])["HR@5"] == 1
    assert accuracy(np.array([6]), [5])["HR@5"] == 0


def test_no_targets_score_zero() -> None:
    assert accuracy(np.array([], dtype=np.int64), [5]) == {"targets": 0, "HR@5": 0, "NDCG@5": 0, "MRR@5": 0}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_a_longer_list_never_scores_less_and_mrr_never_exceeds_ndcg_nor_ndcg_hr(ranks: list[int]) -> None:
    metrics = accuracy(np.array(ranks), [5, 10])
    for name in ("HR", "NDCG", "MRR"):
        assert metrics[f"{name}@5"] <= metrics[f"{name}@10"]
    assert metrics["MRR@10"] <= metrics["NDCG@10"] + 1e-12 <= metrics["HR@10"] + 2e-12


def test_seen_items_do_not_compete() -> None:
    assert ranks_of([[9.0, 8.0, 7.0, 1.0]], [[]], [[2]]) == [3]
    assert ranks_of([[9.0, 8.0, 7.0, 1.0]], [[0, 1]], [[2]]) == [1]


def test_a_seen_item_does_not_compete_even_where_all_scores_are_negative() -> None:
    assert ranks_of([[-1.0, -5.0, -3.0]], [[0]], [[2]]) == [1], "seen items stand at minus infinity, not at 0"


def test_ties_are_broken_by_index_as_in_the_served_order() -> None:
    scores = [[2.0, 2.0, 2.0, 1.0]]
    assert [ranks_of(scores, [[]], [[item]])[0] for item in range(4)] == [1, 2, 3, 4]


def test_targets_of_one_user_do_not_compete_with_each_other() -> None:
    assert ranks_of([[5.0, 4.0, 3.0]], [[]], [[0, 2]]) == [1, 2]


def test_popularity_ranks_put_the_most_met_unseen_item_first() -> None:
    popularity = np.array([3.0, 9.0, 5.0, 5.0], dtype=np.float32)
    cases = held([[1], [0]], [[2], [3]])
    assert popularity_ranks(popularity, cases).tolist() == [1, 3]
    assert popularity.tolist() == [3.0, 9.0, 5.0, 5.0], "the baseline leaves the popularity as it was"


def test_history_lengths_group_users_at_one_five_and_ten() -> None:
    cases = held([[0] * length for length in (1, 4, 5, 9, 10, 30)], [[1]] * 6)
    groups = accuracy_by_history_length(np.array([1, 9, 1, 1, 9, 9]), cases, [5])
    assert list(groups) == ["1-4", "5-9", "10+"]
    assert [group["targets"] for group in groups.values()] == [2, 2, 2]
    assert [group["HR@5"] for group in groups.values()] == [0.5, 1.0, 0.0]


def test_history_lengths_follow_the_user_when_users_have_several_targets() -> None:
    cases = held([[0, 1], [0] * 12], [[1, 2, 3], [4]])
    assert target_cases(cases).tolist() == [0, 0, 0, 1]
    groups = accuracy_by_history_length(np.array([1, 1, 1, 50]), cases, [5])
    assert groups["1-4"]["HR@5"] == 1
    assert groups["10+"] == {"targets": 1, "HR@5": 0, "NDCG@5": 0, "MRR@5": 0}
    assert "5-9" not in groups


def test_the_interval_counts_users_not_targets() -> None:
    assert mean_by_user(np.array([1.0, 0.0, 0.0, 1.0]), np.array([7, 7, 7, 9])).tolist() == [
        pytest.approx(1 / 3),
        1.0,
    ]
    cases = held([[0]] * 2, [[1] * 99, [1]])
    low, high = ndcg_interval(np.array([1] * 99 + [50]), cases, 10, seed=1)
    assert (low, high) == (0.0, 1.0), "two users, one found always and one never"


def test_the_interval_is_of_the_figure_beside_it_where_some_users_have_many_targets() -> None:
    """Ten users with twenty targets, all found, and ninety with one that is not: 200 of 290."""
    cases = held([[0]] * 100, [[*range(1, 21)]] * 10 + [[1]] * 90)
    ranks = np.array([1] * 200 + [50] * 90)
    low, high = ndcg_interval(ranks, cases, 10, seed=1)
    assert low < accuracy(ranks, [10])["NDCG@10"] < high
    assert low > 0.5, "the mean over users is .1"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(0, 99))
def test_an_interval_holds_the_mean_and_stays_within_the_values(values: list[float], seed: int) -> None:
    low, high = bootstrap_interval(values, seed)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert (low, high) == bootstrap_interval(values, seed)


def test_an_interval_is_as_wide_as_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    low, high = bootstrap_interval(values, 0)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(4000), rel=0.1)
    assert low < values.mean() < high
