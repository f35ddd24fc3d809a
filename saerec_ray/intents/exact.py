"""Latents that stand for an attribute value or a phrase: named by construction, but not every phrase says something."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.dictionary.attributes import AttributeValue
from saerec_ray.dictionary.followed_phrases import PHRASE
from saerec_ray.intents.catalogue import AttributeMatch
from saerec_ray.intents.detection import Examples, judge
from saerec_ray.intents.naming import Name
from saerec_ray.intents.phrases import Encode

Floats = npt.NDArray[np.float32]

MIN_PHRASE_AUC = 0.9
"""What tells the names of makers, series and materials from empty words, in catalogues of shops; looser than it
seems, because a text that has a phrase is near to it in any case."""
_POSITIVES, _NEGATIVES = 200, 2000
_MEASURES = frozenset(
    ("fl", "fluid", "g", "gram", "grams", "lb", "lbs", "mg", "ml", "ounce", "ounces", "oz", "pound", "pounds")
)
_MEASURE_FOLLOWS = rf"(?:\.\d+)?[\s-]*(?:{'|'.join(sorted(_MEASURES))})\b"


def exact_names(exact: Mapping[int, AttributeValue], codes: csr_array, encode: Encode) -> dict[int, Name]:
    """The name of each latent that stands for a value, by latent. `codes`: (items, latents)."""
    if not exact:
        return {}
    vectors = encode([value.value for value in exact.values()])
    carriers = np.bincount(codes.indices, minlength=codes.shape[1])
    names = {}
    for (latent, (attribute, value)), vector in zip(exact.items(), vectors, strict=True):
        lift = codes.shape[0] / max(int(carriers[latent]), 1)
        match = AttributeMatch(attribute=attribute, value=value, lift=lift, f1=1, auc=1, q_value=0)
        names[latent] = Name(value, [], match, vector, None, source="attribute")
    return names


def accidental_phrases(
    exact: Mapping[int, AttributeValue],
    names: Mapping[int, Name],
    codes: csr_array,
    embeddings: Floats,
    texts: Sequence[str],
    seed: int,
) -> dict[int, str]:
    """Why a phrase is an accident of the texts, by latent; a phrase that says something is left out.

    `codes`: (items, latents); `embeddings`: unit rows, (items, d). A phrase must find the items that have it by its
    meaning, among items drawn at random: "best" and "guaranteed" do not. Nor are amounts, such as "8 fl oz", shown.
    """
    generator = np.random.default_rng(seed)
    others = generator.permutation(len(embeddings))[:_NEGATIVES]
    columns = codes.tocsc()
    found = {}
    for latent in (latent for latent, value in exact.items() if value.attribute == PHRASE):
        carriers = columns.indices[columns.indptr[latent] : columns.indptr[latent + 1]]
        positives = generator.permutation(carriers)[:_POSITIVES]
        negatives = np.setdiff1d(others, carriers)
        name = names[latent]
        if _is_amount(name.label, [texts[item] for item in positives]):
            found[latent] = "nuisance: an amount, and nothing that an item is"
        elif len(positives) and len(negatives):
            auc = judge(name.vector, Examples(positives, negatives), embeddings)
            if auc < MIN_PHRASE_AUC:
                found[latent] = (
                    f"nuisance: by its meaning the phrase finds its items with AUC {auc:.2f}, below {MIN_PHRASE_AUC}"
                )
    return found


def _is_amount(phrase: str, texts: Sequence[str]) -> bool:
    """Whether a phrase with a number holds a measure, or is followed by one in most of the texts that have it."""
    words = re.findall(r"\w+", phrase.lower())
    if not any(word.isdigit() for word in words):
        return False
    if _MEASURES & set(words):
        return True
    cut_off = re.compile(r"\W+".join(map(re.escape, words)) + _MEASURE_FOLLOWS, re.IGNORECASE)
    return sum(cut_off.search(text) is not None for text in texts) > len(texts) / 2
