"""Taking cited intents away, against taking away random ones of the same kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.evaluation import ablation
from saerec_ray.evaluation.ablation import cited_against_random, rank_drop, removals
from saerec_ray.evaluation.cited_intents import (
    cited_intents,
    densities,
    matched_by_density,
    speaking_intents,
)
from saerec_ray.evaluation.scored_users import ScoredUser, sample_cases, without_intents
from saerec_ray.scoring import Indices, ItemSpace, decompose
from tests.evaluation.toy_models import planted_toy, random_toy, served_reasons

seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=40)


@laws
@given(seed=seeds)
def test_scores_without_some_intents_are_those_of_a_user_to_whom_they_are_worth_nothing(seed: int) -> None:
    toy = random_toy(seed)
    rng = np.random.default_rng(seed)
    user = toy.scored()[0]
    gone = rng.choice(12, 4, replace=False)
    values = user.values.astype(np.float64).copy()
    values[gone] = 0
    expected = toy.space.codes.toarray() @ values + toy.space.residuals @ user.state + toy.space.biases
    expected += toy.space.companion_weight * user.companions.toarray()[0]
    np.testing.assert_allclose(without_intents(toy.space, user, gone), expected, rtol=1e-4, atol=1e-4)


@laws
@given(seed=seeds)
def test_without_all_intents_residual_bias_and_companions_remain(seed: int) -> None:
    toy = random_toy(seed)
    user = toy.scored()[1]
    left = without_intents(toy.space, user, np.arange(12))
    for item in range(60):
        parts = decompose(toy.space, user.state, user.values, item, user.companions)
        assert left[item] == pytest.approx(parts.residual + parts.bias + parts.companions, abs=1e-4)


@laws
@given(seed=seeds)
def test_cited_intents_are_the_listed_ones_that_add_by_how_far_the_item_moves_without_them(seed: int) -> None:
    toy = random_toy(seed)
    user = toy.scored()[2]
    for item in range(0, 60, 7):
        assert cited_intents(toy.space, user, item, 3).tolist() == served_reasons(toy.space, user, item)
        code = toy.space.codes[[item]].toarray()[0]
        assert (
            speaking_intents(toy.space, user, item).tolist()
            == np.flatnonzero(code * user.values > 0).tolist()
        )


def test_intents_that_may_not_be_cited_are_not() -> None:
    toy = random_toy(3)
    user = toy.scored()[0]
    citable = np.arange(12) % 2 == 0
    left_out = 0
    for item in range(60):
        found = cited_intents(toy.space, user, item, 3, citable).tolist()
        assert found == served_reasons(toy.space, user, item, citable)
        left_out += not citable[cited_intents(toy.space, user, item, 3)].all()
    assert left_out > 5, "or nothing was chosen among"


def test_the_rank_drop_is_the_difference_of_two_sorted_places() -> None:
    toy = random_toy(8)
    user = toy.scored()[0]
    item = int(user.top(1)[0])
    reasons = cited_intents(toy.space, user, item, 2)
    after = without_intents(toy.space, user, reasons)
    after[user.history] = -np.inf
    place = np.argsort(-after, kind="stable").tolist().index(item) + 1
    assert rank_drop(toy.space, user, item, reasons) == place - 1
    assert rank_drop(toy.space, user, item, np.empty(0, dtype=np.int64)) == 0


@laws
@given(seed=seeds, wanted=st.integers(1, 5))
def test_controls_are_different_candidates_and_never_what_they_control(seed: int, wanted: int) -> None:
    rng = np.random.default_rng(seed)
    cited = rng.choice(20, wanted, replace=False)
    candidates = rng.choice(20, 9, replace=False)
    drawn = matched_by_density(cited, candidates, rng.random(20).astype(np.float32), rng)
    left = set(candidates.tolist()) - set(cited.tolist())
    if len(left) < wanted:
        assert drawn is None
        return
    assert drawn is not None
    assert len(set(drawn.tolist())) == wanted
    assert set(drawn.tolist()) <= left


def test_controls_are_drawn_among_the_three_nearest_densities() -> None:
    density = np.array([0.1, 0.11, 0.09, 0.12, 0.0001, 0.9], dtype=np.float32)
    rng = np.random.default_rng(0)
    drawn = {
        int(found[0])
        for _ in range(200)
        if (found := matched_by_density(np.array([0]), np.arange(6), density, rng)) is not None
    }
    assert drawn == {1, 2, 3}


def test_the_density_of_an_intent_is_the_share_of_items_that_carry_it() -> None:
    toy = random_toy(9)
    np.testing.assert_allclose(densities(toy.space), (toy.space.codes.toarray() > 0).mean(axis=0), rtol=1e-6)


def largest(space: ItemSpace, user: ScoredUser, item: int, count: int) -> Indices:
    """The largest contributions first, whatever the places."""
    parts = decompose(space, user.state, user.values, item, user.companions)
    return parts.intents[np.argsort(-parts.contributions, kind="stable")][:count]


def test_where_two_intents_decide_everything_citing_them_wins_against_both_controls() -> None:
    toy = planted_toy(1)
    found = cited_against_random(toy.space, toy.table, toy.users, 40, seed=5)
    for control in ("same_item", "same_user"):
        pair = found["2"][control]
        assert pair["win_rate"] > 0.95
        assert pair["median_drop_cited"] > 10 * max(1.0, pair["median_drop_random"])
    assert found["1"]["same_item"]["win_rate"] > 0.95, "also where the random one is the other liked"
    by_size = removals(toy.space, toy.scored(), seed=5, cite=largest)["1"]["same_item"]["win_rate"]
    assert 0.75 < by_size < 0.95, "one in three random ones is the other liked"
    low, high = found["1"]["same_item"]["win_rate_interval"]
    assert low <= found["1"]["same_item"]["win_rate"] <= high


def test_citing_at_random_wins_as_often_as_it_loses() -> None:
    rng = np.random.default_rng(11)

    def at_random(space, user, item, count):  # type: ignore[no-untyped-def]
        return rng.permutation(space.code(item)[0])[:count]

    toy = random_toy(12, items=300, users=60)
    one = removals(toy.space, toy.scored(), seed=5, cite=at_random)["1"]["same_item"]
    decided = one["win_rate"] / (1 - one["ties"])
    assert decided == pytest.approx(0.5, abs=0.08)


def test_the_strictest_control_takes_away_other_reasons_and_the_loosest_anything_the_item_carries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered: list[tuple[set[int], ...]] = []

    def record(wanted, candidates, density, rng):  # type: ignore[no-untyped-def]
        offered.append((set(wanted.tolist()), set(candidates.tolist())))
        return matched_by_density(wanted, candidates, density, rng)

    monkeypatch.setattr(ablation, "matched_by_density", record)
    toy = random_toy(4)
    cited_against_random(toy.space, toy.table, toy.users, 1, seed=5)
    user = toy.scored()[int(sample_cases(toy.users, 1, 5)[0])]
    item = int(user.top(1)[0])
    contributions = toy.space.code(item)[1] * user.values[toy.space.code(item)[0]]
    speaking, carried, own = (candidates for _, candidates in offered[:3])
    assert carried == set(toy.space.code(item)[0].tolist())
    assert speaking == set(toy.space.code(item)[0][contributions > 0].tolist())
    assert speaking < carried
    assert own == set(np.flatnonzero(user.profile > 0).tolist())


def test_items_with_too_few_reasons_are_left_out_not_padded() -> None:
    toy = planted_toy(2)
    found = cited_against_random(toy.space, toy.table, toy.users, 40, seed=5)
    assert found["5"] == {}, "items carry four intents"
    assert "same_item" not in found["3"], "one other intent cannot stand against three"
    assert found["1"]["same_item"]["cases"] == 40 * 10


def test_the_same_seed_gives_the_same_figures_and_progress_reaches_its_end() -> None:
    toy = random_toy(13)
    steps: list[tuple[int, int]] = []
    first = cited_against_random(
        toy.space, toy.table, toy.users, 4, seed=1, on_progress=lambda *step: steps.append(step)
    )
    assert first == cited_against_random(toy.space, toy.table, toy.users, 4, seed=1)
    assert steps == [(done, 4) for done in range(1, 5)]


def test_a_sample_is_of_different_users_and_no_larger_than_there_are() -> None:
    toy = random_toy(14)
    assert sample_cases(toy.users, 100, 0).tolist() == list(range(6))
    few = sample_cases(toy.users, 3, 0)
    assert len(set(few.tolist())) == 3
