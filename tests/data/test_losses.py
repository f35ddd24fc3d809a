"""What was lost is told in one sentence, with a warning where it is more than half, and silence where it is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.sources import csv_lines, json_lines, table_source, told, write

GOOD = [(user, item, time) for user in ("ann", "bob") for time, item in enumerate("abcde")]
NAMES = list("abcde")


def with_bad(folder: Path, rows: int = 0, items: int = 0, unknown: int = 0) -> dict[str, Any]:
    """A source of 10 good interactions and 5 good items, and so many others after them."""
    bad = [("", "a", 1)] * rows
    strange = [("ann", f"x{number}", 1) for number in range(unknown)]
    given = table_source(folder, [*GOOD, *bad, *strange], items=NAMES)
    with (folder / "items.csv").open("a") as handle:
        handle.write(",nameless\n" * items)
    return given


def test_nothing_is_said_where_nothing_is_lost(tmp_path: Path) -> None:
    assert told(tmp_path, with_bad(tmp_path)) == []


def test_what_people_ask_to_leave_out_is_not_lost(tmp_path: Path) -> None:
    given = {**with_bad(tmp_path), "rating_column": "timestamp"}
    with (tmp_path / "items.csv").open("a") as handle:
        handle.write("a,title a\n")  # the same entry again
    assert told(tmp_path, given, min_rating=1, user_core=2, item_core=2) == []


def test_rejected_rows_are_counted_with_the_file_and_line_of_the_first(tmp_path: Path) -> None:
    assert told(tmp_path, with_bad(tmp_path, rows=2)) == [
        "left out 2 of 12 interactions in interactions.csv (the first: line 12: the user id is missing)."
    ]


def test_interactions_of_unknown_items_are_counted_among_those_that_can_be_read(tmp_path: Path) -> None:
    assert told(tmp_path, with_bad(tmp_path, unknown=3)) == [
        "left out 3 of 13 interactions whose items are unknown or left out."
    ]


def test_all_that_was_lost_is_one_sentence(tmp_path: Path) -> None:
    assert told(tmp_path, with_bad(tmp_path, rows=2, items=1, unknown=3)) == [
        "left out 2 of 15 interactions in interactions.csv (the first: line 12: the user id is missing), "
        "1 of 6 items in items.csv (the first: line 7: an item cannot be used: the id is missing) and "
        "3 of 13 interactions whose items are unknown or left out."
    ]


def test_items_without_text_are_among_the_lost_and_so_are_their_interactions(tmp_path: Path) -> None:
    given = with_bad(tmp_path)
    write(tmp_path / "items.csv", csv_lines("item_id,title", [*((name, name) for name in "abcd"), ("e", "")]))
    assert told(tmp_path, given) == [
        "left out 1 of 5 items in items.csv (the first: line 6: the item has no text) and "
        "2 of 10 interactions whose items are unknown or left out."
    ]


@pytest.mark.parametrize(
    ("bad", "warned"),
    [
        ({"rows": 10}, False),
        ({"rows": 11}, True),
        ({"items": 5}, False),
        ({"items": 6}, True),
        ({"unknown": 10}, False),
        ({"unknown": 11}, True),
        ({"rows": 5, "unknown": 5}, False),
        ({"rows": 5, "unknown": 6}, True),
    ],
)
def test_more_than_half_of_a_file_or_of_the_interactions_is_a_warning(
    tmp_path: Path, bad: dict[str, int], warned: bool
) -> None:
    (sentence,) = told(tmp_path, with_bad(tmp_path, **bad))
    assert sentence.startswith("WARNING: left out ") == warned
    assert sentence.endswith("; check prepare.source.") == warned


def test_two_files_of_one_name_are_counted_apart(tmp_path: Path) -> None:
    given = with_bad(tmp_path, rows=2, items=1)
    for key, name in (("interactions", "log"), ("items", "goods")):
        (tmp_path / name).mkdir()
        given[key] = str(Path(given[key]).rename(tmp_path / name / "data.csv"))
    (sentence,) = told(tmp_path, given)
    assert "left out 2 of 12 interactions in data.csv (" in sentence
    assert " and 1 of 6 items in data.csv (" in sentence


def test_a_line_of_sequences_is_as_many_interactions_as_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "sequences.txt", "ann 1 2 3 4\nbob 1 2 3 \x07\n")
    items = [{"id": number, "text": f"item {number}"} for number in range(1, 5)]
    write(tmp_path / "items.jsonl", json_lines(items))
    assert told(tmp_path, {"format": "sequences", "path": str(tmp_path)}) == [
        "left out 4 of 8 interactions in sequences.txt (the first: line 2: the id holds control characters)."
    ]
