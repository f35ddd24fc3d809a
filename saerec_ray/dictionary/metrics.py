"""How good a dictionary is: reconstruction, sparsity, dead and overactive latents, and a control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import Dictionary, Floats, calibrated_threshold, unit_rows


def fraction_of_variance_unexplained(
    dictionary: Dictionary, vectors: Floats, mean: Floats | None = None
) -> float:
    """FVU = sum |x - x'|^2 / sum |x - training mean|^2, both sums over all the vectors given, (items, d).

    `mean`: that of the unit training vectors, (d,); None where the dictionary centres its inputs on it.
    """
    scaling = dictionary.scaling
    scaled = scaling.apply(vectors)
    error = scaled - dictionary.decode(dictionary.encode(vectors))
    centred = scaled if mean is None else scaled - (mean - scaling.mean) * np.float32(scaling.factor)
    return float(np.square(error).sum() / np.square(centred).sum())


def principal_component_fvu(train: Floats, held_out: Floats, components: int) -> float:
    """The control: FVU of a PCA with as many components as an item has active latents."""
    mean = train.mean(axis=0)
    covariance = np.cov((train - mean).T)
    _, directions = np.linalg.eigh(covariance)
    basis = directions[:, -components:]
    centred = held_out - mean
    return float(np.square(centred - centred @ basis @ basis.T).sum() / np.square(centred).sum())


def random_dictionary(dictionary: Dictionary, train: Floats, active: int, seed: int) -> Dictionary:
    """The control: random unit directions under the same inference rule, threshold set to the same sparsity."""

    rng = np.random.default_rng(seed)
    directions = unit_rows(rng.normal(size=dictionary.decoder.shape).astype(np.float32))
    scaled = dictionary.scaling.apply(train)
    # The best single step along a random direction is its inner product.
    activations = np.maximum(scaled @ directions.T, 0)
    return replace(
        dictionary,
        encoder=directions,
        encoder_bias=np.zeros(len(directions), dtype=np.float32),
        decoder=directions,
        decoder_bias=np.zeros(scaled.shape[1], dtype=np.float32),
        threshold=calibrated_threshold(activations, active, dictionary.most_active),
    )


def activation_counts(codes: csr_array) -> npt.NDArray[np.int64]:
    """On how many items each latent is active: (latents,)."""
    return np.bincount(codes.indices, minlength=codes.shape[1])


def measure_dictionary(
    dictionary: Dictionary, train: Floats, held_out: Floats, active: int, seed: int
) -> dict[str, Any]:
    """The metrics of a finished dictionary, with controls; `train` and `held_out` are raw vectors (items, d)."""
    train_codes, codes = dictionary.encode(train), dictionary.encode(held_out)
    unit, mean = unit_rows(held_out), unit_rows(train).mean(axis=0)
    reconstructed = dictionary.scaling.invert(dictionary.decode(codes))
    cosines = (unit * unit_rows(reconstructed)).sum(axis=1)
    active_counts = np.diff(codes.indptr)
    train_counts = activation_counts(train_codes)
    densities = train_counts / len(train)
    dense_limit = 0.2 if dictionary.width < 512 else 0.1
    decoder = dictionary.decoder
    overlap = decoder @ decoder.T
    np.fill_diagonal(overlap, -1)
    return {
        "held_out_items": len(held_out),
        "train_items": len(train),
        "fvu": fraction_of_variance_unexplained(dictionary, held_out, mean),
        "fvu_train": fraction_of_variance_unexplained(dictionary, train, mean),
        "fvu_pca_same_nonzeros": principal_component_fvu(
            unit_rows(train), unit, min(max(1, round(float(active_counts.mean()))), train.shape[1])
        ),
        "fvu_random_dictionary": fraction_of_variance_unexplained(
            random_dictionary(dictionary, train, active, seed), held_out, mean
        ),
        "cosine": float(cosines.mean()),
        "l0": float(active_counts.mean()),
        "l0_p5": float(np.percentile(active_counts, 5)),
        "l0_p95": float(np.percentile(active_counts, 95)),
        "items_without_latents": int((active_counts == 0).sum()),
        "dead_share": float((train_counts == 0).mean()),
        "dense_share": float((densities > dense_limit).mean()),
        "dense_limit": dense_limit,
        "redundant_share": float((overlap.max(axis=1) > 0.9).mean()),
        "threshold": float(np.mean(dictionary.threshold)),
    }
