"""Users after what is steered are drawn on purpose; what is steered is not chosen by what they are after."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.validation import encode_users
from saerec_ray.evaluation.scored_users import ScoredUser
from saerec_ray.evaluation.segments import (
    FEWEST_RUNS,
    Population,
    members,
    places_by_case,
    segment_users,
    shown_segment,
)
from saerec_ray.evaluation.steering_curves import steering
from saerec_ray.evaluation.steering_runs import SteeredIntent, own_intent, user_runs
from saerec_ray.evaluation.steering_segments import draw_trials
from tests.evaluation.toy_models import AveragingEncoder, Toy, held, random_toy

STRENGTHS = (0.5, 1.0)


def shop(most: int = 99) -> tuple[Toy, Population]:
    """80 users, and the same as a population."""
    base = random_toy(11, items=90, users=80)
    encoder = cast(UserEncoder, AveragingEncoder(base.space))
    toy = Toy(base.space, base.table, encode_users(encoder, base.users.cases))
    return toy, Population(toy.users.cases, encoder, most)


def steered(toy: Toy, *intents: int) -> list[SteeredIntent]:
    """Intents with their carriers for an attribute, and one without any attribute."""
    chosen = []
    for intent in intents:
        carriers = np.zeros(toy.space.item_count, dtype=bool)
        carriers[toy.space.carriers(intent)[0]] = True
        chosen.append(SteeredIntent(intent, str(intent), f"kind: {intent}", carriers))
    return [*chosen, SteeredIntent(0, "no attribute")]


def test_members_are_all_cases_with_a_held_out_item_that_has_the_attribute() -> None:
    cases = held([[1], [1], [2], [3]], [[5], [6, 7], [7], [8]])
    carriers = np.isin(np.arange(9), [5, 7])
    found = members(cases, carriers, np.random.default_rng(0))
    assert sorted(found.tolist()) == [0, 1, 2]
    assert len(members(cases, np.zeros(9, dtype=bool), np.random.default_rng(0))) == 0


def test_places_of_segments_by_case() -> None:
    assert places_by_case([np.array([4, 1]), np.array([], dtype=np.int64), np.array([4])]) == {
        1: [0],
        4: [0, 2],
    }


def test_users_of_segments_are_scored_as_any_user_is() -> None:
    toy, population = shop()
    wanted = [3, 17, 40]
    for case, user in zip(wanted, segment_users(toy.space, toy.table, population, wanted), strict=True):
        np.testing.assert_allclose(user.scores, toy.scored()[case].scores, atol=1e-4)
        assert user.targets.tolist() == toy.users.cases.targets[case].tolist()


@pytest.mark.parametrize("most", [3, 99])
def test_at_most_so_many_users_of_an_attribute_are_tried_and_own_ones_are_looked_for(most: int) -> None:
    toy, population = shop(most)
    intents = steered(toy, 2, 5, 9)
    trials = draw_trials(toy.space, population, intents, seed=1)
    assert trials == sorted(trials)
    for place, each in enumerate(intents):
        cases = [case for case, targets in enumerate(population.cases.targets) if _has(each, targets)]
        own = [c for c in cases if own_intent(toy.space, population.cases.histories[c], intents) is each]
        for kind, able in (("shared", cases), ("own", own)):
            drawn = [t.case for t in trials if t.place == place and getattr(t, kind)]
            assert len(drawn) == min(most, len(able))
            assert set(drawn) <= set(able)
    assert any(trial.own for trial in trials)
    assert draw_trials(toy.space, None, intents, seed=1) == []


def _has(each: SteeredIntent, targets: np.ndarray) -> bool:
    return each.carriers is not None and bool(each.carriers[targets].any())


def test_accuracy_of_a_segment_is_of_all_users_and_all_else_of_the_sampled_ones() -> None:
    toy, population = shop()
    intents = steered(toy, 2, 5)
    interactions = np.ones(toy.space.item_count)
    sampled, alone = (
        steering(
            toy.space,
            toy.table,
            toy.steering,
            toy.users,
            intents,
            STRENGTHS,
            5,
            1,
            interactions,
            population=each,
        )
        for each in (population, None)
    )
    expected: dict[str, list[list[float]]] = {}
    everybody: list[ScoredUser] = toy.scored()
    for each in intents:
        for user in everybody:
            if _has(each, user.targets):
                for run in user_runs(toy.space, toy.steering, user, [each], STRENGTHS):
                    expected.setdefault(run.rule, []).append([outcome.gain for outcome in run.outcomes])
    for rule, gains in expected.items():
        curve = sampled["random"][rule]
        assert curve["segment_runs"] == len(gains) > 10
        assert curve["ndcg_segment"] == pytest.approx(np.mean(gains, axis=0).tolist())
        without = alone["random"][rule]
        assert (without["segment_runs"], without["ndcg_segment"]) == (0, None)
        for name in ("runs", "exposure", "ndcg", "attribute_share", "overlap"):
            assert curve[name] == without[name]
    assert sampled["own"]["boost"]["segment_runs"] > 0


def test_progress_counts_users_and_trials() -> None:
    toy, population = shop(4)
    intents = steered(toy, 2)
    steps: list[tuple[int, int]] = []
    steering(
        toy.space,
        toy.table,
        toy.steering,
        toy.users,
        intents,
        STRENGTHS,
        3,
        1,
        np.ones(toy.space.item_count),
        lambda *step: steps.append(step),
        population=population,
    )
    total = 3 + len(draw_trials(toy.space, population, intents, 1))
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_of_few_lists_no_figure_is_shown() -> None:
    assert shown_segment({"ndcg_segment": [0.5], "segment_runs": FEWEST_RUNS}) == [0.5]
    assert shown_segment({"ndcg_segment": [0.5], "segment_runs": FEWEST_RUNS - 1}) is None
    assert shown_segment({"ndcg_segment": None, "segment_runs": 0}) is None
