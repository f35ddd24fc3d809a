"""How good a dictionary is: reconstruction, sparsity, dead and overactive latents, and controls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import Dictionary, Floats, calibrated_threshold, unit_rows

MOST_CALIBRATED = 20_000
"""Items that set the threshold of a random dictionary: all activations of a large catalogue would fill the memory."""


def fraction_of_variance_unexplained(
    dictionary: Dictionary, vectors: Floats, mean: Floats | None = None
) -> float:
    """FVU of a dictionary about the training mean: variance_unexplained, in the scaled space that it is trained in.

    `vectors`: (items, d); `mean`: that of the unit training vectors, (d,); None where the dictionary centres its
    inputs on it.
    """
    scaling = dictionary.scaling
    scaled = scaling.apply(vectors)
    error = scaled - dictionary.decode(dictionary.encode(vectors))
    centred = scaled if mean is None else scaled - (mean - scaling.mean) * np.float32(scaling.factor)
    return float(np.square(error).sum() / np.square(centred).sum())


def variance_unexplained(reconstruction: Floats, vectors: Floats, mean: Floats) -> float:
    """FVU = sum |x - x'|^2 / sum |x - mean|^2 over unit vectors, both sums over all items.

    `reconstruction` and `vectors`: (items, d); `mean`: (d,), of the unit training vectors unless said otherwise.
    """
    unit = unit_rows(vectors)
    error = np.square(unit - reconstruction).sum(dtype=np.float64)
    return float(error / np.square(unit - mean).sum(dtype=np.float64))


@dataclass(frozen=True)
class PrincipalComponents:
    """The control: the directions along which unit vectors vary most, about their mean."""

    mean: Floats  # (d,)
    basis: Floats  # (components, d), orthonormal rows, the largest variance first

    @staticmethod
    def fit(vectors: Floats) -> PrincipalComponents:
        """All d components of raw vectors, (items, d)."""
        unit = unit_rows(vectors)
        _, directions = np.linalg.eigh(np.cov(unit.T))
        basis = np.ascontiguousarray(directions.T[::-1], dtype=np.float32)
        return PrincipalComponents(unit.mean(axis=0), basis)

    def first(self, components: int) -> PrincipalComponents:
        """Only so many components, at least one."""
        return replace(self, basis=self.basis[: max(1, components)])

    def encode(self, vectors: Floats) -> Floats:
        """Coordinates along the components: (items, components)."""
        return np.asarray((unit_rows(vectors) - self.mean) @ self.basis.T, dtype=np.float32)

    def reconstruct(self, vectors: Floats) -> Floats:
        """The projection on the components."""
        return np.asarray(self.encode(vectors) @ self.basis + self.mean, dtype=np.float32)


def random_dictionary(dictionary: Dictionary, train: Floats, active: int, seed: int) -> Dictionary:
    """The control: random unit directions under the same inference rule, threshold set to the same sparsity.

    It is set on at most MOST_CALIBRATED of the raw training vectors, (items, d), drawn by the seed.
    """
    rng = np.random.default_rng(seed)
    directions = unit_rows(rng.normal(size=dictionary.decoder.shape).astype(np.float32))
    if len(train) > MOST_CALIBRATED:
        train = train[rng.permutation(len(train))[:MOST_CALIBRATED]]
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
    components = PrincipalComponents.fit(train).first(round(float(active_counts.mean())))
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
        "fvu_pca_same_nonzeros": variance_unexplained(components.reconstruct(held_out), held_out, mean),
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
