"""Whether explanations add up, and whether the measurement would say so if they did not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.evaluation import completeness as module
from saerec_ray.evaluation.completeness import completeness, intents_needed
from saerec_ray.scoring import Floats, ItemSpace, Parts, decompose
from tests.evaluation.toy_models import Toy, random_toy

shares = st.floats(0.05, 1.0)


def measured(toy: Toy, count: int = 50) -> dict[str, float]:
    return completeness(toy.space, toy.table, toy.users, count, seed=3)


def test_the_parts_of_a_real_score_add_up_for_every_listed_item() -> None:
    result = measured(random_toy(2))
    assert result["completeness_error"] < 1e-5
    assert result["users"] == 6
    assert result["items"] == 6 * 20


@pytest.mark.parametrize("left_out", ["bias", "residual", "companions"])
def test_a_part_that_is_left_out_shows_as_an_error(monkeypatch: pytest.MonkeyPatch, left_out: str) -> None:
    def forgetful(space: ItemSpace, state: Floats, values: Floats, item: int, companions: csr_array) -> Parts:
        return replace(decompose(space, state, values, item, companions), **{left_out: 0.0})

    monkeypatch.setattr(module, "decompose", forgetful)
    assert measured(random_toy(2))["completeness_error"] > 0.1


def test_without_residuals_and_companions_intents_explain_everything() -> None:
    toy = random_toy(4)
    alone = replace(toy.space, residuals=np.zeros_like(toy.space.residuals), companion_weight=0.0)
    result = measured(Toy(alone, toy.table, toy.users))
    assert result["companions_share_mean"] == 0
    assert result["explained_share_median"] == result["explained_share_p10"] == 1
    assert result["explained_share_histogram"][-1] == result["items"]


def test_the_explained_share_is_that_of_absolute_parts() -> None:
    toy = random_toy(5)
    expected, of_companions = [], []
    for user in toy.scored():
        for item in user.top(20):
            code = toy.space.codes[[int(item)]].toarray()[0]
            intents = float(np.abs(code * user.values).sum())
            residual = abs(float(user.state @ toy.space.residuals[item]))
            companions = toy.space.companion_weight * float(user.companions[0, int(item)])
            expected.append(intents / (intents + residual + companions))
            of_companions.append(companions / (intents + residual + companions))
    result = measured(toy)
    assert result["explained_share_median"] == pytest.approx(np.median(expected), rel=1e-5)
    assert result["explained_share_p10"] == pytest.approx(np.percentile(expected, 10), rel=1e-5)
    assert result["companions_share_mean"] == pytest.approx(np.mean(of_companions), rel=1e-5)
    assert result["companions_share_mean"] > 0


def test_warm_and_cold_items_are_reported_apart() -> None:
    toy = random_toy(6)
    popularity = np.where(np.arange(60) % 2, 1.0, 0.0).astype(np.float32)
    mixed = replace(toy.space, popularity=popularity)
    result = measured(Toy(mixed, toy.table, toy.users))
    expected: dict[str, list[float]] = {"warm": [], "cold": []}
    for user in toy.scored():
        for item in user.top(20).tolist():
            parts = decompose(toy.space, user.state, user.values, item, user.companions)
            intents = float(np.abs(parts.contributions).sum())
            share = intents / (intents + abs(parts.residual) + parts.companions)
            expected["warm" if popularity[item] else "cold"].append(share)
    for name, shares_of_kind in expected.items():
        assert result[f"{name}_items"] == len(shares_of_kind) > 5
        assert result[f"{name}_explained_share_median"] == pytest.approx(np.median(shares_of_kind))
        assert result[f"{name}_explained_share_p10"] == pytest.approx(np.percentile(shares_of_kind, 10))


def test_where_all_items_are_of_one_kind_the_other_has_no_share() -> None:
    toy = random_toy(6)
    for value, kind, other in ((1, "warm", "cold"), (0, "cold", "warm")):
        space = replace(toy.space, popularity=np.full(60, value, dtype=np.float32))
        result = measured(Toy(space, toy.table, toy.users))
        assert result[f"{kind}_items"] == result["items"]
        assert result[f"{kind}_explained_share_p10"] == result["explained_share_p10"]
        assert result[f"{other}_items"] == 0
        assert result[f"{other}_explained_share_median"] is result[f"{other}_explained_share_p10"] is None


def test_only_so_many_users_are_measured_and_the_seed_decides_which() -> None:
    toy = random_toy(7)
    assert measured(toy, count=2) == measured(toy, count=2)
    assert measured(toy, count=2)["users"] == 2


def test_intents_needed_by_hand() -> None:
    assert intents_needed(np.array([5.0, -3.0, 1.0, 1.0], dtype=np.float32), 0.8) == 2
    assert intents_needed(np.array([5.0, -3.0, 1.0, 1.0], dtype=np.float32), 0.81) == 3
    assert intents_needed(np.array([0.0, 0.0], dtype=np.float32), 0.8) == 0
    assert intents_needed(np.array([2.0], dtype=np.float32), 0.8) == 1


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=20), shares)
def test_intents_needed_is_the_smallest_set_that_reaches_the_share(values: list[float], share: float) -> None:
    array = np.array(values, dtype=np.float32)
    needed = intents_needed(array, share)
    ordered = np.sort(np.abs(array.astype(np.float64)))[::-1]
    total = ordered.sum()
    if total == 0:
        assert needed == 0
        return
    assert ordered[:needed].sum() >= share * total * (1 - 1e-6)
    assert ordered[: needed - 1].sum() < share * total
