"""Text vectors less what all texts of a catalogue have in common, which makes any two of them close."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def centred(vectors: Floats, centre: Floats) -> Floats:
    """Vectors less the centre, of length 1 again: (vectors, d). One that is the centre itself becomes 0.

    `centre`: a mean, (d,); that of the items that training met where others are to be found as new.
    """
    moved = vectors - centre
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(
        np.divide(moved, lengths, out=np.zeros_like(moved), where=lengths > 0), dtype=np.float32
    )
