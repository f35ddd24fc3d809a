"""The weights of the prior and of companions in the score, chosen on validation users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.companions import typical_strength
from saerec_ray.backbone.frozen import Frozen
from saerec_ray.backbone.validation import EncodedUsers, ndcg_of_weights, prior_scores, user_scores
from saerec_ray.config import TrainConfig
from saerec_ray.scoring import ItemSpace

Floats = npt.NDArray[np.float32]

_SPREAD_SAMPLE = 256
_USERS_AT_ONCE = 32


def choose_prior_weight(
    config: TrainConfig, space: ItemSpace, frozen: Frozen, users: EncodedUsers
) -> tuple[float, dict[str, float]]:
    """Lambda with the best validation NDCG@10, and the NDCG of every candidate.

    Candidates are multiples of the ratio between the deviations of base and prior scores, so that they mean
    the same on every data set.
    """
    without = replace(space, prior_weight=0.0)
    sample = _some_users(users)
    deviations = [
        prior_scores(space, frozen.prior, sample, slice(start, start + _USERS_AT_ONCE)).std(axis=1)
        for start in range(0, len(sample.cases), _USERS_AT_ONCE)
    ]
    spread = float(np.concatenate(deviations).mean())
    unit = _base_spread(without, frozen, sample) / spread if spread > 0 else 0.0
    weight, _, tried = _good_weight(
        config.prior_weights,
        unit,
        without,
        frozen,
        users,
        lambda rows: prior_scores(space, frozen.prior, users, rows),
    )
    return weight, tried


def choose_companion_weight(
    config: TrainConfig, space: ItemSpace, frozen: Frozen, users: EncodedUsers
) -> tuple[float, float, dict[str, float]]:
    """The smallest mu that loses at most config.companion_tolerance of the best validation NDCG@10, and the best.

    And the NDCG of every candidate. What companions add to a score is neither explained nor steered by intents.
    Candidates are multiples of the deviation of base scores over the mean strength of companions.
    """
    without = replace(space, companion_weight=0.0)
    typical = typical_strength(users.companions)
    unit = _base_spread(without, frozen, _some_users(users)) / typical if typical > 0 else 0.0
    return _good_weight(
        config.companion_weights,
        unit,
        without,
        frozen,
        users,
        lambda rows: np.asarray(users.companions[rows].toarray(), dtype=np.float32),
        config.companion_tolerance,
    )


def _some_users(users: EncodedUsers) -> EncodedUsers:
    """About _SPREAD_SAMPLE of the users, evenly spaced."""
    step = max(1, len(users.cases) // _SPREAD_SAMPLE)
    cases = users.cases.share(0, step)
    return EncodedUsers(cases, users.states[::step], users.profiles[::step], users.companions[::step])


def _base_spread(space: ItemSpace, frozen: Frozen, users: EncodedUsers) -> float:
    """The mean deviation of a user's base scores over the catalogue."""
    spreads = [scores.std(axis=1) for _, scores in user_scores(space, frozen.prior, users)]
    return float(np.concatenate(spreads).mean())


def _good_weight(
    candidates: list[float],
    unit: float,
    without: ItemSpace,
    frozen: Frozen,
    users: EncodedUsers,
    part: Callable[[slice], Floats],
    tolerance: float = 0.0,
) -> tuple[float, float, dict[str, float]]:
    """The smallest multiple of `unit` that loses at most the share `tolerance` of the best validation NDCG@10.

    Then the smallest of the best, and the NDCG of every candidate, of which 0 is always one. `without` scores without
    the part, `part` gives it unweighted.
    """
    multiples = sorted({0.0, *candidates})
    weights = [multiple * unit for multiple in multiples]
    found = ndcg_of_weights(without, frozen.prior, users, part, weights)
    good, best = (
        weights[int(np.flatnonzero(np.asarray(found) >= share * max(found))[0])]
        for share in (1 - tolerance, 1)
    )
    return good, best, {f"{multiple:g}": value for multiple, value in zip(multiples, found, strict=True)}
