"""Yes-or-no verdicts on items that carry an intent and items that do not: how many are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

GOOD_ACCURACY = 0.7


@dataclass(frozen=True)
class Rates:
    """The verdicts on one label."""

    balanced_accuracy: float  # (share of carriers called so + share of the others called so) / 2
    f1: float

    @staticmethod
    def of(on_positives: npt.NDArray[np.bool_], on_negatives: npt.NDArray[np.bool_]) -> Rates:
        """From whether yes was said of each carrier and of each other item; neither is empty."""
        hits, misses, false = on_positives.sum(), (~on_positives).sum(), on_negatives.sum()
        accuracy = (on_positives.mean() + (~on_negatives).mean()) / 2
        return Rates(float(accuracy), float(2 * hits / max(2 * hits + misses + false, 1)))


def summary(found: Sequence[Rates]) -> dict[str, Any]:
    """Over labels: means of both, the median of the first and the share of labels at GOOD_ACCURACY or more."""
    accuracies = np.array([each.balanced_accuracy for each in found])
    return {
        "balanced_accuracy": float(accuracies.mean()),
        "median": float(np.median(accuracies)),
        "f1": float(np.mean([each.f1 for each in found])),
        "good_share": float((accuracies >= GOOD_ACCURACY - 1e-9).mean()),
    }


def balanced_threshold(positives: npt.NDArray[np.float32], negatives: npt.NDArray[np.float32]) -> float:
    """The score from which yes is said, of those that make balanced accuracy largest the highest.

    Scores of carriers and of other items, neither empty.
    """
    candidates = np.unique(np.concatenate([positives, negatives]))
    found = [
        round(float((positives >= limit).mean() - (negatives >= limit).mean()), 12) for limit in candidates
    ]
    return float(candidates[len(found) - 1 - int(np.argmax(found[::-1]))])
