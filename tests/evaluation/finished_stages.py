"""Work directories with finished stages but no training: a random bundle taken apart into stage folders."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from saerec_ray.backbone.build import BASELINE_FILE, MODEL_FILE, STEERING_FILE
from saerec_ray.backbone.cold import write_cold_items
from saerec_ray.backbone.companions_by_text import with_new_items
from saerec_ray.backbone.frozen import Frozen, read_frozen, write_frozen
from saerec_ray.backbone.model import SequenceEncoder
from saerec_ray.bundle import Bundle
from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import ITEMS_FILE, SEQUENCES_FILE, SEQUENCES_SCHEMA, items_table
from saerec_ray.dictionary.sae import Dictionary, Scaling, unit_rows, write_codes, write_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.intents.catalogue import write_catalogue
from saerec_ray.intents.stage import POPULATION_FILE
from saerec_ray.text.embed import EMBEDDINGS_FILE, load_embeddings
from tests.finished_stage import finish_stage
from tests.synthetic import load_synthetic_bundle

USERS = 40
D_TEXT = 384
SETTINGS = DictionaryConfig(width=32, active=4).model_dump(mode="json")
RECORDED = {
    "dictionary": {"settings": [SETTINGS, 7]},
    "intents": {"settings": [IntentsConfig(min_items=5).model_dump(mode="json")]},
}
"""What manifests say of how a stage was made."""


def write_stages(workdir: Path, *, baseline: bool = True, cold: bool = False) -> Bundle:
    """Writes prepare/, embed/, dictionary/, intents/ and train/ below `workdir`, with manifests; returns their
    bundle. With `cold` every fifth item was kept out of training.

    The dictionary reads vectors as long as those of the text encoder; it is not the one of the bundle.
    """
    bundle = load_synthetic_bundle(workdir / "origin")
    for stage, write in (
        ("prepare", _prepare),
        ("embed", _embed),
        ("dictionary", _dictionary),
        ("intents", _intents),
        ("train", _train),
    ):
        folder = workdir / stage
        folder.mkdir()
        write(bundle, folder)
        if stage == "train" and not baseline:
            (folder / BASELINE_FILE).unlink()
        if stage == "train" and cold:
            _keep_out(np.arange(len(bundle.items)) % 5 == 0, folder, workdir / "embed")
        finish_stage(folder, RECORDED.get(stage))
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


def directions(name: str, values: list[str]) -> np.ndarray:
    """A random direction for every value of an attribute: (values, D_TEXT)."""
    rng = np.random.default_rng(len(name))
    return unit_rows(rng.normal(size=(len(values), D_TEXT)).astype(np.float32))


def _embed(bundle: Bundle, folder: Path) -> None:
    """Vectors that say the category and the colour of an item, and little else."""
    rng = np.random.default_rng(5)
    vectors = 0.02 * rng.normal(size=(len(bundle.items), D_TEXT))
    for name in ("category", "colour"):
        own = [values[name][0] for values in bundle.items.attributes]
        values = sorted(set(own))
        vectors += directions(name, values)[[values.index(value) for value in own]]
    save_file({"embeddings": unit_rows(vectors.astype(np.float32))}, folder / EMBEDDINGS_FILE)


def _dictionary(bundle: Bundle, folder: Path) -> None:
    """Latents for the categories, then the colours, then random ones; as many as there are intents."""
    vectors = load_embeddings(folder.parent / "embed")
    planted = [
        directions(name, sorted({values[name][0] for values in bundle.items.attributes}))
        for name in ("category", "colour")
    ]
    rng = np.random.default_rng(6)
    random = rng.normal(size=(SETTINGS["width"] - sum(map(len, planted)), D_TEXT)).astype(np.float32)
    decoder = np.concatenate([*planted, unit_rows(random)])
    dictionary = Dictionary(
        encoder=decoder,
        encoder_bias=np.zeros(len(decoder), dtype=np.float32),
        decoder=decoder,
        decoder_bias=np.zeros(D_TEXT, dtype=np.float32),
        scaling=Scaling.fit(vectors),
        threshold=3.0,
        most_active=2 * SETTINGS["active"],
    )
    write_dictionary(dictionary, folder)
    write_codes(dictionary.encode(vectors), folder)


def _intents(bundle: Bundle, folder: Path) -> None:
    write_catalogue(bundle.catalogue, folder)
    population = bundle.population
    scalars = {
        name: np.array([getattr(population, name)], dtype=np.float64) for name in ("users", "mean_item_mass")
    }
    save_file({**population.arrays(), **scalars}, folder / POPULATION_FILE)


def _train(bundle: Bundle, folder: Path) -> None:
    space = bundle.space
    assert space.companions is not None
    frozen = Frozen(
        space.codes, bundle.dictionary["decoder"], bundle.prior, space.popularity, space.companions
    )
    write_frozen(frozen, folder)
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
            "new_item_bias": np.array([0.5], dtype=np.float64),
            "companion_weight": np.array([space.companion_weight], dtype=np.float64),
            "companion_weight_without_intents": np.array([0.25], dtype=np.float64),
        },
        folder / STEERING_FILE,
    )


def _keep_out(cold: np.ndarray, folder: Path, embedded: Path) -> None:
    """Takes everything but the codes and the texts from some items of a train folder."""
    frozen = read_frozen(folder, intents=True)
    warm = (~cold).astype(np.float32)
    counted = csr_array(frozen.companions * warm[:, None] * warm[None, :])
    write_frozen(
        replace(
            frozen,
            popularity=frozen.popularity * warm,
            companions=with_new_items(counted, load_embeddings(embedded), warm.astype(np.int64), 5),
        ),
        folder,
    )
    for file in (MODEL_FILE, BASELINE_FILE):
        if (folder / file).exists():
            state = load_file(folder / file)
            state["items.residuals"] *= warm[:, None]
            state["items.biases"] *= warm
            save_file(state, folder / file)
    write_cold_items(cold, folder)


def encode(texts: list[str]) -> np.ndarray:
    """Unit vectors of texts, the same for the same text: (texts, D_TEXT)."""
    rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=D_TEXT) for text in texts]
    return unit_rows(np.asarray(rows, dtype=np.float32).reshape(-1, D_TEXT))
