"""Catalogue entries: an id stands for one entry, and what is not kept is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from saerec_ray.data.cells import UnreadableCellError
from saerec_ray.data.collector import ItemCollector
from saerec_ray.data.prepared import REJECTED_FILE, read_items
from saerec_ray.data.raw import RawItem
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError
from saerec_ray.sources import Repeated
from tests.data.sources import csv_lines, problem, run, table_source, write

ROWS = [("ann", item, time) for time, item in enumerate("abcde")]
REPEATING = [("a", "one"), ("b", "x"), ("a", "two"), ("c", "x"), ("a", "three"), ("d", "x"), ("e", "x")]


def source(folder: Path, items: list[tuple[str, str]], **settings: Any) -> dict[str, Any]:
    given = {**table_source(folder, ROWS), **settings}
    write(folder / "items.csv", csv_lines("item_id,title", items))
    return given


def test_an_id_with_several_contents_is_refused_with_the_lines_of_both(tmp_path: Path) -> None:
    assert problem(tmp_path, source(tmp_path, REPEATING)) == (
        "items.csv lists one item id more than once with different content: 'a' on lines 2 and 4. Ids must be unique; "
        "prepare.source.repeated_items: first or last keeps one."
    )


def test_all_such_ids_are_counted_and_three_are_shown(tmp_path: Path) -> None:
    items = [(item, title) for title in ("one", "two", "three") for item in "abcde"]
    assert (
        "lists 5 item ids more than once with different content: 'a' on lines 2 and 7, 'b' on lines 3 and 8, "
        "'c' on lines 4 and 9, .... Ids" in problem(tmp_path, source(tmp_path, items))
    )
    three = [*items[:5], *items[7:10]]
    assert "3 item ids" in (message := problem(tmp_path, source(tmp_path, three)))
    assert "'e' on lines 6 and 9. Ids" in message


@pytest.mark.parametrize(
    ("kept", "titles", "rejected", "other"),
    [
        ("first", ["one", "x", "x", "x", "x"], [4, 6], "an earlier"),
        ("last", ["x", "x", "three", "x", "x"], [2, 4], "a later"),
    ],
)
def test_the_entry_asked_for_is_kept_where_it_stands_and_the_others_are_rejected(
    tmp_path: Path, kept: str, titles: list[str], rejected: list[int], other: str
) -> None:
    given = source(tmp_path, REPEATING, repeated_items=kept)
    out, metrics = run(tmp_path, given)
    items = read_items(out)
    assert items.titles == titles
    assert sorted(items.ids) == list("abcde")
    reason = f"{other} entry of the same item id is kept (repeated_items: {kept})"
    assert metrics["rejected"] == {f"items.csv: {reason}": {"count": 2, "first_lines": rejected}}
    assert pl.read_parquet(out / REJECTED_FILE)["content"].to_list() == ["a", "a"]
    assert f"items.csv, line {rejected[0]}: {other} entry" in problem(tmp_path, given, strict=True)


@pytest.mark.parametrize("repeated", ["refuse", "first", "last", None])
def test_the_same_entry_twice_is_one_and_nothing_is_lost(repeated: Repeated | None) -> None:
    collector = ItemCollector("items", Rejects(strict=True), repeated)
    for line, item_id in enumerate("aba"):
        collector.add(RawItem(item_id, "title", "text", line=line))
    assert [(item.item_id, item.line) for item in collector.items()] == [("a", 0), ("b", 1)]


def test_a_source_without_the_setting_does_not_name_it() -> None:
    collector = ItemCollector("meta.json", Rejects(strict=False))
    collector.add(RawItem("a", "one", "", line=1))
    collector.add(RawItem("a", "two", "", line=5))
    with pytest.raises(InputError, match=r"'a' on lines 1 and 5\. Ids must be unique\.$"):
        collector.items()


def test_a_row_with_an_unreadable_cell_is_rejected_whatever_its_id_holds() -> None:
    rejects = Rejects(strict=False)
    with ItemCollector("items", rejects).readable(7, "half a character: \ud83d"):
        raise UnreadableCellError("the column title holds an object")
    assert rejects.frame().rows() == [("items", 7, "the column title holds an object", "half a character: ?")]
