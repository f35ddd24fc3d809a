"""The dictionary stage: item embeddings in, dictionary and item codes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from saerec_ray import distributed
from saerec_ray.config import ClusterConfig, DictionaryConfig
from saerec_ray.dictionary.metrics import measure_dictionary
from saerec_ray.dictionary.sae import (
    Dictionary,
    read_dictionary,
    with_scaled_codes,
    write_codes,
    write_dictionary,
)
from saerec_ray.dictionary.trainer import BEST_FOLDER, split_items, train_dictionary
from saerec_ray.errors import InputError
from saerec_ray.text.embed import load_embeddings


def build_dictionary(
    config: DictionaryConfig,
    cluster: ClusterConfig,
    seed: int,
    embedded: Path,
    folder: Path,
    runs: Path,
    on_log: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Trains the dictionary on the embeddings in `embedded` and writes it with the codes of all items.

    `runs` keeps the checkpoints of an unfinished training. Returns the metrics for the manifest.
    Raises InputError when there are too few items for the configuration.
    """
    dictionary, metrics = train_on(config, cluster, seed, embedded, runs, "dictionary", on_log)
    write_dictionary(dictionary, folder)
    write_codes(dictionary.encode(load_embeddings(embedded)), folder)
    return metrics


def train_on(
    config: DictionaryConfig,
    cluster: ClusterConfig,
    seed: int,
    embedded: Path,
    runs: Path,
    name: str,
    on_log: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[Dictionary, dict[str, Any]]:
    """Trains a dictionary on the vectors in the folder `embedded`; returns it, ready to encode, and its metrics.

    `runs` keeps the checkpoints under `name`. Raises InputError when there are too few items.
    """
    vectors = load_embeddings(embedded)
    train, held_out = split_items(vectors, config.held_out_share, seed)
    setting = "dictionary.width" if name == "dictionary" else f"dictionary.{name}.width"
    if len(train) < config.width // 4 or len(train) < 2 * config.workers:
        raise InputError(
            f"{len(train)} training items are too few for a dictionary of width {config.width}; "
            f"lower {setting} or bring more items."
        )
    checkpoint = distributed.run(
        train_dictionary,
        {"embeddings": str(embedded.absolute()), "config": config.model_dump(mode="json"), "seed": seed},
        folder=runs,
        name=name,
        workers=config.workers,
        engine=cluster.engine,
        max_failures=cluster.max_failures,
        gpus=cluster.gpus,
        on_log=on_log,
    )
    dictionary = with_scaled_codes(read_dictionary(checkpoint / BEST_FOLDER), vectors[train])
    return dictionary, measure_dictionary(dictionary, vectors[train], vectors[held_out], config.active, seed)
