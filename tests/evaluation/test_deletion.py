"""Curves of a list's score as intents go, and what of the list is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation.deletion import (
    ORDERS,
    SHARES,
    area,
    deletion_and_insertion,
    list_intents,
    normalised,
    scores_by_removal,
)
from saerec_ray.evaluation.scored_users import without_intents
from saerec_ray.scoring import ItemSpace, decompose
from tests.evaluation.toy_models import held, no_prior, planted_toy, random_toy

seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=30)


@laws
@given(seed=seeds, by=st.sampled_from(ORDERS))
def test_removal_starts_at_the_score_and_ends_at_residual_and_bias(seed: int, by: str) -> None:
    toy = random_toy(seed)
    user = toy.scored()[0]
    items = user.top(10)
    order = list_intents(toy.space, user, items).order(by, np.random.default_rng(seed))
    steps = scores_by_removal(toy.space, user, order)
    np.testing.assert_allclose(steps[0], user.scores, atol=1e-6)
    for item in items:
        parts = decompose(toy.space, user.state, user.values, int(item), user.companions)
        assert steps[-1][item] == pytest.approx(parts.residual + parts.bias + parts.companions, abs=1e-4)


@laws
@given(seed=seeds, by=st.sampled_from(ORDERS))
def test_the_deletion_curve_ends_where_the_insertion_curve_starts_and_the_other_way_round(
    seed: int, by: str
) -> None:
    toy = random_toy(seed)
    user = toy.scored()[0]
    order = list_intents(toy.space, user, user.top(10)).order(by, np.random.default_rng(seed))
    deletion = scores_by_removal(toy.space, user, order)
    insertion = scores_by_removal(toy.space, user, order[::-1])[::-1]
    items = user.top(10)
    np.testing.assert_allclose(deletion[-1][items], insertion[0][items], atol=1e-5)
    np.testing.assert_allclose(deletion[0], insertion[-1], atol=1e-5)


@laws
@given(seed=seeds)
def test_every_step_removes_the_first_intents_of_the_order_for_all_items(seed: int) -> None:
    toy = random_toy(seed)
    user = toy.scored()[0]
    order = np.random.default_rng(seed).permutation(12)
    steps = scores_by_removal(toy.space, user, order)
    for step, share in enumerate(SHARES):
        expected = without_intents(toy.space, user, order[: round(share * 12)])
        np.testing.assert_allclose(steps[step], expected, atol=1e-4)


@laws
@given(seed=seeds)
def test_no_order_deletes_faster_or_inserts_faster_than_the_contributions(seed: int) -> None:
    toy = random_toy(seed)
    user = toy.scored()[0]
    items = user.top(10)
    found = list_intents(toy.space, user, items)
    rng = np.random.default_rng(seed)
    best = scores_by_removal(toy.space, user, found.order("contribution", rng))[:, items].mean(axis=1)
    for by in ORDERS[1:]:
        other = scores_by_removal(toy.space, user, found.order(by, rng))[:, items].mean(axis=1)
        assert (best <= other + 1e-4).all()


def test_orders_go_by_what_they_are_named_after() -> None:
    toy = random_toy(3)
    user = toy.scored()[0]
    items = user.top(10)
    dense = toy.space.codes.toarray()[items]
    found = list_intents(toy.space, user, items)
    rng = np.random.default_rng(0)
    carried = np.flatnonzero(dense.sum(axis=0))
    for by, weights in (
        ("contribution", (dense * user.values).sum(axis=0)),
        ("activation", dense.sum(axis=0)),
        ("user", user.profile),
    ):
        ranked = found.order(by, rng)
        assert sorted(ranked) == carried.tolist()
        assert (np.diff(weights[ranked]) <= 1e-5).all()


def test_a_curve_is_normalised_to_one_at_the_start_and_zero_at_the_end() -> None:
    assert normalised(np.array([5.0, 3.0, 1.0]), 5.0, 1.0).tolist() == [1.0, 0.5, 0.0]
    assert area(np.linspace(1, 0, len(SHARES))) == pytest.approx(0.5)
    assert area(np.ones(len(SHARES))) == pytest.approx(1.0)


def test_where_two_intents_decide_everything_the_explanation_beats_every_control() -> None:
    toy = planted_toy(4)
    found = deletion_and_insertion(toy.space, toy.table, toy.users, 20, seed=1)
    assert found["users"] == 20
    assert found["left_out"] == 0
    best = found["orders"]["contribution"]
    for control in ORDERS[1:]:
        assert best["deletion_area"] <= found["orders"][control]["deletion_area"] + 1e-6
        assert best["insertion_area"] >= found["orders"][control]["insertion_area"] - 1e-6
    chance = found["orders"]["random"]
    assert best["deletion_area"] < 0.25 < chance["deletion_area"]
    assert best["POS@10"] < chance["POS@10"]
    assert best["NEG@10"] > chance["NEG@10"]
    assert chance["deletion_area"] == pytest.approx(0.5, abs=0.1), "random removal is a straight line"
    for row in found["orders"].values():
        assert row["deletion"][0] == pytest.approx(1) == row["insertion"][-1]
        assert row["deletion"][-1] == pytest.approx(0, abs=1e-6)
        assert row["insertion"][0] == pytest.approx(0, abs=1e-6)


def test_users_whose_lists_win_about_as_much_by_intents_as_they_lose_have_no_curve() -> None:
    """One intent adds 2, another takes 1.98 away: in units of the difference a curve would go through 100."""
    items = 20
    space = ItemSpace(
        codes=csr_array(np.ones((items, 2), dtype=np.float32)),
        intent_vectors=np.array([[2.0], [-1.98]], dtype=np.float32),
        residuals=np.zeros((items, 1), np.float32),
        biases=np.linspace(1, 0, items, dtype=np.float32),
        popularity=np.zeros(items, np.float32),
        prior_weight=0.0,
    )
    nobody = csr_array((3, items), dtype=np.float32)
    users = EncodedUsers(
        held([[19]] * 3, [[0]] * 3), np.ones((3, 1), np.float32), np.zeros((3, 2), np.float32), nobody
    )
    found = deletion_and_insertion(space, no_prior(2), users, 3, seed=1)
    assert found["left_out"] == 3
    clear = replace(space, intent_vectors=np.array([[2.0], [-1.0]], dtype=np.float32))
    assert deletion_and_insertion(clear, no_prior(2), users, 3, seed=1)["left_out"] == 0


def test_users_whose_lists_owe_nothing_to_intents_are_counted_as_left_out() -> None:
    toy = random_toy(5)
    toy.users.states[:] = 0
    toy.users.profiles[:] = 0
    indifferent = type(toy)(
        toy.space, type(toy.table)(toy.table.inverse_document_frequency, 0 * toy.table.public, 0.2), toy.users
    )
    found = deletion_and_insertion(indifferent.space, indifferent.table, indifferent.users, 6, seed=1)
    assert found["left_out"] == 6
    assert "deletion" not in found["orders"]["contribution"]
    assert found["orders"]["contribution"]["POS@10"] == 1, "nothing changes, so all of the list stays"
