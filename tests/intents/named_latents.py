"""Small dictionaries with catalogues, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from saerec_ray.intents.catalogue import Catalogue, DeprecatedIntent, Intent, stable_ids
from saerec_ray.intents.identity import NamedLatents


def intent(intent_id: str, latent: int, **values: object) -> Intent:
    """A published, steerable intent, with some fields changed."""
    return Intent.model_validate(
        {
            "intent_id": intent_id,
            "latent": latent,
            "label": f"label of {intent_id}",
            "description": "Items.",
            "terms": [],
            "attribute": None,
            "label_source": "terms",
            "detection_auc": 0.9,
            "state": "active",
            "verdict": "published",
            "steerable": True,
            "item_count": 10,
            "item_density": 0.1,
            "user_density": 0.1,
            "top_items": [],
            **values,
        }
    )


def named(
    decoder: np.ndarray,
    codes: np.ndarray,
    intents: Sequence[Intent] | None = None,
    deprecated: Sequence[DeprecatedIntent] = (),
    first_item: int = 0,
    version: str = "v1",
) -> NamedLatents:
    """A dictionary whose items are numbered from `first_item` on; ids come from the directions."""
    unit = (decoder / np.linalg.norm(decoder, axis=1, keepdims=True)).astype(np.float32)
    if intents is None:
        intents = [intent(each, latent) for latent, each in enumerate(stable_ids(unit))]
    return NamedLatents(
        catalogue=Catalogue(intents_version=version, intents=list(intents), deprecated=list(deprecated)),
        decoder=unit,
        codes=csr_array(codes.astype(np.float32)),
        items=[f"item {number}" for number in range(first_item, first_item + len(codes))],
    )


def sparse_codes(rng: np.random.Generator, items: int, latents: int, density: float = 0.15) -> np.ndarray:
    """Random non-negative codes, (items, latents)."""
    return (rng.random((items, latents)) < density) * rng.gamma(2.0, 0.5, size=(items, latents))
