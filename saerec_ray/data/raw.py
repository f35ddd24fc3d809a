"""What every reader returns: interactions as one frame, items as records, rows it could not use."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError

MAX_ID_BYTES = 256
INTERACTION_SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "time": pl.Int64,  # seconds since 1970, null where the source has only order
    "rating": pl.Float64,
    "line": pl.Int64,
}


@dataclass(frozen=True)
class RawItem:
    """One catalogue entry as the source has it."""

    item_id: str
    title: str
    text: str
    attributes: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RawData:
    """A source read whole; `interactions` has INTERACTION_SCHEMA."""

    interactions: pl.DataFrame
    items: list[RawItem]
    rows_read: int


def id_problem(value: str | None) -> str | None:
    """Why a string cannot be an id, or None."""
    if not value:
        return "the id is missing"
    if len(value.encode("utf-8", "replace")) > MAX_ID_BYTES:
        return f"the id is longer than {MAX_ID_BYTES} bytes"
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value):
        return "the id holds control characters"
    return None


def take_interactions(rows: pl.LazyFrame, source: str, rejects: Rejects) -> tuple[pl.DataFrame, int]:
    """Checks rows of text columns user_id, item_id, time, rating (the last two may be null) and line.

    Unusable rows go to `rejects`. Returns the usable ones with INTERACTION_SCHEMA, and how many rows were
    read. A row without a time or rating is unusable where the source declares one: see `has_time`.
    """
    columns = rows.collect_schema().names()
    checked = rows.with_columns(
        pl.col("user_id").str.strip_chars(),
        pl.col("item_id").str.strip_chars(),
        _number(columns, "time").alias("time_number"),
        _number(columns, "rating").alias("rating_number"),
    ).with_columns(_reason(columns).alias("reason"))
    frame = checked.collect(engine="streaming")
    bad = frame.filter(pl.col("reason").is_not_null())
    shown = [
        pl.col(name).fill_null("") for name in ("user_id", "item_id", "time", "rating") if name in columns
    ]
    rejects.add_frame(
        source, bad.select("line", "reason", pl.concat_str(shown, separator=" ").alias("content"))
    )
    good = frame.filter(pl.col("reason").is_null()).select(
        "user_id",
        "item_id",
        pl.col("time_number").cast(pl.Int64).alias("time"),
        pl.col("rating_number").alias("rating"),
        pl.col("line").cast(pl.Int64),
    )
    return good, frame.height


def _number(columns: list[str], name: str) -> pl.Expr:
    if name not in columns:
        return pl.lit(None, dtype=pl.Float64)
    return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)


def _reason(columns: list[str]) -> pl.Expr:
    reasons: list[tuple[pl.Expr, str]] = []
    for name, what in (("user_id", "user id"), ("item_id", "item id")):
        column = pl.col(name)
        reasons += [
            (column.is_null() | (column == ""), f"the {what} is missing"),
            (column.str.contains("\ufffd", literal=True), "the row is not valid UTF-8"),
            (column.str.len_bytes() > MAX_ID_BYTES, f"the {what} is longer than {MAX_ID_BYTES} bytes"),
            (column.str.contains(r"[\x00-\x1f\x7f-\x9f]"), f"the {what} holds control characters"),
        ]
    for name, what in (("time", "time"), ("rating", "rating")):
        if name in columns:
            number = pl.col(f"{name}_number")
            reasons.append((number.is_null() | ~number.is_finite(), f"the {what} is not a number"))
    return pl.coalesce(pl.when(applies).then(pl.lit(reason)) for applies, reason in reasons)


class ItemCollector:
    """Gathers catalogue entries and sees to their ids."""

    def __init__(self, source: str, rejects: Rejects) -> None:
        self._source, self._rejects = source, rejects
        self._items: dict[str, RawItem] = {}

    def add(self, item: RawItem, line: int) -> None:
        """One entry. The same entry twice counts once.

        Raises InputError when an id comes back with other content: which of the two is meant is not ours to guess.
        """
        if problem := id_problem(item.item_id):
            self._rejects.add(self._source, line, f"an item cannot be used: {problem}", item.item_id or "")
            return
        known = self._items.get(item.item_id)
        if known is not None and known != item:
            raise InputError(
                f"{self._source}, line {line}: the item id {item.item_id!r} appears twice with different content; "
                "ids must be unique."
            )
        self._items[item.item_id] = item

    def items(self) -> list[RawItem]:
        """All entries in the order of the source."""
        return list(self._items.values())


def clean_values(values: object) -> list[str]:
    """Attribute values from a string or (nested) list: stripped, without empties and repeats, in order."""
    found: dict[str, None] = {}

    def collect(value: object) -> None:
        if isinstance(value, str):
            if text := value.strip():
                found[text] = None
        elif isinstance(value, list | tuple):
            for entry in value:
                collect(entry)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{value:g}"] = None

    collect(values)
    return list(found)


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
        result.append(RawItem(item.item_id, item.title, item.text, attributes))
    return result
