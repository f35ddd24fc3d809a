"""Reader for CSV, TSV, Parquet and JSON-lines files with named columns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from saerec_ray.config import TableSource
from saerec_ray.data.files import check_columns, existing_file, json_columns, plain_file
from saerec_ray.data.raw import ItemCollector, RawData, RawItem, clean_values, take_interactions
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_LINES = {".jsonl", ".ndjson", ".json"}
_REPLACED = "\ufffd"


def read_table(source: TableSource, rejects: Rejects) -> RawData:
    """Reads interactions and items. Raises InputError for files or columns that do not fit."""
    wanted = {"user_id": source.user_column, "item_id": source.item_column}
    if source.time_column:
        wanted["time"] = source.time_column
    if source.rating_column:
        wanted["rating"] = source.rating_column
    with _scanned(source.interactions, wanted, rejects) as rows:
        interactions, count = take_interactions(rows, source.interactions.name, rejects)
    return RawData(interactions, _read_items(source, rejects), count)


@contextlib.contextmanager
def _scanned(path: Path, wanted: dict[str, str], rejects: Rejects) -> Iterator[pl.LazyFrame]:
    """The wanted columns as text, under their own names, with a line number."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    try:
        if suffix == ".parquet":
            frame = pl.scan_parquet(existing_file(path))
            check_columns(frame.collect_schema().names(), list(wanted.values()), path)
            yield _as_text(frame.with_row_index("line", offset=1), wanted)
            return
        with plain_file(path) as plain:
            if suffix in _JSON_LINES:
                yield json_columns(plain, wanted, path.name, rejects)
            elif suffix in _SEPARATORS:
                frame = pl.scan_csv(
                    plain,
                    separator=_SEPARATORS[suffix],
                    infer_schema=False,
                    encoding="utf8-lossy",
                    truncate_ragged_lines=True,
                    row_index_name="line",
                    row_index_offset=2,
                )
                check_columns(frame.collect_schema().names(), list(wanted.values()), path)
                yield _as_text(frame, wanted).filter(~pl.all_horizontal(pl.exclude("line").is_null()))
            else:
                raise InputError(
                    f"{path} has no known ending; use .csv, .tsv, .parquet or .jsonl, each also .gz."
                )
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"The file {path} cannot be read: {reason}") from error


def _as_text(frame: pl.LazyFrame, wanted: dict[str, str]) -> pl.LazyFrame:
    return frame.select(
        "line", *(pl.col(name).cast(pl.String).alias(column) for column, name in wanted.items())
    )


def _read_items(source: TableSource, rejects: Rejects) -> list[RawItem]:
    names = [source.item_id_column, *source.text_columns, *source.attribute_columns]
    if source.title_column:
        names.append(source.title_column)
    wanted = {name: name for name in dict.fromkeys(names)}
    with _scanned(source.items, wanted, rejects) as rows:
        frame = rows.collect()
    collector = ItemCollector(source.items.name, rejects)
    for row in frame.iter_rows(named=True):
        if any(_REPLACED in value for value in row.values() if isinstance(value, str)):
            rejects.add(
                source.items.name, row["line"], "the row is not valid UTF-8", str(row[source.item_id_column])
            )
            continue
        attributes = {
            name: values
            for name in source.attribute_columns
            if (values := _split(row[name], source.attribute_separator))
        }
        parts = [(row[name] or "").strip() for name in source.text_columns]
        collector.add(
            RawItem(
                item_id=(row[source.item_id_column] or "").strip(),
                title=((row[source.title_column] if source.title_column else None) or "").strip(),
                text=". ".join(part for part in parts if part),
                attributes=attributes,
            ),
            row["line"],
        )
    return collector.items()


def _split(value: str | None, separator: str | None) -> list[str]:
    if not value:
        return []
    if value.startswith("["):  # a list in JSON lines
        with contextlib.suppress(ValueError):
            return clean_values(json.loads(value))
    return clean_values(value.split(separator) if separator else [value])
