"""Every latent gets a name, evidence and a verdict; those that pass the gates are published."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import PreparedItems
from saerec_ray.dictionary.attributes import AttributeValue
from saerec_ray.intents.attributes import AttributeValues, match_attributes
from saerec_ray.intents.catalogue import AttributeMatch, Catalogue, Intent, TopItem
from saerec_ray.intents.detection import Examples, draw_examples, judge, split_halves
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.exact import accidental_phrases, exact_names
from saerec_ray.intents.gates import reason_against
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.model_labels import Evidence, improve_names
from saerec_ray.intents.naming import Name, choose_names, with_control
from saerec_ray.intents.nuisance import find_nuisance, nuisance_sentence
from saerec_ray.intents.overlay import Overlay, corrected
from saerec_ray.intents.phrases import Encode, shortlist_phrases
from saerec_ray.intents.policy import Policy, enforce
from saerec_ray.intents.population import Population
from saerec_ray.text.phrases import count_phrases, surface_forms

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

OnProgress = Callable[[float, float], None]

_MOST_NEGATIVES = 200
_UNNAMED = "unnamed"


@dataclass(frozen=True)
class Results:
    """A catalogue with what belongs to it."""

    catalogue: Catalogue
    label_vectors: Floats  # of label and terms, for text search, (latents, d)
    summary: dict[str, Any]
    sentences: list[str]
    """What people have to know of it: what is missing and why."""


def build_catalogue(
    config: IntentsConfig,
    ids: list[str],
    items: PreparedItems,
    codes: csr_array,
    embeddings: Floats,
    decoder: Floats,
    mean: Floats,
    population: Population,
    encode: Encode,
    seed: int,
    on_progress: OnProgress | None = None,
    *,
    language_model: LanguageModel | None = None,
    overlay: Overlay | None = None,
    stability: Floats | None = None,
    policy: Policy | None = None,
    exact: Mapping[int, AttributeValue] | None = None,
    inherited: Mapping[str, Edit] | None = None,
) -> Results:
    """Names all latents: by statistics, better where a language model can, and as people and policy decided.

    `ids`: one a latent; `codes`: (items, latents); `embeddings`: unit rows, (items, d); `decoder`: unit rows,
    (latents, d); `mean`: the centre of the embeddings, (d,); `encode` turns texts into unit vectors of the same model;
    `stability`: how well other seeds found each latent again, (latents,); NaN where there was one seed.
    `exact`: latents that stand for an attribute value, which is their name and needs no judge.
    `inherited`: what people decided of these ids elsewhere, before; it holds where `overlay` says nothing.
    Names come from one half of the items; the AUC they are judged by comes from the other half.
    Raises InputError when people gave one label to two intents.
    """
    report = on_progress or _no_report
    overlay, inherited = overlay or Overlay(), inherited or {}
    decided = overlay.over(inherited, ids)
    labels = decided.labels(ids)
    naming_half, judging_half = split_halves(len(items), seed)
    values = AttributeValues.collect(items.attributes)
    attributes = match_attributes(values, codes, naming_half, config.false_discovery_rate)
    report(1, 5)
    shortlists = _shortlists(config, items, codes, embeddings, naming_half, seed)
    report(2, 5)
    vectors = _encode_all(encode, shortlists, attributes)
    report(3, 5)
    naming = draw_examples(codes, embeddings, naming_half, seed)
    judging = draw_examples(codes, embeddings, judging_half, seed + 1)
    names = choose_names(
        config.max_terms, embeddings, decoder, mean, (naming, judging), shortlists, attributes, vectors
    )
    exact = exact or {}
    named = exact_names(exact, codes, encode)
    for latent, name in named.items():
        names[latent] = name
    probes = find_nuisance(
        items.texts,
        codes,
        embeddings,
        (naming_half, judging_half),
        [name.vector if name else None for name in names],
        values,
        config.min_nuisance_auc,
    )
    nuisance = {probe.latent: str(probe) for probe in probes if probe.latent not in exact}
    nuisance |= accidental_phrases(exact, named, codes, embeddings, items.texts, seed)
    kinds: dict[int, str] = {}
    sentences: list[str] = []
    extra: dict[str, Any] = {}
    if language_model and config.language_model:
        evidence = Evidence(items.texts, codes, embeddings, naming_half, naming, judging, attributes)
        names, kinds, outcome = improve_names(
            config,
            language_model,
            evidence,
            names,
            [
                latent
                for latent in _worth_naming(config, codes, judging, stability)
                if ids[latent] not in labels and latent not in nuisance and latent not in exact
            ],
            encode,
            config.language_model.candidates,
            seed,
            lambda done, total: report(3 + done / total, 5),
        )
        extra["language_model"] = outcome.metrics(language_model)
        sentences.append(outcome.sentence(language_model))
        by_model = [latent for latent, kind in kinds.items() if kind == "nuisance"]
        nuisance |= dict.fromkeys(
            by_model, "nuisance: a language model takes it for an accident of the texts"
        )
    kinds |= dict.fromkeys(exact, "item property") | dict.fromkeys(nuisance, "nuisance")
    names = with_control(names, judging, embeddings, seed)
    report(4, 5)
    given = _judged_labels(labels, ids, encode, judging, embeddings)
    if stability is not None:
        extra["unstable"] = int((stability < config.min_stability).sum())
    intents = _intents(
        config, items, codes, ids, population, names, kinds, nuisance, decided, inherited, given, stability
    )
    label_vectors = _search_vectors(intents, encode, embeddings.shape[1])
    if overlay.intents:
        extra["overlay"] = overlay.figures(ids)
        sentences += overlay.sentences(ids)
    sentences += nuisance_sentence(intents)
    catalogue = Catalogue(intents_version=_version(decoder, intents), intents=intents)
    if policy is not None:
        catalogue = enforce(policy, catalogue, items, codes).catalogue
    report(5, 5)
    return Results(catalogue, label_vectors, _summary(catalogue, codes, names) | extra, sentences)


def _version(decoder: Floats, intents: list[Intent]) -> str:
    """Changes with the dictionary, and with what people see and may do."""
    seen = "\n".join(
        f"{intent.label}\t{intent.state}\t{intent.steerable}\t{intent.kind}" for intent in intents
    )
    return hashlib.sha256(decoder.tobytes() + seen.encode()).hexdigest()[:12]


def _worth_naming(
    config: IntentsConfig, codes: csr_array, judging: list[Examples], stability: Floats | None
) -> list[int]:
    """The latents whose publication depends on their name alone, the most active first."""
    carriers = np.diff(codes.tocsc().indptr)
    stable = np.full(len(carriers), True) if stability is None else ~(stability < config.min_stability)
    mass = np.asarray(codes.sum(axis=0)).ravel()
    return [
        int(latent)
        for latent in np.argsort(-mass, kind="stable")
        if stable[latent]
        and config.min_items <= carriers[latent] <= config.max_density * codes.shape[0]
        and judging[latent].judgeable
    ]


def _judged_labels(
    labels: dict[str, str], ids: list[str], encode: Encode, judging: list[Examples], embeddings: Floats
) -> dict[str, float | None]:
    """The held-out AUC of every label that people gave, by intent id."""
    if not labels:
        return {}
    latents = {intent_id: latent for latent, intent_id in enumerate(ids)}
    vectors = dict(zip(labels, encode(list(labels.values())), strict=True))
    return {
        each: judge(vectors[each], judging[latents[each]], embeddings)
        if judging[latents[each]].judgeable
        else None
        for each in labels
    }


def _no_report(_done: float, _total: float) -> None:
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


def _intents(
    config: IntentsConfig,
    items: PreparedItems,
    codes: csr_array,
    ids: list[str],
    population: Population,
    names: list[Name | None],
    kinds: dict[int, str],
    nuisance: dict[int, str],
    decided: Overlay,
    inherited: Mapping[str, Edit],
    given: dict[str, float | None],
    stability: Floats | None,
) -> list[Intent]:
    """One intent a latent.

    `nuisance`: the evidence for it, by latent; `decided`: what people want, and `inherited`, which part of it came
    with the ids; `given`: the held-out AUC of the labels that people gave, by intent id.
    """
    columns = codes.tocsc()
    taken = {label.lower() for label in decided.labels(ids).values()}
    intents = []
    for latent, (intent_id, name) in enumerate(zip(ids, names, strict=True)):
        start, end = columns.indptr[latent], columns.indptr[latent + 1]
        carriers, loadings = columns.indices[start:end], columns.data[start:end]
        density = len(carriers) / len(items)
        found_again = None if stability is None or np.isnan(stability[latent]) else float(stability[latent])
        edit = decided.intents.get(intent_id)
        evidence = None if edit and edit.kind else nuisance.get(latent)
        reason = reason_against(config, name, len(carriers), density, evidence, found_again)
        label = name.label if name else _UNNAMED
        if edit and edit.label:
            label = edit.label
        elif reason is None or (edit and edit.state == "active"):
            label = _unique_label(label, _told_apart_by(name), taken)
            taken.add(label.lower())
        strongest = np.argsort(-loadings, kind="stable")[: config.top_items]
        intent = Intent.model_validate(
            {
                "intent_id": intent_id,
                "latent": latent,
                "label": label,
                "description": _description(label, name, len(carriers), density),
                "terms": name.terms if name else [],
                "attribute": name.attribute if name else None,
                "label_source": name.source if name else "terms",
                "kind": kinds.get(latent, "unknown"),
                "detection_auc": name.detection_auc if name else None,
                "state": "unpublished" if reason else "active",
                "verdict": reason or "published: all gates passed",
                "steerable": reason is None,
                "item_count": len(carriers),
                "item_density": density,
                "user_density": float(population.user_counts[latent]) / max(population.users, 1),
                "top_items": [
                    TopItem(item_id=items.ids[carriers[place]], loading=float(loadings[place]))
                    for place in strongest
                ],
                "stability": found_again,
                "inherited_edit": inherited.get(intent_id),
            }
        )
        intents.append(corrected(intent, edit, given.get(intent_id)) if edit else intent)
    return intents


def _told_apart_by(name: Name | None) -> list[str]:
    """What to add to a label that is taken."""
    if name and name.source == "attribute" and name.attribute:
        return [name.attribute.attribute]
    return name.terms if name else []


def _unique_label(label: str, terms: list[str], taken: set[str]) -> str:
    if label.lower() not in taken:
        return label
    for term in terms:
        longer = f"{label}, {term}"
        if term.lower() != label.lower() and longer.lower() not in taken:
            return longer
    number = 2
    while f"{label} ({number})".lower() in taken:
        number += 1
    return f"{label} ({number})"


def _description(label: str, name: Name | None, carriers: int, density: float) -> str:
    if name is None and label == _UNNAMED:
        return f"{carriers} items without a common name."
    terms = name.terms if name else []
    others = [term for term in terms if term.lower() not in label.lower()][:3]
    if name and name.source == "attribute" and name.attribute:
        return f"{carriers} items ({density:.1%} of the catalogue) with {name.attribute.attribute} '{name.label}'."
    text = f"{carriers} items ({density:.1%} of the catalogue) about {label}"
    text += f"; also {', '.join(others)}." if others else "."
    if name and (match := name.attribute):
        text += f" {match.attribute.capitalize()} '{match.value}' is {match.lift:.1f} times as frequent as elsewhere."
    return text


def _search_vectors(intents: list[Intent], encode: Encode, dimension: int) -> Floats:
    named = [i for i in intents if i.terms or i.attribute or i.label_source != "terms"]
    vectors = np.zeros((len(intents), dimension), dtype=np.float32)
    if named:
        encoded = encode([". ".join([intent.label, *intent.terms]) for intent in named])
        vectors[[intent.latent for intent in named]] = encoded
    return vectors


def _summary(catalogue: Catalogue, codes: csr_array, names: list[Name | None]) -> dict[str, Any]:
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
        "nuisance": sum(1 for intent in catalogue.intents if intent.kind == "nuisance"),
        "dead": int((mass == 0).sum()),
    }
