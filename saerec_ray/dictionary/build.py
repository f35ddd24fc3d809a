"""The dictionary stage: item embeddings in, dictionary and item codes out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saerec_ray import distributed
from saerec_ray.config import ClusterConfig
from saerec_ray.dictionary.metrics import fraction_of_variance_unexplained, measure_dictionary
from saerec_ray.dictionary.sae import (
    Dictionary,
    Floats,
    read_dictionary,
    with_scaled_codes,
    write_codes,
    write_dictionary,
)
from saerec_ray.dictionary.stability import stability, stability_figures, write_stability
from saerec_ray.dictionary.trainer import BEST_FOLDER, split_items, train_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError
from saerec_ray.text.embed import load_embeddings

OnLog = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Trained:
    """What training on one set of vectors gave."""

    dictionary: Dictionary
    """The best of all seeds, ready to encode."""
    stability: Floats | None
    """Smallest cosine of each latent to its match under another seed, (latents,); None with one seed."""
    metrics: dict[str, Any]


def build_dictionary(
    config: DictionaryConfig,
    cluster: ClusterConfig,
    seed: int,
    embedded: Path,
    folder: Path,
    runs: Path,
    on_log: OnLog | None = None,
) -> dict[str, Any]:
    """Trains the dictionary on the embeddings in `embedded` and writes it with the codes of all items.

    `runs` keeps the checkpoints of an unfinished training. Returns the metrics for the manifest.
    Raises InputError when there are too few items for the configuration.
    """
    trained = train_on(config, cluster, seed, embedded, runs, "dictionary", on_log)
    write_dictionary(trained.dictionary, folder)
    write_codes(trained.dictionary.encode(load_embeddings(embedded)), folder)
    if trained.stability is not None:
        write_stability(trained.stability, folder)
    return trained.metrics


def train_on(
    config: DictionaryConfig,
    cluster: ClusterConfig,
    seed: int,
    embedded: Path,
    runs: Path,
    name: str,
    on_log: OnLog | None = None,
    *,
    width_setting: str = "dictionary.width",
) -> Trained:
    """Trains `config.seeds` dictionaries on the vectors in the folder `embedded` and keeps the best.

    All see the same training items, so that their held-out errors can be compared; start and order differ.
    `runs` keeps the checkpoints under `name`. Raises InputError when there are too few items; it names
    `width_setting` as what to lower.
    """
    vectors = load_embeddings(embedded)
    train, held_out = split_items(vectors, config.held_out_share, seed)
    if len(train) < config.width // 4 or len(train) < 2 * config.workers:
        raise InputError(
            f"{len(train)} training items are too few for a dictionary of width {config.width}; "
            f"lower {width_setting} or bring more items."
        )
    shared = {
        "embeddings": str(embedded.absolute()),
        "config": config.model_dump(mode="json"),
        "split_seed": seed,
    }
    names = [name] + [f"{name}-seed-{seed + place}" for place in range(1, config.seeds)]
    checkpoints = distributed.run_many(
        train_dictionary,
        {each: {**shared, "seed": seed + place} for place, each in enumerate(names)},
        folder=runs,
        workers=config.workers,
        engine=cluster.engine,
        max_failures=cluster.max_failures,
        gpus=cluster.gpus,
        on_log=None if on_log is None else _together(on_log, names),
    )
    found = [read_dictionary(checkpoints[each] / BEST_FOLDER) for each in names]
    errors = [fraction_of_variance_unexplained(each, vectors[held_out]) for each in found]
    best = errors.index(min(errors))
    dictionary = with_scaled_codes(found[best], vectors[train])
    metrics = measure_dictionary(dictionary, vectors[train], vectors[held_out], config.active, seed)
    if config.seeds == 1:
        return Trained(dictionary, None, metrics)
    decoders = [each.decoder for each in found]
    values = stability(dictionary.decoder, decoders[:best] + decoders[best + 1 :])
    metrics |= {"seeds": config.seeds, "best_seed": seed + best, "fvu_of_seeds": errors}
    return Trained(dictionary, values, metrics | stability_figures(decoders, values))


def _together(on_log: OnLog, names: list[str]) -> Callable[[str, dict[str, Any]], None]:
    """Tells of several trainings as of one: their epochs are added up. Called from several threads."""
    epochs = dict.fromkeys(names, 0)
    lock = threading.Lock()

    def log(name: str, values: dict[str, Any]) -> None:
        with lock:
            epochs[name] = values["epoch"]
            on_log({**values, "epoch": sum(epochs.values()), "epochs": len(names) * values["epochs"]})

    return log
