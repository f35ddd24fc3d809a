"""The train stage: sequences and codes in, the trained backbone with its prior and steering tables out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file
from safetensors.torch import save_file as save_tensors
from scipy.sparse import csr_array

from saerec_ray import distributed, training_state
from saerec_ray.backbone.cold import WarmCatalogue, draw_cold_items, without_cold, write_cold_items
from saerec_ray.backbone.companions import count_companions, reweighted
from saerec_ray.backbone.companions_by_text import with_new_items
from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.frozen import Frozen, prior_table, read_frozen, write_frozen
from saerec_ray.backbone.new_items import choose_new_item_bias, new_items
from saerec_ray.backbone.part_weights import choose_companion_weight, choose_prior_weight
from saerec_ray.backbone.trainer import (
    BEST_FILE,
    together,
    train_backbone,
    trained_parts,
)
from saerec_ray.backbone.validation import (
    HeldOut,
    affordable,
    encode_users,
    held_out,
)
from saerec_ray.config import ClusterConfig, TrainConfig
from saerec_ray.data.prepared import PreparedSequences, read_items, read_sequences
from saerec_ray.dictionary.concatenated import read_dictionaries, without_cooccurrence
from saerec_ray.dictionary.sae import read_codes
from saerec_ray.errors import InputError
from saerec_ray.intents.population import measure_population
from saerec_ray.intents.stage import item_categories, read_population
from saerec_ray.scoring import ItemSpace, SteeringTable, intent_values, loading_caps, prior
from saerec_ray.text.embed import load_embeddings

Floats = npt.NDArray[np.float32]
OnLog = Callable[[dict[str, Any]], None]

MODEL_FILE = "model.safetensors"
BASELINE_FILE = "baseline.safetensors"
STEERING_FILE = "steering.safetensors"
COMPANION_FACTOR = "companion_factor_of_new_items"
"""How many times as much new items count among companions: what takes mu to the weight that is best on validation."""
QUANTILES = 101
_MEMBER_SEEDS = 1_000_003
"""Between the seeds of two members: runs with neighbouring seeds must not share one."""
_GATE_SAMPLE = 1000
_POPULATION_SAMPLE = 20_000


@dataclass(frozen=True)
class Training:
    """One model to train: its file in the train folder, and the names of the trainings of its members."""

    name: str
    file: str
    members: list[str]


def build_backbone(
    config: TrainConfig,
    cluster: ClusterConfig,
    seed: int,
    *,
    prepared: Path,
    embedded: Path,
    dictionary_folder: Path,
    intents_folder: Path,
    folder: Path,
    runs: Path,
    on_log: OnLog | None = None,
) -> dict[str, Any]:
    """Trains the backbone (and the one without intents beside it), then sets prior weight and steering.

    All members of both are trainings of their own: with Ray as many at a time as the cluster has room for.
    Returns the metrics for the manifest. Raises InputError when there is nothing to learn from.
    """
    sequences = everything = read_sequences(prepared)
    cold = draw_cold_items(read_codes(dictionary_folder).shape[0], config.cold_share, seed)
    if cold.any():
        sequences = without_cold(everything, cold)
        write_cold_items(cold, folder)
    if int(np.maximum(sequences.train_lengths - 1, 0).sum()) == 0:
        raise InputError("No user has two training interactions, so there is no next item to learn.")
    frozen = _freeze(config, seed, sequences, prepared, embedded, dictionary_folder, intents_folder, cold)
    write_frozen(frozen, folder)
    absent = new_items(frozen.popularity)
    warm = WarmCatalogue.write(runs / "warm", everything, frozen, absent) if absent.any() else None
    metrics: dict[str, Any] = {}
    trainings = _trainings(config)
    shared = {
        "prepared": str((warm.folder if warm else prepared).absolute()),
        "frozen": str((warm.folder if warm else folder).absolute()),
        "config": config.model_dump(mode="json"),
        "checkpoint_samples": cluster.checkpoint_samples,
    }
    checkpoints = distributed.run_many(
        train_backbone,
        {
            label: {**shared, "intents": training.file == MODEL_FILE, "seed": seed + _MEMBER_SEEDS * member}
            for training in trainings
            for member, label in enumerate(training.members)
        },
        folder=runs,
        workers=config.workers,
        engine=cluster.engine,
        max_failures=cluster.max_failures,
        gpus=cluster.gpus,
        on_log=None if on_log is None else _together(on_log, config.members * len(trainings)),
    )
    for training in trainings:
        found = [checkpoints[label] for label in training.members]
        states = [load_file(checkpoint / BEST_FILE) for checkpoint in found]
        save_tensors(
            together([warm.whole(state) if warm else state for state in states]), folder / training.file
        )
        records = [training_state.load_training_state(checkpoint)[1] for checkpoint in found]
        metrics[training.name] = {
            "epochs": [numbers["epoch"] for numbers in records],
            "validation_ndcg": [numbers["best_ndcg"] for numbers in records],
        }
    metrics.update(_calibrate(config, seed, sequences, folder))
    return metrics


def _together(on_log: OnLog, count: int) -> Callable[[str, dict[str, Any]], None]:
    """Tells of so many trainings as of one: what is done of each is added up. Called from several threads."""
    done: dict[str, float] = {}
    lock = threading.Lock()

    def log(label: str, values: dict[str, Any]) -> None:
        with lock:
            done[label] = values["epoch"] + values["samples"] / values["samples_an_epoch"]
            on_log({**values, "model": label, "done": sum(done.values()), "total": count * values["epochs"]})

    return log


def _trainings(config: TrainConfig) -> list[Training]:
    """The models to train, each with the names of its members."""
    wanted = [("with_intents", MODEL_FILE)]
    if config.baseline:
        wanted.append(("without_intents", BASELINE_FILE))
    numbers = [""] if config.members == 1 else [f"_{member + 1}" for member in range(config.members)]
    return [Training(name, file, [name + number for number in numbers]) for name, file in wanted]


def _freeze(
    config: TrainConfig,
    seed: int,
    sequences: PreparedSequences,
    prepared: Path,
    embedded: Path,
    dictionary_folder: Path,
    intents_folder: Path,
    cold: npt.NDArray[np.bool_],
) -> Frozen:
    users, met = sequences.train_interactions()
    dictionaries = read_dictionaries(dictionary_folder)
    codes = without_cooccurrence(read_codes(dictionary_folder), dictionaries, cold)
    others = np.random.default_rng(seed).permutation(codes.shape[0])
    if config.shuffle_codes:
        codes = csr_array(codes[others])
    if config.shuffle_codes or cold.any():
        # What the intents stage measured is of other codes or interactions.
        categories = item_categories(read_items(prepared))
        population = measure_population(codes, users, met, categories)
    else:
        population = read_population(intents_folder)
    counts = np.bincount(met, minlength=codes.shape[0])
    companions = count_companions(sequences, codes.shape[0], config.companions)
    if config.companions and not counts.all():
        vectors = load_embeddings(embedded)
        if config.shuffle_codes:  # the control has the text of the item whose codes it has
            vectors = vectors[others]
        companions = with_new_items(companions, vectors, counts, config.companions)
    return Frozen(
        codes=codes,
        companions=companions,
        decoder=dictionaries.decoder,
        prior=prior_table(population, config.public_share),
        popularity=np.log1p(counts).astype(np.float32),
    )


def _calibrate(config: TrainConfig, seed: int, sequences: PreparedSequences, folder: Path) -> dict[str, Any]:
    """Chooses lambda, mu and the bias of new items with validation users, then measures what steering needs to know."""
    state = load_file(folder / MODEL_FILE)
    frozen = read_frozen(folder, intents=True)
    cases = affordable(held_out(sequences, "validation"), frozen.codes.shape[0], seed)
    space, encoder = trained_parts(state, config, frozen)
    chosen: dict[str, Any] = {"prior_weight": 0.0, "prior_weights_tried": {}, "new_item_bias": 0.0}
    if len(cases):
        chosen |= _mean_branch_weights(encoder, cases)
        users = encode_users(encoder, cases)
        weight, tried = choose_prior_weight(config, space, frozen, users)
        chosen |= {"prior_weight": weight, "prior_weights_tried": tried}
        space = replace(space, prior_weight=weight)
        if config.companions:
            # Of what people took: with a bias for new items later on, those by text are no rivals of the targets yet.
            counted = users.without_companions_among(new_items(space.popularity))
            weight, best, tried = choose_companion_weight(config, space, frozen, counted)
            factor = best / weight if weight else 1.0
            chosen |= {"companion_weight": weight, "companion_weights_tried": tried, COMPANION_FACTOR: factor}
            frozen = _with_factor(frozen, factor)
            space, encoder = trained_parts(state, config, frozen, space.prior_weight, weight)
            users = replace(
                users, companions=reweighted(users.companions, new_items(space.popularity), factor)
            )
        new = new_items(space.popularity)
        bias, share = choose_new_item_bias(
            space, frozen.prior, users, config.new_item_exposure, config.new_item_places
        )
        chosen |= {"new_items": int(new.sum()), "new_item_bias": bias, "new_item_share_without_bias": share}
        space = replace(space, biases=np.where(new, np.float32(bias), space.biases))
    of_baseline = 0.0
    if config.companions and len(cases) and (folder / BASELINE_FILE).exists():
        plain = read_frozen(folder, intents=False)
        without, its_encoder = trained_parts(load_file(folder / BASELINE_FILE), config, plain)
        users = encode_users(its_encoder, cases)
        _, of_baseline, _ = choose_companion_weight(config, without, plain, users)
        chosen["companion_weight_without_intents"] = of_baseline
    values = population_values(encoder, space, frozen, sequences, seed)
    table = SteeringTable(
        targets=np.percentile(values, 99, axis=0).astype(np.float32),
        spreads=values.std(axis=0, dtype=np.float64).astype(np.float32),
        loading_caps=loading_caps(space.codes),
    )
    save_arrays(
        {
            "targets": table.targets,
            "spreads": table.spreads,
            "loading_caps": table.loading_caps,
            "value_quantiles": np.percentile(values, np.linspace(0, 100, QUANTILES), axis=0).astype(
                np.float32
            ),
            "prior_weight": np.array([space.prior_weight], dtype=np.float64),
            "new_item_bias": np.array([chosen["new_item_bias"]], dtype=np.float64),
            "companion_weight": np.array([space.companion_weight], dtype=np.float64),
            COMPANION_FACTOR: np.array([chosen.get(COMPANION_FACTOR, 1.0)], dtype=np.float64),
            "companion_weight_without_intents": np.array([of_baseline], dtype=np.float64),
        },
        folder / STEERING_FILE,
    )
    return chosen


def _mean_branch_weights(encoder: UserEncoder, cases: HeldOut) -> dict[str, list[float]]:
    """Means over users of what the gate gives, one a member, and the scale; see UserEncoder.branch_weights."""
    some = np.linspace(0, len(cases) - 1, min(len(cases), _GATE_SAMPLE)).astype(np.int64)
    found = encoder.branch_weights(cases.at(some).histories)
    return {name: np.atleast_2d(values).mean(axis=0).tolist() for name, values in found.items()}


def population_values(
    encoder: UserEncoder, space: ItemSpace, frozen: Frozen, sequences: PreparedSequences, seed: int
) -> Floats:
    """q_uf of training users from their training histories: (users, intents); at most 20,000 users."""
    known = np.flatnonzero(sequences.train_lengths > 0)
    if len(known) > _POPULATION_SAMPLE:
        known = np.sort(np.random.default_rng(seed).choice(known, _POPULATION_SAMPLE, replace=False))
    histories = [sequences.train(int(user)) for user in known]
    users = encode_users(encoder, HeldOut(known, histories, []))
    return intent_values(space, users.states, prior(users.profiles, frozen.prior))


def read_model(
    folder: Path, config: TrainConfig, *, baseline: bool = False
) -> tuple[ItemSpace, UserEncoder, Frozen]:
    """The trained model of a train folder, ready to score; `baseline` reads the one without intents."""
    frozen = read_frozen(folder, intents=not baseline)
    chosen = read_steering(folder)
    prior_weight = 0.0 if baseline else float(chosen["prior_weight"][0])
    companion_weight = chosen["companion_weight_without_intents" if baseline else "companion_weight"][0]
    new_item_bias = 0.0 if baseline else float(chosen["new_item_bias"][0])
    if not baseline and COMPANION_FACTOR in chosen:
        frozen = _with_factor(frozen, float(chosen[COMPANION_FACTOR][0]))
    state = load_file(folder / (BASELINE_FILE if baseline else MODEL_FILE))
    space, encoder = trained_parts(
        state, config, frozen, prior_weight, float(companion_weight), new_item_bias
    )
    return space, encoder, frozen


def _with_factor(frozen: Frozen, factor: float) -> Frozen:
    """The frozen side with new items counting so many times as much among companions."""
    return replace(frozen, companions=reweighted(frozen.companions, new_items(frozen.popularity), factor))


def read_steering(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Steering table, value quantiles and prior weight of a train folder."""
    return load_arrays(folder / STEERING_FILE)
