"""Whether the latents of two dictionaries are active on items as often: a shift tells that codes changed in kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Doubles = npt.NDArray[np.float64]

BINS = 40
ALERT = 0.1
"""Divergence above which the shift is told as a warning."""
_DRAWS = 200


@dataclass(frozen=True)
class DensityShift:
    """How far two histograms of densities are apart."""

    divergence: float
    """Jensen-Shannon, in bits: 0 for equal histograms, 1 for histograms without a common bin."""
    by_chance: float
    """What 95% of random splits of the same latents stay below: few latents differ by chance alone."""

    @property
    def alert(self) -> bool:
        """Whether it is more than ALERT and more than chance."""
        return self.divergence > max(ALERT, self.by_chance)

    def as_dict(self) -> dict[str, float | bool]:
        """Plain values."""
        return {"divergence": self.divergence, "by_chance": self.by_chance, "alert": self.alert}

    def sentence(self) -> str:
        """For people."""
        told = f"Jensen-Shannon divergence of the densities of latents {self.divergence:.3f}"
        if not self.alert:
            return f"{told}: latents are active about as often as before."
        return (
            f"{told}, above {ALERT:g}: latents are active on far more or far fewer items than before. Look at "
            "dictionary.active and at the items before you take the new dictionary."
        )


def density_shift(old: csr_array, new: csr_array) -> DensityShift:
    """From codes, (items, latents); neither the items nor the number of latents need be the same.

    The histograms count latents by log10 of the share of items they are active on, in BINS equal bins up to 0,
    and those that are active on none in one more.
    """
    low = math.floor(math.log10(1 / max(old.shape[0], new.shape[0], 2)))
    places = [_bins(codes, low) for codes in (old, new)]
    pooled, first = np.concatenate(places), len(places[0])
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        order = rng.permutation(pooled)
        drawn.append(_divergence(order[:first], order[first:]))
    return DensityShift(_divergence(*places), float(np.percentile(drawn, 95)))


def _bins(codes: csr_array, low: int) -> npt.NDArray[np.int64]:
    """The bin of each latent: 0 for those that are never active."""
    density = np.bincount(codes.indices, minlength=codes.shape[1]) / max(codes.shape[0], 1)
    edges = np.linspace(low, 0, BINS + 1)
    place = np.zeros(len(density), dtype=np.int64)
    active = density > 0
    place[active] = np.clip(np.searchsorted(edges, np.log10(density[active]), side="right"), 1, BINS)
    return place


def _divergence(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> float:
    p, q = (np.bincount(each, minlength=BINS + 1) / max(len(each), 1) for each in (one, other))
    middle = (p + q) / 2
    return max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2)


def _relative_entropy(p: Doubles, q: Doubles) -> float:
    """In bits; q is positive wherever p is."""
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())
