"""Every latent gets a name, evidence and a verdict; those that pass the gates are published."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import PreparedItems
from saerec_ray.intents.attributes import MIN_F1, AttributeValues, match_attributes
from saerec_ray.intents.catalogue import AttributeMatch, Catalogue, Intent, TopItem, stable_ids
from saerec_ray.intents.detection import Examples, draw_examples, judge, split_halves
from saerec_ray.intents.phrases import (
    Encode,
    count_phrases,
    order_phrases,
    shortlist_phrases,
    surface_forms,
)
from saerec_ray.intents.population import Population

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_LABEL_CANDIDATES = 4
_MIN_LABEL_F1 = 0.3
"""A value that coincides less is told in the description, but is no name."""
_ATTRIBUTE_ADVANTAGE = 0.05
_MOST_NEGATIVES = 200


@dataclass(frozen=True)
class _Name:
    """The chosen name of a latent and how well it does."""

    label: str
    terms: list[str]
    attribute: AttributeMatch | None
    vector: Floats  # of the label, (d,)
    detection_auc: float | None
    shuffled_auc: float | None


def build_catalogue(
    config: IntentsConfig,
    items: PreparedItems,
    codes: csr_array,
    embeddings: Floats,
    decoder: Floats,
    mean: Floats,
    population: Population,
    encode: Encode,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Catalogue, Floats, dict[str, Any]]:
    """Names all latents without a language model that writes.

    `codes`: (items, latents); `embeddings`: unit rows, (items, d); `decoder`: unit rows, (latents, d); `mean`:
    the centre of the embeddings, (d,); `encode` turns texts into unit vectors of the same model.
    Names come from one half of the items; the AUC they are judged by comes from the other half.
    Returns the catalogue, label vectors for text search (latents, d), and summary figures.
    """
    report = on_progress or _no_report
    naming, judging = split_halves(len(items), seed)
    values = AttributeValues.collect(items.attributes)
    attributes = match_attributes(values, codes, naming, config.false_discovery_rate)
    report(1, 5)
    shortlists = _shortlists(config, items, codes, embeddings, naming, seed)
    report(2, 5)
    vectors = _encode_all(encode, shortlists, attributes)
    report(3, 5)
    names = _choose_names(
        config, codes, embeddings, decoder, mean, (naming, judging), shortlists, attributes, vectors, seed
    )
    report(4, 5)
    intents = _intents(config, items, codes, decoder, population, names)
    label_vectors = _search_vectors(intents, encode, embeddings.shape[1])
    digest = hashlib.sha256(decoder.tobytes() + "\n".join(intent.label for intent in intents).encode())
    catalogue = Catalogue(intents_version=digest.hexdigest()[:12], intents=intents)
    report(5, 5)
    return catalogue, label_vectors, _summary(catalogue, codes, names)


def _no_report(_done: int, _total: int) -> None:
    return None


def _shortlists(
    config: IntentsConfig,
    items: PreparedItems,
    codes: csr_array,
    embeddings: Floats,
    naming: Indices,
    seed: int,
) -> list[list[str]]:
    """Candidate phrases of every latent, in their usual spelling."""
    texts = [items.texts[item] for item in naming]
    counts = count_phrases(texts, config.max_phrases)
    positives, negatives = _contrast(codes[naming], embeddings[naming], seed)
    chosen = shortlist_phrases(counts, positives, negatives)
    spelled = surface_forms([counts.phrases[p] for p in sorted({p for row in chosen for p in row})], texts)
    return [[spelled[counts.phrases[phrase]] for phrase in row] for row in chosen]


def _contrast(codes: csr_array, vectors: Floats, seed: int) -> tuple[csr_array, csr_array]:
    """Positive and negative item weights of every latent, both (latents, items).

    Positives weigh by activation and sum to their number. Negatives are inactive items, half of them the
    nearest to the positives, so that phrases tell the intent from its neighbours and not just from the rest.
    """
    columns = codes.tocsc()
    items = len(vectors)
    positives, negatives = [], []
    for latent in range(codes.shape[1]):
        start, end = columns.indptr[latent], columns.indptr[latent + 1]
        active, loadings = columns.indices[start:end], columns.data[start:end]
        positive, negative = np.zeros(items, np.float32), np.zeros(items, np.float32)
        if len(active):
            positive[active] = loadings * (len(active) / loadings.sum())
            closeness = vectors @ (loadings @ vectors[active] / loadings.sum())
            closeness[active] = -np.inf
            count = min(2 * len(active), _MOST_NEGATIVES, items - len(active))
            negative[np.argpartition(-closeness, max(count - 1, 0))[:count]] = 1
            inactive = np.flatnonzero((positive == 0) & (negative == 0))
            random = np.random.default_rng([seed, latent])
            negative[random.choice(inactive, min(count, len(inactive)), replace=False)] = 1
        positives.append(csr_array(positive[None]))
        negatives.append(csr_array(negative[None]))
    return csr_array(vstack(positives)), csr_array(vstack(negatives))


def _encode_all(
    encode: Encode, shortlists: list[list[str]], attributes: list[AttributeMatch | None]
) -> dict[str, Floats]:
    """Embeddings of every candidate label, each encoded once."""
    texts = {phrase for row in shortlists for phrase in row} | {match.value for match in attributes if match}
    ordered = sorted(texts, key=lambda text: (len(text), text))
    return dict(zip(ordered, encode(ordered), strict=True)) if ordered else {}


def _choose_names(
    config: IntentsConfig,
    codes: csr_array,
    embeddings: Floats,
    decoder: Floats,
    mean: Floats,
    halves: tuple[Indices, Indices],
    shortlists: list[list[str]],
    attributes: list[AttributeMatch | None],
    vectors: dict[str, Floats],
    seed: int,
) -> list[_Name | None]:
    """For every latent the candidate that finds its items best in the naming half, judged in the other."""
    naming = draw_examples(codes, embeddings, halves[0], seed)
    judging = draw_examples(codes, embeddings, halves[1], seed + 1)
    names: list[_Name | None] = []
    for latent, (phrases, attribute) in enumerate(zip(shortlists, attributes, strict=True)):
        ordered = []
        if phrases:
            stacked = np.stack([vectors[phrase] for phrase in phrases])
            ordered = [phrases[p] for p in order_phrases(stacked, decoder[latent], mean, config.max_terms)]
        candidates = ordered[:_LABEL_CANDIDATES]
        if attribute and attribute.f1 >= _MIN_LABEL_F1:
            candidates.append(attribute.value)
        names.append(
            _best_name(candidates, ordered, attribute, vectors, naming[latent], judging[latent], embeddings)
        )
    return _with_control(names, judging, embeddings, seed)


def _best_name(
    candidates: list[str],
    terms: list[str],
    attribute: AttributeMatch | None,
    vectors: dict[str, Floats],
    naming: Examples,
    judging: Examples,
    embeddings: Floats,
) -> _Name | None:
    if not candidates:
        return None
    scores = [judge(vectors[text], naming, embeddings) if naming.judgeable else 0.5 for text in candidates]
    if attribute and attribute.f1 >= MIN_F1:
        scores[-1] += _ATTRIBUTE_ADVANTAGE  # the attribute is known to be right; a phrase only sounds right
    label = candidates[int(np.argmax(scores))]
    auc = judge(vectors[label], judging, embeddings) if judging.judgeable else None
    return _Name(label, terms, attribute, vectors[label], auc, None)


def _with_control(
    names: list[_Name | None], judging: list[Examples], embeddings: Floats, seed: int
) -> list[_Name | None]:
    """Adds the control: the AUC of another latent's label on this latent's items."""
    judged = [latent for latent, name in enumerate(names) if name and name.detection_auc is not None]
    order = np.random.default_rng(seed).permutation(judged)
    result = list(names)
    for latent, other in zip(order, np.roll(order, 1), strict=True):
        name, stranger = names[latent], names[other]
        if name and stranger and latent != other:
            result[latent] = replace(name, shuffled_auc=judge(stranger.vector, judging[latent], embeddings))
    return result


def _intents(
    config: IntentsConfig,
    items: PreparedItems,
    codes: csr_array,
    decoder: Floats,
    population: Population,
    names: list[_Name | None],
) -> list[Intent]:
    columns = codes.tocsc()
    taken: set[str] = set()
    intents = []
    for latent, (intent_id, name) in enumerate(zip(stable_ids(decoder), names, strict=True)):
        start, end = columns.indptr[latent], columns.indptr[latent + 1]
        carriers, loadings = columns.indices[start:end], columns.data[start:end]
        density = len(carriers) / len(items)
        reason = _reason_against(config, name, len(carriers), density)
        label = name.label if name else "unnamed"
        if name and reason is None:
            label = _unique_label(name, taken)
            taken.add(label.lower())
        strongest = np.argsort(-loadings, kind="stable")[: config.top_items]
        intents.append(
            Intent(
                intent_id=intent_id,
                latent=latent,
                label=label,
                description=_description(label, name, len(carriers), density),
                terms=name.terms if name else [],
                attribute=name.attribute if name else None,
                label_source="terms",
                detection_auc=name.detection_auc if name else None,
                state="unpublished" if reason else "active",
                verdict=reason or "published: all gates passed",
                steerable=reason is None,
                item_count=len(carriers),
                item_density=density,
                user_density=float(population.user_counts[latent]) / max(population.users, 1),
                top_items=[
                    TopItem(item_id=items.ids[carriers[place]], loading=float(loadings[place]))
                    for place in strongest
                ],
            )
        )
    return intents


def _reason_against(config: IntentsConfig, name: _Name | None, carriers: int, density: float) -> str | None:
    """The first gate that fails, or None."""
    if carriers == 0:
        return "never active"
    if carriers < config.min_items:
        return f"active on {carriers} items, fewer than {config.min_items}"
    if density > config.max_density:
        return f"active on {density:.0%} of items, more than {config.max_density:.0%}"
    if name is None:
        return "no phrase or attribute tells its items from others"
    if name.detection_auc is None:
        return "too few held-out items to judge its name"
    if name.detection_auc < config.min_detection_auc:
        return f"its name finds held-out items with AUC {name.detection_auc:.2f}, below {config.min_detection_auc:.2f}"
    return None


def _unique_label(name: _Name, taken: set[str]) -> str:
    if name.label.lower() not in taken:
        return name.label
    for term in name.terms:
        label = f"{name.label}, {term}"
        if term.lower() != name.label.lower() and label.lower() not in taken:
            return label
    number = 2
    while f"{name.label} ({number})".lower() in taken:
        number += 1
    return f"{name.label} ({number})"


def _description(label: str, name: _Name | None, carriers: int, density: float) -> str:
    if name is None:
        return f"{carriers} items without a common name."
    others = [term for term in name.terms if term.lower() not in label.lower()][:3]
    text = f"{carriers} items ({density:.1%} of the catalogue) about {label}"
    text += f"; also {', '.join(others)}." if others else "."
    if match := name.attribute:
        text += f" {match.attribute.capitalize()} '{match.value}' is {match.lift:.1f} times as frequent as elsewhere."
    return text


def _search_vectors(intents: list[Intent], encode: Encode, dimension: int) -> Floats:
    named = [intent for intent in intents if intent.terms or intent.attribute]
    vectors = np.zeros((len(intents), dimension), dtype=np.float32)
    if named:
        encoded = encode([". ".join([intent.label, *intent.terms]) for intent in named])
        vectors[[intent.latent for intent in named]] = encoded
    return vectors


def _summary(catalogue: Catalogue, codes: csr_array, names: list[_Name | None]) -> dict[str, Any]:
    """Figures for the manifest: how much of the activation mass has a published name, and how good names are."""
    mass = np.asarray(codes.sum(axis=0)).ravel()
    published = np.array([intent.published for intent in catalogue.intents])
    aucs = [name.detection_auc for name in names if name and name.detection_auc is not None]
    shuffled = [name.shuffled_auc for name in names if name and name.shuffled_auc is not None]
    kept = [i.detection_auc for i in catalogue.intents if i.published and i.detection_auc is not None]
    return {
        "latents": len(published),
        "published": int(published.sum()),
        "mass_covered": float(mass[published].sum() / mass.sum()) if mass.sum() else 0.0,
        "judged": len(aucs),
        "detection_auc_mean": float(np.mean(aucs)) if aucs else None,
        "detection_auc_mean_published": float(np.mean(kept)) if kept else None,
        "detection_auc_shuffled": float(np.mean(shuffled)) if shuffled else None,
        "with_attribute": sum(1 for name in names if name and name.attribute),
        "dead": int((mass == 0).sum()),
    }
