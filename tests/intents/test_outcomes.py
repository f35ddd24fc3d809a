"""Outcomes of items: intents are found where they were planted, and noise is hardly ever taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.stats import binom, mannwhitneyu

from saerec_ray.group_file import MAX_MEMBERS
from saerec_ray.intents.catalogue import Intent
from saerec_ray.intents.outcomes import (
    FALSE_DISCOVERY_RATE,
    MAX_P_VALUE,
    MIN_AUC,
    OutcomeProbe,
    auc_tests,
    contrast,
    probe_outcome,
    ridge_weights,
)
from tests.intents.named_latents import intent

ITEMS, INTENTS = 600, 48


@pytest.fixture(scope="module")
def codes() -> csr_array:
    rng = np.random.default_rng(0)
    active = rng.random((ITEMS, INTENTS)) < rng.uniform(0.02, 0.3, INTENTS)
    return csr_array((active * rng.gamma(2.0, 0.3, size=active.shape)).astype(np.float32))


@pytest.fixture(scope="module")
def intents() -> list[Intent]:
    return [intent(f"int-{latent:08x}", latent) for latent in range(INTENTS)]


TEXTS = [f"item {place}" for place in range(ITEMS)]


def probe(
    intents: list[Intent],
    codes: csr_array,
    values: np.ndarray,
    seed: int = 0,
    items: np.ndarray | None = None,
    texts: list[str] = TEXTS,
) -> OutcomeProbe:
    chosen = np.arange(ITEMS) if items is None else items
    return probe_outcome(intents, codes, texts, chosen, values[chosen], seed)


def planted(codes: csr_array, latents: list[int], noise: float, seed: int = 1) -> np.ndarray:
    """An outcome that the latents raise."""
    signal = codes.toarray()[:, latents].sum(axis=1)
    return signal + noise * signal.std() * np.random.default_rng(seed).normal(size=ITEMS)


def dense_latents(codes: csr_array, count: int) -> list[int]:
    return np.argsort(-np.diff(codes.tocsc().indptr))[:count].tolist()


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 6))
def test_a_planted_outcome_is_found_and_its_intents_named(
    codes: csr_array, intents: list[Intent], seed: int, count: int
) -> None:
    wanted = np.random.default_rng(seed).choice(dense_latents(codes, 12), count, replace=False).tolist()
    result = probe(intents, codes, planted(codes, wanted, 0.5, seed), seed)
    assert result.has_intent
    assert result.group.auc >= MIN_AUC
    members = {member.intent.latent: member.weight for member in result.group.members}
    found = set(members) & set(wanted)
    assert len(found) >= count - 1
    assert max(members, key=lambda each: members[each]) in wanted or count > 3
    assert max(members.values()) == 1.0
    assert min(members.values()) > 0
    assert len(members) <= MAX_MEMBERS


def test_noise_is_taken_for_an_intent_at_most_as_often_as_promised(
    codes: csr_array, intents: list[Intent]
) -> None:
    trials = 150
    false = grouped = 0
    for seed in range(trials):
        rng = np.random.default_rng([seed, 5])
        items = rng.choice(ITEMS, int(rng.integers(60, 400)), replace=False)
        result = probe(intents, codes, rng.normal(size=ITEMS), seed, items)
        false += result.has_intent
        grouped += bool(result.found)
    assert false <= binom.ppf(0.999, trials, MAX_P_VALUE)
    assert grouped <= binom.ppf(0.999, trials, FALSE_DISCOVERY_RATE)


def test_p_values_of_noise_are_uniform(codes: csr_array, intents: list[Intent]) -> None:
    """What the first half fits to noise says nothing of the second: one in five has a p-value up to 0.2."""
    trials = 120
    held = sum(
        probe(intents, codes, np.random.default_rng([seed, 6]).normal(size=ITEMS), seed).supervised.p_value
        <= 0.2
        for seed in range(trials)
    )
    assert binom.ppf(0.001, trials, 0.2) <= held <= binom.ppf(0.999, trials, 0.2)


def test_an_intent_that_lowers_the_outcome_is_no_member(codes: csr_array, intents: list[Intent]) -> None:
    low, high = dense_latents(codes, 2)
    values = planted(codes, [high], 0.2) - 3 * codes.toarray()[:, low]
    members = {member.intent.latent for member in probe(intents, codes, values).group.members}
    assert high in members
    assert low not in members
    raised = probe(intents, codes, -values)
    assert low in {member.intent.latent for member in raised.group.members}


@pytest.mark.parametrize("change", [{"steerable": False}, {"state": "blocked"}, {"state": "unpublished"}])
def test_only_intents_that_may_be_steered_are_offered(
    codes: csr_array, intents: list[Intent], change: dict[str, object]
) -> None:
    (wanted,) = dense_latents(codes, 1)
    values = planted(codes, [wanted], 0.2)
    assert probe(intents, codes, values).has_intent
    hidden = [each.model_copy(update=change) if each.latent == wanted else each for each in intents]
    result = probe(hidden, codes, values)
    assert not result.has_intent
    offered = [*result.group.members, *result.supervised.members]
    assert wanted not in {member.intent.latent for member in offered}
    assert wanted not in {each.intent.latent for each in result.found}


def test_the_group_is_judged_on_items_it_was_not_fitted_on(codes: csr_array, intents: list[Intent]) -> None:
    """Swapping the outcomes of the judging half takes the finding away; the fit stays as it was."""
    (wanted,) = dense_latents(codes, 1)
    values = planted(codes, [wanted], 0.2)
    before = probe(intents, codes, values)
    seen = set(before.group.evidence) | {item for each in before.found for item in each.evidence}
    from saerec_ray.intents.outcomes import _halves

    first, second = _halves(TEXTS, np.arange(ITEMS), 0)
    assert seen <= set(second.tolist())
    shuffled = values.copy()
    shuffled[second] = np.random.default_rng(9).permutation(values[second])
    after = probe(intents, codes, shuffled)
    assert [each.intent.latent for each in after.group.members] == [
        each.intent.latent for each in before.group.members
    ]
    assert before.has_intent
    assert not after.has_intent
    assert not set(first.tolist()) & set(second.tolist())


def test_variants_with_one_text_are_in_one_half(codes: csr_array) -> None:
    """Otherwise an item would be judged by what was learned from its twin."""
    from saerec_ray.intents.outcomes import _halves

    texts = [f"Red Soap, {place // 3}" if place % 2 else f"red soap  {place // 3}!" for place in range(ITEMS)]
    first, second = _halves(texts, np.arange(ITEMS), 3)
    assert not {place // 3 for place in first.tolist()} & {place // 3 for place in second.tolist()}
    assert abs(len(first) - len(second)) <= 6


def test_evidence_has_a_high_outcome_and_carries_the_intent(codes: csr_array, intents: list[Intent]) -> None:
    (wanted,) = dense_latents(codes, 1)
    values = planted(codes, [wanted], 0.3)
    result = probe(intents, codes, values)
    (found,) = [each for each in result.found if each.intent.latent == wanted]
    assert found.evidence
    loadings = codes.toarray()[:, wanted]
    for item in found.evidence:
        assert loadings[item] > 0
        assert values[item] > np.median(values)
    assert found.q_value < 0.001
    assert found.weight == 1.0


def test_the_supervised_direction_gathers_what_no_intent_holds_alone(intents: list[Intent]) -> None:
    rng = np.random.default_rng(4)
    items = 3000
    active = rng.random((items, INTENTS)) < 0.2
    many = csr_array((active * rng.gamma(2.0, 0.3, size=active.shape)).astype(np.float32))
    signal = many.toarray()[:, :30].sum(axis=1)
    values = signal + 2.5 * signal.std() * rng.normal(size=items)
    result = probe_outcome(
        intents, many, [f"item {place}" for place in range(items)], np.arange(items), values, 0
    )
    assert not result.has_intent
    assert result.group.auc < MIN_AUC
    assert result.supervised.holds
    assert result.everything_auc > result.supervised.auc
    assert len(result.supervised.members) == MAX_MEMBERS
    assert sum(member.intent.latent < 30 for member in result.supervised.members) >= 9


# The parts


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), ties=st.booleans())
def test_aucs_and_p_values_are_those_of_mann_and_whitney(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (50, 4)).astype(float) if ties else rng.normal(size=(50, 4))
    high = rng.random(50) < 0.4
    high[:2] = [True, False]
    aucs, p_values = auc_tests(scores, high)
    for column in range(4):
        test = mannwhitneyu(
            scores[high, column], scores[~high, column], alternative="greater", method="asymptotic"
        )
        assert aucs[column] == pytest.approx(test.statistic / (high.sum() * (~high).sum()))
        assert p_values[column] == pytest.approx(test.pvalue, rel=1e-6)


def test_a_column_without_differences_tells_nothing() -> None:
    aucs, p_values = auc_tests(np.zeros((20, 1)), np.arange(20) < 5)
    assert (aucs[0], p_values[0]) == (0.5, 1.0)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_ridge_weights_are_the_best_ones_that_are_not_negative(seed: int) -> None:
    rng = np.random.default_rng(seed)
    loadings, high = rng.gamma(1.0, 1.0, (40, 3)), rng.random(40) < 0.5
    high[:2] = [True, False]
    weights = ridge_weights(loadings, high, 0.1)
    scale = loadings.std(axis=0)
    standard, target = (loadings - loadings.mean(axis=0)) / scale, high - high.mean()

    def loss(each: np.ndarray) -> float:
        return float(((standard @ each - target) ** 2).sum() + 0.1 * 40 * (each**2).sum())

    best = minimize(loss, np.full(3, 0.1), bounds=[(0, None)] * 3, tol=1e-12)
    assert loss(weights * scale) <= best.fun + 1e-6
    assert weights.min() >= 0


@pytest.mark.parametrize(
    ("values", "high", "left_out"),
    [
        ([1, 2, 3, 4, 5, 6], [False, False, True, True], 2),
        ([0, 0, 0, 0, 0, 1], [False] * 5 + [True], 0),
        ([0, 1, 1, 1, 1, 1], [False] + [True] * 5, 0),
        ([1, 1, 1, 5, 5, 5], [False] * 3 + [True] * 3, 0),
    ],
    ids=["thirds", "few high", "few low", "two values"],
)
def test_the_contrast_is_of_thirds_or_of_what_ties_allow(
    values: list[float], high: list[bool], left_out: int
) -> None:
    found = contrast(np.arange(len(values)), np.array(values, dtype=float))
    assert found.high.tolist() == high
    assert len(values) - len(found.items) == left_out


@pytest.mark.parametrize(
    ("values", "items", "problem"),
    [
        (np.arange(ITEMS, dtype=float), np.arange(59), "only 59 items have an outcome, at least 60"),
        (np.ones(ITEMS), None, "the outcome is the same for all items"),
        (np.eye(1, ITEMS)[0], None, "the same for nearly all items"),
    ],
)
def test_what_tells_nothing_is_refused(
    codes: csr_array,
    intents: list[Intent],
    values: np.ndarray,
    items: np.ndarray | None,
    problem: str,
) -> None:
    with pytest.raises(ValueError, match=problem):
        probe(intents, codes, values, items=items)


def test_the_same_seed_gives_the_same_finding(codes: csr_array, intents: list[Intent]) -> None:
    values = planted(codes, dense_latents(codes, 3), 1.0)
    assert probe(intents, codes, values, 7) == probe(intents, codes, values, 7)
