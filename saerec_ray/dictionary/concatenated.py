"""The sources of intents side by side: texts, then, where wanted, co-occurrence, then attributes.

The latents of all are numbered in one row, so a code is z = [z_text; z_cooccurrence; z_attributes]. The directions
of one say nothing of those of another: as one matrix they are block-diagonal, and cosines across are 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from scipy.linalg import block_diag
from scipy.sparse import csr_array, hstack

from saerec_ray.dictionary.attributes import AttributeValue, parse_attributes, read_attributes
from saerec_ray.dictionary.sae import DICTIONARY_FILE, Dictionary, Floats

COOCCURRENCE_FILE = "cooccurrence.safetensors"
_ATTRIBUTES = "attributes"
"""Name of the bytes of the attributes' JSON among the arrays."""
_PREFIX = "cooccurrence."
"""Of the names of the second dictionary's arrays, where both are in one file."""


@dataclass(frozen=True)
class Dictionaries:
    """All dictionaries of one run."""

    text: Dictionary
    cooccurrence: Dictionary | None = None
    attributes: tuple[AttributeValue, ...] = ()

    @property
    def width(self) -> int:
        """Number of latents of all."""
        return self.learnt + len(self.attributes)

    @property
    def learnt(self) -> int:
        """Number of latents that were trained: those of texts and of co-occurrence, which come first."""
        return self.text.width + (self.cooccurrence.width if self.cooccurrence else 0)

    @property
    def directions(self) -> list[Floats]:
        """The unit decoder direction of every learnt latent, each in the space of its own dictionary."""
        return [*self.text.decoder, *(self.cooccurrence.decoder if self.cooccurrence else ())]

    @property
    def decoder(self) -> Floats:
        """The directions as one block-diagonal matrix, every attribute with an axis of its own.

        (latents, d_text + d_cooccurrence + attributes).
        """
        blocks = [self.text.decoder]
        if self.cooccurrence is not None:
            blocks.append(self.cooccurrence.decoder)
        if self.attributes:
            blocks.append(np.eye(len(self.attributes), dtype=np.float32))
        return blocks[0] if len(blocks) == 1 else np.asarray(block_diag(*blocks), dtype=np.float32)

    def origin(self, latent: int) -> Literal["text", "cooccurrence", "attributes"]:
        """Which source a latent is of."""
        if latent < self.text.width:
            return "text"
        return "cooccurrence" if latent < self.learnt else "attributes"

    @staticmethod
    def from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Dictionaries:
        """From arrays as `read_arrays` names them; a bundle has them, too."""
        second = {
            name.removeprefix(_PREFIX): values for name, values in arrays.items() if name.startswith(_PREFIX)
        }
        attributes = arrays.get(_ATTRIBUTES)
        return Dictionaries(
            Dictionary.from_arrays(arrays),
            Dictionary.from_arrays(second) if second else None,
            () if attributes is None else parse_attributes(attributes.tobytes().decode()),
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
    arrays = load_file(folder / DICTIONARY_FILE) | {
        f"{_PREFIX}{name}": values for name, values in second.items()
    }
    if attributes := read_attributes(folder):
        text = json.dumps(attributes, ensure_ascii=False)
        arrays[_ATTRIBUTES] = np.frombuffer(text.encode(), dtype=np.uint8)
    return arrays


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
    second = (codes.indices >= dictionaries.text.width) & (codes.indices < dictionaries.learnt)
    kept = ~(rows & second)
    offsets = np.concatenate([[0], np.cumsum(kept)])[codes.indptr]
    return csr_array((codes.data[kept], codes.indices[kept], offsets), shape=codes.shape)
