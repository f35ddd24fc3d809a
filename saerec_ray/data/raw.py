"""What every reader returns: interactions as one frame, items as records, rows it could not use."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import polars as pl

from saerec_ray.data.ids import MAX_ID_BYTES
from saerec_ray.data.moments import seconds_since_1970
from saerec_ray.data.rejects import Rejects

NOT_UTF8 = "the row is not valid UTF-8"
REPLACED = "\ufffd"  # stands where bytes were not UTF-8
INTERACTION_SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "time": pl.Int64,  # seconds since 1970, null where the source has only order
    "rating": pl.Float64,
}
LATEST_TIME = 253_402_300_799  # the last second of the year 9999


@dataclass(frozen=True)
class RawItem:
    """One catalogue entry as the source has it."""

    item_id: str
    title: str
    text: str
    attributes: dict[str, list[str]] = field(default_factory=dict)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class RawData:
    """A source read whole; `interactions` has INTERACTION_SCHEMA, and a column line where that was asked for."""

    interactions: pl.DataFrame
    items: list[RawItem]
    rows_read: int
    interactions_name: str
    items_name: str


def take_interactions(
    rows: pl.LazyFrame,
    source: str,
    rejects: Rejects,
    *,
    ticks_a_second: int = 1,
    no_time: str = "the time is not a number",
    with_lines: bool = False,
) -> tuple[pl.DataFrame, int]:
    """Checks rows of text columns line, user_id, item_id and, where the source has them, time and rating.

    A row without a time or rating is unusable where there is such a column; `no_time` says why a time is none.
    Unusable rows go to `rejects`.
    A column raw, where there is one, holds the row as it was, and a row without any value is not what it should be.
    Returns the usable ones with INTERACTION_SCHEMA, and line when wanted, and how many rows were read.
    """
    columns = rows.collect_schema().names()
    time = rating = pl.lit(None, dtype=pl.Float64)
    if "time" in columns:
        time = seconds_since_1970(pl.col("time"), ticks_a_second)
    if "rating" in columns:
        rating = pl.col("rating").str.strip_chars().cast(pl.Float64, strict=False)
    checked = rows.with_columns(
        pl.col("user_id").str.strip_chars(),
        pl.col("item_id").str.strip_chars(),
        time.alias("time_number"),
        rating.alias("rating_number"),
    ).with_columns(_reason(columns, no_time).alias("reason"))
    values = [name for name in ("user_id", "item_id", "time", "rating") if name in columns]
    shown = [pl.col(name).fill_null("") for name in (["raw"] if "raw" in columns else values)]
    bad = checked.filter(pl.col("reason").is_not_null()).select(
        "line", "reason", pl.concat_str(shown, separator=" ").alias("content")
    )
    good = checked.filter(pl.col("reason").is_null()).select(
        "user_id",
        "item_id",
        pl.col("time_number").cast(pl.Int64).alias("time"),
        pl.col("rating_number").alias("rating"),
        *(["line"] if with_lines else []),
    )
    usable, unusable = pl.collect_all([good, bad], engine="streaming")
    rejects.add_frame(source, unusable)
    return usable, usable.height + unusable.height


def _reason(columns: list[str], no_time: str) -> pl.Expr:
    reasons: list[tuple[pl.Expr, str]] = []
    if "raw" in columns:
        nothing = pl.all_horizontal(pl.exclude("line", "raw").is_null())
        reasons.append((nothing, "the row is not a JSON object with the fields that are read"))
    for name, what in (("user_id", "user id"), ("item_id", "item id")):
        column = pl.col(name)
        reasons += [
            (column.is_null() | (column == ""), f"the {what} is missing"),
            (column.str.contains(REPLACED, literal=True), NOT_UTF8),
            (column.str.len_bytes() > MAX_ID_BYTES, f"the {what} is longer than {MAX_ID_BYTES} bytes"),
            (column.str.contains(r"[\x00-\x1f\x7f-\x9f]"), f"the {what} holds control characters"),
        ]
    for name, reason in (("time", no_time), ("rating", "the rating is not a number")):
        if name in columns:
            number = pl.col(f"{name}_number")
            reasons.append((number.is_null() | ~number.is_finite(), reason))
    if "time" in columns:
        beyond = pl.col("time_number").abs() > LATEST_TIME
        reasons.append((beyond, "the time is beyond the year 9999; it must be in seconds since 1970"))
    return pl.coalesce(pl.when(applies).then(pl.lit(reason)) for applies, reason in reasons)


def without_shared_root(items: list[RawItem], attribute: str = "category") -> list[RawItem]:
    """The items without attribute values that all of those that have the attribute share: they tell nothing."""
    carrying = [set(item.attributes[attribute]) for item in items if item.attributes.get(attribute)]
    shared = set.intersection(*carrying) if carrying else set()
    if not shared or len(carrying) < 2:
        return items
    result = []
    for item in items:
        attributes = dict(item.attributes)
        kept = [value for value in attributes.pop(attribute, []) if value not in shared]
        if kept:
            attributes[attribute] = kept
        result.append(dataclasses.replace(item, attributes=attributes))
    return result
