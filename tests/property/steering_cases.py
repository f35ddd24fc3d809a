"""Random users, adjustments and masks for a bundle."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from saerec_ray.bundle import Bundle
from saerec_ray.scoring import MAX_LIMITED_ADJUSTMENTS, Adjustment, Floats, Mode, base_scores
from saerec_server.ranking import Ranker, User

strengths = st.floats(0.001, 1.0, allow_nan=False)


def histories(bundle: Bundle, min_size: int = 1) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, len(bundle.items) - 1), min_size=min_size, max_size=30)


def intents(bundle: Bundle) -> st.SearchStrategy[int]:
    return st.integers(0, bundle.space.intent_count - 1)


@st.composite
def adjustment_lists(draw: st.DrawFn, bundle: Bundle, max_size: int = 8) -> list[Adjustment]:
    """Adjustments of different intents, with no more boosts and avoids than may act at once."""
    chosen = draw(st.lists(intents(bundle), max_size=max_size, unique=True))
    result, limited = [], 0
    for intent in chosen:
        mode = draw(st.sampled_from(list(Mode)))
        if mode.limited and limited == MAX_LIMITED_ADJUSTMENTS:
            mode = Mode.SUPPRESS
        limited += mode.limited
        result.append(Adjustment(intent, mode, draw(strengths)))
    return result


@st.composite
def masks(draw: st.DrawFn, bundle: Bundle) -> np.ndarray:
    """Which items may be returned: all, most, few."""
    share = draw(st.sampled_from([1.0, 0.7, 0.1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(len(bundle.items)) < share


def scores_of(ranker: Ranker, user: User) -> Floats:
    return base_scores(ranker.bundle.space, user.state[None], user.values[None], user.companions)[0]
