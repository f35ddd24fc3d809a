"""How fast a training learns at each moment."""

from __future__ import annotations


def learning_rate_share(done: float, total: float, warm_up_share: float, decay_share: float) -> float:
    """Share of the highest learning rate: a linear rise, a plateau, a linear fall to 0 at the end.

    `done` of `total` steps or samples are behind; the rise takes `warm_up_share` of them, the fall
    `decay_share`.
    """
    rise = (done + 1) / (warm_up_share * total + 1)
    fall = (total - done) / (decay_share * total) if decay_share else 1.0
    return max(0.0, min(rise, 1.0, fall))
