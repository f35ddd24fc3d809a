"""Places in a history: those of the catalogue first, those of other domains after them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.errors import InputError
from saerec_ray.foreign_items import ForeignItems, SourceRecord, write_foreign_items
from saerec_server.history_items import load_history_items
from tests.synthetic import load_synthetic_bundle, synthetic_codes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_synthetic_bundle(tmp_path_factory.mktemp("home") / "bundle")


def write(home: Bundle, folder: Path, name: str, count: int, seed: int) -> Path:
    items = ForeignItems(
        name,
        [f"{name}/{number}" for number in range(count)],
        [f"{name} {number}" for number in range(count)],
        synthetic_codes(np.random.default_rng(seed), count, home.space.intent_count),
    )
    write_foreign_items(items, home, SourceRecord(folder=name, data_sha256="0" * 64), False, folder)
    return folder


def test_without_other_domains_histories_are_read_in_the_space_of_the_bundle(home: Bundle) -> None:
    items = load_history_items(home, ())
    assert items.space is home.space
    assert items.home_count == len(home.items) == len(items.index)


def test_every_item_has_one_place_with_its_title_and_code(home: Bundle, tmp_path: Path) -> None:
    folders = [write(home, tmp_path / name, name, count, count) for name, count in (("mugs", 3), ("cups", 4))]
    items = load_history_items(home, folders)
    catalogue = len(home.items)
    assert sorted(items.index.values()) == list(range(catalogue + 7)) == list(range(len(items.titles)))
    assert {item_id: items.index[item_id] for item_id in home.items.ids} == {
        item_id: place for place, item_id in enumerate(home.items.ids)
    }
    place = items.index["cups/2"]
    assert (place, items.titles[place]) == (catalogue + 5, "cups 2")
    expected = synthetic_codes(np.random.default_rng(4), 4, home.space.intent_count)
    np.testing.assert_array_equal(items.space.codes[[place]].toarray(), expected[[2]].toarray())
    assert items.at_home([place, 5, 0, catalogue - 1, catalogue]) == [5, 0, catalogue - 1]


def test_two_domains_of_one_name_are_refused(home: Bundle, tmp_path: Path) -> None:
    folders = [write(home, tmp_path / str(number), "mugs", 3, number) for number in range(2)]
    with pytest.raises(InputError, match=r"are both named mugs; write one of them with another --name"):
        load_history_items(home, folders)
