"""Opening what people bring: plain or gzipped text, with one clear sentence when it cannot be read."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError

_PROBE_BYTES = 1 << 16
_LINE = "\x01"  # a separator that no text line holds


def existing_file(path: Path) -> Path:
    """The path, when it is a file with content. Raises InputError when not."""
    if not path.is_file():
        raise InputError(f"The file {path} does not exist.")
    if path.stat().st_size == 0:
        raise InputError(f"The file {path} is empty.")
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
            if text := line.rstrip("\n"):
                yield number, text


def json_records(path: Path, name: str, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file with their line numbers; other lines are rejected."""
    for number, line in text_lines(path):
        if "\ufffd" in line:
            rejects.add(name, number, "the row is not valid UTF-8", line)
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield number, value
        else:
            rejects.add(name, number, "the row is not a JSON object", line)


def json_columns(path: Path, fields: dict[str, str], name: str, rejects: Rejects) -> pl.LazyFrame:
    """Top-level fields of a JSON-lines file as text columns with a line number, without a Python loop.

    `fields` maps column to field name. Lines in which no field is found are rejected as not JSON objects.
    """
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
    columns = lines.select(
        "line",
        "raw",
        *(
            pl.col("raw").str.json_path_match(f"$['{field}']").alias(column)
            for column, field in fields.items()
        ),
    )
    nothing = pl.all_horizontal(pl.col(column).is_null() for column in fields)
    bad = columns.filter(nothing).select("line", pl.col("raw").alias("content")).collect(engine="streaming")
    reason = pl.lit(f"the row is not a JSON object with {', '.join(fields.values())}").alias("reason")
    rejects.add_frame(name, bad.with_columns(reason))
    return columns.filter(~nothing).drop("raw")


def check_columns(found: list[str], wanted: list[str], path: Path) -> None:
    """Raises InputError when a wanted column is not there."""
    if missing := [name for name in wanted if name not in found]:
        raise InputError(
            f"The file {path} has no column {', '.join(missing)}; it has {', '.join(found) or 'none'}. "
            "Set the column names under prepare.source."
        )
