"""Cells as text: nothing of a number is rounded away, no moment is dropped, and what has no text is told."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.data.cells import UnreadableCellError, clean_values, with_shortest_digits

UTC = datetime.UTC


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        (None, []),
        ("", []),
        (" red lamp ", ["red lamp"]),
        (12345678, ["12345678"]),
        (12345679.0, ["12345679"]),
        (2.0**70, ["1180591620717411303424"]),
        (-0.0, ["0"]),
        (19999.99, ["19999.99"]),
        (1234567.125, ["1234567.125"]),
        (float("nan"), []),
        (float("inf"), ["inf"]),
        (True, ["true"]),
        (False, ["false"]),
        (Decimal("12.50"), ["12.50"]),
        (Decimal("1E+3"), ["1000"]),
        (Decimal("NaN"), []),
        (datetime.date(2024, 1, 2), ["2024-01-02"]),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), ["2024-01-02T03:04:05"]),
        (datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), ["2024-01-02T03:04:05+00:00"]),
        (datetime.time(3, 4), ["03:04:00"]),
        (["b", ["a", " b ", None], "", 7, 7.0, float("nan")], ["b", "a", "7"]),
    ],
)
def test_a_cell_says_all_it_holds(cell: object, texts: list[str]) -> None:
    assert clean_values(cell) == texts


@given(st.lists(st.integers() | st.floats(allow_nan=False, allow_infinity=False), unique=True))
def test_different_numbers_stay_different(numbers: list[float]) -> None:
    """Numbers that are equal, such as 7 and 7.0, are one."""
    assert list(map(float, clean_values(numbers))) == list(map(float, numbers))


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ({"de": "Lampe"}, "an object"),
        ({}, "an object"),
        (["a", {"b": 1}], "an object"),
        (b"lamp", "bytes"),
        (datetime.timedelta(days=1), "a duration"),
        (1j, "complex"),
    ],
)
def test_what_has_no_text_is_told(cell: object, kind: str) -> None:
    with pytest.raises(UnreadableCellError, match=f"^the column name holds {kind}, which cannot be read as"):
        clean_values(cell, "the column name")


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_numbers_of_single_precision_are_not_told_with_digits_that_they_do_not_have(dtype: Any) -> None:
    frame = pl.DataFrame(
        {"price": [19.99, None, float("nan")], "sizes": [[0.1, 40.0], None, []]},
        schema={"price": dtype, "sizes": pl.List(dtype)},
    )
    read = frame.select(with_shortest_digits(name, frame.schema[name]) for name in frame.columns)
    assert [list(map(clean_values, row)) for row in read.rows()] == [
        [["19.99"], ["0.1", "40"]],
        [[], []],
        [[], []],
    ]
