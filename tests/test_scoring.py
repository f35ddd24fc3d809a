"""The one score against a dense oracle written out in float64, and the parts of an explanation against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.scoring import (
    COMPANION_DECAY,
    COMPANION_MEMORY,
    MAX_LIMITED_ADJUSTMENTS,
    REACH,
    SHIFT_LIMIT,
    TOTAL_SHIFT_LIMIT,
    Adjustment,
    Floats,
    ItemSpace,
    Mode,
    PriorTable,
    SteeringTable,
    apply_shifts,
    base_scores,
    companion_parts,
    companion_strengths,
    decompose,
    excluded_items,
    exposure,
    intent_values,
    loading_caps,
    prior,
    rank_of,
    score_spread,
    shifts,
    top_items,
)
from tests.synthetic import synthetic_codes, synthetic_companions

Doubles = npt.NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=60)


@dataclass(frozen=True)
class Case:
    """A random catalogue with a few users."""

    space: ItemSpace
    table: PriorTable
    states: Floats
    profiles: Floats
    histories: list[npt.NDArray[np.int64]]

    @property
    def companions(self) -> csr_array:
        return companion_strengths(self.space, self.histories)

    @property
    def values(self) -> Floats:
        return intent_values(self.space, self.states, prior(self.profiles, self.table))

    @property
    def scores(self) -> Floats:
        return base_scores(self.space, self.states, self.values, self.companions)


def random_case(seed: int, items: int = 40, intents: int = 12, d_model: int = 6, users: int = 3) -> Case:
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(1.0, size=(users, intents)) * (rng.random((users, intents)) < 0.4)
    public = rng.random(intents)
    return Case(
        space=ItemSpace(
            codes=synthetic_codes(rng, items, intents),
            intent_vectors=rng.normal(size=(intents, d_model)).astype(np.float32),
            residuals=rng.normal(scale=0.3, size=(items, d_model)).astype(np.float32),
            biases=rng.normal(size=items).astype(np.float32),
            popularity=np.zeros(items, dtype=np.float32),
            prior_weight=float(rng.uniform(0, 2)),
            companions=synthetic_companions(rng, items),
            companion_weight=float(rng.uniform(0, 2)),
        ),
        table=PriorTable(
            inverse_document_frequency=rng.gamma(2.0, size=intents).astype(np.float32),
            public=(public / np.linalg.norm(public)).astype(np.float32),
            public_share=float(rng.uniform(0, 1)),
        ),
        states=rng.normal(size=(users, d_model)).astype(np.float32),
        profiles=profiles.astype(np.float32),
        histories=[rng.integers(items, size=rng.integers(0, 30)) for _ in range(users)],
    )


def oracle_prior(profile: Floats, table: PriorTable) -> Doubles:
    """p_u of one user, intent by intent."""
    weighted = [
        float(a) * float(idf) for a, idf in zip(profile, table.inverse_document_frequency, strict=True)
    ]
    length = sum(value**2 for value in weighted) ** 0.5
    personal = [value / length if length else 0.0 for value in weighted]
    share = table.public_share
    return np.array(
        [(1 - share) * own + share * float(all_) for own, all_ in zip(personal, table.public, strict=True)]
    )


def oracle_score(case: Case, user: int, item: int) -> float:
    """s(u, i) = h_u . (sum_f z_if d_f + eps_i) + lambda sum_f z_if p_uf + b_i + mu sum_t w_t C_(i_t, i)."""
    space = case.space
    code = np.asarray(space.codes.todense(), dtype=np.float64)[item]
    state = case.states[user].astype(np.float64)
    vector = code @ space.intent_vectors.astype(np.float64) + space.residuals[item].astype(np.float64)
    public_and_own = oracle_prior(case.profiles[user], case.table)
    assert space.companions is not None
    companions = 0.0
    for age, met in enumerate(case.histories[user][::-1][:COMPANION_MEMORY]):
        companions += COMPANION_DECAY**age * float(space.companions[int(met), item])
    by_intents = state @ vector + space.prior_weight * (code @ public_and_own)
    return float(by_intents + space.biases[item] + space.companion_weight * companions)


@laws
@given(seed=seeds)
def test_scores_equal_the_formula_written_out_item_by_item(seed: int) -> None:
    case = random_case(seed)
    expected = [
        [oracle_score(case, user, item) for item in range(case.space.item_count)]
        for user in range(len(case.states))
    ]
    np.testing.assert_allclose(case.scores, expected, rtol=1e-5, atol=1e-5)


@laws
@given(seed=seeds)
def test_the_parts_of_a_score_add_up_to_it(seed: int) -> None:
    case = random_case(seed)
    scores = case.scores
    for item in range(case.space.item_count):
        parts = decompose(case.space, case.states[0], case.values[0], item, case.companions[[0]])
        total = float(parts.contributions.sum()) + parts.residual + parts.bias + parts.companions
        assert total == pytest.approx(
            float(scores[0, item]), abs=1e-5 * max(1.0, abs(float(scores[0, item])))
        )


@laws
@given(seed=seeds)
def test_the_companions_part_is_the_sum_of_what_each_history_item_adds(seed: int) -> None:
    case = random_case(seed)
    history = case.histories[0]
    for item in range(0, case.space.item_count, 7):
        parts = companion_parts(case.space, history, item)
        whole = decompose(case.space, case.states[0], case.values[0], item, case.companions[[0]]).companions
        assert parts.shape == (len(history),)
        assert float(parts.sum(dtype=np.float64)) == pytest.approx(whole, rel=1e-5, abs=1e-6)
        assert (parts >= 0).all()
        assert not parts[: max(0, len(history) - COMPANION_MEMORY)].any()


def test_a_score_with_companions_is_never_given_without_the_histories() -> None:
    case = random_case(1)
    with pytest.raises(ValueError, match="needs the users' histories"):
        base_scores(case.space, case.states, case.values)
    with pytest.raises(ValueError, match="needs the users' histories"):
        decompose(case.space, case.states[0], case.values[0], 3)


def test_contributions_name_the_intents_the_item_carries_and_no_others() -> None:
    case = random_case(3)
    dense = np.asarray(case.space.codes.todense())
    for item in range(case.space.item_count):
        parts = decompose(case.space, case.states[1], case.values[1], item, case.companions[[1]])
        assert sorted(parts.intents) == np.flatnonzero(dense[item]).tolist()
        np.testing.assert_allclose(
            parts.contributions, case.values[1][parts.intents] * dense[item, parts.intents], rtol=1e-6
        )


def test_an_intent_that_every_item_carries_equally_contributes_nothing_against_the_average() -> None:
    case = random_case(4)
    dense = np.asarray(case.space.codes.todense())
    dense[:, 5] = 0.7
    space = ItemSpace(
        csr_array(dense),
        case.space.intent_vectors,
        case.space.residuals,
        case.space.biases,
        case.space.popularity,
        0.0,
    )
    parts = decompose(space, case.states[0], case.values[0], 9)
    place = parts.intents.tolist().index(5)
    assert parts.contributions[place] != 0
    assert parts.contributions_vs_average[place] == pytest.approx(0.0, abs=1e-6)


def test_item_vectors_score_like_the_parts_when_there_is_no_prior() -> None:
    case = random_case(5)
    space = ItemSpace(
        case.space.codes,
        case.space.intent_vectors,
        case.space.residuals,
        case.space.biases,
        case.space.popularity,
        prior_weight=0.0,
    )
    scores = base_scores(space, case.states, intent_values(space, case.states, np.zeros_like(case.profiles)))
    np.testing.assert_allclose(
        case.states @ space.item_vectors.T + space.biases, scores, rtol=1e-4, atol=1e-5
    )


@laws
@given(seed=seeds)
def test_the_prior_equals_the_formula_and_one_user_gets_the_same_alone_and_in_a_batch(seed: int) -> None:
    case = random_case(seed)
    together = prior(case.profiles, case.table)
    for user, profile in enumerate(case.profiles):
        np.testing.assert_allclose(together[user], oracle_prior(profile, case.table), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(prior(profile, case.table), together[user])


def test_a_user_without_history_gets_the_public_part_alone() -> None:
    case = random_case(6)
    empty = np.zeros(case.space.intent_count, dtype=np.float32)
    np.testing.assert_allclose(prior(empty, case.table), case.table.public_share * case.table.public)


def test_the_cap_of_an_intent_is_the_ninetieth_percentile_of_its_positive_loadings() -> None:
    dense = np.zeros((30, 3), dtype=np.float32)
    dense[:20, 0] = np.arange(1, 21)
    dense[4, 1] = 0.25
    caps = loading_caps(csr_array(dense))
    assert caps[0] == pytest.approx(np.percentile(np.arange(1, 21), 90))
    assert caps[1] == pytest.approx(0.25)
    assert caps[2] == 0  # carried by nobody


def steering_table(space: ItemSpace, targets: float = 3.0, spreads: float = 1.0) -> SteeringTable:
    whole = np.ones(space.intent_count, dtype=np.float32)
    return SteeringTable(targets * whole, spreads * whole, loading_caps(space.codes))


def oracle_change(
    case: Case, table: SteeringTable, edit: Adjustment, user: int, item: int, spread: float
) -> float:
    """What an adjustment adds to one score, from the formulas in the docstring of shifts."""
    column = np.asarray(case.space.codes.todense(), dtype=np.float64)[:, edit.intent]
    value = float(case.values[user, edit.intent])
    if edit.mode is Mode.SUPPRESS:
        return -edit.strength * max(value, 0.0) * float(column[item])
    weights = np.minimum(column, float(table.loading_caps[edit.intent]))
    if weights.max() == 0:
        return 0.0
    sign = 1.0 if edit.mode is Mode.BOOST else -1.0
    reach = max(float(table.targets[edit.intent]) - sign * value, float(table.spreads[edit.intent]) / 2)
    step = min(REACH * reach, SHIFT_LIMIT * spread / weights.max())
    return float(sign * edit.strength * step * weights[item])


@laws
@given(
    seed=seeds,
    mode=st.sampled_from([Mode.BOOST, Mode.AVOID, Mode.SUPPRESS]),
    strength=st.floats(0.05, 1.0),
    target=st.sampled_from([0.01, 0.3, 3.0, 50.0]),
)
def test_steered_scores_equal_the_formulas_written_out_item_by_item(
    seed: int, mode: Mode, strength: float, target: float
) -> None:
    case = random_case(seed)
    scores = case.scores[0]
    table = steering_table(case.space, targets=target)
    edits = [Adjustment(3, mode, strength), Adjustment(7, Mode.BOOST, 0.5)]
    steered = apply_shifts(scores, shifts(case.space, table, scores, case.values[0], edits))
    spread = float(np.percentile(scores, 95) - np.percentile(scores, 5))
    for item in range(case.space.item_count):
        change = sum(oracle_change(case, table, edit, 0, item, spread) for edit in edits)
        assert steered[item] == pytest.approx(float(scores[item]) + change, rel=1e-4, abs=1e-4)


def test_boost_and_avoid_stop_at_their_limit_however_far_the_target_is() -> None:
    case = random_case(8)
    scores = case.scores[0]
    limit = SHIFT_LIMIT * score_spread(scores)
    for mode, sign in ((Mode.BOOST, 1), (Mode.AVOID, -1)):
        (shift,) = shifts(
            case.space,
            steering_table(case.space, targets=1e6),
            scores,
            case.values[0],
            [Adjustment(2, mode, 1.0)],
        )
        assert sign * np.abs(shift.changes).max() == pytest.approx(sign * limit, rel=1e-5)
        assert (sign * shift.changes > 0).all()


def test_a_boost_acts_even_on_users_who_already_exceed_the_target() -> None:
    case = random_case(9)
    scores = case.scores[0]
    (shift,) = shifts(
        case.space,
        steering_table(case.space, targets=-1e6, spreads=0.02),
        scores,
        case.values[0],
        [Adjustment(2, Mode.BOOST, 1.0)],
    )
    assert shift.step == pytest.approx(REACH * 0.01)


def test_an_adjustment_of_an_intent_that_no_item_carries_changes_nothing() -> None:
    case = random_case(10)
    dense = np.asarray(case.space.codes.todense())
    dense[:, 4] = 0
    space = ItemSpace(csr_array(dense), case.space.intent_vectors, case.space.residuals, case.space.biases,
                      case.space.popularity, 0.5)  # fmt: skip
    scores = case.scores[0]
    for mode in Mode:
        edits = [Adjustment(4, mode, 1.0)]
        steered = apply_shifts(scores, shifts(space, steering_table(space), scores, case.values[0], edits))
        np.testing.assert_array_equal(steered, scores)
        assert len(excluded_items(space, edits)) == 0


def test_only_boosts_and_avoids_count_against_the_total_limit() -> None:
    assert [mode for mode in Mode if mode.limited] == [Mode.BOOST, Mode.AVOID]
    assert MAX_LIMITED_ADJUSTMENTS * SHIFT_LIMIT <= TOTAL_SHIFT_LIMIT
    assert (MAX_LIMITED_ADJUSTMENTS + 1) * SHIFT_LIMIT > TOTAL_SHIFT_LIMIT


def test_excluded_items_are_the_carriers_of_any_excluded_intent() -> None:
    case = random_case(11)
    dense = np.asarray(case.space.codes.todense())
    edits = [Adjustment(1, Mode.EXCLUDE), Adjustment(6, Mode.EXCLUDE), Adjustment(2, Mode.BOOST)]
    expected = np.flatnonzero((dense[:, 1] > 0) | (dense[:, 6] > 0))
    assert excluded_items(case.space, edits).tolist() == expected.tolist()


def test_exposure_is_the_mean_loading_over_the_list() -> None:
    case = random_case(12)
    dense = np.asarray(case.space.codes.todense())
    listed = np.array([3, 17, 21, 30])
    assert exposure(case.space, 2, listed) == pytest.approx(float(dense[listed, 2].mean()))
    assert exposure(case.space, 2, np.empty(0, dtype=np.int64)) == 0


few_scores = st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, 2.0, 3.0]), min_size=1, max_size=30)


@laws
@given(scores=few_scores, count=st.integers(0, 35))
def test_the_top_is_the_head_of_the_whole_order_with_ties_by_index(scores: list[float], count: int) -> None:
    ordered = sorted((-score, item) for item, score in enumerate(scores) if score > -np.inf)
    expected = [item for _, item in ordered][:count]
    assert top_items(np.array(scores, dtype=np.float32), count).tolist() == expected


@laws
@given(scores=few_scores)
def test_the_rank_of_an_item_is_its_place_in_that_order(scores: list[float]) -> None:
    array = np.array(scores, dtype=np.float32)
    order = top_items(array, len(scores)).tolist()
    for item in range(len(scores)):
        assert rank_of(array, item) == (order.index(item) + 1 if item in order else 0)


def test_a_score_that_is_not_a_number_is_never_recommended() -> None:
    scores = np.array([0.5, np.nan, 1.0], dtype=np.float32)
    assert top_items(scores, 3).tolist() == [2, 0]
