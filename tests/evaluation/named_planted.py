"""A catalogue for planted items: one intent a topic, named after it, and a judge that knows the topics."""

from __future__ import annotations

import re
import zlib

import numpy as np

from saerec_ray.dictionary.sae import Floats, unit_rows
from saerec_ray.intents.catalogue import Catalogue, Intent
from tests.evaluation.planted_dictionary import TOPICS, D, PlantedItems
from tests.intents.named_latents import intent as published_intent


def intent(latent: int, **changes: object) -> Intent:
    """The intent of a topic."""
    return published_intent(f"int-{latent:08x}", latent, **{"label": f"topic{latent}", **changes})


def catalogue(intents: list[Intent] | None = None) -> Catalogue:
    """All topics, published, or the intents given."""
    return Catalogue(intents_version="v", intents=intents or [intent(latent) for latent in range(TOPICS)])


def encoder(planted: PlantedItems):  # type: ignore[no-untyped-def]
    """A text encoder to which `topic3` means direction 3; other texts mean something of their own."""

    def encode(texts: list[str]) -> Floats:
        rows = []
        for text in texts:
            found = re.fullmatch(r"topic(\d+)", text)
            random = np.random.default_rng(zlib.crc32(text.encode())).normal(size=D)
            rows.append(planted.directions[int(found.group(1))] if found else random)
        return unit_rows(np.asarray(rows, dtype=np.float32).reshape(-1, D))

    return encode
