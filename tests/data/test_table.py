"""Files with named columns: CSV, TSV, Parquet and JSON lines, plain and packed."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from saerec_ray.data.prepared import read_items, read_sequences
from tests.data.sources import csv_lines, json_lines, prepared, problem, run, sequences, write

ROWS = [
    ("ann", "1", 30),
    ("bob", "2", 10),
    ("ann", "2", 20),
    ("ann", "3", 10),
    ("bob", "3", 5),
    ("bob", "1", 7),
]
EXPECTED = {"ann": ["3", "2", "1"], "bob": ["3", "1", "2"]}
ITEMS = [
    {"item_id": "1", "title": "red lamp", "kind": "light|home"},
    {"item_id": "2", "title": "steel, cup", "kind": "kitchen"},
    {"item_id": "3", "title": "soft brush", "kind": ""},
]


def write_table(path: Path, records: list[dict[str, Any]]) -> Path:
    """Writes records in the format that the name asks for."""
    frame = pl.DataFrame(records)
    match path.name.removesuffix(".gz").partition(".")[2]:
        case "csv":
            return write(path, frame.write_csv())
        case "tsv":
            return write(path, frame.write_csv(separator="\t"))
        case "jsonl":
            return write(path, json_lines(records))
    plain = path.with_name("plain")
    frame.write_parquet(plain)
    return write(path, plain.read_bytes())


def source(folder: Path, ending: str, **columns: Any) -> dict[str, Any]:
    rows = [dict(zip(("user_id", "item_id", "timestamp"), row, strict=True)) for row in ROWS]
    return {
        "format": "table",
        "interactions": str(write_table(folder / f"interactions.{ending}", rows)),
        "items": str(write_table(folder / f"items.{ending}", ITEMS)),
        **columns,
    }


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_every_format_gives_the_same_set(tmp_path: Path, kind: str, packed: str) -> None:
    out, metrics = run(tmp_path, source(tmp_path, kind + packed, attribute_columns=["kind"]))
    assert sequences(out) == EXPECTED
    items = read_items(out)
    assert items.ids == ["1", "2", "3"]
    assert items.titles == items.texts == ["red lamp", "steel, cup", "soft brush"]
    assert items.attributes == [{"kind": ["light", "home"]}, {"kind": ["kitchen"]}, {}]
    assert read_sequences(out).times is not None
    assert (metrics["rows_read"], metrics["rejected"]) == (6, {})


def test_columns_are_found_by_the_names_given(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", csv_lines("who,junk,what,when", [(u, "x", i, t) for u, i, t in ROWS]))
    write(tmp_path / "goods.csv", "key,name,about\n1,Lamp,red lamp\n2,Cup,\n3,Brush,soft\n")
    given = {
        "format": "table",
        "interactions": str(tmp_path / "log.csv"),
        "items": str(tmp_path / "goods.csv"),
        "user_column": "who",
        "item_column": "what",
        "time_column": "when",
        "item_id_column": "key",
        "title_column": "name",
        "text_columns": ["name", "about"],
    }
    out, _ = run(tmp_path, given)
    assert sequences(out) == EXPECTED
    assert read_items(out).texts == ["Lamp. red lamp", "Cup", "Brush. soft"]
    assert read_items(out).titles == ["Lamp", "Cup", "Brush"]


def test_without_a_time_column_the_order_of_the_file_counts(tmp_path: Path) -> None:
    out, _ = run(tmp_path, source(tmp_path, "csv", time_column=None))
    assert sequences(out) == {"ann": ["1", "2", "3"], "bob": ["2", "3", "1"]}
    assert read_sequences(out).times is None


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    ("setting", "wrong"), [("user_column", "usr"), ("time_column", "at"), ("item_id_column", "sku")]
)
def test_a_wrong_column_is_named_with_those_that_exist(
    tmp_path: Path, ending: str, setting: str, wrong: str
) -> None:
    message = problem(tmp_path, source(tmp_path, ending, **{setting: wrong}))
    assert f"has no column {wrong}; it has " in message
    assert "item_id" in message
    assert "line" not in message  # our own row numbers are no column of the file


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_a_column_may_be_called_line(tmp_path: Path, ending: str) -> None:
    """As a line of an order is in a shop's export; our own row numbers stand elsewhere."""
    names = ("line", "item_id", "timestamp")
    rows: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in ROWS]
    given = source(tmp_path, ending, user_column="line")
    write_table(tmp_path / f"interactions.{ending}", [*rows, {**rows[0], "item_id": ""}])
    write_table(tmp_path / f"items.{ending}", [{**item, "line": "7"} for item in ITEMS])
    out, metrics = run(tmp_path, given)
    assert sequences(out) == EXPECTED
    (rejected,) = metrics["rejected"].values()
    assert rejected["first_lines"] == [len(ROWS) + (2 if ending in ("csv", "tsv") else 1)]


def test_whole_numbers_that_a_column_of_decimals_holds_are_the_ids_they_look_like(tmp_path: Path) -> None:
    given = source(tmp_path, "parquet")
    rows = [(1.0, 10.0, 5), (1.0, 11.0, 6), (1.0, 12.0, 7)]
    columns = ["user_id", "item_id", "timestamp"]
    pl.DataFrame(rows, schema=columns, orient="row").write_parquet(given["interactions"])
    items = [(float(number), f"Thing {number}") for number in (10, 11, 12)]
    pl.DataFrame(items, schema=["item_id", "title"], orient="row").write_parquet(given["items"])
    out, _ = run(tmp_path, given)
    assert sequences(out) == {"1": ["10", "11", "12"]}


def test_parquet_moments_become_seconds(tmp_path: Path) -> None:
    moments = [datetime.datetime(2020, 1, 1, 0, 0, s, tzinfo=datetime.UTC) for _, _, s in ROWS]
    given = source(tmp_path, "parquet")
    frame = pl.read_parquet(given["interactions"]).with_columns(pl.Series("timestamp", moments))
    frame.write_parquet(given["interactions"])
    out, _ = run(tmp_path, given)
    assert sequences(out) == EXPECTED
    times = read_sequences(out).times
    assert times is not None
    assert times[:3].tolist() == [int(moment.timestamp()) for moment in (moments[3], moments[2], moments[0])]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_texts_of_iso_8601_are_times(tmp_path: Path, ending: str) -> None:
    rows = [
        {"user_id": user, "item_id": item, "timestamp": f"2024-01-02 03:04:{second:02}"}
        for user, item, second in ROWS
    ]
    given = source(tmp_path, ending)
    write_table(tmp_path / f"interactions.{ending}", rows)
    out, metrics = run(tmp_path, given)
    assert sequences(out) == EXPECTED
    assert metrics["rejected"] == {}
    times = read_sequences(out).times
    assert times is not None
    assert times[0] == datetime.datetime(2024, 1, 2, 3, 4, 10, tzinfo=datetime.UTC).timestamp()


def test_a_time_that_is_none_is_told_with_its_column_and_what_may_stand_there(tmp_path: Path) -> None:
    given = source(tmp_path, "csv", time_column="when")
    write(tmp_path / "interactions.csv", csv_lines("user_id,item_id,when", [("ann", "1", "02.01.2024")]))
    message = problem(tmp_path, given)
    assert "interactions.csv has no usable row; the first: line 2: the column when" in message
    for told in ("prepare.source.time_column", "seconds since 1970", "2024-01-02", "Parquet", "null"):
        assert told in message


def test_lists_in_json_lines_and_parquet_are_attribute_values(tmp_path: Path) -> None:
    given = source(tmp_path, "jsonl", attribute_columns=["tags"])
    records = [{**item, "tags": tags} for item, tags in zip(ITEMS, (["a|b", "c"], [], ["d"]), strict=True)]
    write(tmp_path / "items.jsonl", json_lines(records))
    pl.DataFrame(records).write_parquet(tmp_path / "items.parquet")
    expected = [{"tags": ["a|b", "c"]}, {}, {"tags": ["d"]}]
    assert read_items(run(tmp_path, given)[0]).attributes == expected
    given["items"] = str(tmp_path / "items.parquet")
    assert read_items(run(tmp_path, given)[0]).attributes == expected


def test_a_text_that_looks_like_a_list_is_text(tmp_path: Path) -> None:
    write(tmp_path / "items.csv", 'item_id,title\n1,"[1] the first"\n2,b\n3,c\n')
    given = {**source(tmp_path, "csv"), "attribute_columns": ["title"]}
    write(tmp_path / "items.csv", 'item_id,title\n1,"[""a""] box"\n2,b\n3,c\n')
    assert read_items(run(tmp_path, given)[0]).attributes[0] == {"title": ['["a"] box']}


def test_numbers_as_ids_are_the_same_in_every_format(tmp_path: Path) -> None:
    rows = [{"user_id": u, "item_id": int(i), "timestamp": t} for u, i, t in ROWS]
    items = [{**item, "item_id": int(item["item_id"])} for item in ITEMS]
    for interactions in ("csv", "parquet", "jsonl"):
        for catalogue in ("csv", "parquet", "jsonl"):
            given = {
                "format": "table",
                "interactions": str(write_table(tmp_path / f"i.{interactions}", rows)),
                "items": str(write_table(tmp_path / f"c.{catalogue}", items)),
            }
            assert prepared(tmp_path, given) == EXPECTED


def test_numbers_with_a_decimal_point_in_json_lines_are_the_ids_of_every_other_format(tmp_path: Path) -> None:
    """As pandas writes whole numbers of a column in which one is missing."""
    rows = [{"user_id": u, "item_id": float(i), "timestamp": t} for u, i, t in ROWS]
    items = [{**item, "item_id": float(item["item_id"])} for item in ITEMS]
    for catalogue in ("jsonl", "parquet"):
        given = {
            "format": "table",
            "interactions": str(write_table(tmp_path / "i.jsonl", rows)),
            "items": str(write_table(tmp_path / f"c.{catalogue}", items)),
        }
        assert prepared(tmp_path, given) == EXPECTED


def test_an_id_with_a_decimal_point_in_csv_is_a_text(tmp_path: Path) -> None:
    given = source(tmp_path, "csv")
    write(tmp_path / "items.csv", "item_id,title\n1.0,a\n2.0,b\n3.0,c\n")
    message = problem(tmp_path, given)
    assert "None of the 6 interactions read belongs to an item with text" in message
    assert "the first interaction is with item '1', the first item is '1.0'" in message


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_numbers_in_texts_and_attributes_keep_all_their_digits(tmp_path: Path, ending: str) -> None:
    given = {**source(tmp_path, "csv"), "text_columns": ["title", "model"]}
    given["attribute_columns"] = ["price", "sold", "model"]
    records = [
        {"item_id": 1, "title": 1234567, "model": 12345678.0, "price": 19999.99, "sold": True},
        {"item_id": 2, "title": 1234568, "model": 12345679.0, "price": 20000.0, "sold": False},
        {"item_id": 3, "title": 1234569, "model": float("nan"), "price": None, "sold": None},
    ]
    given["items"] = str(write_table(tmp_path / f"items.{ending}", records))
    items = read_items(run(tmp_path, given)[0])
    assert items.titles == ["1234567", "1234568", "1234569"]
    assert items.texts == ["1234567. 12345678", "1234568. 12345679", "1234569"]
    assert items.attributes == [
        {"price": ["19999.99"], "sold": ["true"], "model": ["12345678"]},
        {"price": ["20000"], "sold": ["false"], "model": ["12345679"]},
        {},
    ]


def test_moments_and_decimals_of_parquet_are_told(tmp_path: Path) -> None:
    given = {**source(tmp_path, "parquet"), "attribute_columns": ["out", "price", "weight"]}
    frame = pl.read_parquet(given["items"]).with_columns(
        pl.lit(datetime.date(2024, 1, 2)).alias("out"),
        pl.lit(decimal.Decimal("12.50")).alias("price"),
        pl.lit(0.1, dtype=pl.Float32).alias("weight"),
    )
    frame.write_parquet(given["items"])
    items = read_items(run(tmp_path, given)[0])
    assert items.attributes == [{"out": ["2024-01-02"], "price": ["12.50"], "weight": ["0.1"]}] * 3


def test_an_item_with_an_object_where_text_should_be_is_rejected(tmp_path: Path) -> None:
    given = source(tmp_path, "jsonl")
    write(tmp_path / "items.jsonl", json_lines([*ITEMS, {"item_id": "4", "title": {"de": "Lampe"}}]))
    out, metrics = run(tmp_path, given)
    assert read_items(out).ids == ["1", "2", "3"]
    reason = "items.jsonl: the column title holds an object, which cannot be read as text"
    assert metrics["rejected"] == {reason: {"count": 1, "first_lines": [4]}}
    assert "items.jsonl, line 4: the column title holds an object" in problem(tmp_path, given, strict=True)


def test_a_parquet_column_of_structs_is_named(tmp_path: Path) -> None:
    given = {**source(tmp_path, "parquet"), "attribute_columns": ["made"]}
    frame = pl.read_parquet(given["items"]).with_columns(made=pl.struct(by=pl.lit("Lumo")))
    frame.write_parquet(given["items"])
    assert (
        "items.parquet has no usable item; the first: line 1: the column made holds an object, which cannot be read"
        in problem(tmp_path, given)
    )


def test_windows_line_ends_a_byte_order_mark_and_blank_lines_do_not_matter(tmp_path: Path) -> None:
    given = source(tmp_path, "csv")
    for path in (Path(given["interactions"]), Path(given["items"])):
        text = path.read_text().replace("\n", "\r\n\r\n")
        write(path, b"\xef\xbb\xbf" + text.encode())
    out, metrics = run(tmp_path, given)
    assert sequences(out) == EXPECTED
    assert (metrics["rows_read"], metrics["rejected"]) == (6, {})


def test_quoted_line_ends_belong_to_the_text(tmp_path: Path) -> None:
    given = source(tmp_path, "csv")
    write(tmp_path / "items.csv", 'item_id,title\n1,"two\nlines"\n,nobody\n2,b\n3,c\n')
    out, metrics = run(tmp_path, given)
    assert read_items(out).titles[0] == "two\nlines"
    (rejected,) = metrics["rejected"].values()
    assert rejected == {"count": 1, "first_lines": [4]}


def test_a_quotation_mark_that_does_not_close_is_named_with_its_line(tmp_path: Path) -> None:
    given = source(tmp_path, "csv")
    write(tmp_path / "items.csv", 'item_id,title\n1,a\n2,"b\n3,c\n')
    message = problem(tmp_path, given)
    assert "items.csv, line 3: " in message
    assert "quotation mark" in message


def test_the_same_in_the_interactions_is_one_sentence(tmp_path: Path) -> None:
    given = source(tmp_path, "csv")
    write(tmp_path / "interactions.csv", 'user_id,item_id,timestamp\nann,"1,3\nbob,2,4\n')
    message = problem(tmp_path, given)
    assert "interactions.csv cannot be read: " in message
    assert "quotation mark" in message


def test_a_long_description_is_no_damage(tmp_path: Path) -> None:
    """Pages of HTML are longer than the 131,072 characters that Python's reader takes by itself."""
    given = source(tmp_path, "csv")
    long = "word " * 40_000
    write(tmp_path / "items.csv", f'item_id,title\n1,"{long}"\n2,b\n3,c\n')
    out, metrics = run(tmp_path, given)
    assert read_items(out).texts[0] == long.strip()
    assert metrics["rejected"] == {}


def test_an_unquoted_quotation_mark_inside_a_title_is_kept(tmp_path: Path) -> None:
    given = source(tmp_path, "csv")
    write(tmp_path / "items.csv", 'item_id,title\n1,a 5" screen\n2,b\n3,c\n')
    assert read_items(run(tmp_path, given)[0]).titles[0] == 'a 5" screen'


def test_an_item_row_with_too_many_fields_is_rejected_not_cut(tmp_path: Path) -> None:
    given = source(tmp_path, "csv")
    write(tmp_path / "items.csv", "item_id,title\n1,a\n2,b, with a comma\n3,c\n4,d\n")
    rows = [("ann", item, 1) for item in "1234"]
    write(tmp_path / "interactions.csv", csv_lines("user_id,item_id,timestamp", rows))
    out, metrics = run(tmp_path, given)
    assert read_items(out).ids == ["1", "3", "4"]
    assert metrics["rejected"] == {
        "items.csv: the row has 3 fields instead of 2": {"count": 1, "first_lines": [3]}
    }


@pytest.mark.parametrize("ending", ["txt", "csv.zip", "xlsx", "gz"])
def test_an_unknown_ending_is_refused(tmp_path: Path, ending: str) -> None:
    given = source(tmp_path, "csv")
    given["interactions"] = str(write(tmp_path / f"other.{ending}", "user_id,item_id,timestamp\n"))
    assert "has no known ending; use .csv, .tsv, .parquet or .jsonl" in problem(tmp_path, given)


def test_a_damaged_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    given = source(tmp_path, "parquet")
    path = Path(given["interactions"])
    path.write_bytes(path.read_bytes()[:-20])
    assert f"The file {path} cannot be read: " in problem(tmp_path, given)


def test_a_json_array_instead_of_lines_is_refused(tmp_path: Path) -> None:
    given = source(tmp_path, "jsonl")
    write(tmp_path / "interactions.jsonl", json.dumps([{"user_id": "a"}], indent=1))
    assert "interactions.jsonl has no usable row; the first: line 1: " in problem(tmp_path, given)
