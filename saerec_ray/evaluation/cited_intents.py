"""Which intents an explanation cites for an item, and random ones of the same kind to compare them with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from saerec_ray.evaluation.scored_users import ScoredUser, rank_without
from saerec_ray.evidence import by_places_moved, listed_intents
from saerec_ray.scoring import Floats, Indices, ItemSpace, decompose, rank_of

NEAREST = 3
"""A random intent is drawn among so many of the nearest density, so that controls are not rarer than reasons."""

Cite = Callable[[ItemSpace, ScoredUser, int, int], Indices]
"""A way to choose at most so many reasons for an item, the first one first, such as cited_intents."""


def cited_intents(
    space: ItemSpace, user: ScoredUser, item: int, count: int, citable: npt.NDArray[np.bool_] | None = None
) -> Indices:
    """The reasons for an item among what a server lists for it, in the order of the server: at most `count`.

    Only positive contributions are reasons for an item. `citable` (intents,): which intents are published; without
    it, what a server would list if all of them were.
    """
    parts = decompose(space, user.state, user.values, item, user.companions)
    allowed = np.ones(space.intent_count, dtype=np.bool_) if citable is None else citable
    listed = listed_intents(parts, user.usual, allowed)
    without = [rank_without(space, user, item, parts.intents[[place]]) for place in listed]
    listed = listed[by_places_moved(rank_of(user.eligible_scores, item), without)]
    return parts.intents[listed[parts.contributions[listed] > 0]][:count]


def speaking_intents(space: ItemSpace, user: ScoredUser, item: int) -> Indices:
    """All intents that add to an item's score, listed or not."""
    intents, loadings = space.code(item)
    return intents[user.values[intents] * loadings > 0]


def densities(space: ItemSpace) -> Floats:
    """Share of the catalogue that carries each intent: (intents,)."""
    return np.asarray(np.diff(space.postings.indptr) / max(space.item_count, 1), dtype=np.float32)


def matched_by_density(
    wanted: Indices, candidates: Indices, density: Floats, rng: np.random.Generator
) -> Indices | None:
    """One different candidate for each wanted intent, drawn among the nearest in log density.

    No candidate may be a wanted intent itself; None when there are fewer candidates than wanted intents.
    """
    left = np.setdiff1d(candidates, wanted)
    if len(left) < len(wanted):
        return None
    log_density = np.log(np.maximum(density, 1e-9))
    drawn = []
    for intent in wanted:
        distance = np.abs(log_density[left] - log_density[intent])
        nearest = np.argsort(distance, kind="stable")[:NEAREST]
        place = int(rng.choice(nearest))
        drawn.append(int(left[place]))
        left = np.delete(left, place)
    return np.array(drawn, dtype=np.int64)
