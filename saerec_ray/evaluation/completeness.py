"""Whether explanations add up, how much of a score they cover, and how many intents that takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation.scored_users import sample_cases, scored_users
from saerec_ray.scoring import Floats, ItemSpace, PriorTable, decompose

LIST_LENGTH = 20
CONCENTRATION = 0.8


def completeness(
    space: ItemSpace, table: PriorTable, users: EncodedUsers, count: int, seed: int
) -> dict[str, Any]:
    """Re-adds the parts of the top 20 of `count` random users, and measures how much intents explain.

    error = max |s - (sum of contributions + residual + bias + companions)| / max(1, |s|)
    explained share of one item = sum |contribution| / (sum |contribution| + |residual| + companions)
    companions' share of one item = companions / the same
    intents needed = the fewest that make 80% of sum |contribution|
    Cold items are those without a training interaction, warm ones all others; their shares are null where no
    list has one. A cold item has no residual, and is a companion of others by its text alone.
    """
    chosen = sample_cases(users, count, seed)
    error = 0.0
    shares: list[float] = []
    of_companions: list[float] = []
    cold: list[bool] = []
    needed: list[int] = []
    for user in scored_users(space, table, users, chosen):
        for item in user.top(LIST_LENGTH):
            parts = decompose(space, user.state, user.values, int(item), user.companions)
            score = float(user.scores[item])
            total = float(parts.contributions.sum()) + parts.residual + parts.bias + parts.companions
            error = max(error, abs(total - score) / max(1.0, abs(score)))
            explained = float(np.abs(parts.contributions).sum())
            every = explained + abs(parts.residual) + parts.companions
            shares.append(explained / every if explained else 0.0)
            of_companions.append(parts.companions / every if every else 0.0)
            cold.append(bool(space.popularity[item] == 0))
            if explained:
                needed.append(intents_needed(parts.contributions, CONCENTRATION))
    met_never = np.asarray(cold, dtype=bool)
    cold_shares, warm_shares = np.asarray(shares)[met_never], np.asarray(shares)[~met_never]
    return {
        "users": len(chosen),
        "items": len(shares),
        "completeness_error": error,
        "explained_share_median": float(np.median(shares)) if shares else 0.0,
        "explained_share_p10": float(np.percentile(shares, 10)) if shares else 0.0,
        "explained_share_histogram": np.histogram(shares, bins=20, range=(0.0, 1.0))[0].tolist(),
        "companions_share_mean": float(np.mean(of_companions)) if of_companions else 0.0,
        "warm_items": len(warm_shares),
        "warm_explained_share_median": _percentile(warm_shares, 50),
        "warm_explained_share_p10": _percentile(warm_shares, 10),
        "cold_items": len(cold_shares),
        "cold_explained_share_median": _percentile(cold_shares, 50),
        "cold_explained_share_p10": _percentile(cold_shares, 10),
        "intents_for_80_percent_median": float(np.median(needed)) if needed else 0.0,
        "intents_for_80_percent_p90": float(np.percentile(needed, 90)) if needed else 0.0,
    }


def _percentile(values: npt.NDArray[np.float64], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None


def intents_needed(contributions: Floats, share: float) -> int:
    """The fewest intents whose absolute contributions reach a share of the absolute sum of all."""
    ordered = np.sort(np.abs(contributions.astype(np.float64)))[::-1]
    reached = np.cumsum(ordered)
    if len(reached) == 0 or reached[-1] == 0:
        return 0
    return int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-9))) + 1
