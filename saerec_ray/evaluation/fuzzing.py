"""Whether a name says what in a text sets its latent off: the sentence that matters most against a random span."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import rankdata

from saerec_ray.dictionary.sae import Dictionary
from saerec_ray.intents.attributes import auc_from_ranks
from saerec_ray.intents.catalogue import Catalogue, Intent
from saerec_ray.intents.detection import draw_examples, split_halves

Floats = npt.NDArray[np.float32]
Encode = Callable[[list[str]], Floats]

ITEMS_AN_INTENT = 10
"""Carriers looked at for each intent at most, and as many others; a multiple of 10."""
MOST_SENTENCES = 12
"""Texts with more are left out, because each sentence costs an embedding."""
_OTHER_EXAMPLES = 4
"""Added to the seed: naming and the judges took those before."""
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text, none empty."""
    return [part.strip() for part in _SENTENCES.split(text) if part.strip()]


@dataclass(frozen=True)
class _Case:
    """A carrier with its sentences, and what it is compared with."""

    intent: int  # place among the intents
    parts: list[str]
    other: str  # text of an item that does not carry the intent


def fuzzing(
    catalogue: Catalogue,
    dictionary: Dictionary,
    codes: csr_array,
    vectors: Floats,
    texts: Sequence[str],
    encode: Encode,
    intents: int,
    seed: int,
) -> dict[str, Any]:
    """How close published labels are to the sentence that sets their latent off.

    The sentence s of a text is the one without which the activation of the latent falls most: z_f(text) -
    z_f(text without s), both before thresholds, so that a latent that falls silent still shows how far. At
    most `intents` intents, drawn by the seed, with ITEMS_AN_INTENT carriers each, of the half that labels were
    not made from (`seed` is that of the intents stage). `encode` turns texts into unit vectors.

    auc          of cos(label, span): the sentences against spans as long of items without the latent
    auc_random   the same with a random span as long of the same carrier: what any part of the text says
    closer_share sentences that are closer to the label than the random span of their text, ties half
    Carriers with one sentence or more than MOST_SENTENCES are left out and counted.
    """
    rng = np.random.default_rng(seed)
    published = [each for each in catalogue.intents if each.published and each.latent < dictionary.width]
    order = rng.permutation(len(published))[:intents]
    drawn = [published[place] for place in np.sort(order)]
    _, judging = split_halves(len(vectors), seed)
    examples = draw_examples(
        codes, vectors, judging, seed + _OTHER_EXAMPLES, ITEMS_AN_INTENT, ITEMS_AN_INTENT
    )
    cases: list[_Case] = []
    found: dict[str, Any] = {
        "published": len(published),
        "intents": 0,
        "carriers": 0,
        "one_sentence": 0,
        "long": 0,
    }
    for place, intent in enumerate(drawn):
        shown = examples[intent.latent]
        for item, other in zip(shown.positives, shown.negatives, strict=False):
            parts = sentences(texts[item])
            if len(parts) < 2:
                found["one_sentence"] += 1
            elif len(parts) > MOST_SENTENCES:
                found["long"] += 1
            else:
                cases.append(_Case(place, parts, texts[other]))
    if not cases:
        return found
    marked = _marked(cases, drawn, dictionary, encode)
    spans = [
        (span, _random_span(" ".join(case.parts), span, rng), _random_span(case.other, span, rng))
        for case, span in zip(cases, marked, strict=True)
    ]
    own, random, others = (encode([each[which] for each in spans]) for which in range(3))
    labels = encode([intent.label for intent in drawn])[[case.intent for case in cases]]
    closeness = [np.asarray((part * labels).sum(axis=1)) for part in (own, random, others)]
    of_intent = np.array([case.intent for case in cases])
    measured = [_of_one(*(each[of_intent == place] for each in closeness)) for place in np.unique(of_intent)]
    auc, auc_random, closer = np.mean(measured, axis=0)
    return found | {
        "intents": len(measured),
        "carriers": len(cases),
        "auc": float(auc),
        "auc_random": float(auc_random),
        "closer_share": float(closer),
    }


def _marked(cases: list[_Case], drawn: list[Intent], dictionary: Dictionary, encode: Encode) -> list[str]:
    """The sentence of each case that matters most; of equal ones the first."""
    shortened = [
        [" ".join(case.parts[:place] + case.parts[place + 1 :]) for place in range(len(case.parts))]
        for case in cases
    ]
    vectors = encode([text for texts in shortened for text in texts])
    scaled = dictionary.scaling.apply(vectors)
    marked, start = [], 0
    for case, texts in zip(cases, shortened, strict=True):
        latent = drawn[case.intent].latent
        left = scaled[start : start + len(texts)] @ dictionary.encoder[latent]
        # The activation on the whole text is the same for all its sentences: the least left is the largest fall.
        marked.append(case.parts[int(np.argmin(left))])
        start += len(texts)
    return marked


def _random_span(text: str, span: str, rng: np.random.Generator) -> str:
    """As many words in a row as the span has, where the text has so many; away from the span as far as it can be."""
    words, wanted = text.split(), len(span.split())
    starts = np.arange(max(1, len(words) - wanted + 1))
    taken = _start_of(words, span.split())
    if taken is not None:
        overlap = np.maximum(0, wanted - np.abs(starts - taken))
        starts = starts[overlap == overlap.min()]
    start = int(rng.choice(starts))
    return " ".join(words[start : start + wanted])


def _start_of(words: list[str], span: list[str]) -> int | None:
    """Where a run of words begins; None where it is not there."""
    places = range(len(words) - len(span) + 1)
    return next((place for place in places if words[place : place + len(span)] == span), None)


def _of_one(own: Floats, random: Floats, others: Floats) -> tuple[float, float, float]:
    """AUC of sentences and of random spans against spans of other items, and the share of sentences that are closer."""
    aucs = [
        auc_from_ranks(rankdata(np.concatenate([part, others])), np.arange(len(part)))
        for part in (own, random)
    ]
    return aucs[0], aucs[1], float((np.sign(own - random) + 1).mean(dtype=np.float64) / 2)
