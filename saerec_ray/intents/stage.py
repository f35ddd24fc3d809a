"""The intents stage: dictionary, codes and texts in, catalogue and population statistics out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import PreparedItems, read_items, read_sequences
from saerec_ray.dictionary.concatenated import read_dictionaries
from saerec_ray.dictionary.sae import read_codes
from saerec_ray.dictionary.stability import read_stability
from saerec_ray.intents.build import OnProgress, build_catalogue
from saerec_ray.intents.catalogue import stable_ids, write_catalogue
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.families import with_parents
from saerec_ray.intents.identity import (
    Latents,
    NamedLatents,
    carried_ids,
    carry_over,
    inherited_edits,
    item_keys,
    match_latents,
)
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.lineage import keep_before, shown_again_sentence, write_latents
from saerec_ray.intents.origins import directions_in_texts, figures_by_origin, with_origins
from saerec_ray.intents.overlay import read_overlay
from saerec_ray.intents.policy import enforce, read_policy
from saerec_ray.intents.population import Population, measure_population
from saerec_ray.text.embed import load_embeddings

POPULATION_FILE = "population.safetensors"
"""All that training reads: another label must not train anything again."""
LABELS_FILE = "labels.safetensors"
_SCALARS = ("users", "mean_item_mass")


def build_intents(
    config: IntentsConfig,
    seed: int,
    prepared: Path,
    embedded: Path,
    dictionary_folder: Path,
    folder: Path,
    encode: Callable[[list[str]], npt.NDArray[np.float32]],
    on_progress: OnProgress | None = None,
    *,
    overlay: Path | None = None,
    policy: Path | None = None,
    answers: Path | None = None,
    say: Callable[[str], None] | None = None,
    prefixes: Sequence[Sequence[int]] = (),
    previous: NamedLatents | None = None,
) -> dict[str, Any]:
    """Names every latent, decides which are published, and measures the training population.

    `encode` turns texts into unit vectors with the model of the embed stage; `overlay` is the file of what people
    corrected, `policy` that of sensitive topics; `answers` the folder that keeps what the language model answered,
    needed when there is one; `say` is told what people have to know; `prefixes` are the lengths of the nested
    prefixes of the latents of each dictionary, for families; ids, and what people decided elsewhere, are carried over
    from `previous`, which is kept beside the catalogue. Returns the metrics.
    Raises InputError when the overlay, the policy or the settings of the language model are not usable.
    """
    edits = read_overlay(overlay) if overlay else None
    topics = read_policy(policy) if policy else None
    language_model = None
    if config.language_model is not None:
        if answers is None:
            raise ValueError("a language model needs a folder for its answers")
        language_model = LanguageModel(config.language_model, answers)
    items, sequences = read_items(prepared), read_sequences(prepared)
    codes, dictionaries = read_codes(dictionary_folder), read_dictionaries(dictionary_folder)
    text, embeddings = dictionaries.text, load_embeddings(embedded)
    users, met = sequences.train_interactions()
    population = measure_population(codes, users, met, item_categories(items))
    ids = stable_ids(dictionaries.directions) + [value.intent_id for value in dictionaries.attributes]
    latents = Latents(text.decoder, codes, item_keys(items), values=dictionaries.attributes)
    matching, inherited = None, dict[str, Edit]()
    if previous is not None:  # before naming, because what people decided is kept by id
        matching = match_latents(previous, latents)
        ids = carried_ids(previous.catalogue, ids, latents, matching)
        inherited = inherited_edits(previous.catalogue, ids, matching)
    results = build_catalogue(
        config,
        ids,
        items,
        codes,
        embeddings,
        directions_in_texts(dictionaries, codes, embeddings, seed),
        text.scaling.mean,
        population,
        encode,
        seed,
        on_progress,
        language_model=language_model,
        overlay=edits,
        stability=read_stability(dictionary_folder),
        policy=topics,
        exact={dictionaries.learnt + place: value for place, value in enumerate(dictionaries.attributes)},
        inherited=inherited,
    )
    catalogue = with_parents(results.catalogue, codes, text.decoder, prefixes[0] if prefixes else ())
    summary = results.summary
    if dictionaries.width > text.width:
        catalogue = with_origins(catalogue, dictionaries)
        if dictionaries.cooccurrence is not None:
            second = dictionaries.cooccurrence.decoder
            catalogue = with_parents(catalogue, codes, second, prefixes[1] if prefixes else (), text.width)
        summary |= figures_by_origin(catalogue, codes)
    summary |= {"with_parent": sum(1 for intent in catalogue.intents if intent.parent_id)}
    sentences = results.sentences
    if previous is not None and matching is not None:
        named = NamedLatents(text.decoder, codes, latents.items, catalogue, values=latents.values)
        catalogue = carry_over(previous, named, matching)
        summary |= {
            "carried": len(matching.new_of_old),
            "carried_from": previous.catalogue.intents_version,
            "deprecated": len(catalogue.deprecated),
        }
    if topics is not None:  # again: entries that are deprecated came with the ids
        enforced = enforce(topics, catalogue, items, codes)
        catalogue = enforced.catalogue
        summary |= {"policy": enforced.metrics()}
        sentences = [*sentences, *enforced.sentences()]
    if previous is not None:
        sentences = [_carried_sentence(previous, summary), *sentences]
        sentences += edits.heirs_sentence(catalogue) if edits else []
        sentences += shown_again_sentence(previous.catalogue, catalogue)
        keep_before(previous, folder)
    write_latents(latents, folder)
    write_catalogue(catalogue, folder)
    scalars = {name: np.array([getattr(population, name)], dtype=np.float64) for name in _SCALARS}
    save_file({**population.arrays(), **scalars}, folder / POPULATION_FILE)
    save_file({"label_vectors": results.label_vectors}, folder / LABELS_FILE)
    if say:
        for sentence in sentences:
            say(sentence)
    return summary


def _carried_sentence(previous: NamedLatents, summary: dict[str, Any]) -> str:
    return (
        f"{summary['carried']} of {len(previous.catalogue.intents)} ids are carried over from the catalogue "
        f"{previous.catalogue.intents_version}."
    )


def read_population(folder: Path) -> Population:
    """The population statistics of an intents folder."""
    arrays = load_file(folder / POPULATION_FILE)
    users, mean_item_mass = (float(arrays.pop(name)[0]) for name in _SCALARS)
    return Population(users=int(users), mean_item_mass=mean_item_mass, **arrays)


def read_label_vectors(folder: Path) -> npt.NDArray[np.float32]:
    """The embeddings of labels and terms, (intents, d_text), of an intents folder."""
    return load_file(folder / LABELS_FILE)["label_vectors"]


def item_categories(items: PreparedItems) -> list[list[str]]:
    """Values of the attribute that sorts items best: category, else genre, else the one most items have."""
    counts: dict[str, int] = {}
    for values in items.attributes:
        for name in values:
            counts[name] = counts.get(name, 0) + 1
    if not counts:
        return [[] for _ in items.ids]
    chosen = next(
        (name for name in ("category", "genre") if name in counts), max(counts, key=lambda n: counts[n])
    )
    return [values.get(chosen, []) for values in items.attributes]
