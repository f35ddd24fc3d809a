"""Steered lists: measured with the server's rules, summed into curves, compared with another rule."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.evaluation.mass_preserving import mass_preserving_scores, mass_preserving_values
from saerec_ray.evaluation.steering_curves import (
    Curve,
    loss_at_lift,
    related_intents,
    steerable_intents,
    steering,
)
from saerec_ray.evaluation.steering_runs import (
    MASS_PRESERVING,
    MIXES,
    MODES,
    RULES,
    Outcome,
    Run,
    SteeredIntent,
    own_intent,
    steps_of,
    user_runs,
    violations,
)
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.scoring import Adjustment, apply_shifts, exposure, rank_of, shifts, top_items
from tests.evaluation.toy_models import Toy, planted_toy, random_toy
from tests.synthetic import _catalogue

seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=25)
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


def attribute_intent(toy: Toy, intent: int) -> SteeredIntent:
    carriers = np.zeros(toy.space.item_count, dtype=bool)
    carriers[toy.space.carriers(intent)[0]] = True
    return SteeredIntent(intent, f"intent {intent}", f"kind: {intent}", carriers)


def runs(toy: Toy, intents: list[int]) -> list[Run]:
    chosen = [attribute_intent(toy, intent) for intent in intents]
    return list(user_runs(toy.space, toy.steering, toy.scored()[0], chosen, STRENGTHS))


def catalogue(toy: Toy) -> Catalogue:
    decoder = np.random.default_rng(0).normal(size=(toy.space.intent_count, 8)).astype(np.float32)
    return _catalogue(decoder, toy.space.codes, [f"item-{index}" for index in range(toy.space.item_count)])


def counted(toy: Toy) -> np.ndarray:
    return np.expm1(toy.space.popularity.astype(np.float64)).round()


@laws
@given(seed=seeds)
def test_the_served_rules_never_break_their_promise(seed: int) -> None:
    toy = random_toy(seed, items=200)
    for run in runs(toy, [0, 5, 9]):
        if run.rule != MASS_PRESERVING:
            assert violations(run) == 0


@laws
@given(seed=seeds)
def test_every_outcome_is_the_list_the_server_would_show(seed: int) -> None:
    toy = random_toy(seed)
    user = toy.scored()[0]
    for run in runs(toy, [3]):
        assert [each.strength for each in run.outcomes] == steps_of(run.rule, STRENGTHS)
        assert run.outcomes[0].items.tolist() == user.top(20).tolist()
        if run.rule == MASS_PRESERVING:
            continue
        mode = next(mode for mode in MODES if mode.value == run.rule)
        for outcome in run.outcomes[1:]:
            edits = [Adjustment(3, mode, outcome.strength)]
            steered = apply_shifts(
                user.scores, shifts(toy.space, toy.steering, user.scores, user.values, edits)
            )
            steered[user.history] = -np.inf
            assert outcome.items.tolist() == top_items(steered, 20).tolist()
            assert outcome.loading == pytest.approx(exposure(toy.space, 3, outcome.items), rel=1e-5)
            rank = rank_of(steered, int(user.targets[0]))
            assert outcome.gain == pytest.approx(1 / math.log2(rank + 1) if rank <= 20 else 0)
            carried = toy.space.codes.toarray()[outcome.items, 3]
            cap = toy.steering.loading_caps[3]
            assert outcome.capped_loading == pytest.approx(np.minimum(carried, cap).mean(), rel=1e-5)
            assert outcome.with_attribute == pytest.approx((carried > 0).mean())


@laws
@given(seed=seeds)
def test_mixing_at_zero_changes_nothing_and_at_one_puts_all_positive_mass_on_the_intent(seed: int) -> None:
    toy = random_toy(seed)
    user = toy.scored()[0]
    np.testing.assert_array_equal(mass_preserving_values(user.values, 4, 0.0), user.values)
    full = mass_preserving_values(user.values, 4, 1.0)
    assert full[4] == pytest.approx(np.maximum(user.values, 0).sum(), rel=1e-5)
    assert not np.delete(full, 4).any()
    none, some = mass_preserving_scores(toy.space, user.scores, user.values, 4, [0.0, 0.3])
    np.testing.assert_array_equal(none, user.scores)
    expected = (
        toy.space.codes.toarray() @ mass_preserving_values(user.values, 4, 0.3)
        + toy.space.residuals @ user.state
        + toy.space.biases
        + toy.space.companion_weight * user.companions.toarray()[0]
    )
    np.testing.assert_allclose(some, expected, rtol=1e-4, atol=1e-4)


def made_up_run(rule: str, capped: list[float], loadings: list[float]) -> Run:
    toy = random_toy(1)
    outcomes = [
        Outcome(0.1 * place, np.array([0]), loading, cut, 1.0, float("nan"), 0.0)
        for place, (cut, loading) in enumerate(zip(capped, loadings, strict=True))
    ]
    return Run(toy.scored()[0], SteeredIntent(0, "made up"), rule, outcomes)


def test_a_step_that_shows_less_of_a_boosted_intent_is_a_violation() -> None:
    down, up = [0.1, 0.3, 0.2, 0.2], [0.4, 0.2, 0.3, 0.1]
    flat = [0.0] * 4
    assert violations(made_up_run("boost", down, flat)) == 1
    assert violations(made_up_run("boost", flat, down)) == 0, "boosts promise loadings cut at the cap"
    assert violations(made_up_run("avoid", up, flat)) == 1
    assert violations(made_up_run("suppress", flat, up)) == 1
    assert violations(made_up_run(MASS_PRESERVING, flat, down)) == 1
    assert violations(made_up_run("boost", [0.3, 0.3 - 1e-9], [0.0, 0.0])) == 0, "rounding"


def test_intents_related_to_one_are_those_that_correlate_over_items() -> None:
    toy = random_toy(2, items=120)
    dense = toy.space.codes.toarray().astype(np.float64)
    dense[:, 7] = dense[:, 2] * 0.5  # a copy
    space = type(toy.space)(
        type(toy.space.codes)(dense.astype(np.float32)),
        toy.space.intent_vectors,
        toy.space.residuals,
        toy.space.biases,
        toy.space.popularity,
        0.0,
    )
    expected = np.corrcoef(dense.T)[2] > 0.2
    assert related_intents(space, 2).tolist() == expected.tolist()
    assert related_intents(space, 2)[[2, 7]].all()


def test_the_own_intent_is_the_one_most_carried_in_the_second_half_of_the_history() -> None:
    toy = random_toy(3)
    chosen = [SteeredIntent(intent, str(intent)) for intent in (1, 4, 8)]
    for user in toy.scored():
        recent = user.history[len(user.history) // 2 :]
        mass = toy.space.codes.toarray()[recent][:, [1, 4, 8]].sum(axis=0)
        found = own_intent(toy.space, user.history, chosen)
        assert (found is None) == (mass.max() == 0)
        if found is not None:
            assert mass[[1, 4, 8].index(found.intent)] == mass.max()
    assert own_intent(toy.space, toy.scored()[0].history, []) is None


def test_only_published_and_steerable_intents_are_steered_as_many_of_each_dictionary() -> None:
    toy = random_toy(4, intents=24)
    every = catalogue(toy)
    intents = [
        intent.model_copy(update={"dictionary": "attributes"}) if intent.latent >= 16 else intent
        for intent in every.intents
    ]
    names = [{"category": [intent.attribute.value]} for intent in every.intents if intent.attribute]
    attributes = [names[item % len(names)] for item in range(60)]
    chosen = steerable_intents(
        Catalogue(intents_version="v", intents=intents), toy.space, attributes, 99, seed=0
    )
    able = [intent.latent for intent in intents if intent.published and intent.steerable]
    assert sorted(each.intent for each in chosen) == able
    learnt = [each.intent < 16 for each in chosen]
    exact = len(able) - sum(learnt)
    assert 0 < exact < sum(learnt), "this test would say nothing"
    assert sum(learnt[: 2 * exact]) == exact, "half of each, while there are any"
    assert sorted(each.intent for each in chosen) != [each.intent for each in chosen], "in random order"
    first = chosen[0]
    assert first.carriers is not None
    value = intents[first.intent].attribute
    assert value is not None
    assert first.carriers.tolist() == [value.value in each["category"] for each in attributes]
    few = steerable_intents(every, toy.space, attributes, 3, seed=0)
    assert len(few) == 3
    assert [each.intent for each in few] == [
        each.intent for each in steerable_intents(every, toy.space, attributes, 3, seed=0)
    ]


def test_an_attribute_that_no_item_has_is_no_ground_truth() -> None:
    toy = random_toy(4)
    chosen = steerable_intents(catalogue(toy), toy.space, [{}] * 60, 5, seed=0)
    assert all(each.attribute is None and each.carriers is None for each in chosen)


def test_a_curve_sums_what_the_runs_show() -> None:
    toy = random_toy(6)
    curve = Curve(5, 12)
    boosts = [run for run in runs(toy, [0, 5, 9]) if run.rule == "boost"]
    for run in boosts:
        curve.add(run, toy.space, counted(toy))
    dense = toy.space.codes.toarray()
    summary = curve.summary()
    assert summary["runs"] == 3
    for step in range(5):
        lists = [run.outcomes[step].items for run in boosts]
        first = [set(run.outcomes[0].items.tolist()) for run in boosts]
        assert summary["exposure"][step] == pytest.approx(
            np.mean([run.outcomes[step].loading for run in boosts])
        )
        assert summary["popularity"][step] == pytest.approx(
            np.mean([counted(toy)[items].mean() for items in lists])
        )
        changed = [set(each.tolist()) != start for each, start in zip(lists, first, strict=True)]
        assert summary["lists_changed"][step] == pytest.approx(np.mean(changed))
        carried = [
            (dense[each, run.steered.intent] > 0).mean() for each, run in zip(lists, boosts, strict=True)
        ]
        assert summary["list_share_with_intent"][step] == pytest.approx(np.mean(carried))
        assert summary["overlap"][step] == pytest.approx(
            np.mean([len(set(i.tolist()) & own) / 20 for i, own in zip(lists, first, strict=True)])
        )
        np.testing.assert_allclose(
            curve.exposures[step] / 3,
            np.mean([dense[items].mean(axis=0) for items in lists], axis=0),
            rtol=1e-5,
        )
    assert summary["lift"][0] == 1
    assert summary["overlap"][0] == 1
    everything = np.ones(12, dtype=bool)
    assert curve.drifts(everything).tolist() == [0] * 5, "all intents are related, so none drifts"
    drift = curve.drifts(~everything)
    assert drift[0] == 0
    changes = np.abs(curve.exposures[-1] - curve.exposures[0]).sum()
    assert drift[-1] == pytest.approx(changes / curve.exposures[0].sum())


def findable(toy: Toy) -> Toy:
    """The same users, whose held-out items are in their lists."""
    toy.users.cases.targets[:] = [
        user.top(place + 2)[-1:].astype(np.int32) for place, user in enumerate(toy.scored())
    ]
    return toy


def test_accuracy_is_that_of_the_random_users_and_apart_from_it_that_of_the_segment() -> None:
    toy = findable(random_toy(6))
    curve = Curve(5, 12)
    boosts = [run for run in runs(toy, list(range(12))) if run.rule == "boost"]
    for run in boosts[:7]:
        curve.add(run, toy.space, counted(toy))
    for run in boosts[7:]:
        curve.add_segment(run)
    summary = curve.summary()
    assert (summary["runs"], summary["segment_runs"]) == (7, 5)
    for step in range(5):
        gain = np.mean([run.outcomes[step].gain for run in boosts[:7]])
        assert summary["ndcg"][step] == pytest.approx(gain)
        assert summary["ndcg_loss"][step] == pytest.approx(1 - gain / boosts[0].outcomes[0].gain)
        segment = np.mean([run.outcomes[step].gain for run in boosts[7:]])
        assert summary["ndcg_segment"][step] == pytest.approx(segment)


def test_the_furthest_lift_is_the_largest_of_a_boost_and_the_smallest_of_the_rules_that_show_less() -> None:
    toy = findable(random_toy(6))
    intents = [attribute_intent(toy, intent) for intent in range(12)]
    found = steering(toy.space, toy.table, toy.steering, toy.users, intents, STRENGTHS, 6, 1, counted(toy))[
        "random"
    ]
    for rule, sign in (("boost", 1), ("avoid", -1), ("suppress", -1)):
        lifts = [row["lift_within_tolerated_loss"] for row in found[rule]["each"]]
        known = [lift for lift in lifts if lift is not None]
        assert known
        assert all(sign * (lift - 1) >= -1e-9 for lift in known)
        assert any(sign * (lift - 1) > 0.01 for lift in known)


def test_selectivity_is_the_change_of_the_intent_over_the_largest_change_of_an_unrelated_one() -> None:
    toy = random_toy(9)
    found = steering(
        toy.space,
        toy.table,
        toy.steering,
        toy.users,
        [attribute_intent(toy, 2)],
        STRENGTHS,
        6,
        1,
        counted(toy),
    )["random"]["boost"]["each"][0]
    dense = toy.space.codes.toarray()
    changes = np.zeros(12)
    for user in toy.scored():
        for run in user_runs(toy.space, toy.steering, user, [attribute_intent(toy, 2)], STRENGTHS):
            if run.rule == "boost":
                first, last = run.outcomes[0].items, run.outcomes[-1].items
                changes += (dense[last].mean(axis=0) - dense[first].mean(axis=0)) / 6
    unrelated = ~related_intents(toy.space, 2)
    assert found["selectivity"] == pytest.approx(abs(changes[2]) / np.abs(changes[unrelated]).max(), rel=1e-4)


def test_merged_curves_are_the_curve_of_all_runs() -> None:
    toy = random_toy(7)
    both, one, other = Curve(5, 12), Curve(5, 12), Curve(5, 12)
    served = [run for run in runs(toy, [0, 5]) if run.rule != MASS_PRESERVING]
    for place, run in enumerate(served):
        both.add(run, toy.space, counted(toy))
        (one if place % 2 else other).add(run, toy.space, counted(toy))
    one.merge(other)
    merged, whole = one.summary(), both.summary()
    assert merged["runs"] == whole["runs"] == 6
    for name in ("exposure", "ndcg", "popularity", "overlap", "attribute_share"):
        assert merged[name] == pytest.approx(whole[name])
    np.testing.assert_allclose(one.exposures, both.exposures)


def test_nothing_to_compare_with_is_null_not_a_number() -> None:
    summary = Curve(3, 4).summary()
    assert summary["lift"] is summary["ndcg_loss"] is summary["attribute_share"] is None
    assert summary["ndcg_segment"] is None


def test_the_loss_at_a_lift_lies_on_the_line_between_strengths() -> None:
    lifts, losses = np.array([1.0, 1.5, 2.5]), np.array([0.0, 0.02, 0.06])
    assert loss_at_lift(lifts, losses, 2.0) == pytest.approx(0.04)
    assert loss_at_lift(lifts, losses, 1.5) == pytest.approx(0.02)
    assert loss_at_lift(lifts, losses, 1.0) == pytest.approx(0.0)
    assert loss_at_lift(lifts, losses, 3.0) is None


def test_no_loss_is_made_up_where_the_next_lift_that_was_measured_is_far_beyond() -> None:
    lifts, losses = np.array([1.0, 4.1, 50.0]), np.array([0.0, 0.02, 0.5])
    assert loss_at_lift(lifts, losses, 2.0) is None
    assert loss_at_lift(lifts, losses, 3.0) == pytest.approx(0.02 * 2 / 3.1)
    assert loss_at_lift(lifts, losses, 10.0) is None


def test_the_rule_compared_with_is_measured_where_it_begins_to_act() -> None:
    assert MIXES[-1] == 1
    assert sorted(set(MIXES)) == list(MIXES)
    low = [mix for mix in MIXES if mix <= 0.1]
    assert low[0] == 1e-4
    assert all(high / mix < 1.7 for mix, high in itertools.pairwise(low))


def test_steering_shows_more_of_what_is_boosted_and_less_of_what_is_avoided_or_suppressed() -> None:
    toy = planted_toy(3, users=12)
    intents = [attribute_intent(toy, intent) for intent in (0, 6, 11)]
    steps: list[tuple[int, int]] = []
    found = steering(
        toy.space,
        toy.table,
        toy.steering,
        toy.users,
        intents,
        STRENGTHS,
        8,
        1,
        counted(toy),
        lambda *step: steps.append(step),
    )
    assert steps[-1] == (8, 8)
    assert found["users"] == 8
    assert found["violations"] == 0
    assert set(found["random"]) == set(RULES)
    for rule, curve in (*found["random"].items(), *found["own"].items()):
        assert curve["strengths"] == steps_of(rule, STRENGTHS)
        assert len(curve["strengths"]) == len(curve["exposure"]) == len(curve["overlap"])
    for rule, sign in (("boost", 1), ("avoid", -1), ("suppress", -1)):
        curve = found["random"][rule]
        assert curve["runs"] == 8 * 3
        assert sign * (curve["exposure"][-1] - curve["exposure"][0]) > 0
        assert sign * (curve["attribute_share"][-1] - curve["attribute_share"][0]) > 0
        assert len(curve["each"]) == 3
        middle = sorted(row["lift"] for row in curve["each"] if row["lift"] is not None)
        assert curve["median_intent"]["lift"] == pytest.approx(np.median(middle))
        assert curve["drift_of_unrelated"][0] == 0
    assert 0 < found["own"]["boost"]["runs"] <= 8
