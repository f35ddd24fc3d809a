"""The dictionary stage: item embeddings in, dictionary and item codes out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saerec_ray import distributed
from saerec_ray.config import ClusterConfig
from saerec_ray.dictionary.metrics import (
    activation_counts,
    fraction_of_variance_unexplained,
    measure_dictionary,
)
from saerec_ray.dictionary.sae import (
    Dictionary,
    Floats,
    read_dictionary,
    write_codes,
    write_dictionary,
)
from saerec_ray.dictionary.samples import (
    Indices,
    Samples,
    item_codes,
    load_samples,
    with_scaled_item_codes,
)
from saerec_ray.dictionary.stability import stability, stability_figures, write_stability
from saerec_ray.dictionary.trainer import BEST_FOLDER, split_items, train_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError

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
    *,
    without_reviews: Collection[int] = (),
) -> dict[str, Any]:
    """Trains the dictionary on the embeddings in `embedded` and writes it with the codes of all items.

    Reviews in `embedded` are learnt from and count in the codes, except those of the items `without_reviews`.
    `runs` keeps the checkpoints of an unfinished training. Returns the metrics for the manifest.
    Raises InputError when there are too few items for the configuration.
    """
    trained = train_on(
        config, cluster, seed, embedded, runs, "dictionary", on_log, without_reviews=without_reviews
    )
    codes = item_codes(trained.dictionary, load_samples(embedded, without_reviews))
    write_dictionary(trained.dictionary, folder)
    write_codes(codes, folder)
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
    without_reviews: Collection[int] = (),
) -> Trained:
    """Trains `config.seeds` dictionaries on the vectors in the folder `embedded` and keeps the best.

    All see the same training items, so that their held-out errors can be compared; start and order differ.
    `runs` keeps the checkpoints under `name`. Raises InputError when there are too few items; it names
    `width_setting` as what to lower.
    """
    samples = load_samples(embedded, without_reviews)
    train, held_out = split_items(samples.texts, config.held_out_share, seed)
    if len(train) < config.width // 4 or len(train) < 2 * config.workers:
        raise InputError(
            f"{len(train)} training items are too few for a dictionary of width {config.width}; "
            f"lower {width_setting} or bring more items."
        )
    shared = {
        "embeddings": str(embedded.absolute()),
        "config": config.model_dump(mode="json"),
        "split_seed": seed,
        "without_reviews": sorted(int(item) for item in without_reviews),
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
    held_out_samples = samples.vectors[samples.of(held_out)]
    errors = [fraction_of_variance_unexplained(each, held_out_samples) for each in found]
    best = errors.index(min(errors))
    dictionary = with_scaled_item_codes(found[best], samples, train)
    metrics = measure_dictionary(
        dictionary, samples.texts[train], samples.texts[held_out], config.active, seed
    ) | _review_figures(dictionary, samples, held_out)
    if config.seeds == 1:
        return Trained(dictionary, None, metrics)
    decoders = [each.decoder for each in found]
    values = stability(dictionary.decoder, decoders[:best] + decoders[best + 1 :])
    metrics |= {"seeds": config.seeds, "best_seed": seed + best, "fvu_of_seeds": errors}
    return Trained(dictionary, values, metrics | stability_figures(decoders, values))


def _review_figures(dictionary: Dictionary, samples: Samples, held_out: Indices) -> dict[str, Any]:
    """Figures that exist with reviews only; all others are of the items' own texts."""
    reviews = len(samples.vectors) - samples.count
    if not reviews:
        return {}
    places = samples.of(held_out)
    unseen = samples.vectors[places[places >= samples.count]]
    codes = item_codes(dictionary, samples)
    return {
        "reviews": reviews,
        "fvu_reviews": fraction_of_variance_unexplained(dictionary, unseen) if len(unseen) else None,
        "l0_item_codes": codes.nnz / samples.count,
        "dead_share_item_codes": float((activation_counts(codes) == 0).mean()),
    }


def _together(on_log: OnLog, names: list[str]) -> Callable[[str, dict[str, Any]], None]:
    """Tells of several trainings as of one: their epochs are added up. Called from several threads."""
    epochs = dict.fromkeys(names, 0)
    lock = threading.Lock()

    def log(name: str, values: dict[str, Any]) -> None:
        with lock:
            epochs[name] = values["epoch"]
            on_log({**values, "epoch": sum(epochs.values()), "epochs": len(names) * values["epochs"]})

    return log
