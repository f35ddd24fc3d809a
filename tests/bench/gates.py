"""The quality gates of a dictionary and its catalogue: figures, what is wanted of them, and whether they pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_DEAD = 0.02
MOST_L0_DEVIATION = 0.1
LEAST_AUC = 0.70
LEAST_ABOVE_SHUFFLED = 0.15
LEAST_COVERED = 0.70
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Gate:
    """One requirement. A figure that could not be measured does not pass."""

    name: str
    figure: float | None
    wanted: str
    passed: bool


def quality_gates(dictionary: Mapping[str, Any], active: int, detection: Mapping[str, Any]) -> list[Gate]:
    """All gates.

    `dictionary`: metrics of the dictionary stage; `active`: latents an item should have on average;
    `detection`: what label_detection found, of published labels on held-out items.
    """
    fvu, bound = float(dictionary["fvu"]), float(dictionary["fvu_pca_same_nonzeros"])
    dead, l0 = float(dictionary["dead_share"]), float(dictionary["l0"])
    covered = float(detection["coverage"])
    own, shuffled = detection.get("own"), detection.get("shuffled")
    auc = float(own["mean"]) if own else None
    above = float(own["mean"] - shuffled["mean"]) if own and shuffled else None
    return [
        Gate("dead latents", dead, f"<= {MOST_DEAD:g}", dead <= MOST_DEAD),
        Gate("FVU", fvu, f"< {bound:.3f} (PCA)", fvu < bound),
        Gate(
            "L0",
            l0,
            f"{active} +- {MOST_L0_DEVIATION * active:.2g}",
            abs(l0 - active) <= MOST_L0_DEVIATION * active + _ROUNDING,
        ),
        Gate("detection AUC", auc, f">= {LEAST_AUC:.2f}", auc is not None and auc >= LEAST_AUC),
        Gate(
            "above shuffled",
            above,
            f">= {LEAST_ABOVE_SHUFFLED:.2f}",
            above is not None and above >= LEAST_ABOVE_SHUFFLED,
        ),
        Gate("activation covered", covered, f">= {LEAST_COVERED:.2f}", covered >= LEAST_COVERED),
    ]
