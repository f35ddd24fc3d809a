"""Reader for CSV, TSV, Parquet and JSON-lines files with named columns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

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
from saerec_ray.data.raw import (
    NOT_UTF8,
    REPLACED,
    ItemCollector,
    RawData,
    RawItem,
    clean_values,
    id_text,
    take_interactions,
)
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError
from saerec_ray.sources import TableSource

_IDS = {"user_id", "item_id"}
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = {".jsonl", ".ndjson", ".json"}
_PARQUET = ".parquet"


def read_table(source: TableSource, rejects: Rejects) -> RawData:
    """Reads interactions and items. Raises InputError for files or columns that do not fit."""
    wanted = {"user_id": source.user_column, "item_id": source.item_column}
    if source.time_column:
        wanted["time"] = source.time_column
    if source.rating_column:
        wanted["rating"] = source.rating_column
    with clear_errors(source.interactions), _scanned(source.interactions, wanted) as rows:
        interactions, count = take_interactions(rows, source.interactions.name, rejects)
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
    column = pl.col(name)
    if to in _IDS and dtype.is_float():
        whole = column.is_finite() & (column == column.floor())
        return (
            pl.when(whole)
            .then(column.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(column.cast(pl.String))
        )
    if isinstance(dtype, pl.Datetime | pl.Date):
        column = column.dt.epoch("s")
    return column.cast(pl.String)


def _read_items(source: TableSource, rejects: Rejects) -> list[RawItem]:
    path = source.items
    collector = ItemCollector(path.name, rejects)
    with clear_errors(path), plain_file(path) as plain:
        for line, row in _item_rows(plain, source, rejects):
            if any(isinstance(value, str) and REPLACED in value for value in row.values()):
                rejects.add(path.name, line, NOT_UTF8, str(row[source.item_id_column]))
                continue
            parts = [_prose(row.get(name)) for name in source.text_columns]
            attributes = {
                name: values
                for name in source.attribute_columns
                if (values := _values(row.get(name), source.attribute_separator))
            }
            collector.add(
                RawItem(
                    item_id=id_text(row.get(source.item_id_column)),
                    title=_prose(row.get(source.title_column)) if source.title_column else "",
                    text=". ".join(part for part in parts if part),
                    attributes=attributes,
                    line=line,
                )
            )
    return collector.items()


def _item_rows(plain: Path, source: TableSource, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    kind = _kind(source.items)
    names = [source.item_id_column, *source.text_columns, *source.attribute_columns]
    names += [source.title_column] if source.title_column else []
    wanted = list(dict.fromkeys(names))
    if kind in _SEPARATORS:
        yield from csv_records(plain, _SEPARATORS[kind], wanted, source.items, rejects)
    elif kind == _PARQUET:
        frame = pl.scan_parquet(plain)
        check_columns(frame.collect_schema().names(), wanted, source.items)
        yield from enumerate(frame.select(wanted).collect().iter_rows(named=True), start=1)
    else:
        found: dict[str, None] = {}
        for line, record in json_records(plain, source.items.name, rejects):
            found |= dict.fromkeys(record)
            yield line, {name: record.get(name) for name in wanted}
        check_columns(list(found), wanted, source.items)


def _prose(value: object) -> str:
    """A cell as text; the entries of a list are joined."""
    return " ".join(clean_values(value))


def _values(value: object, separator: str | None) -> list[str]:
    """A cell as attribute values: a list has its own, text is split."""
    if isinstance(value, bool):
        return [str(value).lower()]
    return clean_values(value.split(separator) if isinstance(value, str) and separator else value)
