"""Moments as people write them: numbers since 1970, or ISO 8601 dates and times."""

from __future__ import annotations

import polars as pl

NO_MOMENT = (
    "neither seconds since 1970, nor an ISO 8601 text such as 2024-01-02 or 2024-01-02T03:04:05Z, "
    "nor a date or datetime of Parquet"
)
_ISO = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?:[Zz]|[-+][0-9]{2}(?::?[0-9]{2})?)?)?$"
)
_DATE, _TO_MINUTES = len("2024-01-02"), len("2024-01-02T03:04")
_MINUTE, _HOUR = 60, 3600


def seconds_since_1970(texts: pl.Expr, ticks_a_second: int = 1) -> pl.Expr:
    """Whole seconds as floats: of numbers, of which `ticks_a_second` are a second, and of ISO 8601 texts.

    A text without an offset is UTC; fractions are cut. Null for what is neither.
    """

    def read(column: pl.Series) -> pl.Series:
        stripped = column.str.strip_chars()
        numbers = (stripped.cast(pl.Float64, strict=False) / ticks_a_second).floor()
        if numbers.null_count() == column.null_count():
            return numbers
        return pl.select(pl.coalesce(pl.lit(numbers), _of_iso(pl.lit(stripped)))).to_series()

    return texts.map_batches(read, return_dtype=pl.Float64, is_elementwise=True)


def _of_iso(texts: pl.Expr) -> pl.Expr:
    """By place: what is no such text is left out first, and what does not go so far has 0 there."""
    texts = pl.when(texts.str.contains(_ISO)).then(texts)
    rest = texts.str.slice(_TO_MINUTES)  # seconds, fraction and offset
    offset = rest.str.extract(r"([-+].+)$").str.replace(":", "", literal=True)

    def number(digits: pl.Expr, below: int) -> pl.Expr:
        """Null where there is no such hour, minute or second."""
        value = digits.cast(pl.Int64, strict=False).fill_null(0)
        return pl.when(value < below).then(value)

    day = texts.str.head(_DATE).str.to_date("%Y-%m-%d", strict=False).dt.epoch("s")
    clock = (
        number(texts.str.slice(_DATE + 1, 2), 24) * _HOUR
        + number(texts.str.slice(_DATE + 4, 2), 60) * _MINUTE
    )
    clock += number(pl.when(rest.str.starts_with(":")).then(rest.str.slice(1, 2)), 60)
    east = number(offset.str.slice(1, 2), 24) * _HOUR + number(offset.str.slice(3, 2), 60) * _MINUTE
    east = pl.when(offset.str.starts_with("-")).then(-east).otherwise(east)
    return (day + clock - east).cast(pl.Float64)
