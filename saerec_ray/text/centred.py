"""Text vectors less what all texts of a catalogue have in common, which makes any two of them close."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def centred(vectors: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Vectors less the mean of the known ones, of length 1 again: (items, d). One that is the mean itself stays 0.

    `known`: items whose mean may be used, at least one, (items,): no item that is to be found as new.
    """
    moved = vectors - vectors[known].mean(axis=0)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(
        np.divide(moved, lengths, out=np.zeros_like(moved), where=lengths > 0), dtype=np.float32
    )
