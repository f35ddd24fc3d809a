"""How stable latents are: which of them other seeds find again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.optimize import linear_sum_assignment

from saerec_ray.dictionary.sae import Floats, unit_rows

STABILITY_FILE = "stability.safetensors"
STABLE = 0.7
"""Cosine from which a latent counts as found again in the metrics."""


def matched_cosines(decoder: Floats, other: Floats) -> Floats:
    """The cosine of every latent to its partner under another seed, (latents,).

    Partners are one to one, so that the sum of their cosines is the largest possible (Hungarian matching).
    Both are decoders of one shape, (latents, d).
    """
    cosines = unit_rows(decoder) @ unit_rows(other).T
    rows, partners = linear_sum_assignment(cosines, maximize=True)
    return np.asarray(cosines[rows, partners], dtype=np.float32)


def stability(decoder: Floats, others: Sequence[Floats]) -> Floats:
    """The smallest matched cosine of each latent over the decoders of all other seeds: (latents,)."""
    if not others:
        raise ValueError("stability needs at least one other seed")
    cosines = [matched_cosines(decoder, other) for other in others]
    return np.asarray(np.min(cosines, axis=0), dtype=np.float32)


def stability_figures(decoders: Sequence[Floats], values: Floats) -> dict[str, Any]:
    """For the manifest: over all pairs of seeds, and of the published dictionary, whose stability is `values`."""
    cosines = np.concatenate(
        [
            matched_cosines(decoder, other)
            for place, decoder in enumerate(decoders)
            for other in decoders[place + 1 :]
        ]
    )
    return {
        "matched_cosine": float(cosines.mean()),
        "matched_share": float((cosines >= STABLE).mean()),
        "stable_share": float((values >= STABLE).mean()),
    }


def write_stability(values: Floats, folder: Path) -> None:
    """Writes the stability of every latent, (latents,), beside the dictionary."""
    save_file({"stability": np.ascontiguousarray(values, dtype=np.float32)}, folder / STABILITY_FILE)


def read_stability(folder: Path) -> Floats | None:
    """The stability of every latent, (latents,), of a stage folder; None when it was trained with one seed.

    NaN for the latents of one of two dictionaries when only the other was trained with several seeds.
    """
    path = folder / STABILITY_FILE
    return load_file(path)["stability"] if path.exists() else None
