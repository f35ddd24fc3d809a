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
from saerec_ray.dictionary.sae import read_codes, read_dictionary
from saerec_ray.intents.build import build_catalogue
from saerec_ray.intents.catalogue import write_catalogue
from saerec_ray.intents.families import with_parents
from saerec_ray.intents.identity import NamedLatents, carry_over, item_keys, match_latents
from saerec_ray.intents.population import Population, measure_population
from saerec_ray.text.embed import load_embeddings

POPULATION_FILE = "population.safetensors"
_SCALARS = ("users", "mean_item_mass")


def build_intents(
    config: IntentsConfig,
    seed: int,
    prepared: Path,
    embedded: Path,
    dictionary_folder: Path,
    folder: Path,
    encode: Callable[[list[str]], npt.NDArray[np.float32]],
    on_progress: Callable[[int, int], None] | None = None,
    *,
    prefixes: Sequence[int] = (),
    previous: NamedLatents | None = None,
) -> dict[str, Any]:
    """Names every latent, decides which are published, and measures the training population.

    `encode` turns texts into unit vectors with the model of the embed stage; `prefixes` are the lengths of
    the nested prefixes of the latents, for families; ids are carried over from `previous`. Returns the
    metrics.
    """
    items, sequences = read_items(prepared), read_sequences(prepared)
    codes, dictionary = read_codes(dictionary_folder), read_dictionary(dictionary_folder)
    users, met = sequences.train_interactions()
    population = measure_population(codes, users, met, item_categories(items))
    catalogue, label_vectors, summary = build_catalogue(
        config,
        items,
        codes,
        load_embeddings(embedded),
        dictionary.decoder,
        dictionary.scaling.mean,
        population,
        encode,
        seed,
        on_progress,
    )
    catalogue = with_parents(catalogue, codes, dictionary.decoder, prefixes)
    summary["with_parent"] = sum(1 for intent in catalogue.intents if intent.parent_id)
    if previous is not None:
        named = NamedLatents(catalogue, dictionary.decoder, codes, item_keys(items))
        matching = match_latents(previous, named)
        catalogue = carry_over(previous, named, matching)
        summary |= {"carried": len(matching.new_of_old), "deprecated": len(catalogue.deprecated)}
    write_catalogue(catalogue, folder)
    scalars = {name: np.array([getattr(population, name)], dtype=np.float64) for name in _SCALARS}
    save_file({**population.arrays(), **scalars, "label_vectors": label_vectors}, folder / POPULATION_FILE)
    return summary


def read_population(folder: Path) -> tuple[Population, npt.NDArray[np.float32]]:
    """The population statistics and the label vectors (intents, d_text) of an intents folder."""
    arrays = load_file(folder / POPULATION_FILE)
    label_vectors = arrays.pop("label_vectors")
    users, mean_item_mass = (float(arrays.pop(name)[0]) for name in _SCALARS)
    return Population(users=int(users), mean_item_mass=mean_item_mass, **arrays), label_vectors


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
