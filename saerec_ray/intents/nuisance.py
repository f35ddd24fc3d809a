"""Latents that follow the form of texts, such as their length or language, and not what the items are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array
from scipy.stats import rankdata
from sklearn.feature_extraction.text import TfidfVectorizer

from saerec_ray.intents.attributes import AttributeValues, auc_from_ranks
from saerec_ray.intents.catalogue import Intent
from saerec_ray.intents.listing import listed
from saerec_ray.intents.text_properties import MARKUP, TextProperties, measure_texts
from saerec_ray.text.phrases import TOKEN

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

MIN_ACTIVE = 10
"""Items with the latent in either half, below which an AUC says little."""
MOST_ERROR = 0.5
"""The property must leave less than this share of the error (1 - AUC) that label and attributes leave."""
MOST_LIKENESS = 2.0
"""Items with the latent that have more than this times the usual words in common have a subject."""


@dataclass(frozen=True)
class Probe:
    """A property of texts that predicts where a latent is active, with what else does."""

    latent: int
    name: str
    more: bool  # active where there is more of it
    auc: float  # held out, as are the others
    label_auc: float
    attribute_auc: float
    likeness: float  # words that two of its items have in common, relative to any two items

    def __str__(self) -> str:
        direction = "" if self.more else "little "
        return (
            f"nuisance: {direction}{self.name} tells its held-out items with AUC {self.auc:.2f}, "
            f"its name with {self.label_auc:.2f}, attributes with {self.attribute_auc:.2f}"
        )


def find_nuisance(
    texts: Sequence[str],
    codes: csr_array,
    embeddings: Floats,
    halves: tuple[Indices, Indices],
    label_vectors: Sequence[Floats | None],
    attributes: AttributeValues,
    min_auc: float,
) -> list[Probe]:
    """The latents whose activation a plain property of the texts predicts.

    `codes`: (items, latents); `embeddings`: unit rows, (items, d); `label_vectors`: of the label of every latent,
    (d,), None without one. Properties are chosen in the first half of the items, and judged in the second: the AUC
    for items with against items without the latent must be at least `min_auc` in both, and must leave
    less than half the error of the label and of the best attribute value. Last, the items with the latent must not
    share a subject: two of them may not have much more words in common than any two items.
    """
    properties = measure_texts(texts)
    if not properties.names:
        return []
    first, second = (csr_array(codes[half]) for half in halves)
    chosen_aucs, judged_aucs = (
        _aucs(properties.values[half], part) for half, part in zip(halves, (first, second), strict=True)
    )
    strength = np.abs(chosen_aucs - 0.5)
    enough = np.minimum(_counts(first), _counts(second)) >= MIN_ACTIVE
    value_aucs = _best_value_aucs(attributes, halves, (first, second))
    likeness = _Likeness(texts)
    found = []
    for latent in np.flatnonzero(enough & (strength.max(axis=0) >= min_auc - 0.5)).tolist():
        label_auc = _label_auc(label_vectors[latent], embeddings[halves[1]], second, latent)
        needed = 1 - MOST_ERROR * (1 - max(label_auc, value_aucs[latent]))
        for place in np.argsort(-strength[:, latent], kind="stable").tolist():
            if strength[place, latent] < min_auc - 0.5:
                break
            more = bool(chosen_aucs[place, latent] > 0.5)
            auc = float(judged_aucs[place, latent]) if more else 1 - float(judged_aucs[place, latent])
            if auc < min_auc or auc <= needed:
                continue
            alike = likeness.of(latent, codes, properties, place)
            if alike <= MOST_LIKENESS:
                name = properties.names[place]
                found.append(Probe(latent, name, more, auc, label_auc, value_aucs[latent], alike))
                break
    return found


def nuisance_sentence(intents: Sequence[Intent]) -> list[str]:
    """For people: what is hidden as nuisance, in one sentence; none where nothing is."""
    hidden = [intent for intent in intents if intent.kind == "nuisance" and intent.state == "unpublished"]
    if not hidden:
        return []
    named = listed([f"{intent.intent_id} ({intent.label})" for intent in hidden])
    return [f"Kept out of profiles as nuisance: {named}. To show one: saerec intents edit ID --kind intent."]


def _counts(codes: csr_array) -> npt.NDArray[np.int64]:
    return np.bincount(codes.indices, minlength=codes.shape[1])


def _active(codes: csr_array) -> csr_array:
    return csr_array((np.ones(len(codes.data)), codes.indices, codes.indptr), shape=codes.shape)


def _aucs(values: Scores, codes: csr_array) -> Scores:
    """AUC of every property for active against inactive items of every latent: (properties, latents)."""
    items, counts = codes.shape[0], _counts(codes).astype(np.float64)
    ranks = rankdata(values, axis=0)  # (items, properties)
    sums = np.asarray(ranks.T @ _active(codes))
    pairs = counts * (items - counts)
    above = sums - counts * (counts + 1) / 2
    return np.asarray(np.divide(above, pairs, out=np.full_like(above, 0.5), where=pairs > 0))


def _best_value_aucs(
    attributes: AttributeValues, halves: tuple[Indices, Indices], parts: tuple[csr_array, csr_array]
) -> list[float]:
    """The AUC in the second half of the attribute value that does best in the first, for every latent."""
    latents = parts[0].shape[1]
    if not attributes.names:
        return [0.5] * latents
    members = csr_array(attributes.members)
    tables = []
    for half, part in zip(halves, parts, strict=True):
        chosen = csr_array(members[half])
        both = np.asarray((chosen.T @ _active(part)).todense(), dtype=np.float64)  # (values, latents)
        counts = _counts(part)
        having = np.asarray(chosen.sum(axis=0), dtype=np.float64).ravel()[:, None]
        inside = both / np.maximum(counts, 1)
        outside = (having - both) / np.maximum(len(half) - counts, 1)
        tables.append(0.5 * (1 + inside - outside))
    best = tables[0].argmax(axis=0)
    return [float(tables[1][value, latent]) for latent, value in enumerate(best)]


def _label_auc(vector: Floats | None, embeddings: Floats, codes: csr_array, latent: int) -> float:
    """AUC of the closeness to the label for active against inactive items; 0.5 without a label."""
    if vector is None:
        return 0.5
    active = np.flatnonzero(codes[:, [latent]].toarray().ravel())
    return auc_from_ranks(rankdata(embeddings @ vector), active)


class _Likeness:
    """How much items share words, by the cosine of their tf-idf vectors."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._vectors: csr_array | None = None
        self._columns: dict[str, int] = {}

    def of(self, latent: int, codes: csr_array, properties: TextProperties, place: int) -> float:
        """The mean cosine of two items with the latent over that of any two items.

        Texts in one language share words whatever they are about, so those are compared with all in that language.
        The words of a repeated phrase do not count where the phrase is the property.
        """
        if self._vectors is None:  # only few catalogues need it
            words = TfidfVectorizer(
                analyzer=lambda text: TOKEN.findall(MARKUP.sub(" ", text).lower()), min_df=2
            )
            try:
                self._vectors = csr_array(words.fit_transform(self._texts))
                self._columns = words.vocabulary_
            except ValueError:  # no two texts share a word
                self._vectors = csr_array((len(self._texts), 0))
        vectors, others = self._vectors, np.arange(len(self._texts))
        if place in properties.languages:
            others = np.flatnonzero(properties.values[:, place])
        left_out = [
            self._columns[word] for word in properties.templates.get(place, ()) if word in self._columns
        ]
        if left_out:
            kept = np.ones(vectors.shape[1])
            kept[left_out] = 0
            vectors = csr_array(vectors @ diags_array(kept))
        usual = _mean_cosine(vectors, others)
        active = np.flatnonzero(codes[:, [latent]].toarray().ravel())
        return _mean_cosine(vectors, active) / usual if usual > 0 else np.inf


def _mean_cosine(vectors: csr_array, items: Indices) -> float:
    """Mean over all pairs of different items."""
    rows = csr_array(vectors[items])
    lengths = np.sqrt(np.asarray(rows.power(2).sum(axis=1)).ravel())
    unit = diags_array(1 / np.maximum(lengths, 1e-12)) @ rows
    count = int((lengths > 0).sum())
    if count < 2:
        return 0.0
    total = np.asarray(unit.sum(axis=0)).ravel()
    return float((total @ total - count) / (count * (count - 1)))
