"""Population statistics and the comparison with one user, against formulas written out in loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import binomtest

from saerec_ray.errors import StageError
from saerec_ray.intents.population import Population, Verdict, compare_with_population, measure_population
from tests.synthetic import synthetic_codes

seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=40)


def random_population(
    seed: int, items: int = 40, intents: int = 8, users: int = 30
) -> tuple[csr_array, Population]:
    rng = np.random.default_rng(seed)
    codes = synthetic_codes(rng, items, intents)
    who = np.repeat(np.arange(users), 6)
    met = rng.integers(items, size=len(who)).astype(np.int32)
    return codes, measure_population(
        codes, who, met, [["a"] if item % 3 else ["b", "c"] for item in range(items)]
    )


@given(seeds)
@laws
def test_statistics_of_the_population_are_those_of_its_interactions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = synthetic_codes(rng, 20, 5)
    who = 2 * np.sort(rng.integers(9, size=60))  # some numbers belong to nobody
    met = rng.integers(20, size=60).astype(np.int32)
    population = measure_population(codes, who, met, [[] for _ in range(20)])
    rows = codes.toarray()[met].astype(np.float64)  # one row an interaction
    assert population.users == len(set(who))
    assert population.mean_item_mass == pytest.approx(rows.sum(axis=1).mean(), rel=1e-5)
    np.testing.assert_allclose(population.shares, rows.sum(axis=0) / rows.sum(), rtol=1e-5)
    np.testing.assert_allclose(population.means, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(population.deviations, rows.std(axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(population.activation_rates, (rows > 0).mean(axis=0), rtol=1e-5)
    users_with = [len({user for user, row in zip(who, rows, strict=True) if row[f] > 0}) for f in range(5)]
    assert population.user_counts.tolist() == users_with


def test_evenness_is_the_entropy_of_the_categories_over_its_maximum() -> None:
    # Intent 0 lives in one of three categories, intent 1 in all alike, intent 2 in two as 1 to 3, 3 nowhere.
    codes = csr_array(np.array([[2, 1, 1, 0], [0, 1, 3, 0], [0, 1, 0, 0]], dtype=np.float32))
    population = measure_population(codes, np.array([0, 0, 1]), np.array([0, 1, 2]), [["a"], ["b"], ["c"]])
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(3)
    np.testing.assert_allclose(population.evenness, [0, 1, quarter, 0], atol=1e-6)


def test_an_item_in_two_categories_counts_half_in_each() -> None:
    codes = csr_array(np.array([[1.0], [1.0]], dtype=np.float32))
    population = measure_population(codes, np.array([0, 1]), np.array([0, 1]), [["a", "b"], ["a"]])
    assert population.evenness[0] == pytest.approx(
        -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2), rel=1e-5
    )


@pytest.mark.parametrize("category", [[], ["only"]])
def test_without_different_categories_every_intent_is_spread_evenly(category: list[str]) -> None:
    codes = csr_array(np.eye(3, dtype=np.float32))
    population = measure_population(codes, np.arange(3), np.arange(3), [category] * 3)
    assert population.evenness.tolist() == [1, 1, 1]


def test_items_nobody_met_do_not_count() -> None:
    codes = csr_array(np.array([[1, 0], [0, 5]], dtype=np.float32))
    population = measure_population(codes, np.array([0, 1]), np.array([0, 0]), [[], []])
    assert population.shares.tolist() == [1, 0]


def test_a_population_that_shows_no_intent_at_all_is_refused() -> None:
    codes = csr_array(np.array([[0, 0], [0, 5]], dtype=np.float32))
    with pytest.raises(StageError, match="No item that users met carries an intent"):
        measure_population(codes, np.array([0, 1]), np.array([0, 0]), [[], []])


@given(seeds, st.integers(1, 25))
@laws
def test_share_lift_and_z_score_of_a_history_are_the_written_formulas(seed: int, length: int) -> None:
    codes, population = random_population(seed)
    history = np.random.default_rng(seed + 1).integers(40, size=length)
    found = compare_with_population(codes, history, population)
    dense = codes.toarray().astype(np.float64)
    mass = [sum(dense[item, f] for item in history) for f in range(8)]
    tau = 10 * population.mean_item_mass
    for f in range(8):
        pi, mu, sigma = (
            float(each[f]) for each in (population.shares, population.means, population.deviations)
        )
        share = (mass[f] + tau * pi) / (sum(mass) + tau)
        assert found.shares[f] == pytest.approx(share, rel=1e-4)
        assert found.log_lifts[f] == pytest.approx(math.log(share / pi), rel=1e-3, abs=1e-4)
        assert found.z_scores[f] == pytest.approx(
            (mass[f] - length * mu) / (sigma * math.sqrt(length)), abs=1e-3
        )


def verdicts_by_hand(
    lifts: np.ndarray, z_scores: np.ndarray, expected: np.ndarray, carriers: np.ndarray, length: int
) -> list[Verdict]:
    """Exact tests, Benjamini and Hochberg step by step, then the rules of over and under."""
    p_values = [
        min(1.0, 2 * min(binomtest(int(k), length, e / length, side).pvalue for side in ("greater", "less")))
        for k, e in zip(carriers, expected, strict=True)
    ]
    ordered = sorted(range(len(p_values)), key=lambda f: p_values[f])
    kept = 0
    for rank, f in enumerate(ordered, start=1):
        if p_values[f] < 0.05 * rank / len(p_values):
            kept = rank
    verdicts = []
    for f in range(len(p_values)):
        if f not in ordered[:kept]:
            verdicts.append(Verdict.TYPICAL)
        elif lifts[f] > math.log(1.5) and z_scores[f] > 2:
            verdicts.append(Verdict.OVER)
        elif lifts[f] < -math.log(1.5) and z_scores[f] < -2 and expected[f] >= 5:
            verdicts.append(Verdict.UNDER)
        else:
            verdicts.append(Verdict.TYPICAL)
    return verdicts


@given(seeds, st.sampled_from([3, 10, 40, 200]))
@laws
def test_verdicts_are_those_of_the_written_rules(seed: int, length: int) -> None:
    codes, population = random_population(seed)
    rng = np.random.default_rng(seed + 1)
    history = rng.choice(rng.integers(40, size=5), size=length)  # five items only: far from the population
    found = compare_with_population(codes, history, population)
    expected = length * population.activation_rates.astype(np.float64)
    carriers = (codes.toarray()[history] > 0).sum(axis=0)
    assert found.verdicts == verdicts_by_hand(found.log_lifts, found.z_scores, expected, carriers, length)


def two_sided_world() -> tuple[csr_array, Population]:
    """Two kinds of items that users meet equally often, one intent each."""
    codes = csr_array(np.repeat(np.eye(2, dtype=np.float32), 10, axis=0))
    users = np.repeat(np.arange(20), 10)
    met = np.tile(np.arange(20), 10).astype(np.int32)
    return codes, measure_population(codes, users, met, [[] for _ in range(20)])


def test_a_long_one_sided_history_is_over_in_one_intent_and_under_in_the_other() -> None:
    codes, population = two_sided_world()
    found = compare_with_population(codes, np.zeros(30, dtype=np.int64), population)
    assert found.verdicts == [Verdict.OVER, Verdict.UNDER]


@given(st.integers(1, 9))
def test_a_short_history_is_never_under(length: int) -> None:
    """At a rate of one half, nine items let expect four and a half; were it five, nothing else would stop it."""
    codes, population = two_sided_world()
    # Deviations far too small: every Z is large, and without shrinkage every lift is.
    certain = replace(population, deviations=np.full(2, 1e-6, dtype=np.float32), mean_item_mass=1e-6)
    short = compare_with_population(codes, np.zeros(length, dtype=np.int64), certain)
    assert short.verdicts[1] is Verdict.TYPICAL
    assert (short.verdicts[0] is Verdict.OVER) == (length >= 6), "five of five at one half happen by chance"
    assert compare_with_population(codes, np.zeros(10, dtype=np.int64), certain).verdicts[1] is Verdict.UNDER


def test_histories_drawn_from_the_population_are_rarely_called_special() -> None:
    """All is typical here, so the false-discovery rate is the share of users with any verdict at all."""
    rng = np.random.default_rng(0)
    codes = synthetic_codes(rng, 400, 32)
    met = rng.integers(400, size=20_000).astype(np.int32)
    population = measure_population(codes, np.repeat(np.arange(1000), 20), met, [[] for _ in range(400)])
    special = 0
    for _ in range(300):
        found = compare_with_population(codes, rng.integers(400, size=60), population)
        special += any(verdict is not Verdict.TYPICAL for verdict in found.verdicts)
    assert special / 300 < 0.1


@pytest.mark.parametrize("length", [3, 5, 20, 100])
def test_rare_intents_do_not_make_chance_look_like_preference(length: int) -> None:
    """One carrier of an intent that one item in a hundred has is a large Z, and no news."""
    rng = np.random.default_rng(1)
    codes = csr_array((rng.random((1000, 200)) < 0.01) * rng.gamma(2.0, 0.5, (1000, 200)).astype(np.float32))
    met = rng.integers(1000, size=20_000).astype(np.int32)
    population = measure_population(codes, np.repeat(np.arange(1000), 20), met, [[] for _ in range(1000)])
    special = 0
    for _ in range(300):
        found = compare_with_population(codes, rng.integers(1000, size=length), population)
        special += any(verdict is not Verdict.TYPICAL for verdict in found.verdicts)
    assert special / 300 <= 0.08


def test_an_empty_history_is_the_population_itself() -> None:
    codes, population = two_sided_world()
    found = compare_with_population(codes, np.array([], dtype=np.int64), population)
    np.testing.assert_allclose(found.shares, population.shares)
    assert found.log_lifts.tolist() == found.z_scores.tolist() == [0, 0]
    assert found.verdicts == [Verdict.TYPICAL] * 2


def test_an_intent_the_population_never_shows_has_no_lift_and_no_verdict() -> None:
    codes = csr_array(np.array([[1, 0], [1, 3]], dtype=np.float32))
    population = measure_population(codes, np.array([0, 1]), np.array([0, 0]), [[], []])
    found = compare_with_population(codes, np.ones(30, dtype=np.int64), population)
    assert found.log_lifts[1] == 0
    assert found.verdicts[1] is Verdict.TYPICAL
    assert np.isfinite(found.z_scores).all()
