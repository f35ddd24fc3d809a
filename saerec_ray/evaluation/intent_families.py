"""The published intents as a forest: which belongs below which, and what a reader needs to know of each."""

from __future__ import annotations

from typing import Any

from saerec_ray.intents.catalogue import Catalogue, Intent


def intent_forest(catalogue: Catalogue) -> list[dict[str, Any]]:
    """One tree a published intent without a published parent, larger intents first, as plain values.

    A node has `label`, `items`, `auc` (None where nobody could judge) and `children`.
    """
    published = {intent.intent_id: intent for intent in catalogue.intents if intent.published}
    children: dict[str | None, list[Intent]] = {}
    for intent in published.values():
        parent = intent.parent_id if intent.parent_id in published else None
        children.setdefault(parent, []).append(intent)

    def below(parent: str | None) -> list[dict[str, Any]]:
        ordered = sorted(children.get(parent, []), key=lambda each: (-each.item_count, each.latent))
        return [
            {
                "label": each.label,
                "items": each.item_count,
                "auc": each.detection_auc,
                "children": below(each.intent_id),
            }
            for each in ordered
        ]

    return below(None)
