"""The steering rule of other work, for comparison only; the server does not know it.

q' = (1 - strength) q + strength ||q+||_1 e_f moves the user's whole positive mass onto one intent (the mixing
rule of concept-steered sparse recommenders). Everything else fades as the intent grows, so the exposure of
the intent may fall although the strength rises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from saerec_ray.scoring import Floats, ItemSpace


def mass_preserving_values(values: Floats, intent: int, strength: float) -> Floats:
    """q' of one user: (intents,). Strength 0 gives q itself, strength 1 all positive mass on the intent."""
    mass = float(np.maximum(values, 0).sum(dtype=np.float64))
    mixed = (1.0 - strength) * values
    mixed[intent] += strength * mass
    return np.asarray(mixed, dtype=np.float32)


def mass_preserving_scores(
    space: ItemSpace, scores: Floats, values: Floats, intent: int, strengths: Sequence[float]
) -> Iterator[Floats]:
    """The user's scores under the rule at each strength, all items: (items,).

    `scores` are the base scores made of `values`. They change in proportion to the strength.
    """
    change = mass_preserving_values(values, intent, 1.0) - values
    direction = np.asarray(space.codes @ change, dtype=np.float32)
    for strength in strengths:
        yield np.asarray(scores + np.float32(strength) * direction, dtype=np.float32)
