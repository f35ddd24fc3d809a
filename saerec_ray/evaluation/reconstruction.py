"""How well a dictionary codes items, beside other codings of the same size, and what its latents are like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.dictionary.metrics import (
    PrincipalComponents,
    activation_counts,
    random_dictionary,
    variance_unexplained,
)
from saerec_ray.dictionary.sae import Dictionary, calibrated_threshold, unit_rows
from saerec_ray.evaluation.codings import Coding, Features

Floats = npt.NDArray[np.float32]

CURVE_ACTIVE = (4, 8, 16, 32, 64)
DENSITY_BINS = 40
REDUNDANT = 0.9
_SMALLEST_THRESHOLD = 1e-6


def measure_codings(
    found: dict[str, Coding], train_mean: Floats, train: Floats, held_out: Floats
) -> dict[str, dict[str, float]]:
    """For each coding, on raw vectors (items, d):

    fvu, fvu_train      unexplained variance of held-out and of training items
    cosine              mean cosine of held-out unit vectors with their reconstruction
    reconstruction_bias sum <x, x'> / sum <x', x'> about the training mean: 1 without shrinkage, above 1 where
                        reconstructions are too short
    nonzeros, features  numbers an item takes on average, and how many there are to choose from
    """
    return {name: _measure_coding(coding, train_mean, train, held_out) for name, coding in found.items()}


def _measure_coding(coding: Coding, mean: Floats, train: Floats, held_out: Floats) -> dict[str, float]:
    back, features = coding.reconstruct(held_out), coding.encode(held_out)
    unit = unit_rows(held_out)
    x, x_back = (unit - mean).astype(np.float64), (back - mean).astype(np.float64)
    length = float((x_back * x_back).sum())
    return {
        "fvu": variance_unexplained(back, held_out, mean),
        "fvu_train": variance_unexplained(coding.reconstruct(train), train, mean),
        "cosine": float((unit * unit_rows(back)).sum(axis=1).mean()),
        "reconstruction_bias": float((x * x_back).sum()) / length if length > 0 else 0.0,
        "nonzeros": nonzeros(features),
        "features": float(features.shape[1]),
    }


def nonzeros(features: Features) -> float:
    """Numbers other than 0 an item has on average."""
    count = features.nnz if isinstance(features, csr_array) else np.count_nonzero(features)
    return float(count / features.shape[0])


def recalibrated(dictionary: Dictionary, items: Floats, active: int) -> Dictionary:
    """The same weights under a threshold at which raw `items`, (n, d), have `active` latents on average.

    The cap is twice that. Thresholds of single latents are all raised or lowered by one factor. A dictionary
    without a threshold keeps that many of the largest. The scale of the codes stays.
    """
    if not np.any(dictionary.threshold):
        return replace(dictionary, most_active=active)
    activations = np.maximum(
        dictionary.scaling.apply(items) @ dictionary.encoder.T + dictionary.encoder_bias, 0
    )
    most_active = 2 * active
    if isinstance(dictionary.threshold, np.ndarray):
        own = np.maximum(dictionary.threshold, _SMALLEST_THRESHOLD)
        factor = calibrated_threshold(activations / own, active, most_active)
        return replace(dictionary, threshold=(own * factor).astype(np.float32), most_active=most_active)
    threshold = calibrated_threshold(activations, active, most_active)
    return replace(dictionary, threshold=threshold, most_active=most_active)


def variance_curve(
    dictionary: Dictionary,
    train: Floats,
    calibrating: Floats,
    held_out: Floats,
    seed: int,
    actives: Sequence[int] = CURVE_ACTIVE,
) -> list[dict[str, float]]:
    """FVU on held-out items as the trained dictionary is made sparser and denser without training it again.

    Thresholds are set on `calibrating`, which the dictionary was not trained on. Beside each point a PCA with as
    many components as items have latents there, and a random dictionary calibrated to the same sparsity.
    Sparsities that the width does not allow are left out.
    """
    components = PrincipalComponents.fit(train)
    mean = components.mean
    points = []
    for active in actives:
        if 2 * active > dictionary.width:
            continue
        made = recalibrated(dictionary, calibrating, active)
        l0 = made.encode(held_out).nnz / len(held_out)
        control = random_dictionary(made, train, active, seed)
        compared: dict[str, Coding] = {
            "fvu": made,
            "fvu_pca": components.first(round(l0)),
            "fvu_random_dictionary": control,
        }
        points.append(
            {
                "active": float(active),
                "l0": l0,
                **{
                    name: variance_unexplained(coding.reconstruct(held_out), held_out, mean)
                    for name, coding in compared.items()
                },
            }
        )
    return points


def gini(values: npt.ArrayLike) -> float:
    """0 where all values are equal, near 1 where one has everything; 0 without any."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    total = float(ordered.sum())
    if total <= 0:
        return 0.0
    count = len(ordered)
    return float((2 * np.arange(1, count + 1) - count - 1) @ ordered / (count * total))


def latent_densities(train_codes: csr_array, held_out_codes: csr_array) -> dict[str, Any]:
    """How many items latents are active on.

    A latent is dead when no item has it, dense when more than 10% of the training items do (20% below 512
    latents). The histogram counts the others by log10 of their share of training items, in DENSITY_BINS
    equal bins from `low` to 0.
    """
    items, latents = train_codes.shape
    density = activation_counts(train_codes) / items
    limit = 0.2 if latents < 512 else 0.1
    low = math.floor(math.log10(1 / items))
    counts, _ = np.histogram(np.log10(density[density > 0]), bins=DENSITY_BINS, range=(low, 0))
    return {
        "histogram": {"low": low, "counts": counts.tolist()},
        "gini": gini(density),
        "dead_share": float((density == 0).mean()),
        "dead_share_held_out": float((activation_counts(held_out_codes) == 0).mean()),
        "dense_share": float((density > limit).mean()),
        "dense_limit": limit,
    }


def latent_directions(dictionary: Dictionary, seed: int) -> dict[str, float]:
    """How latents point, over all of them.

    alignment        mean cosine of a latent's encoder and decoder row
    nearest          mean cosine of a decoder row with the one closest to it; nearest_random: of random rows
    redundant_share  latents whose closest is nearer than REDUNDANT
    """
    directions = unit_rows(dictionary.decoder)
    aligned = (unit_rows(dictionary.encoder) * directions).sum(axis=1)
    drawn = np.random.default_rng(seed).normal(size=directions.shape).astype(np.float32)
    nearest, by_chance = (_nearest(rows) for rows in (directions, unit_rows(drawn)))
    return {
        "alignment": float(aligned.mean()),
        "nearest": float(nearest.mean()),
        "nearest_random": float(by_chance.mean()),
        "redundant_share": float((nearest > REDUNDANT).mean()),
    }


def _nearest(rows: Floats) -> Floats:
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1)
    return np.asarray(cosines.max(axis=1))
