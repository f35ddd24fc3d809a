"""Simulated users with planted preferences, and how verdicts on them are counted."""

from __future__ import annotations

import numpy as np
import pytest

from saerec_ray.evaluation import representation as module
from saerec_ray.evaluation.html_report import html_report
from saerec_ray.evaluation.representation import (
    LENGTHS,
    MIN_CARRIERS,
    Simulator,
    avoidable_intents,
    plantable_intents,
    representation,
)
from saerec_ray.evaluation.representation_tables import representation_lines
from saerec_ray.intents.population import Population, Representation, Verdict, measure_population
from saerec_ray.scoring import Floats, ItemSpace
from tests.evaluation.toy_models import random_toy

INTENTS = 40


def setting(seed: int) -> tuple[ItemSpace, Population, np.ndarray]:
    """A catalogue with a population of 3000 interactions."""
    toy = random_toy(seed, items=200, intents=INTENTS)
    rng = np.random.default_rng(seed)
    met = rng.choice(200, 3000, p=rng.dirichlet(np.ones(200))).astype(np.int32)
    population = measure_population(
        toy.space.codes, np.repeat(np.arange(300), 10), met, [[] for _ in range(200)]
    )
    return toy.space, population, np.bincount(met, minlength=200).astype(np.float64)


def simulator(seed: int = 1) -> Simulator:
    space, _, interactions = setting(seed)
    return Simulator(space, interactions / interactions.sum())


def always(verdict: Verdict):  # type: ignore[no-untyped-def]
    def compare(codes: object, history: object, population: Population) -> Representation:
        nothing: Floats = np.zeros(INTENTS, dtype=np.float32)
        return Representation(nothing, nothing, nothing, [verdict] * INTENTS)

    return compare


def test_a_chance_user_meets_items_as_often_as_the_population() -> None:
    drawn = simulator()
    history = drawn.history(40_000, np.random.default_rng(0))
    shares = np.bincount(history, minlength=200) / len(history)
    np.testing.assert_allclose(shares, drawn.weights, atol=0.005)


def test_a_planted_share_of_items_carries_the_intent_and_the_rest_is_as_usual() -> None:
    drawn = simulator()
    history = drawn.with_preference(4, 0.3, 40_000, np.random.default_rng(0))
    carries = np.isin(history, drawn.space.carriers(4)[0]).mean()
    usual = drawn.weights[drawn.space.carriers(4)[0]].sum()
    assert carries == pytest.approx(0.3 + 0.7 * usual, abs=0.01)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_expected_activation_is_what_planted_users_show_on_average(share: float) -> None:
    drawn = simulator()
    history = drawn.with_preference(4, share, 60_000, np.random.default_rng(0))
    shown = np.asarray(drawn.space.codes[history].mean(axis=0)).ravel()
    np.testing.assert_allclose(shown, drawn.expected_activation(4, share), rtol=0.06, atol=0.003)


def test_an_aversion_leaves_out_every_carrier() -> None:
    drawn = simulator()
    history = drawn.with_aversion(4, 5_000, np.random.default_rng(0))
    assert not np.isin(history, drawn.space.carriers(4)[0]).any()
    assert len(history) == 5_000


def test_intents_that_the_population_hardly_met_are_not_planted() -> None:
    space, _, interactions = setting(2)
    weights = interactions / interactions.sum()
    carriers = space.carriers(3)[0]
    weights[carriers[4:]] = 0
    weights[carriers[:4]] = 0.01
    assert 3 not in plantable_intents(space, weights)
    weights[carriers[4]] = 0.01
    assert 3 in plantable_intents(space, weights)


def test_power_grows_with_the_history_and_with_what_was_planted() -> None:
    space, population, interactions = setting(3)
    steps: list[tuple[int, int]] = []
    found = representation(space, population, interactions, 60, 1, lambda *step: steps.append(step))
    assert steps[-1] == (len(LENGTHS), len(LENGTHS))
    assert list(found["lengths"]) == [str(length) for length in LENGTHS]
    rows = list(found["lengths"].values())
    weak = [row["preference"]["0.3"]["power"] for row in rows]
    strong = [row["preference"]["0.6"]["power"] for row in rows]
    assert weak[-1] > weak[0]
    assert weak[-1] > 0.6
    assert all(more >= less - 0.1 for less, more in zip(weak, strong, strict=True))
    assert strong[-1] > 0.95
    assert found["promised_false_discovery_rate"] == 0.05
    assert found == representation(space, population, interactions, 60, 1), "the seed decides everything"


def test_on_users_without_a_preference_every_verdict_counts_as_false(monkeypatch: pytest.MonkeyPatch) -> None:
    space, population, interactions = setting(4)
    for verdict, over, under in (
        (Verdict.OVER, INTENTS, 0),
        (Verdict.UNDER, 0, INTENTS),
        (Verdict.TYPICAL, 0, 0),
    ):
        monkeypatch.setattr(module, "compare_with_population", always(verdict))
        chance = representation(space, population, interactions, 3, 1)["lengths"]["10"]["chance_users"]
        assert chance["mean_over"] == over
        assert chance["mean_under"] == under
        assert chance["share_with_any_verdict"] == (verdict is not Verdict.TYPICAL)


def test_a_verdict_is_wrong_where_the_planted_mixture_moves_the_other_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space, population, interactions = setting(5)
    rates = {}
    for verdict in (Verdict.OVER, Verdict.UNDER):
        monkeypatch.setattr(module, "compare_with_population", always(verdict))
        planted = representation(space, population, interactions, 40, 1)["lengths"]["10"]["preference"]["0.6"]
        rates[verdict] = planted["false_discovery_rate"]
        assert planted["power"] == (verdict is Verdict.OVER)
    drawn = Simulator(space, interactions / interactions.sum())
    raised = np.mean([(drawn.expected_activation(f, 0.6) > population.means).mean() for f in range(INTENTS)])
    assert rates[Verdict.OVER] == pytest.approx(1 - raised, abs=0.08)
    assert rates[Verdict.UNDER] == pytest.approx(raised, abs=0.08)


def test_only_such_intents_are_avoided_as_the_rule_allows_a_verdict_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space, population, interactions = setting(6)
    monkeypatch.setattr(module, "compare_with_population", always(Verdict.UNDER))
    rows = representation(space, population, interactions, 30, 1)["lengths"]
    assert rows["5"]["aversion"] == {"power": None, "intents": 0}
    possible = int((100 * population.activation_rates >= 5).sum())
    assert rows["100"]["aversion"] == {"power": 1.0, "intents": possible}
    assert possible > 0.9 * INTENTS


def test_where_no_intent_can_be_liked_or_avoided_nothing_is_said_of_that() -> None:
    space, population, interactions = setting(8)
    few = np.where(np.arange(200) < MIN_CARRIERS - 1, interactions + 1, 0)
    found = representation(space, population, few, 2, 1)
    for row in found["lengths"].values():
        assert row["preference"]["0.3"] == {"power": None, "false_discovery_rate": None}
        assert row["aversion"] == {"power": None, "intents": 0}
        assert row["chance_users"]["share_with_any_verdict"] is not None
    lines = "\n".join(representation_lines(found))
    assert "| – | – | – | – | – | 0.0% |" in lines
    page = html_report({"protocol": "", "cutoffs": [5], "representation": found})
    assert "share of wrong verdicts" in page
    assert "whose planted intent is found" not in page


def test_an_intent_that_every_met_item_carries_can_be_liked_and_not_avoided() -> None:
    space, population, _ = setting(9)
    weights = np.zeros(200)
    weights[space.carriers(3)[0][:MIN_CARRIERS]] = 1 / MIN_CARRIERS
    assert 3 in plantable_intents(space, weights)
    assert 3 not in avoidable_intents(space, weights)
    row = representation(space, population, weights, 2, 1)["lengths"]["10"]
    assert row["preference"]["0.3"]["power"] is not None
    assert row["aversion"]["power"] is None


def test_how_many_intents_a_history_can_be_called_short_of_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    space, population, interactions = setting(7)
    monkeypatch.setattr(module, "compare_with_population", always(Verdict.TYPICAL))
    rows = representation(space, population, interactions, 2, 1)["lengths"]
    shares = [rows[str(length)]["under_possible"] for length in LENGTHS]
    assert shares == sorted(shares)
    assert shares[0] == 0, "five items prove no absence"
    assert shares[-1] == np.mean(population.activation_rates >= 0.05)
