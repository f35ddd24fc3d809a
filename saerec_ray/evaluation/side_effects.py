"""What steering changes beside the intent it is meant for: order of the lists, mix of categories, catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from saerec_ray.scoring import Indices

PERSISTENCE = 0.9
"""Of rank-biased overlap: the chance that a reader goes on to the next place; the top 10 make 86% of it."""
SMOOTHING = 0.01
"""Share of the reference that is mixed into what is compared with it, so that no divergence is infinite."""

Doubles = npt.NDArray[np.float64]


def rank_biased_overlap(one: Indices, other: Indices, persistence: float = PERSISTENCE) -> float:
    """How alike two lists are, their first places counting most: 1 for the same list, 0 for no shared item.

    The extrapolated form of Webber, Moffat and Zobel (2010) at the depth of the shorter list; 1 for empty ones.
    """
    depth = min(len(one), len(other))
    if depth == 0:
        return 1.0
    _, first, second = np.intersect1d(one[:depth], other[:depth], return_indices=True)
    places = np.arange(1, depth + 1)
    agreement = np.cumsum(np.bincount(np.maximum(first, second), minlength=depth)) / places
    weights = persistence**places
    seen = (1 - persistence) / persistence * float((agreement * weights).sum())
    return seen + float(agreement[-1] * weights[-1])


def divergence(reference: Doubles, found: Doubles) -> float:
    """KL(reference || found) in nats, with 1% of the reference mixed into `found` (Steck, 2018); both sum to 1."""
    return float(divergence_terms(reference, found).sum())


def divergence_terms(reference: Doubles, found: Doubles) -> Doubles:
    """The terms whose sum is `divergence`: positive where `found` has less than the reference, else negative."""
    mixed = (1 - SMOOTHING) * found + SMOOTHING * reference
    ratio = np.divide(reference, mixed, out=np.ones_like(reference), where=reference > 0)
    return np.asarray(reference * np.log(ratio))


def category_shares(categories: Sequence[Sequence[str]]) -> csr_array | None:
    """What an item adds to the mix of categories, (items, categories), rows of sum 1 or 0.

    `categories` are those of each item. None with fewer than two of them: then there is no mix.
    """
    names = sorted({name for own in categories for name in own})
    if len(names) < 2:
        return None
    column = {name: place for place, name in enumerate(names)}
    distinct = [sorted(set(own)) for own in categories]
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in distinct])]).astype(np.int64)
    places = np.array([column[name] for own in distinct for name in own], dtype=np.int64)
    values = np.repeat([1 / max(len(own), 1) for own in distinct], np.diff(offsets))
    return csr_array((values, places, offsets), shape=(len(distinct), len(names)))


def rank_correlation(values: Doubles) -> float | None:
    """Spearman's correlation of values with their order; None where all are the same."""
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    return float(spearmanr(np.arange(len(values)), values).statistic)


@dataclass
class SideEffects:
    """Sums over the runs of one intent under one rule; one entry a strength, from 0 up."""

    steps: int
    items: int  # of the catalogue
    categories: csr_array | None  # of category_shares: (items, categories)
    runs: int = 0
    overlaps: Doubles = field(init=False)
    mixes: Doubles = field(init=False)  # (strengths, categories)
    listed: list[set[int]] = field(init=False)

    def __post_init__(self) -> None:
        width = 0 if self.categories is None else self.categories.shape[1]
        self.overlaps, self.mixes = np.zeros(self.steps), np.zeros((self.steps, width))
        self.listed = [set() for _ in range(self.steps)]

    def add(self, lists: Sequence[Indices]) -> None:
        """Adds the lists of one user, the one without steering first."""
        self.runs += 1
        for step, items in enumerate(lists):
            self.overlaps[step] += rank_biased_overlap(lists[0], items)
            self.listed[step].update(items.tolist())
            if self.categories is not None:
                self.mixes[step] += np.asarray(self.categories[items].sum(axis=0)).ravel()

    def summary(self) -> dict[str, list[float] | None]:
        """For each strength, against the lists without steering:

        rank_biased_overlap   mean over users
        category_divergence   KL of the mix of categories of all lists, nats; None without categories
        coverage              share of the catalogue that is in any list
        """
        totals = self.mixes.sum(axis=1, keepdims=True)
        divergences = None
        if self.mixes.shape[1] and (totals > 0).all():
            shares = self.mixes / totals
            divergences = [divergence(shares[0], each) for each in shares]
        return {
            "rank_biased_overlap": (self.overlaps / max(self.runs, 1)).tolist(),
            "category_divergence": divergences,
            "coverage": [len(found) / max(self.items, 1) for found in self.listed],
        }


def mean_effects(effects: Sequence[SideEffects]) -> dict[str, Any]:
    """The mean of the summaries of several intents; None where one has none."""
    found: dict[str, Any] = {}
    for name in effects[0].summary():
        known = [values for each in effects if (values := each.summary()[name]) is not None]
        found[name] = np.mean(known, axis=0).tolist() if len(known) == len(effects) else None
    return found
