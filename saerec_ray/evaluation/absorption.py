"""A proxy for absorption: where a latent is silent on an attribute it stands for, does another speak for it?

The usual test knows what every token begins with; items have no such ground truth. So this is a comparison
between dictionaries of the same items, not a rate that means something by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.evaluation.probing import Attributes, Split

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MIN_ALIGNMENT = 0.5
"""Cosine of an absorbing latent with the probe, as a share of that of the main latent."""
MIN_CONTRIBUTION = 0.4
"""What an absorbing latent adds to the probe, as a share of all that latents add."""


def main_latents(codes: csr_array, attributes: Attributes, split: Split) -> Indices:
    """For each attribute the latent whose being active has the highest F1 in training: (values,)."""
    part = codes[split.train]
    active = csr_array((np.ones_like(part.data), part.indices, part.indptr), shape=part.shape)
    inside = attributes.members[split.train].astype(np.float64)
    both = np.asarray((active.T @ inside).T)  # (values, latents)
    counts = inside.sum(axis=0)[:, None] + np.asarray(active.sum(axis=0)).ravel()[None, :]
    return np.asarray(np.argmax(2 * both / np.maximum(counts, 1), axis=1), dtype=np.int64)


def absorption(
    codes: csr_array, decoder: Floats, probes: Doubles, attributes: Attributes, split: Split
) -> dict[str, Any]:
    """Over test items that have an attribute:

    silent    share on which the attribute's main latent is not active
    absorbed  share of these on which another latent is active that points the probe's way and makes more than
              MIN_CONTRIBUTION of what all latents add to the probe; None where no main latent is silent
    `codes`: (items, latents); `decoder`: unit rows, (latents, d); `probes`: weights of the dense probes,
    (values, d).
    """
    main = main_latents(codes, attributes, split)
    alignments = unit_rows(probes.astype(np.float32)) @ unit_rows(decoder).T  # (values, latents)
    with_value = silent = absorbed = 0
    for value, latent in enumerate(main):
        items = split.test[attributes.members[split.test, value]]
        rows = np.asarray(codes[items].todense())
        rows = rows[rows[:, latent] == 0]
        with_value += len(items)
        silent += len(rows)
        absorbed += _absorbed(rows, alignments[value], latent)
    return {
        "silent": silent / max(1, with_value),
        "absorbed": absorbed / silent if silent else None,
    }


def _absorbed(rows: Floats, alignment: Floats, main: np.int64) -> int:
    """On how many of the rows, (items, latents), some latent stands in for the main one."""
    if len(rows) == 0 or alignment[main] <= 0:
        return 0
    added = np.maximum(rows * alignment, 0)
    total = added.sum(axis=1, keepdims=True)
    share = np.divide(added, total, out=np.zeros_like(added), where=total > 0)
    stand_in = (share > MIN_CONTRIBUTION) & (alignment > MIN_ALIGNMENT * alignment[main])
    return int(stand_in.any(axis=1).sum())
