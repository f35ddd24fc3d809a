"""Rows that cannot be used: counted by reason with their first lines, kept in a file, or fatal on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from saerec_ray.data.prepared import REJECTED_FILE, read_items
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError
from tests.data.sources import prepared, problem, run, sequences, table_source, write

GOOD = [("ann", "1", 1), ("ann", "2", 2), ("ann", "3", 3)]
LONG = "x" * 257
NO_TIME = (
    "the column timestamp (prepare.source.time_column) holds no time: neither seconds since 1970, nor an ISO 8601 text "
    "such as 2024-01-02 or 2024-01-02T03:04:05Z, nor a date or datetime of Parquet; time_column: null reads no times"
)
BAD_ROWS = {
    ",1,5": "the user id is missing",
    "  ,1,5": "the user id is missing",
    "bob,,5": "the item id is missing",
    "bob,1": NO_TIME,
    "bob,1,yesterday": NO_TIME,
    "bob,1,nan": NO_TIME,
    "bob,1,inf": NO_TIME,
    "bob,1,1e30": "the time is beyond the year 9999; it must be in seconds since 1970",
    "bob,1,1700000000000": "the time is beyond the year 9999; it must be in seconds since 1970",
    f"{LONG},1,5": "the user id is longer than 256 bytes",
    f"bob,{LONG},5": "the item id is longer than 256 bytes",
    "b\x07b,1,5": "the user id holds control characters",
    "bob,1\x00,5": "the item id holds control characters",
}


def with_rows(folder: Path, *rows: str | bytes) -> dict[str, Any]:
    """A source whose first row is good, then these, then the other good ones."""
    given = table_source(folder, GOOD)
    path = Path(given["interactions"])
    head, first, *rest = path.read_bytes().splitlines(keepends=True)
    extra = [(row.encode() if isinstance(row, str) else row) + b"\n" for row in rows]
    path.write_bytes(b"".join([head, first, *extra, *rest]))
    return given


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS.items())
def test_an_unusable_row_is_left_out_and_counted_by_reason(tmp_path: Path, row: str, reason: str) -> None:
    if "\x00" in row:  # a file with NUL near its start is taken for UTF-16 and refused whole
        given = table_source(tmp_path, [*GOOD] * 4000)
        with Path(given["interactions"]).open("a") as handle:
            handle.write(f"{row}\n")
        line = 12_002
    else:
        given, line = with_rows(tmp_path, row), 3
    out, metrics = run(tmp_path, given)
    assert sequences(out) == {"ann": ["1", "2", "3"]}
    assert metrics["rejected"] == {f"interactions.csv: {reason}": {"count": 1, "first_lines": [line]}}


def test_bytes_that_are_not_utf8_reject_their_row_only(tmp_path: Path) -> None:
    _, metrics = run(tmp_path, with_rows(tmp_path, b"b\xffb,1,5", b"bob,\xe9,5"))
    assert metrics["rejected"] == {
        "interactions.csv: the row is not valid UTF-8": {"count": 2, "first_lines": [3, 4]}
    }


def test_every_rejected_row_is_in_the_file_and_every_row_is_accounted_for(tmp_path: Path) -> None:
    rows = [row for row in BAD_ROWS if "\x00" not in row]
    out, metrics = run(tmp_path, with_rows(tmp_path, *rows))
    kept = pl.read_parquet(out / REJECTED_FILE)
    assert kept["line"].to_list() == list(range(3, 3 + len(rows)))
    assert kept["reason"].to_list() == [BAD_ROWS[row] for row in rows]
    assert kept["source"].unique().to_list() == ["interactions.csv"]
    assert kept["content"][4] == "bob 1 yesterday"
    assert kept["content"].str.len_chars().max() <= 300
    counted = sum(entry["count"] for entry in metrics["rejected"].values())
    assert metrics["rows_read"] == counted + metrics["interactions"] == len(rows) + 3


def test_only_the_first_lines_of_a_reason_are_told(tmp_path: Path) -> None:
    _, metrics = run(tmp_path, with_rows(tmp_path, *["bob,1,never"] * 9))
    (entry,) = metrics["rejected"].values()
    assert entry == {"count": 9, "first_lines": [3, 4, 5, 6, 7]}


def test_the_file_is_written_also_when_nothing_was_rejected(tmp_path: Path) -> None:
    out, metrics = run(tmp_path, table_source(tmp_path, GOOD))
    assert metrics["rejected"] == {}
    assert pl.read_parquet(out / REJECTED_FILE).height == 0


def test_strict_stops_at_the_first_bad_line(tmp_path: Path) -> None:
    given = with_rows(tmp_path, "bob,1,never", ",1,5")
    message = problem(tmp_path, given, strict=True)
    assert f"interactions.csv, line 3: {NO_TIME}." in message
    assert "without --strict" in message


def test_strict_passes_a_clean_source(tmp_path: Path) -> None:
    assert prepared(tmp_path, table_source(tmp_path, GOOD), strict=True) == {"ann": ["1", "2", "3"]}


def test_strict_stops_at_a_bad_item_too(tmp_path: Path) -> None:
    given = table_source(tmp_path, GOOD)
    write(tmp_path / "items.csv", "item_id,title\n1,a\n2,b\n3,c\n\n4,\n")
    assert "items.csv, line 6: the item has no text." in problem(tmp_path, given, strict=True)


def test_items_without_text_are_left_out_with_their_interactions(tmp_path: Path) -> None:
    given = table_source(tmp_path, GOOD)
    given = table_source(tmp_path, [*GOOD, ("ann", "4", 4)])
    write(tmp_path / "items.csv", "item_id,title\n\n1,a\n2,  \n3,c\n4,d\n")
    out, metrics = run(tmp_path, given)
    assert sequences(out) == {"ann": ["1", "3", "4"]}
    assert metrics["interactions_of_unknown_items"] == 1
    assert metrics["rejected"] == {"items.csv: the item has no text": {"count": 1, "first_lines": [4]}}


def test_more_than_half_without_text_is_a_wrong_setting(tmp_path: Path) -> None:
    given = table_source(tmp_path, GOOD)
    write(tmp_path / "items.csv", "item_id,title\n1,a\n2,\n3,\n")
    message = problem(tmp_path, given)
    assert "2 of 3 items in items.csv have no text" in message
    assert "prepare.source.text_columns" in message


def test_the_same_item_twice_counts_once(tmp_path: Path) -> None:
    given = table_source(tmp_path, GOOD)
    write(tmp_path / "items.csv", "item_id,title\n1,a\n2,b\n1,a\n3,c\n")
    assert read_items(run(tmp_path, given)[0]).ids == ["1", "2", "3"]


@pytest.mark.parametrize("identifier", [None, True, [1], 1.5, ""])
def test_an_item_whose_id_is_no_id_is_rejected(tmp_path: Path, identifier: object) -> None:
    given = {**table_source(tmp_path, GOOD), "items": str(tmp_path / "items.jsonl")}
    records = [{"item_id": name, "title": "t"} for name in ("1", "2", "3", identifier)]
    write(tmp_path / "items.jsonl", "\n".join(map(json.dumps, records)))
    _, metrics = run(tmp_path, given)
    (reason,) = metrics["rejected"]
    assert reason == "items.jsonl: an item cannot be used: the id is missing"


def test_half_a_character_in_json_rejects_the_item(tmp_path: Path) -> None:
    given = {**table_source(tmp_path, GOOD), "items": str(tmp_path / "items.jsonl")}
    good = [{"item_id": name, "title": "t"} for name in ("1", "2", "3")]
    bad = [{"item_id": "4", "title": "cut \ud83d"}, {"item_id": "\ud83d", "title": "x"}]
    write(tmp_path / "items.jsonl", "\n".join(map(json.dumps, good + bad)))
    _, metrics = run(tmp_path, given)
    (entry,) = metrics["rejected"].values()
    assert entry == {"count": 2, "first_lines": [4, 5]}


def test_lines_that_are_no_json_objects_are_rejected(tmp_path: Path) -> None:
    given = {**table_source(tmp_path, GOOD), "interactions": str(tmp_path / "log.jsonl")}
    rows = [json.dumps({"user_id": u, "item_id": i, "timestamp": t}) for u, i, t in GOOD]
    bad = ["nonsense", "[1, 2]", '{"user_id": "bob", "item_id": ', "[" * 5000, '{"user_id": "bob"}']
    write(tmp_path / "log.jsonl", "\n".join([*rows, "", *bad]))
    out, metrics = run(tmp_path, given)
    assert sequences(out) == {"ann": ["1", "2", "3"]}
    assert metrics["rows_read"] == 8
    assert metrics["rejected"] == {
        "log.jsonl: the row is not a JSON object with the fields that are read": {
            "count": 4,
            "first_lines": [5, 6, 7, 8],
        },
        "log.jsonl: the item id is missing": {"count": 1, "first_lines": [9]},
    }
    rejected = pl.read_parquet(out / REJECTED_FILE)
    assert rejected["content"].to_list() == [line[:300] for line in bad]


def test_a_source_without_one_usable_row_says_what_is_wrong_with_the_first(tmp_path: Path) -> None:
    given = table_source(tmp_path, [("ann", "1", 1_700_000_000_000)])
    message = problem(tmp_path, given)
    assert (
        "interactions.csv has no usable row; the first: line 2: the time is beyond the year 9999" in message
    )


def test_interactions_of_unknown_items_are_counted(tmp_path: Path) -> None:
    given = table_source(tmp_path, [*GOOD, ("ann", "9", 4)], items=["1", "2", "3"])
    _, metrics = run(tmp_path, given)
    assert metrics["interactions_of_unknown_items"] == 1
    assert metrics["interactions"] == 3


def test_ids_that_never_meet_are_named(tmp_path: Path) -> None:
    given = table_source(tmp_path, GOOD, items=["a", "b"])
    assert "None of the 3 interactions read belongs to an item with text" in problem(tmp_path, given)


def test_single_rows_and_frames_are_kept_in_one_order() -> None:
    rejects = Rejects(strict=False)
    rejects.add("b", 7, "later", "x" * 1000)
    rejects.add_frame("a", pl.DataFrame({"line": [9, 2], "reason": ["r", "r"], "content": ["", "y"]}))
    assert rejects.frame().select("source", "line").rows() == [("a", 2), ("a", 9), ("b", 7)]
    assert rejects.first("a") == "line 2: r"
    assert rejects.first("c") == ""
    assert rejects.frame()["content"].str.len_chars().max() == 300


def test_strict_names_the_first_line_of_a_frame() -> None:
    frame = pl.DataFrame({"line": [9, 2], "reason": ["late", "early"], "content": ["", ""]})
    with pytest.raises(InputError, match="a, line 2: early"):
        Rejects(strict=True).add_frame("a", frame)
