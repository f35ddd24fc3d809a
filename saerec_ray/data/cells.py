"""What the cells of any format say, as text: numbers with all their digits, moments as ISO 8601."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from decimal import Decimal

import polars as pl

_NAMED = {dict: "an object", bytes: "bytes", datetime.timedelta: "a duration"}


class UnreadableCellError(ValueError):
    """A cell holds what cannot be told as text."""


def clean_values(values: object, cell: str = "a cell") -> list[str]:
    """The texts of a cell or of a (nested) list: stripped, without empties and repeats, in order.

    Blanks, None and NaN are no values. Raises UnreadableCellError, with a reason that begins with `cell`, for objects
    and whatever else has no plain text.
    """
    return list(dict.fromkeys(text for text in _texts(values, cell) if text))


def _texts(value: object, cell: str) -> Iterator[str]:
    match value:
        case None:
            return
        case str():
            yield value.strip()
        case list() | tuple():
            for entry in value:
                yield from _texts(entry, cell)
        case bool():
            yield str(value).lower()
        case int():
            yield str(value)
        case float():
            yield "" if math.isnan(value) else number_text(value)
        case Decimal():
            yield "" if value.is_nan() else f"{value:f}"
        case datetime.date() | datetime.time():  # a datetime is a date, too
            yield value.isoformat()
        case _:
            kind = _NAMED.get(type(value), type(value).__name__)
            raise UnreadableCellError(f"{cell} holds {kind}, which cannot be read as text")


def number_text(value: float) -> str:
    """All digits of a number; a whole one has no decimal point."""
    return str(int(value)) if value.is_integer() else repr(value)


def with_shortest_digits(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column whose numbers of single precision are the shortest that mean them: 0.1, not 0.10000000149011612."""
    column = pl.col(name)
    if dtype == pl.Float32:
        return column.cast(pl.String).cast(pl.Float64)
    if dtype == pl.List(pl.Float32):
        return column.cast(pl.List(pl.String)).cast(pl.List(pl.Float64))
    return column
