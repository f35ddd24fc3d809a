"""Whether explanations add up: every part of a score re-added against the score itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.scoring import ItemSpace, PriorTable, base_scores, decompose, intent_values, prior, top_items

LIST_LENGTH = 20


def completeness(
    space: ItemSpace, table: PriorTable, users: EncodedUsers, count: int, seed: int
) -> dict[str, Any]:
    """Re-adds the parts of the top 20 of `count` random users, and measures how much intents explain.

    error = max |s - (sum of contributions + residual + bias)| / max(1, |s|)
    explained share of one item = sum |contribution| / (sum |contribution| + |residual|)
    """
    chosen = np.random.default_rng(seed).permutation(len(users.cases))[:count]
    error = 0.0
    shares = []
    for case in chosen:
        state = users.states[case]
        values = intent_values(space, state[None], prior(users.profiles[case][None], table))
        scores = base_scores(space, state[None], values)[0]
        scores[users.cases.histories[case]] = -np.inf
        for item in top_items(scores, LIST_LENGTH):
            parts = decompose(space, state, values[0], int(item))
            total = float(parts.contributions.sum()) + parts.residual + parts.bias
            error = max(error, abs(total - float(scores[item])) / max(1.0, abs(float(scores[item]))))
            explained = float(np.abs(parts.contributions).sum())
            shares.append(explained / (explained + abs(parts.residual)) if explained else 0.0)
    return {
        "users": len(chosen),
        "items": len(shares),
        "completeness_error": error,
        "explained_share_median": float(np.median(shares)) if shares else 0.0,
        "explained_share_p10": float(np.percentile(shares, 10)) if shares else 0.0,
    }
