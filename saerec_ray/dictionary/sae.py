"""The trained dictionary at inference: vectors in, sparse non-negative codes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from saerec_ray.errors import StageError

Floats = npt.NDArray[np.float32]

DICTIONARY_FILE = "dictionary.safetensors"
CODES_FILE = "codes.safetensors"
_CHUNK = 4096


@dataclass(frozen=True)
class Scaling:
    """Inputs as the dictionary sees them: unit length, centred on the training mean, unit mean square."""

    mean: Floats  # (d,)
    factor: float

    @staticmethod
    def fit(vectors: Floats, centre: bool = True) -> Scaling:
        """Measures mean and scale on the training vectors, (items, d); without centring the mean is 0."""
        unit = unit_rows(vectors)
        mean = unit.mean(axis=0) if centre else np.zeros(unit.shape[1], dtype=np.float32)
        root_mean_square = float(np.sqrt(np.square(unit - mean).mean()))
        if root_mean_square == 0:
            raise StageError("All item embeddings are equal, so there is nothing to learn a dictionary from.")
        return Scaling(mean.astype(np.float32), 1.0 / root_mean_square)

    def apply(self, vectors: Floats) -> Floats:
        """A scaled copy; the input is left as it is."""
        return np.asarray((unit_rows(vectors) - self.mean) * np.float32(self.factor), dtype=np.float32)

    def invert(self, scaled: Floats) -> Floats:
        """Back to the space of unit vectors."""
        return np.asarray(scaled / np.float32(self.factor) + self.mean, dtype=np.float32)


def unit_rows(vectors: Floats) -> Floats:
    """Rows divided by their length; zero rows stay zero."""
    # In float64, for squares of float32 numbers beyond 1e19 or below 1e-19 are none.
    lengths = np.sqrt(np.einsum("id,id->i", vectors, vectors, dtype=np.float64))[:, None]
    unit: Floats = np.divide(
        vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0, casting="same_kind"
    )
    return unit


@dataclass(frozen=True)
class Dictionary:
    """A sparse autoencoder with a fixed inference rule, so that a code never depends on its batch.

    W x is summed in float64 and then rounded: libraries of matrix products add in another order for other shapes,
    and in float32 an item by itself would have other last digits than among others.

    p = ReLU(W x + b); a latent is active when p exceeds its threshold and is among the `most_active`
    largest of the item that do; the strongest latent stays whatever the threshold, so that an item is without
    intents only where W x + b is positive for no latent.
    """

    encoder: Floats  # W: (latents, d)
    encoder_bias: Floats  # b: (latents,)
    decoder: Floats  # unit rows: (latents, d)
    decoder_bias: Floats  # (d,)
    scaling: Scaling
    threshold: float | Floats
    """One for all latents, or one for each, (latents,)."""
    most_active: int
    code_scale: float = 1.0
    """One factor for all codes, so that their mean squared length over the training items is 1."""

    @property
    def width(self) -> int:
        """Number of latents."""
        return len(self.decoder)

    def encode(self, vectors: Floats) -> csr_array:
        """Codes of raw vectors, (items, d) to sparse (items, latents)."""
        encoder = self.encoder.T.astype(np.float64)  # (d, latents)
        parts = [
            self._encode_scaled(self.scaling.apply(vectors[start : start + _CHUNK]), encoder)
            for start in range(0, len(vectors), _CHUNK)
        ]
        counts = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[2] for part in parts])
        return csr_array(
            (
                values * np.float32(self.code_scale),
                np.concatenate([part[1] for part in parts]),
                np.concatenate([[0], np.cumsum(counts)]),
            ),
            shape=(len(vectors), self.width),
        )

    def decode(self, codes: csr_array) -> Floats:
        """Reconstructions in the scaled space: sparse (items, latents) to (items, d)."""
        reconstruction = codes @ self.decoder / np.float32(self.code_scale) + self.decoder_bias
        return np.asarray(reconstruction, dtype=np.float32)

    def reconstruct(self, vectors: Floats) -> Floats:
        """Reconstructions in the space of unit vectors, (items, d)."""
        return self.scaling.invert(self.decode(self.encode(vectors)))

    def _encode_scaled(
        self, scaled: Floats, encoder: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Floats]:
        """Active counts a row, then latents and values of all rows in order."""
        activations = (scaled.astype(np.float64) @ encoder).astype(np.float32)  # (items, latents)
        activations += self.encoder_bias
        np.maximum(activations, 0, out=activations)
        if isinstance(self.threshold, np.ndarray):
            rows, strongest = np.arange(len(activations)), activations.argmax(axis=1)
            above = activations > self.threshold
            above[rows, strongest] = True
            activations *= above
        width = min(self.most_active, self.width)
        largest = np.argpartition(-activations, width - 1, axis=1)[:, :width]
        largest.sort(axis=1)
        values = np.take_along_axis(activations, largest, axis=1)
        kept = values > (0 if isinstance(self.threshold, np.ndarray) else self.threshold)
        strongest = values.argmax(axis=1)
        rows = np.arange(len(values))
        kept[rows, strongest] |= values[rows, strongest] > 0
        return kept.sum(axis=1), largest[kept].astype(np.int32), values[kept]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything as named arrays, for a safetensors file."""
        return {
            "encoder": self.encoder,
            "encoder_bias": self.encoder_bias,
            "decoder": self.decoder,
            "decoder_bias": self.decoder_bias,
            "mean": self.scaling.mean,
            "factor": np.array([self.scaling.factor], dtype=np.float64),
            "threshold": np.atleast_1d(np.asarray(self.threshold, dtype=np.float64)),
            "most_active": np.array([self.most_active], dtype=np.int64),
            "code_scale": np.array([self.code_scale], dtype=np.float64),
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Dictionary:
        """The inverse of `arrays`; `threshold` holds one number or one a latent."""
        threshold = arrays["threshold"]
        return Dictionary(
            encoder=arrays["encoder"],
            encoder_bias=arrays["encoder_bias"],
            decoder=arrays["decoder"],
            decoder_bias=arrays["decoder_bias"],
            scaling=Scaling(arrays["mean"], float(arrays["factor"][0])),
            threshold=float(threshold[0]) if len(threshold) == 1 else threshold.astype(np.float32),
            most_active=int(arrays["most_active"][0]),
            code_scale=float(arrays["code_scale"][0]),
        )


def with_scaled_codes(dictionary: Dictionary, vectors: Floats) -> Dictionary:
    """The dictionary with its code scale set on these raw training vectors, (items, d)."""
    codes = replace(dictionary, code_scale=1.0).encode(vectors)
    mean_square = float(np.square(codes.data).sum() / len(vectors))
    return replace(dictionary, code_scale=1 / mean_square**0.5 if mean_square > 0 else 1.0)


def calibrated_threshold(activations: Floats, active: int, most_active: int) -> float:
    """The threshold at which items have `active` latents on average under the inference rule.

    `activations` is ReLU(W x + b), (items, latents), of items that were not trained on. Measured on the
    exported weights themselves: a running average taken while the weights still moved misses the wanted sparsity.
    """
    width = min(most_active, activations.shape[1])
    largest = -np.partition(-activations, width - 1, axis=1)[:, :width]  # (items, most_active)
    wanted = min(active * len(activations), largest.size - 1)
    return max(
        float(np.partition(largest.ravel(), largest.size - 1 - wanted)[largest.size - 1 - wanted]), 0.0
    )


def write_dictionary(dictionary: Dictionary, folder: Path) -> None:
    """Writes the dictionary into a stage folder."""
    save_file({k: np.ascontiguousarray(v) for k, v in dictionary.arrays().items()}, folder / DICTIONARY_FILE)


def read_dictionary(folder: Path) -> Dictionary:
    """Reads the dictionary of a stage folder."""
    return Dictionary.from_arrays(load_file(folder / DICTIONARY_FILE))


def write_codes(codes: csr_array, folder: Path) -> None:
    """Writes item codes into a stage folder."""
    arrays = {
        "offsets": codes.indptr.astype(np.int64),
        "latents": codes.indices.astype(np.int32),
        "values": codes.data.astype(np.float32),
        "width": np.array([codes.shape[1]], dtype=np.int64),
    }
    save_file(arrays, folder / CODES_FILE)


def read_codes(folder: Path) -> csr_array:
    """Reads item codes of a stage folder: (items, latents)."""
    arrays = load_file(folder / CODES_FILE)
    shape = (len(arrays["offsets"]) - 1, int(arrays["width"][0]))
    return csr_array((arrays["values"], arrays["latents"], arrays["offsets"]), shape=shape)
