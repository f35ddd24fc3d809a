"""Vectors with known directions: sparse non-negative sums of planted unit vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.dictionary.sae import Floats, unit_rows


def planted_directions(count: int, d: int, seed: int = 0) -> Floats:
    """Random unit rows, (count, d)."""
    return unit_rows(np.random.default_rng(seed).normal(size=(count, d)).astype(np.float32))


def planted_vectors(
    items: int, directions: Floats, active: int, seed: int = 0, noise: float = 0.01
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Each item sums `active` of the directions with weights of 1 to 2, plus a common offset.

    Returns the vectors, (items, d), and which directions are in each, (items, directions).
    """
    rng = np.random.default_rng(seed)
    present = np.argsort(rng.random((items, len(directions))), axis=1) < active
    weights = present * rng.uniform(1, 2, size=present.shape)
    offset = np.full(directions.shape[1], 0.5)
    vectors = weights @ directions + offset + noise * rng.normal(size=(items, directions.shape[1]))
    return vectors.astype(np.float32), present


def best_cosines(directions: Floats, decoder: Floats) -> npt.NDArray[Any]:
    """For each planted direction, the cosine of the latent closest to it."""
    cosines = unit_rows(directions) @ unit_rows(decoder).T
    return np.asarray(cosines.max(axis=1))
