"""Users who are after what is steered: their held-out item has the attribute that the intent stands for.

Of a random sample few are, so they are drawn on purpose, from all users of the split. The held-out item decides who
is measured, never what is steered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.validation import HeldOut
from saerec_ray.evaluation.scored_users import ScoredUser, scored_users
from saerec_ray.evaluation.users_in_turn import encoded_in_turn
from saerec_ray.scoring import Indices, ItemSpace, PriorTable

FEWEST_RUNS = 30
"""NDCG of fewer runs says nothing: one held-out item more or less in a list would move it by several percent."""

NOBODY: Indices = np.empty(0, dtype=np.int64)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Population:
    """All users of a split, of whom segments are drawn."""

    cases: HeldOut
    encoder: UserEncoder
    most: int  # users of one segment


def members(cases: HeldOut, carriers: Mask, rng: np.random.Generator) -> Indices:
    """All cases with a held-out item among the `carriers`, (items,), in random order."""
    owners = np.repeat(np.arange(len(cases)), [len(targets) for targets in cases.targets])
    targets = np.concatenate([np.empty(0, dtype=np.int32), *cases.targets])
    return rng.permutation(np.unique(owners[carriers[targets]])).astype(np.int64)


def places_by_case(segments: Sequence[Indices]) -> dict[int, list[int]]:
    """For each case that is in any segment the places of its segments, ascending; cases ascending."""
    found: dict[int, list[int]] = {}
    for place, segment in enumerate(segments):
        for case in segment.tolist():
            found.setdefault(case, []).append(place)
    return dict(sorted(found.items()))


def segment_users(
    space: ItemSpace, table: PriorTable, population: Population, wanted: Sequence[int]
) -> Iterator[ScoredUser]:
    """The users of these cases of the population, in their order, encoded and scored some at a time."""
    cases = population.cases.at(np.asarray(wanted, dtype=np.int64))
    for users in encoded_in_turn(population.encoder, cases):
        yield from scored_users(space, table, users, np.arange(len(users.cases)))


def shown_segment(found: dict[str, Any]) -> list[float] | None:
    """NDCG@20 of the segment by strength, to be shown; None where fewer than FEWEST_RUNS lists were measured."""
    values: list[float] | None = found["ndcg_segment"]
    return values if found["segment_runs"] >= FEWEST_RUNS else None
