"""Opening what people bring: plain or gzipped text, with one clear sentence when it cannot be read."""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from saerec_ray.data.ids import ID_COLUMNS, json_ids
from saerec_ray.data.raw import NOT_UTF8, REPLACED
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError

_PROBE_BYTES = 1 << 16
_FIRST_LINES = 100
_LINE = "\x01"  # a separator that no text line holds
_LONGEST_CELL = 1 << 26  # characters; what is longer is a quotation mark that does not close
LINE_NUMBER = "\x01line"  # a name that no column of a file has

csv.field_size_limit(_LONGEST_CELL)


def existing_file(path: Path) -> Path:
    """The path, when it is a file with content. Raises InputError when not."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file.")
    if not path.is_file():
        raise InputError(f"The file {path} does not exist.")
    if path.stat().st_size == 0:
        raise InputError(f"The file {path} is empty.")
    if not os.access(path, os.R_OK):
        raise InputError(f"The file {path} may not be read by this user.")
    return path


@contextlib.contextmanager
def plain_file(path: Path) -> Iterator[Path]:
    """The file itself, or an unpacked copy of a .gz file for the length of the block.

    Raises InputError when the file is missing, empty, truncated, damaged, or not text.
    """
    existing_file(path)
    if path.suffix != ".gz":
        _check_text(path, path)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="saerec-") as folder:
        unpacked = Path(folder) / path.stem
        try:
            with gzip.open(path) as packed, unpacked.open("wb") as target:
                shutil.copyfileobj(packed, target, 1 << 20)
        except EOFError as error:
            raise InputError(
                f"The file {path} is cut off: its gzip stream has no end. Fetch it again."
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"The file {path} is not a valid gzip file: {error}.") from error
        if unpacked.stat().st_size == 0:
            raise InputError(f"The file {path} is empty.")
        _check_text(unpacked, path)
        yield unpacked


def _check_text(path: Path, shown: Path) -> None:
    if path.suffix == ".parquet":
        return
    with path.open("rb") as handle:
        probe = handle.read(_PROBE_BYTES)
    if b"\x00" in probe:
        raise InputError(
            f"The file {shown} is not UTF-8 text; convert it first (it may be UTF-16 or binary)."
        )


def text_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines without their end; bytes that are not valid become U+FFFD. Skips blank lines."""
    with path.open(
        encoding="utf-8-sig" if encoding == "utf-8" else encoding, errors="replace", newline=None
    ) as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                yield number, line.rstrip("\n")


def json_records(path: Path, name: str, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file with their line numbers; other lines are rejected."""
    for number, line in text_lines(path):
        if REPLACED in line:
            rejects.add(name, number, NOT_UTF8, line)
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield number, value
        else:
            rejects.add(name, number, "the row is not a JSON object", line)


def json_columns(path: Path, fields: dict[str, str], shown: Path) -> pl.LazyFrame:
    """Top-level fields of a JSON-lines file as text columns, without a Python loop; with line and raw, the text.

    `fields` maps column to field name; a line that is no JSON object has nulls. Raises InputError when the first
    objects of the file, called `shown` in messages, all lack a field. Ids that are whole numbers have no decimal point.
    """
    if found := _first_fields(path):
        check_columns(found, list(fields.values()), shown)
    lines = pl.scan_csv(
        path,
        has_header=False,
        separator=_LINE,
        quote_char=None,
        infer_schema=False,
        encoding="utf8-lossy",
        row_index_name="line",
        row_index_offset=1,
        new_columns=["raw"],
        truncate_ragged_lines=True,
    ).filter(pl.col("raw").str.strip_chars() != "")
    raw = pl.col("raw")
    return lines.select(
        "line",
        raw,
        *(
            json_ids(raw, field).alias(column)
            if column in ID_COLUMNS
            else raw.str.json_path_match(f"$['{field}']").alias(column)
            for column, field in fields.items()
        ),
    )


def _first_fields(path: Path) -> list[str]:
    found: dict[str, None] = {}
    for _, line in itertools.islice(text_lines(path), _FIRST_LINES):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            found |= dict.fromkeys(value if isinstance(value, dict) else ())
    return list(found)


def csv_columns(path: Path, separator: str) -> pl.LazyFrame:
    """All columns of a CSV file as text; a row's fields beyond the header's are left out.

    The first column, LINE_NUMBER, tells where each row stands.
    """
    return pl.scan_csv(
        path,
        separator=separator,
        infer_schema=False,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        row_index_name=LINE_NUMBER,
        row_index_offset=2,
    )


def csv_records(
    path: Path, separator: str, wanted: list[str], shown: Path, rejects: Rejects
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with the line each starts on; a short row ends with empty fields.

    Rows with more fields than the header are rejected. Raises InputError when a wanted column is missing or a
    quotation mark does not close.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        reader = csv.reader(handle, delimiter=separator, strict=True)
        header: list[str] | None = None
        start = 1
        try:
            for row in reader:
                line, start = start, reader.line_num + 1
                if not any(row):
                    continue
                if header is None:
                    header = row
                    check_columns(header, wanted, shown)
                elif len(row) > len(header):
                    reason = f"the row has {len(row)} fields instead of {len(header)}"
                    rejects.add(shown.name, line, reason, separator.join(row))
                else:
                    yield line, dict(itertools.zip_longest(header, row, fillvalue=""))
        except csv.Error as error:
            raise InputError(
                f"{shown}, line {start}: the row is not valid CSV ({error}); look for a quotation mark that "
                "does not close."
            ) from error


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turns what Polars says about a file into an InputError of one sentence."""
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise InputError(f"The file {path} is empty.") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        if path.suffix != ".parquet":
            reason += "; look for a quotation mark that does not close"
        raise InputError(f"The file {path} cannot be read: {reason}.") from error


def check_columns(found: list[str], wanted: list[str], path: Path) -> None:
    """Raises InputError when a wanted column is not there."""
    if missing := [name for name in wanted if name not in found]:
        raise InputError(
            f"The file {path} has no column {', '.join(missing)}; it has {', '.join(found) or 'none'}. "
            "Set the column names under prepare.source."
        )
