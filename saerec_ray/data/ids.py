"""Ids as text, the same from every format: a whole number has no decimal point, whatever holds it."""

from __future__ import annotations

import json
from decimal import Decimal

import polars as pl

from saerec_ray.data.cells import number_text

MAX_ID_BYTES = 256
ID_COLUMNS = {"user_id", "item_id"}
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_INTEGER = r"^-?[0-9]+$"


def id_problem(value: str | None) -> str | None:
    """Why a string cannot be an id, or None."""
    if not value:
        return "the id is missing"
    if len(value.encode("utf-8", "replace")) > MAX_ID_BYTES:
        return f"the id is longer than {MAX_ID_BYTES} bytes"
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value):
        return "the id holds control characters"
    return None


def id_text(value: object) -> str:
    """An id from JSON or Parquet as text; empty for what cannot be one."""
    match value:
        case str():
            return value.strip()
        case bool():
            return ""
        case int():
            return str(value)
        case float():
            return number_text(value) if value.is_integer() else ""
        case Decimal():
            return f"{value:.0f}" if value.is_finite() and value == value.to_integral_value() else ""
    return ""


def column_ids(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of Parquet or CSV as ids; NaN is none."""
    column = pl.col(name)
    if dtype.is_decimal():
        return column.cast(pl.String).str.replace(r"\.0+$", "")
    if not dtype.is_float():
        return column.cast(pl.String)
    whole = column.is_finite() & (column == column.floor())
    integer = column.cast(pl.Int64, strict=False).cast(pl.String)
    return pl.when(whole).then(integer).when(column.is_not_nan()).then(column.cast(pl.String))


def json_ids(raw: pl.Expr, field: str) -> pl.Expr:
    """A field of lines of JSON as ids: the number 123.0 is 123, the text "123.0" stays as it is.

    What is found does not tell numbers from texts, so the few lines where that matters are read again.
    """
    found = raw.str.json_path_match(f"$['{field}']")
    doubtful = found.str.contains(_NUMBER) & ~found.str.contains(_INTEGER)

    def decided(lines: pl.Series) -> pl.Series:
        ids, again = lines.struct.field("found"), lines.struct.field("again")
        if again.null_count() == len(again):
            return ids
        whole = [None if line is None else _whole_number(line, field) for line in again]
        return pl.select(pl.coalesce(pl.lit(pl.Series(whole, dtype=pl.String)), pl.lit(ids))).to_series()

    lines = pl.struct(found=found, again=pl.when(doubtful).then(raw))
    return lines.map_batches(decided, return_dtype=pl.String, is_elementwise=True)


def _whole_number(line: str, field: str) -> str | None:
    """The field of a line of JSON as an id where it is a number without a fraction, however it is written."""
    try:
        value = json.loads(line)[field]
    except ValueError:  # a number of thousands of digits
        return None
    return None if isinstance(value, str) else id_text(value) or None
