"""Which intents an explanation cites for an item, and random ones of the same kind to compare them with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from saerec_ray.evaluation.scored_users import ScoredUser
from saerec_ray.evidence import setting_apart
from saerec_ray.scoring import Floats, Indices, ItemSpace, decompose

NEAREST = 3
"""A random intent is drawn among so many of the nearest density, so that controls are not rarer than reasons."""


def cited_intents(
    space: ItemSpace, user: ScoredUser, item: int, count: int, citable: npt.NDArray[np.bool_] | None = None
) -> Indices:
    """The reasons that set an item apart from the user's best items the most, strongest first: at most `count`.

    The order is that of a server. Only positive contributions are reasons for an item; `citable` (intents,) may leave
    out more.
    """
    parts = decompose(space, user.state, user.values, item, user.companions)
    reasons = parts.contributions > 0
    if citable is not None:
        reasons &= citable[parts.intents]
    intents, contributions = parts.intents[reasons], parts.contributions[reasons]
    return intents[setting_apart(contributions, user.usual[intents])[:count]]


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
