"""Folders of sequences: a user a line, an item a line; small written ones, and the real sets where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.data.prepared import read_items, read_sequences
from tests.data.sources import json_lines, prepared, problem, run, sequences, write

REAL = Path(os.environ.get("SAEREC_DATA", "../shared/data"))
ITEMS: list[dict[str, Any]] = [
    {"id": 1, "title": "Lamp", "text": "A red lamp", "brand": "Lumo", "categories": [["Home", "Light"]]},
    {"id": 2, "text": "x" * 200, "genres": ["Drama"], "tags": "slow", "categories": ["Home"]},
    {"id": 3, "text": "Cup", "category": "Home"},
]


def source(folder: Path, lines: str, items: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    write(folder / "sequences.txt", lines)
    write(folder / "items.jsonl", json_lines(ITEMS if items is None else items))
    return {"format": "sequences", "path": str(folder)}


def test_the_order_of_a_line_is_the_order_in_time(tmp_path: Path) -> None:
    out, _ = run(tmp_path, source(tmp_path, "7 3 1 2\n5 1 2 3\n"))
    assert sequences(out) == {"7": ["3", "1", "2"], "5": ["1", "2", "3"]}
    assert read_sequences(out).times is None


def test_items_bring_text_title_and_attributes(tmp_path: Path) -> None:
    items = read_items(run(tmp_path, source(tmp_path, "7 3 1 2\n"))[0])
    assert items.texts == ["A red lamp", "x" * 200, "Cup"]
    assert items.titles == ["Lamp", "x" * 80, "Cup"]
    assert items.attributes == [
        {"brand": ["Lumo"], "category": ["Light"]},
        {"genre": ["Drama"], "tag": ["slow"]},
        {},
    ]


def test_other_file_names_are_found(tmp_path: Path) -> None:
    given = source(tmp_path, "7 3 1 2\n")
    (tmp_path / "sequences.txt").rename(tmp_path / "core.txt")
    (tmp_path / "items.jsonl").rename(tmp_path / "goods.jsonl")
    named = {**given, "sequences_file": "core.txt", "items_file": "goods.jsonl"}
    assert prepared(tmp_path, named) == {"7": ["3", "1", "2"]}


def test_blank_lines_and_runs_of_spaces_do_not_matter(tmp_path: Path) -> None:
    given = source(tmp_path, "\n   \n7  3\t1 2 \r\n\t\n")
    out, metrics = run(tmp_path, given)
    assert sequences(out) == {"7": ["3", "1", "2"]}
    assert metrics["rejected"] == {}


def test_a_user_on_two_lines_is_one_sequence(tmp_path: Path) -> None:
    assert prepared(tmp_path, source(tmp_path, "7 3 1\n5 1 2 3\n7 2\n")) == {
        "7": ["3", "1", "2"],
        "5": ["1", "2", "3"],
    }


def test_bad_lines_are_counted_with_their_numbers(tmp_path: Path) -> None:
    given = source(tmp_path, "7 3 1 2\n5\n")
    with (tmp_path / "sequences.txt").open("ab") as handle:
        handle.write(b"6 1 \xff 2\n8 1 " + b"9" * 300 + b"\n9 1 \x07\n")
    out, metrics = run(tmp_path, given)
    assert sequences(out) == {"7": ["3", "1", "2"]}
    assert {reason: entry["first_lines"] for reason, entry in metrics["rejected"].items()} == {
        "sequences.txt: the id holds control characters": [5],
        "sequences.txt: the id is longer than 256 bytes": [4],
        "sequences.txt: the row is not valid UTF-8": [3],
        "sequences.txt: the user has no items": [2],
    }


def test_an_item_without_an_id_field_is_refused_with_the_fields_it_has(tmp_path: Path) -> None:
    given = source(tmp_path, "7 3 1 2\n", [{"asin": 1, "text": "a"}])
    assert "line 1: the item has no field 'id'; it has asin, text." in problem(tmp_path, given)


@pytest.mark.parametrize("identifier", [None, True, {"a": 1}])
def test_an_id_that_is_no_id_rejects_the_item(tmp_path: Path, identifier: object) -> None:
    _, metrics = run(tmp_path, source(tmp_path, "7 3 1 2\n", [*ITEMS, {"id": identifier, "text": "a"}]))
    assert metrics["rejected"] == {
        "items.jsonl: an item cannot be used: the id is missing": {"count": 1, "first_lines": [4]}
    }


def test_a_text_that_is_a_list_is_joined(tmp_path: Path) -> None:
    given = source(tmp_path, "7 3 1 2\n", [*ITEMS[:2], {"id": 3, "text": ["A cup.", "Blue."]}])
    assert read_items(run(tmp_path, given)[0]).texts[2] == "A cup. Blue."


def test_an_object_where_text_should_be_rejects_the_item(tmp_path: Path) -> None:
    given = source(tmp_path, "7 3 1 2\n", [*ITEMS, {"id": 4, "text": "a", "brand": {"name": "Lumo"}}])
    _, metrics = run(tmp_path, given)
    assert metrics["rejected"] == {
        "items.jsonl: the field brand holds an object, which cannot be read as text": {
            "count": 1,
            "first_lines": [4],
        }
    }


def real_set(name: str) -> dict[str, Any]:
    """What META.json says of a real set."""
    path = REAL / name / "META.json"
    if not path.is_file():
        pytest.skip(f"no folder {REAL / name}: set SAEREC_DATA")
    return dict(json.loads(path.read_text("utf-8")))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("amazon2014_beauty", {"user_core": 5, "item_core": 5}),
        ("ml_latest_small_2018", {}),
    ],
)
def test_real_sets_have_the_size_they_are_said_to_have(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    meta = real_set(name)
    given = {"format": "sequences", "path": str(REAL / name)}
    out, metrics = run(tmp_path, given, **settings)
    assert (metrics["users"], metrics["items"], metrics["interactions"]) == (
        meta["users"],
        meta["items"],
        meta["interactions"],
    )
    assert (metrics["rejected"], metrics["dropped_by_core"], metrics["repeats_dropped"]) == ({}, 0, 0)
    lengths = np.diff(read_sequences(out).offsets)
    if "max_len" in meta:
        assert (lengths.min(), lengths.max()) == (meta["min_len"], meta["max_len"])


def test_the_core_of_a_real_set_is_the_published_one(tmp_path: Path) -> None:
    meta = real_set("ml_latest_small_2018")
    given = {"format": "sequences", "path": str(REAL / "ml_latest_small_2018")}
    _, metrics = run(tmp_path, given, user_core=5, item_core=5)
    assert [metrics["users"], metrics["items"], metrics["interactions"]] == meta["core5"]
