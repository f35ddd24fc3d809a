"""The gates a latent has to pass to be published."""

from __future__ import annotations

from saerec_ray.config import IntentsConfig
from saerec_ray.intents.naming import Name

AUC_VERDICT = "its name finds held-out items with AUC"
"""How the verdict of every intent begins that fails at its name alone."""


def reason_against(
    config: IntentsConfig,
    name: Name | None,
    carriers: int,
    density: float,
    nuisance: str | None,
    stability: float | None,
) -> str | None:
    """The first gate that fails, or None.

    `carriers`: items that carry it; `density`: their share; `nuisance`: the evidence that it is one.
    """
    if carriers == 0:
        return "never active"
    right_by_construction = name is not None and name.source == "attribute"
    fewest = config.min_items
    if right_by_construction:
        fewest = min(fewest, config.min_attribute_items)
    if carriers < fewest:
        return f"active on {carriers} items, fewer than {fewest}"
    if nuisance is not None:
        return nuisance
    if density > config.max_density:
        return f"active on {density:.0%} of items, more than {config.max_density:.0%}"
    if stability is not None and stability < config.min_stability:
        return (
            f"other seeds do not find it again: stability {stability:.2f}, below {config.min_stability:.2f}"
        )
    if right_by_construction:
        return None
    if name is None:
        return "no phrase or attribute tells its items from others"
    if name.detection_auc is None:
        return "too few held-out items to judge its name"
    if name.detection_auc < config.min_detection_auc:
        return f"{AUC_VERDICT} {name.detection_auc:.2f}, below {config.min_detection_auc:.2f}"
    return None
