"""A group of intents that together stand for a concept, found from words or from example items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.intents.catalogue import Intent

Floats = npt.NDArray[np.float32]

MIN_SIMILARITY = 0.35
"""Cosine between a text and the name of an intent, below which the intent is no part of the concept."""
MIN_WEIGHT_SHARE = 0.2
"""Members weaker than this share of the strongest add noise, not concept."""


@dataclass(frozen=True)
class Member:
    """One intent of a group."""

    intent: Intent
    weight: float
    """Relative to the strongest member, in (0, 1]; used as the strength of its adjustment."""


def label_precision(intent: Intent) -> float:
    """How far the name can be trusted, in [0, 1]: 2 AUC - 1 on held-out items; 0 when nothing is known of it.

    The name of an attribute value is right by construction, and one that could not be judged, but that a person
    gave, is trusted.
    """
    confidence = intent.label_confidence
    if confidence is None:
        return 1.0 if intent.label_source == "human" else 0.0
    return max(0.0, 2 * confidence - 1)


def group_from_text(
    intents: Sequence[Intent], label_vectors: Floats, text_vector: Floats, size: int
) -> list[Member]:
    """The steerable intents closest in meaning to a text, at most `size`, strongest first.

    `label_vectors`: unit rows (intents, d); `text_vector`: unit, (d,). The weight is the cosine times the
    precision of the label. Empty when no intent is close: then the dictionary does not know the concept.
    """
    cosines = label_vectors @ text_vector
    weights = [
        float(cosine) * label_precision(intent) if cosine >= MIN_SIMILARITY else 0.0
        for intent, cosine in zip(intents, cosines, strict=True)
    ]
    return _strongest(intents, weights, size)


def group_from_items(
    intents: Sequence[Intent], codes: csr_array, examples: Sequence[int], size: int
) -> list[Member]:
    """The steerable intents that example items share, at most `size`, strongest first.

    `codes`: (items, intents). The weight is what the examples carry beyond the catalogue's average, in
    standard deviations of the catalogue, times the share of the examples that carry it at all: one odd
    example does not speak for the concept. Empty when the examples have no steerable intent.
    """
    chosen = codes[list(examples)]
    mean = np.asarray(codes.mean(axis=0)).ravel()
    deviation = np.sqrt(np.maximum(np.asarray(codes.power(2).mean(axis=0)).ravel() - mean**2, 0))
    excess = np.maximum(np.asarray(chosen.mean(axis=0)).ravel() - mean, 0)
    carried = np.bincount(chosen.indices, minlength=codes.shape[1]) / len(examples)
    standard = np.divide(excess, deviation, out=np.zeros_like(excess), where=deviation > 0)
    return _strongest(intents, (standard * carried).tolist(), size)


def _strongest(intents: Sequence[Intent], weights: Sequence[float], size: int) -> list[Member]:
    steerable = [
        (weight, intent)
        for intent, weight in zip(intents, weights, strict=True)
        if intent.published and intent.steerable and weight > 0
    ]
    steerable.sort(key=lambda pair: (-pair[0], pair[1].intent_id))
    return [
        Member(intent, weight / steerable[0][0])
        for weight, intent in steerable[:size]
        if weight >= MIN_WEIGHT_SHARE * steerable[0][0]
    ]
