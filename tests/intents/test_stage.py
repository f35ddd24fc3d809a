"""The stage on disk: what it reads from earlier stages and what it leaves for later ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import PreparedItems
from saerec_ray.dictionary.stability import write_stability
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.intents.population import measure_population
from saerec_ray.intents.stage import build_intents, item_categories, read_label_vectors, read_population
from tests.intents.planted import TOPICS, encode, plant
from tests.intents.stage_folders import TRAINED, USERS, histories, write_stages


def build(workdir: Path) -> dict[str, object]:
    folders = [workdir / name for name in ("prepare", "embed", "dictionary", "intents")]
    return build_intents(IntentsConfig(), 5, *folders, encode)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    write_stages(plant(), tmp_path)
    (tmp_path / "intents").mkdir()
    return tmp_path


def test_the_stage_writes_the_catalogue_that_the_items_deserve(workdir: Path) -> None:
    metrics = build(workdir)
    catalogue = read_catalogue(workdir / "intents")
    labels = [intent.label.lower() for intent in catalogue.intents[: len(TOPICS)]]
    assert all(set(label.split()) & set(name.split()) for label, name in zip(labels, TOPICS, strict=True))
    assert metrics["published"] == sum(intent.published for intent in catalogue.intents)


def test_latents_that_other_seeds_did_not_find_again_are_left_out_of_what_people_see(workdir: Path) -> None:
    before = build(workdir)
    values = np.full(len(plant().decoder), 0.9, dtype=np.float32)
    values[1] = 0.3
    write_stability(values, workdir / "dictionary")
    metrics = build(workdir)
    intents = read_catalogue(workdir / "intents").intents
    assert not intents[1].published
    assert intents[1].stability == pytest.approx(0.3)
    assert metrics["published"] == int(str(before["published"])) - 1
    assert metrics["unstable"] == 1


def test_population_statistics_are_of_training_interactions_alone_and_come_back_as_written(
    workdir: Path,
) -> None:
    build(workdir)
    planted = plant()
    read = read_population(workdir / "intents")
    met = histories(len(planted.items))[:, :TRAINED].ravel()
    users = np.repeat(np.arange(USERS), TRAINED)
    measured = measure_population(planted.codes, users, met, item_categories(planted.items))
    assert (read.users, read.mean_item_mass) == (
        measured.users,
        pytest.approx(measured.mean_item_mass, rel=1e-9),
    )
    for name, values in measured.arrays().items():
        np.testing.assert_array_equal(read.arrays()[name], values)
    assert read_label_vectors(workdir / "intents").shape == planted.decoder.shape


def test_a_second_run_writes_the_same_bytes(workdir: Path) -> None:
    build(workdir)
    first = {path.name: path.read_bytes() for path in (workdir / "intents").iterdir()}
    build(workdir)
    assert {path.name: path.read_bytes() for path in (workdir / "intents").iterdir()} == first
    assert len(first) == 4


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
