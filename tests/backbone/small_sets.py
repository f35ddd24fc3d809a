"""Small data sets for the tests of the backbone: sequences, codes and everything frozen, no text, no Ray."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st

from saerec_ray.backbone.companions import count_companions
from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.frozen import Frozen, prior_table
from saerec_ray.backbone.model import Backbone
from saerec_ray.backbone.trainer import together, trained_parts
from saerec_ray.config import TrainConfig
from saerec_ray.data.prepared import (
    ITEMS_FILE,
    SEQUENCES_FILE,
    SEQUENCES_SCHEMA,
    PreparedItems,
    PreparedSequences,
    items_table,
)
from saerec_ray.intents.population import Population, measure_population
from saerec_ray.scoring import Floats, ItemSpace
from tests.synthetic import synthetic_codes

ITEMS = 40
INTENTS = 12
TEXT = 16
GROUPS = 4
"""Kinds of items; a user stays with one, so that there is something to learn."""

Parts = tuple[list[int], list[int], list[int]]
"""Training, validation and test items of one user."""


def sequences_of(users: list[Parts]) -> PreparedSequences:
    """The sequences of users whose three parts are written out."""
    lengths = [len(train) + len(validation) + len(test) for train, validation, test in users]
    return PreparedSequences(
        user_ids=[f"u{number}" for number in range(len(users))],
        items=np.array([item for parts in users for part in parts for item in part], dtype=np.int32),
        times=None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        train_lengths=np.array([len(train) for train, _, _ in users], dtype=np.int32),
        validation_lengths=np.array([len(train) + len(later) for train, later, _ in users], dtype=np.int32),
    )


@st.composite
def any_users(draw: st.DrawFn, items: int = 30) -> list[Parts]:
    """Users of all kinds, with parts of any length, also none; no item twice over all users and parts.

    So an item tells the user and the part it was met in.
    """
    lengths = draw(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8)
    )
    users, place = [], 0
    for train, validation, test in lengths:
        ends = np.cumsum([place, train, validation, test]).tolist()
        users.append(tuple(list(range(a, b)) for a, b in itertools.pairwise(ends)))
        place = ends[-1]
    return users


def grouped_users(count: int = 60, seed: int = 3) -> list[Parts]:
    """Users who walk round the items of one group in order; the last two are held out."""
    rng = np.random.default_rng(seed)
    size = ITEMS // GROUPS
    users: list[Parts] = []
    for _ in range(count):
        length = int(rng.integers(4, size + 1))
        first, group = int(rng.integers(size)), int(rng.integers(GROUPS))
        walk = [group * size + (first + step) % size for step in range(length)]
        users.append((walk[:-2], walk[-2:-1], walk[-1:]))
    return users


def groups_of_items() -> list[list[str]]:
    """The group of each item, which is its category."""
    return [[str(item * GROUPS // ITEMS)] for item in range(ITEMS)]


def text_vectors(seed: int = 1) -> Floats:
    """Texts that tell the group of an item: (items, 8)."""
    rng = np.random.default_rng(seed)
    vectors = np.eye(8)[np.arange(ITEMS) * GROUPS // ITEMS] + 0.01 * rng.normal(size=(ITEMS, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def population_of(sequences: PreparedSequences, frozen_codes: Any) -> Population:
    """Statistics of the training interactions."""
    users, met = sequences.train_interactions()
    return measure_population(frozen_codes, users, met, groups_of_items())


def frozen_of(sequences: PreparedSequences, seed: int = 5, public_share: float = 0.1) -> Frozen:
    """Random codes and decoder with the prior and popularity of these sequences."""
    rng = np.random.default_rng(seed)
    codes = synthetic_codes(rng, ITEMS, INTENTS)
    decoder = rng.normal(size=(INTENTS, TEXT)).astype(np.float32)
    _, met = sequences.train_interactions()
    return Frozen(
        codes=codes,
        decoder=decoder / np.linalg.norm(decoder, axis=1, keepdims=True),
        prior=prior_table(population_of(sequences, codes), public_share),
        popularity=np.log1p(np.bincount(met, minlength=ITEMS)).astype(np.float32),
        companions=count_companions(sequences, ITEMS, 5),
    )


def small_settings(**changes: Any) -> TrainConfig:
    """A backbone that trains in a moment."""
    settings = {
        "d_model": 16,
        "layers": 2,
        "heads": 2,
        "dropout": 0.0,
        "residual_dropout": 0.0,
        "max_length": 8,
        "batch_size": 32,
        "precision": "float32",
        "epochs": 3,
        "patience": 3,
        "personal_intents": 5,
        "public_intents": 4,
        "workers": 1,
        "baseline": False,
    }
    return TrainConfig.model_validate({**settings, **changes})


def write_sequences(sequences: PreparedSequences, folder: Path) -> None:
    """The part of a prepared set that training reads."""
    offsets = pa.array(sequences.offsets.astype(np.int32))
    columns = {
        "user_id": sequences.user_ids,
        "items": pa.ListArray.from_arrays(offsets, pa.array(sequences.items)),
        "times": pa.ListArray.from_arrays(offsets, pa.nulls(len(sequences.items), pa.int64())),
        "train_length": pa.array(sequences.train_lengths),
        "validation_length": pa.array(sequences.validation_lengths),
    }
    pq.write_table(pa.table(columns, schema=SEQUENCES_SCHEMA), folder / SEQUENCES_FILE)


def write_items(folder: Path) -> None:
    """The catalogue, with the category of every item."""
    names = [str(item) for item in range(ITEMS)]
    attributes = [{"category": groups} for groups in groups_of_items()]
    pq.write_table(items_table(PreparedItems(names, names, names, attributes)), folder / ITEMS_FILE)


def untrained_weights(settings: TrainConfig, frozen: Frozen, seed: int = 1) -> dict[str, torch.Tensor]:
    """The state of a Backbone with random weights, large enough for intents and order to matter."""
    torch.manual_seed(seed)
    model = Backbone(ITEMS, settings, torch.from_numpy(frozen.decoder))
    with torch.no_grad():
        model.items.residuals.normal_(std=0.5)
        model.items.biases.normal_(std=0.2)
        model.items.intent_vectors.mul_(20)
        model.encoder.positions.normal_(std=0.5)
        if hasattr(model.encoder, "branch_scale"):
            model.encoder.branch_scale.fill_(0.7)
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def small_encoder(
    frozen: Frozen, prior_weight: float = 0.0, seed: int = 1, **changes: Any
) -> tuple[ItemSpace, UserEncoder]:
    """Scoring space and encoder of such a Backbone."""
    settings = small_settings(**changes)
    members = [untrained_weights(settings, frozen, seed + member) for member in range(settings.members)]
    return trained_parts(together(members), settings, frozen, prior_weight)
