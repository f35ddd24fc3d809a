"""The stage on disk: what it reads from earlier stages and what it leaves for later ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import ITEMS_FILE, SEQUENCES_FILE, SEQUENCES_SCHEMA, PreparedItems, items_table
from saerec_ray.dictionary.sae import Dictionary, Scaling, write_codes, write_dictionary
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.intents.population import measure_population
from saerec_ray.intents.stage import build_intents, item_categories, read_population
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.intents.planted import TOPICS, Planted, encode, plant

USERS, LENGTH, TRAINED = 30, 12, 10


def histories(items: int) -> np.ndarray:
    return np.random.default_rng(3).integers(items, size=(USERS, LENGTH)).astype(np.int32)


def write_stages(planted: Planted, workdir: Path) -> None:
    """The folders of the stages before, as those stages write them."""
    import pyarrow as pa

    for name in ("prepare", "embed", "dictionary", "intents"):
        (workdir / name).mkdir()
    pq.write_table(items_table(planted.items), workdir / "prepare" / ITEMS_FILE)
    rows = histories(len(planted.items))
    sequences = pa.table(
        {
            "user_id": [f"user-{user}" for user in range(USERS)],
            "items": rows.tolist(),
            "times": [list(range(LENGTH))] * USERS,
            "train_length": [TRAINED] * USERS,
            "validation_length": [TRAINED + 1] * USERS,
        },
        schema=SEQUENCES_SCHEMA,
    )
    pq.write_table(sequences, workdir / "prepare" / SEQUENCES_FILE)
    save_file({"embeddings": planted.embeddings}, workdir / "embed" / EMBEDDINGS_FILE)
    width, dimension = planted.decoder.shape
    dictionary = Dictionary(
        encoder=planted.decoder,
        encoder_bias=np.zeros(width, dtype=np.float32),
        decoder=planted.decoder,
        decoder_bias=np.zeros(dimension, dtype=np.float32),
        threshold=0.5,
        most_active=8,
        scaling=Scaling(planted.mean, 1.0),
    )
    write_dictionary(dictionary, workdir / "dictionary")
    write_codes(planted.codes, workdir / "dictionary")


def build(workdir: Path) -> dict[str, object]:
    folders = [workdir / name for name in ("prepare", "embed", "dictionary", "intents")]
    return build_intents(IntentsConfig(), 5, *folders, encode)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    write_stages(plant(), tmp_path)
    return tmp_path


def test_the_stage_writes_the_catalogue_that_the_items_deserve(workdir: Path) -> None:
    metrics = build(workdir)
    catalogue = read_catalogue(workdir / "intents")
    labels = [intent.label.lower() for intent in catalogue.intents[: len(TOPICS)]]
    assert all(set(label.split()) & set(name.split()) for label, name in zip(labels, TOPICS, strict=True))
    assert metrics["published"] == sum(intent.published for intent in catalogue.intents)


def test_population_statistics_are_of_training_interactions_alone_and_come_back_as_written(
    workdir: Path,
) -> None:
    build(workdir)
    planted = plant()
    read, vectors = read_population(workdir / "intents")
    met = histories(len(planted.items))[:, :TRAINED].ravel()
    users = np.repeat(np.arange(USERS), TRAINED)
    measured = measure_population(planted.codes, users, met, item_categories(planted.items))
    assert (read.users, read.mean_item_mass) == (
        measured.users,
        pytest.approx(measured.mean_item_mass, rel=1e-9),
    )
    for name, values in measured.arrays().items():
        np.testing.assert_array_equal(read.arrays()[name], values)
    assert vectors.shape == planted.decoder.shape


def test_a_second_run_writes_the_same_bytes(workdir: Path) -> None:
    build(workdir)
    first = {path.name: path.read_bytes() for path in (workdir / "intents").iterdir()}
    build(workdir)
    assert {path.name: path.read_bytes() for path in (workdir / "intents").iterdir()} == first
    assert len(first) == 2


def items_with(*attributes: dict[str, list[str]]) -> PreparedItems:
    names = [str(place) for place in range(len(attributes))]
    return PreparedItems(names, names, names, list(attributes))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (items_with({"genre": ["g"], "category": ["c"], "brand": ["b"]}, {"genre": ["g"]}), [["c"], []]),
        (items_with({"genre": ["g"], "brand": ["b"]}, {"brand": ["b"]}), [["g"], []]),
        (items_with({"brand": ["b"], "colour": ["x"]}, {"colour": ["x", "y"]}), [["x"], ["x", "y"]]),
        (items_with({}, {}), [[], []]),
    ],
    ids=["category first", "then genre", "then what most items have", "nothing"],
)
def test_items_are_sorted_by_category_then_genre_then_the_commonest_attribute(
    items: PreparedItems, expected: list[list[str]]
) -> None:
    assert item_categories(items) == expected
