"""Reader for CSV, TSV, Parquet and JSON-lines files with named columns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from saerec_ray.data.cells import clean_values, with_shortest_digits
from saerec_ray.data.collector import ItemCollector
from saerec_ray.data.files import (
    LINE_NUMBER,
    check_columns,
    clear_errors,
    csv_columns,
    csv_records,
    json_columns,
    json_records,
    plain_file,
)
from saerec_ray.data.ids import ID_COLUMNS, column_ids, id_text
from saerec_ray.data.moments import NO_MOMENT
from saerec_ray.data.raw import (
    NOT_UTF8,
    REPLACED,
    RawData,
    RawItem,
    take_interactions,
)
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError
from saerec_ray.sources import TableSource

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = {".jsonl", ".ndjson", ".json"}
_PARQUET = ".parquet"


def read_table(source: TableSource, rejects: Rejects, *, rated: bool = True) -> RawData:
    """Reads interactions and items; ratings only where `rated`, and then no row may be without one.

    Raises InputError for files or columns that do not fit.
    """
    wanted = {"user_id": source.user_column, "item_id": source.item_column}
    if source.time_column:
        wanted["time"] = source.time_column
    if source.rating_column:
        wanted["rating"] = source.rating_column
    with clear_errors(source.interactions), _scanned(source.interactions, wanted) as rows:
        interactions, count = take_interactions(
            rows if rated else rows.drop("rating", strict=False),
            source.interactions.name,
            rejects,
            no_time=f"the column {source.time_column} (prepare.source.time_column) holds no time: {NO_MOMENT}; "
            "time_column: null reads no times",
        )
    items = _read_items(source, rejects)
    return RawData(interactions, items, count, source.interactions.name, source.items.name)


def _kind(path: Path) -> str:
    """The ending without .gz. Raises InputError when it is not a known one."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in {*_SEPARATORS, *_JSON_LINES, _PARQUET}:
        raise InputError(f"{path} has no known ending; use .csv, .tsv, .parquet or .jsonl, each also .gz.")
    return suffix


@contextlib.contextmanager
def _scanned(path: Path, wanted: dict[str, str]) -> Iterator[pl.LazyFrame]:
    """The wanted columns as text, under their own names, with a line number."""
    kind = _kind(path)
    with plain_file(path) as plain:
        if kind in _JSON_LINES:
            yield json_columns(plain, wanted, path)
            return
        frame = (
            pl.scan_parquet(plain).with_row_index(LINE_NUMBER, offset=1)
            if kind == _PARQUET
            else csv_columns(plain, _SEPARATORS[kind])
        )
        types = frame.collect_schema()
        check_columns([name for name in types.names() if name != LINE_NUMBER], list(wanted.values()), path)
        rows = frame.select(
            pl.col(LINE_NUMBER).alias("line"),
            *(_as_text(name, types[name], to).alias(to) for to, name in wanted.items()),
        )
        yield rows if kind == _PARQUET else rows.filter(~pl.all_horizontal(pl.exclude("line").is_null()))


def _as_text(name: str, dtype: pl.DataType, to: str) -> pl.Expr:
    """A column as text; moments become seconds since 1970, whole numbers among ids have no decimal point."""
    if to in ID_COLUMNS:
        return column_ids(name, dtype)
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime | pl.Date):
        column = column.dt.epoch("s")
    return column.cast(pl.String)


def _read_items(source: TableSource, rejects: Rejects) -> list[RawItem]:
    path = source.items
    collector = ItemCollector(path.name, rejects, source.repeated_items)
    with clear_errors(path), plain_file(path) as plain:
        for line, row in _item_rows(plain, source, rejects):
            item_id = row[source.item_id_column]
            if any(isinstance(value, str) and REPLACED in value for value in row.values()):
                rejects.add(path.name, line, NOT_UTF8, str(item_id))
                continue
            with collector.readable(line, item_id):
                collector.add(_item(row, source, line))
    return collector.items()


def _item(row: dict[str, Any], source: TableSource, line: int) -> RawItem:
    """Raises UnreadableCellError."""
    parts = [_prose(row, name) for name in source.text_columns]
    attributes = {
        name: values
        for name in source.attribute_columns
        if (values := _values(row, name, source.attribute_separator))
    }
    return RawItem(
        item_id=id_text(row[source.item_id_column]),
        title=_prose(row, source.title_column) if source.title_column else "",
        text=". ".join(part for part in parts if part),
        attributes=attributes,
        line=line,
    )


def _item_rows(plain: Path, source: TableSource, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    kind = _kind(source.items)
    names = [source.item_id_column, *source.text_columns, *source.attribute_columns]
    names += [source.title_column] if source.title_column else []
    wanted = list(dict.fromkeys(names))
    if kind in _SEPARATORS:
        yield from csv_records(plain, _SEPARATORS[kind], wanted, source.items, rejects)
    elif kind == _PARQUET:
        frame = pl.scan_parquet(plain)
        types = frame.collect_schema()
        check_columns(types.names(), wanted, source.items)
        rows = frame.select(with_shortest_digits(name, types[name]) for name in wanted).collect()
        yield from enumerate(rows.iter_rows(named=True), start=1)
    else:
        found: dict[str, None] = {}
        for line, record in json_records(plain, source.items.name, rejects):
            found |= dict.fromkeys(record)
            yield line, {name: record.get(name) for name in wanted}
        check_columns(list(found), wanted, source.items)


def _prose(row: dict[str, Any], column: str) -> str:
    """A cell as text; the entries of a list are joined."""
    return " ".join(clean_values(row[column], f"the column {column}"))


def _values(row: dict[str, Any], column: str, separator: str | None) -> list[str]:
    """A cell as attribute values: a list has its own, text is split."""
    value = row[column]
    if isinstance(value, str) and separator:
        value = value.split(separator)
    return clean_values(value, f"the column {column}")
