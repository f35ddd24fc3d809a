"""Steered lists of users who are after what is steered: which of them are drawn, and their runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from saerec_ray.evaluation.segments import Population, members, segment_users
from saerec_ray.evaluation.steering_runs import Run, SteeredIntent, own_intent, user_runs
from saerec_ray.scoring import ItemSpace, PriorTable, SteeringTable

OWN_TRIED = 20
"""How many times the users wanted are looked at for those whose own intent is that of their held-out item."""


@dataclass(frozen=True, order=True)
class Trial:
    """A user of the population and an intent whose attribute the held-out item has."""

    case: int
    place: int  # of the intent
    shared: bool  # drawn among all such users
    own: bool  # drawn among those whose own intent it is


def draw_trials(
    space: ItemSpace, population: Population | None, intents: Sequence[SteeredIntent], seed: int
) -> list[Trial]:
    """For each intent with an attribute at most `population.most` random users of each kind; ascending by case."""
    if population is None:
        return []
    rng = np.random.default_rng(seed)
    histories = population.cases.histories
    trials = []
    for place, steered in enumerate(intents):
        if steered.carriers is None:
            continue
        found = members(population.cases, steered.carriers, rng)
        tried = found[: OWN_TRIED * population.most].tolist()
        own = [case for case in tried if own_intent(space, histories[case], intents) is steered]
        shared, personal = set(found[: population.most].tolist()), set(own[: population.most])
        trials += [Trial(case, place, case in shared, case in personal) for case in shared | personal]
    return sorted(trials)


def trial_runs(
    space: ItemSpace,
    table: PriorTable,
    steering_table: SteeringTable,
    population: Population | None,
    intents: Sequence[SteeredIntent],
    trials: Sequence[Trial],
    strengths: Sequence[float],
) -> Iterator[tuple[Trial, list[Run]]]:
    """The runs of each trial under every rule, in the order of the trials, which ascend by case."""
    if population is None:
        return
    cases = sorted({trial.case for trial in trials})
    users = zip(cases, segment_users(space, table, population, cases), strict=True)
    case, user = -1, None
    for trial in trials:
        while user is None or case != trial.case:
            case, user = next(users)
        yield trial, list(user_runs(space, steering_table, user, [intents[trial.place]], strengths))
