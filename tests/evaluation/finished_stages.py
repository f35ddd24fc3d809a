"""Work directories with finished stages but no training: a random bundle taken apart into stage folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import save_file

from saerec_ray.backbone.build import BASELINE_FILE, MODEL_FILE, STEERING_FILE
from saerec_ray.backbone.frozen import Frozen, write_frozen
from saerec_ray.backbone.model import SequenceEncoder
from saerec_ray.bundle import Bundle
from saerec_ray.data.prepared import ITEMS_FILE, SEQUENCES_FILE, SEQUENCES_SCHEMA, items_table
from saerec_ray.intents.catalogue import write_catalogue
from saerec_ray.intents.stage import POPULATION_FILE
from saerec_ray.manifest import MANIFEST_NAME, Manifest, hash_files, write_json
from tests.synthetic import load_synthetic_bundle

USERS = 40


def write_stages(workdir: Path, *, baseline: bool = True) -> Bundle:
    """Writes prepare/, embed/, intents/ and train/ below `workdir`, with manifests; returns their bundle.

    No item is held out of training, so embed/ is never read and holds its manifest alone.
    """
    bundle = load_synthetic_bundle(workdir / "origin")
    for stage, write in (("prepare", _prepare), ("embed", _embed), ("intents", _intents), ("train", _train)):
        folder = workdir / stage
        folder.mkdir()
        write(bundle, folder)
        if stage == "train" and not baseline:
            (folder / BASELINE_FILE).unlink()
        manifest = Manifest(
            stage=stage,
            fingerprint=stage,
            inputs={},
            config={},
            seed=7,
            versions={},
            files=hash_files(folder),
            metrics={},
            seconds=0.0,
            finished="",
        )
        write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))
    (workdir / "config.yaml").write_text(json.dumps(bundle.config.model_dump(mode="json")), "utf-8")
    return bundle


def _prepare(bundle: Bundle, folder: Path) -> None:
    rng = np.random.default_rng(1)
    sequences = [
        rng.permutation(len(bundle.items))[: rng.integers(5, 15)].astype(np.int32) for _ in range(USERS)
    ]
    pq.write_table(items_table(bundle.items), folder / ITEMS_FILE)
    table = pa.table(
        {
            "user_id": [f"user-{user}" for user in range(USERS)],
            "items": [sequence.tolist() for sequence in sequences],
            "times": [[None] * len(sequence) for sequence in sequences],
            "train_length": [len(sequence) - 2 for sequence in sequences],
            "validation_length": [len(sequence) - 1 for sequence in sequences],
        },
        schema=SEQUENCES_SCHEMA,
    )
    pq.write_table(table, folder / SEQUENCES_FILE)


def _embed(bundle: Bundle, folder: Path) -> None:
    """Nothing."""


def _intents(bundle: Bundle, folder: Path) -> None:
    write_catalogue(bundle.catalogue, folder)
    population = bundle.population
    scalars = {
        name: np.array([getattr(population, name)], dtype=np.float64) for name in ("users", "mean_item_mass")
    }
    save_file({**population.arrays(), **scalars}, folder / POPULATION_FILE)


def _train(bundle: Bundle, folder: Path) -> None:
    space = bundle.space
    write_frozen(Frozen(space.codes, bundle.dictionary["decoder"], bundle.prior, space.popularity), folder)
    items = {"items.residuals": space.residuals, "items.biases": space.biases}
    encoder = {f"encoder.{name}": value for name, value in bundle.backbone.items()}
    save_file({**items, **encoder, "items.intent_vectors": space.intent_vectors}, folder / MODEL_FILE)
    torch.manual_seed(3)
    plain = SequenceEncoder(bundle.config.train, intents=False).state_dict()
    save_file(
        {**items, **{f"encoder.0.{name}": value.numpy() for name, value in plain.items()}},
        folder / BASELINE_FILE,
    )
    save_file(
        {
            "targets": bundle.steering.targets,
            "spreads": bundle.steering.spreads,
            "loading_caps": bundle.steering.loading_caps,
            "value_quantiles": bundle.value_quantiles,
            "prior_weight": np.array([space.prior_weight], dtype=np.float64),
        },
        folder / STEERING_FILE,
    )
