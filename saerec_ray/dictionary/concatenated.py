"""The dictionaries of a run side by side: that of the texts, then, where there is one, that of co-occurrence.

The latents of both are numbered in one row, so a code is z = [z_text; z_cooccurrence]. The directions of one
say nothing of those of the other: as one matrix they are block-diagonal, and cosines across are 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from scipy.linalg import block_diag
from scipy.sparse import csr_array, hstack

from saerec_ray.dictionary.sae import DICTIONARY_FILE, Dictionary, Floats

COOCCURRENCE_FILE = "cooccurrence.safetensors"
_PREFIX = "cooccurrence."
"""Of the names of the second dictionary's arrays, where both are in one file."""


@dataclass(frozen=True)
class Dictionaries:
    """All dictionaries of one run."""

    text: Dictionary
    cooccurrence: Dictionary | None = None

    @property
    def width(self) -> int:
        """Number of latents of both."""
        return self.text.width + (self.cooccurrence.width if self.cooccurrence else 0)

    @property
    def directions(self) -> list[Floats]:
        """The unit decoder direction of every latent, each in the space of its own dictionary."""
        return [*self.text.decoder, *(self.cooccurrence.decoder if self.cooccurrence else ())]

    @property
    def decoder(self) -> Floats:
        """The directions as one block-diagonal matrix: (latents, d_text + d_cooccurrence)."""
        if self.cooccurrence is None:
            return self.text.decoder
        return np.asarray(block_diag(self.text.decoder, self.cooccurrence.decoder), dtype=np.float32)

    @staticmethod
    def from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Dictionaries:
        """From arrays as `read_arrays` names them; a bundle has them, too."""
        second = {
            name.removeprefix(_PREFIX): values for name, values in arrays.items() if name.startswith(_PREFIX)
        }
        return Dictionaries(
            Dictionary.from_arrays(arrays), Dictionary.from_arrays(second) if second else None
        )


def write_cooccurrence(dictionary: Dictionary, folder: Path) -> None:
    """Writes the second dictionary into a stage folder, beside the first."""
    arrays = {name: np.ascontiguousarray(values) for name, values in dictionary.arrays().items()}
    save_file(arrays, folder / COOCCURRENCE_FILE)


def read_dictionaries(folder: Path) -> Dictionaries:
    """Reads all dictionaries of a stage folder."""
    return Dictionaries.from_arrays(read_arrays(folder))


def read_arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a stage folder; those of the second dictionary have names of their own."""
    path = folder / COOCCURRENCE_FILE
    second = load_file(path) if path.exists() else {}
    return load_file(folder / DICTIONARY_FILE) | {
        f"{_PREFIX}{name}": values for name, values in second.items()
    }


def concatenated(text: csr_array, cooccurrence: csr_array) -> csr_array:
    """The codes of both dictionaries for the same items: (items, text latents + co-occurrence latents)."""
    return csr_array(hstack([text, cooccurrence], format="csr"))


def spread(codes: csr_array, rows: npt.NDArray[np.int64], items: int) -> csr_array:
    """The codes of some items as those of all `items`: row i goes to `rows[i]` (ascending), others are empty."""
    counts = np.zeros(items, dtype=np.int64)
    counts[rows] = np.diff(codes.indptr)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return csr_array((codes.data, codes.indices, offsets), shape=(items, codes.shape[1]))


def without_cooccurrence(
    codes: csr_array, dictionaries: Dictionaries, items: npt.NDArray[np.bool_]
) -> csr_array:
    """The codes, (all items, latents), of which the marked items, (all items,), keep those of their texts alone."""
    rows = np.repeat(items, np.diff(codes.indptr))
    kept = ~(rows & (codes.indices >= dictionaries.text.width))
    offsets = np.concatenate([[0], np.cumsum(kept)])[codes.indptr]
    return csr_array((codes.data[kept], codes.indices[kept], offsets), shape=codes.shape)
