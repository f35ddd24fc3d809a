"""What a reconstruction loses of what ranks items: all of it for the mean vector, nothing for the items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.backbone import validation
from saerec_ray.backbone.validation import HeldOut, ndcg
from saerec_ray.evaluation.content_recommender import LIST_LENGTH, ndcg_recovered, recommend
from tests.evaluation.planted_dictionary import ITEMS, plant
from tests.evaluation.toy_models import held

PLANTED = plant()
VECTORS, MEAN = PLANTED.vectors, PLANTED.vectors.mean(axis=0)


def cases(users: int = 60, seed: int = 0) -> HeldOut:
    """Users who stay with one topic: targets share it with the history."""
    rng = np.random.default_rng(seed)
    histories, targets = [], []
    for user in range(users):
        own = rng.permutation(np.flatnonzero(PLANTED.present[:, user % PLANTED.present.shape[1]]))
        histories.append(own[: 2 + user % 4].tolist())
        targets.append(own[-1 - user % 2 :].tolist())
    return held(histories, targets)


def test_items_are_ranked_by_the_recency_weighted_mean_of_the_history() -> None:
    found = recommend(VECTORS - MEAN, cases())
    x = (VECTORS - MEAN).astype(np.float64)
    ranks = []
    for case, (history, targets) in enumerate(zip(cases().histories, cases().targets, strict=True)):
        weights = np.array([0.5 ** (len(history) - 1 - place) for place in range(len(history))])
        scores = x @ ((weights / weights.sum()) @ x[history])
        for target in targets:
            rivals = set(range(ITEMS)) - set(history.tolist()) - set(targets.tolist())
            ranks.append(1 + sum(scores[rival] > scores[target] for rival in rivals))
        open_items = [item for item in range(ITEMS) if item not in history]
        best = sorted(open_items, key=lambda item: -scores[item])[:LIST_LENGTH]
        assert set(found.lists[case].tolist()) == set(best)
    np.testing.assert_array_equal(found.ranks, ranks)


def test_where_fewer_users_are_scored_at_once_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = recommend(VECTORS - MEAN, cases())
    monkeypatch.setattr(validation, "_SCORES_AT_ONCE", 3 * ITEMS)
    assert validation.users_at_once(ITEMS) == 3
    found = recommend(VECTORS - MEAN, cases())
    np.testing.assert_array_equal(found.ranks, whole.ranks)
    assert [set(each) for each in found.lists.tolist()] == [set(each) for each in whole.lists.tolist()]


def test_no_list_holds_an_item_the_user_has_met_even_where_all_others_score_below_zero() -> None:
    """Items point in two opposite ways, and each user has met all that point theirs."""
    rng = np.random.default_rng(0)
    side = np.where(np.arange(40) < 4, 1.0, -1.0)[:, None]
    vectors = (side * (1 + rng.random((40, 3)))).astype(np.float32)
    found = recommend(vectors, held([[0, 1, 2, 3], [2, 0, 1, 3]], [[5], [9]]))
    for listed in found.lists:
        assert len(listed) == LIST_LENGTH
        assert not set(listed.tolist()) & {0, 1, 2, 3}
    assert (found.ranks <= 36).all()


def test_of_some_items_only_these_compete_and_are_listed() -> None:
    among = np.arange(ITEMS) % 2 == 0
    some = cases().with_targets_among(among)
    found = recommend(VECTORS - MEAN, some, among)
    whole = recommend(VECTORS - MEAN, some)
    assert (found.ranks <= whole.ranks).all()
    assert (found.ranks < whole.ranks).any()
    assert among[found.lists].all()


def test_a_target_the_user_has_met_before_is_still_looked_for() -> None:
    again = held([[4, 3]], [[3]])
    assert recommend(VECTORS - MEAN, again).ranks.tolist() == [1]


def test_nothing_is_lost_by_the_identity_and_everything_by_the_mean_vector() -> None:
    found = ndcg_recovered(
        VECTORS,
        MEAN,
        {
            "identity": lambda: VECTORS,
            "planted": lambda: PLANTED.dictionary.reconstruct(VECTORS),
            "mean": lambda: np.broadcast_to(MEAN, VECTORS.shape),
        },
        cases(),
        seed=1,
    )
    for name in ("identity", "planted"):
        row = found["codings"][name]
        assert row["recovered"] == {"10": pytest.approx(1), "20": pytest.approx(1)}
        assert row["recovered_interval"] == [pytest.approx(1), pytest.approx(1)]
        assert row["change"]["10"] == pytest.approx(0)
        assert row["overlap"] == pytest.approx(1, abs=0.02)
    row = found["codings"]["mean"]
    assert row["recovered"] == {"10": 0, "20": 0}
    assert row["recovered_interval"] == [0, 0]
    assert row["change"]["10"] == pytest.approx(found["ndcg_of_mean_vector"]["10"] / found["ndcg"]["10"] - 1)
    assert row["overlap"] < 0.2
    assert found["ndcg"]["20"] > found["ndcg"]["10"] > 0.05


def test_ndcg_is_the_mean_over_users_of_their_targets() -> None:
    single = held([[0, 1], [5, 9, 12]], [[2], [7]])
    found = ndcg_recovered(VECTORS, MEAN, {}, single, seed=1)
    ranks = recommend(VECTORS - MEAN, single).ranks
    assert found["ndcg"]["20"] == pytest.approx(ndcg(ranks, 20))
    assert found["users"] == 2
    several = held([[0, 1], [5, 9, 12]], [[2], [7, 8, 10]])
    ranks = recommend(VECTORS - MEAN, several).ranks
    gains = np.where(ranks <= 20, 1 / np.log2(ranks + 1), 0)
    expected = (gains[0] + gains[1:].mean()) / 2
    assert ndcg_recovered(VECTORS, MEAN, {}, several, 1)["ndcg"]["20"] == pytest.approx(expected)


def test_where_the_vectors_rank_no_better_than_nothing_there_is_no_share_to_recover() -> None:
    flat = np.broadcast_to(MEAN, VECTORS.shape)
    found = ndcg_recovered(flat, MEAN, {"own": lambda: VECTORS}, cases(), seed=1)
    assert found["codings"]["own"]["recovered"] == {"10": None, "20": None}
    assert found["codings"]["own"]["recovered_interval"] is None


@settings(max_examples=10)
@given(st.floats(0.1, 10))
def test_the_length_of_all_vectors_does_not_matter(factor: float) -> None:
    ours = recommend(VECTORS - MEAN, cases(10)).ranks
    theirs = recommend(((VECTORS - MEAN) * np.float32(factor)).astype(np.float32), cases(10)).ranks
    assert (np.abs(ours - theirs) <= 1).all(), "rounding may swap neighbours"


def test_noise_is_between_the_limits_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    noisy = (VECTORS + 0.12 * rng.normal(size=VECTORS.shape)).astype(np.float32)
    row = ndcg_recovered(VECTORS, MEAN, {"noisy": lambda: noisy}, cases(), 1)["codings"]["noisy"]
    low, high = row["recovered_interval"]
    assert 0.2 < row["recovered"]["10"] < 0.95
    assert low < row["recovered"]["10"] < high
    assert row["overlap"] < 0.95
