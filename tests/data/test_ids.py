"""Ids: one text for one id, whatever format and type of number holds it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from saerec_ray.data.ids import column_ids, id_text, json_ids


def from_json(*lines: str) -> list[str | None]:
    return pl.DataFrame({"raw": lines}).select(json_ids(pl.col("raw"), "id")).to_series().to_list()


def from_column(values: list[Any], dtype: Any) -> list[str | None]:
    frame = pl.DataFrame({"id": values}, schema={"id": dtype})
    return frame.select(column_ids("id", frame.schema["id"]))["id"].to_list()


@pytest.mark.parametrize(
    ("written", "identifier"),
    [
        ("123", "123"),
        ("123.0", "123"),
        ("123.000", "123"),
        ("-123.0", "-123"),
        ("-0.0", "0"),
        ("1.23e2", "123"),
        ("1e5", "100000"),
        ("9007199254740993", "9007199254740993"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"123.0"', "123.0"),
        ('"123\\u002e0"', "123.0"),
        ('"1e5"', "1e5"),
        ('"B0001"', "B0001"),
    ],
)
def test_a_number_in_json_is_the_id_it_means_and_a_text_is_what_it_says(
    written: str, identifier: str
) -> None:
    """In both files: interactions are read by columns, items one by one."""
    line = f'{{"other": "123.0", "in": {{"id": 5.0}}, "id": {written}}}'
    assert from_json(line) == [identifier]
    assert id_text(json.loads(line)["id"]) == identifier


@pytest.mark.parametrize("line", ["{}", '{"id": null}', "[1.0]", "1.0", "nonsense", '{"id": '])
def test_a_line_without_the_field_has_no_id(line: str) -> None:
    assert from_json(line) == [None]


def test_a_number_with_a_fraction_stays_what_it_is() -> None:
    assert from_json('{"id": 1.5}') == ["1.5"]


def test_numbers_and_texts_may_take_turns() -> None:
    lines = [f'{{"id": {each}}}' for each in ('"a"', "1.0", "2", '"3.0"', "null")]
    assert from_json(*lines) == ["a", "1", "2", "3.0", None]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.Float32, pl.Decimal(38, 0), pl.Decimal(10, 2)])
def test_a_number_in_a_column_of_any_type_is_the_same_id(dtype: Any) -> None:
    assert from_column([123, 10, None], dtype) == ["123", "10", None]
    assert [id_text(value) for value in pl.Series([123, 10], dtype=dtype)] == ["123", "10"]


def test_a_column_of_texts_is_left_as_it_is() -> None:
    assert from_column(["123.0", "007"], pl.String) == ["123.0", "007"]


def test_what_is_no_number_is_no_id() -> None:
    assert from_column([float("nan"), 1.0], pl.Float64) == [None, "1"]
    assert [id_text(value) for value in (float("nan"), float("inf"), Decimal("NaN"), True, [1])] == [""] * 5
