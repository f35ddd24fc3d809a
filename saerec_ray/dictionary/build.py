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
    unit_rows,
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
from saerec_ray.dictionary.split import ItemSplit, split_for_training
from saerec_ray.dictionary.stability import stability, stability_figures, write_stability
from saerec_ray.dictionary.trainer import BEST_FOLDER, train_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError
from saerec_ray.training_cost import cost_figures
from saerec_ray.training_state import load_numbers

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
    cold: Collection[int] = (),
) -> dict[str, Any]:
    """Trains the dictionary on the embeddings in `embedded` and writes it with the codes of all items.

    Reviews in `embedded` are learnt from and count in the codes. Of the items `cold`, which training must not know,
    nothing is learnt, and their reviews do not count.
    `runs` keeps the checkpoints of an unfinished training. Returns the metrics for the manifest.
    Raises InputError when there are too few items for the configuration.
    """
    trained = train_on(config, cluster, seed, embedded, runs, "dictionary", on_log, cold=cold)
    codes = item_codes(trained.dictionary, load_samples(embedded, cold))
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
    cold: Collection[int] = (),
) -> Trained:
    """Trains `config.seeds` dictionaries on the vectors in the folder `embedded` and keeps the best.

    All see the same training items, so that their errors can be compared; start and order differ. The best is
    chosen, and thresholds are set, on half of the items that are held out; figures are of the other half.
    `runs` keeps the checkpoints under `name`. Raises InputError when there are too few items; it names
    `width_setting` as what to lower; and when vectors have no directions to tell apart.
    """
    samples = load_samples(embedded, cold)
    split = _checked_split(config, samples, seed, width_setting, cold)
    shared = {
        "embeddings": str(embedded.absolute()),
        "config": config.model_dump(mode="json"),
        "split_seed": seed,
        "cold": sorted(int(item) for item in cold),
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
    mean = unit_rows(samples.vectors[samples.of(split.train)]).mean(axis=0)  # (d,)
    chosen_by, errors = (
        [fraction_of_variance_unexplained(each, samples.vectors[samples.of(items)], mean) for each in found]
        for items in (split.choosing, split.held_out)
    )
    best = chosen_by.index(min(chosen_by))
    dictionary = with_scaled_item_codes(found[best], samples, split.train)
    metrics = {
        "choosing_items": len(split.choosing),
        **measure_dictionary(
            dictionary, samples.texts[split.train], samples.texts[split.held_out], config.active, seed
        ),
        **_review_figures(dictionary, samples, split.held_out, mean),
        **cost_figures([load_numbers(checkpoints[each]) for each in names]),
    }
    if config.seeds == 1:
        return Trained(dictionary, None, metrics)
    decoders = [each.decoder for each in found]
    values = stability(dictionary.decoder, decoders[:best] + decoders[best + 1 :])
    metrics |= {"seeds": config.seeds, "best_seed": seed + best, "fvu_of_seeds": errors}
    return Trained(dictionary, values, metrics | stability_figures(decoders, values))


def _checked_split(
    config: DictionaryConfig, samples: Samples, seed: int, width_setting: str, cold: Collection[int]
) -> ItemSplit:
    """The parts of the items; raises InputError where nothing can be learnt from them."""
    if samples.texts.shape[1] < 2:
        raise InputError(
            "Vectors of one number all have the same direction or the opposite one, so there is nothing to learn "
            "from them; bring vectors of at least 2 numbers."
        )
    whole = split_for_training(samples.texts, config.held_out_share, seed)
    split = whole.without(cold)
    train = len(split.train)
    if not len(whole.train):
        raise InputError(
            "All vectors, or all but one or two kinds of them, have the same direction, so there is nothing to "
            "learn from them."
        )
    if not len(split.choosing):
        raise InputError(
            "train.cold_share keeps out all items that the dictionary would be chosen by; lower it, or raise "
            "dictionary.held_out_share."
        )
    if train < config.width // 4 or train < 2 * config.workers:
        raise InputError(
            f"{train} training items are too few for a dictionary of width {config.width}; "
            f"lower {width_setting} or bring more items."
        )
    return split


def _review_figures(
    dictionary: Dictionary, samples: Samples, held_out: Indices, mean: Floats
) -> dict[str, Any]:
    """Figures that exist with reviews only; all others are of the items' own texts.

    `mean`: that of all unit training vectors, (d,).
    """
    reviews = len(samples.vectors) - samples.count
    if not reviews:
        return {}
    places = samples.of(held_out)
    unseen = samples.vectors[places[places >= samples.count]]
    codes = item_codes(dictionary, samples)
    return {
        "reviews": reviews,
        "fvu_reviews": fraction_of_variance_unexplained(dictionary, unseen, mean) if len(unseen) else None,
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
