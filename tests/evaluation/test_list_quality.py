"""How popular lists are and how far they reach."""

from __future__ import annotations

import numpy as np
import pytest

from saerec_ray.evaluation.list_quality import list_quality, model_lists, popularity_lists
from tests.evaluation.toy_models import held, random_toy


def test_popularity_is_averaged_by_list_and_then_by_user() -> None:
    interactions = np.array([10.0, 2.0, 0.0, 4.0])
    quality = list_quality(
        [np.array([0]), np.array([1, 2])], [np.array([3]), np.array([1, 3, 3])], interactions
    )
    assert quality["list_popularity"] == pytest.approx((10 + 1) / 2)
    assert quality["history_popularity"] == pytest.approx((4 + 10 / 3) / 2)
    assert quality["popularity_bias"] == pytest.approx(5.5 / (11 / 3))
    assert quality["catalogue_coverage"] == pytest.approx(3 / 4)
    assert quality["users"] == 2


def test_lists_like_the_histories_have_no_bias() -> None:
    interactions = np.arange(6, dtype=np.float64)
    lists = [np.array([1, 2]), np.array([5, 4])]
    histories = [np.array([2, 1], dtype=np.int32), np.array([4, 5], dtype=np.int32)]
    assert list_quality(lists, histories, interactions)["popularity_bias"] == 1


def test_popularity_lists_hold_the_most_met_items_without_the_history() -> None:
    popularity = np.array([1.0, 5.0, 3.0, 4.0], dtype=np.float32)
    lists = popularity_lists(popularity, held([[1], []], [[0], [0]]), np.array([0, 1]), length=2)
    assert [items.tolist() for items in lists] == [[3, 2], [1, 3]]


def test_model_lists_are_the_best_unseen_items_of_the_cases_asked_for() -> None:
    toy = random_toy(1)
    lists = model_lists(toy.space, toy.table, toy.users, np.array([4, 1]), length=7)
    for case, items in zip((4, 1), lists, strict=True):
        scores = toy.scored()[case].scores.copy()
        seen = toy.users.cases.histories[case]
        scores[seen] = -np.inf
        assert items.tolist() == np.argsort(-scores, kind="stable")[:7].tolist()
        assert not set(items.tolist()) & set(seen.tolist())
