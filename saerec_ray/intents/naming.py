"""The name of a latent: candidates from its phrases and attribute, chosen in one half, judged in the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.intents.attributes import MIN_F1
from saerec_ray.intents.catalogue import AttributeMatch
from saerec_ray.intents.detection import Examples, judge
from saerec_ray.intents.phrases import order_phrases

Floats = npt.NDArray[np.float32]

_LABEL_CANDIDATES = 4
_MIN_LABEL_F1 = 0.3
"""A value that coincides less is told in the description, but is no name."""
_ATTRIBUTE_ADVANTAGE = 0.05


@dataclass(frozen=True)
class Name:
    """The chosen name of a latent and how well it does."""

    label: str
    terms: list[str]
    attribute: AttributeMatch | None
    vector: Floats  # of the label, (d,)
    detection_auc: float | None
    shuffled_auc: float | None = None
    source: Literal["terms", "model", "attribute"] = "terms"


def directions_of_carriers(codes: csr_array, embeddings: Floats, mean: Floats) -> Floats:
    """Where the texts of each latent's items lie, for latents that are no directions of texts: (latents, d).

    Unit rows: the mean embedding of the items that carry the latent, weighted by activation, seen from `mean`;
    a row of zeros where no item does. `codes`: (items, latents); `embeddings`: unit rows, (items, d).
    """
    mass = np.asarray(codes.sum(axis=0)).ravel()
    carried = mass > 0
    directions = np.zeros((codes.shape[1], embeddings.shape[1]), dtype=np.float32)
    directions[carried] = (codes.T @ embeddings)[carried] / mass[carried, None] - mean
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    np.divide(directions, lengths, out=directions, where=lengths > 0)
    return directions


def choose_names(
    max_terms: int,
    embeddings: Floats,
    decoder: Floats,
    mean: Floats,
    examples: tuple[list[Examples], list[Examples]],
    shortlists: list[list[str]],
    attributes: list[AttributeMatch | None],
    vectors: dict[str, Floats],
) -> list[Name | None]:
    """For every latent the candidate that finds its items best in the naming half, judged in the other.

    `examples` of all latents in the naming and in the judging half; `vectors`: the embedding of every phrase and
    attribute value.
    """
    names: list[Name | None] = []
    for latent, (phrases, attribute) in enumerate(zip(shortlists, attributes, strict=True)):
        ordered = []
        if phrases:
            stacked = np.stack([vectors[phrase] for phrase in phrases])
            ordered = [phrases[p] for p in order_phrases(stacked, decoder[latent], mean, max_terms)]
        candidates = ordered[:_LABEL_CANDIDATES]
        if attribute and attribute.f1 >= _MIN_LABEL_F1:
            candidates.append(attribute.value)
        naming, judging = examples[0][latent], examples[1][latent]
        names.append(_best_name(candidates, ordered, attribute, vectors, naming, judging, embeddings))
    return names


def _best_name(
    candidates: list[str],
    terms: list[str],
    attribute: AttributeMatch | None,
    vectors: dict[str, Floats],
    naming: Examples,
    judging: Examples,
    embeddings: Floats,
) -> Name | None:
    if not candidates:
        return None
    scores = [judge(vectors[text], naming, embeddings) if naming.judgeable else 0.5 for text in candidates]
    if attribute and attribute.f1 >= MIN_F1:
        scores[-1] += _ATTRIBUTE_ADVANTAGE  # the attribute is known to be right; a phrase only sounds right
    label = candidates[int(np.argmax(scores))]
    auc = judge(vectors[label], judging, embeddings) if judging.judgeable else None
    return Name(label, terms, attribute, vectors[label], auc)


def with_control(
    names: list[Name | None], judging: list[Examples], embeddings: Floats, seed: int
) -> list[Name | None]:
    """Adds the control: the AUC of another latent's label on this latent's items."""
    judged = [latent for latent, name in enumerate(names) if name and name.detection_auc is not None]
    order = np.random.default_rng(seed).permutation(judged)
    result = list(names)
    for latent, other in zip(order, np.roll(order, 1), strict=True):
        name, stranger = names[latent], names[other]
        if name and stranger and latent != other:
            result[latent] = replace(name, shuffled_auc=judge(stranger.vector, judging[latent], embeddings))
    return result
