"""A table of item ids and a number for each, such as the mean rating or the return rate."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from saerec_ray.errors import InputError
from saerec_ray.intents.listing import listed

MOST_UNKNOWN = 0.5


@dataclass(frozen=True)
class Outcome:
    """The outcome of some items of a catalogue."""

    items: npt.NDArray[np.int64]  # places in the catalogue
    values: npt.NDArray[np.float64]
    unknown: list[str]  # ids that the catalogue does not have


def read_outcome(path: Path, item_ids: Sequence[str], item_column: str, value_column: str | None) -> Outcome:
    """Reads a .csv or .tsv file with a header.

    `value_column` may be left out where there is only one other column. Raises InputError for a file, a column or a
    row that cannot be used, for an item that is there twice, and when more than half of the ids are unknown.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = csv.reader(handle, delimiter="\t" if path.suffix == ".tsv" else ",")
            header = next(rows, [])
            columns = _columns(path, header, item_column, value_column)
            read = _values(path, rows, len(header), *columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The outcome file {path} cannot be read: {error}.") from error
    if not read:
        raise InputError(f"The outcome file {path} has no row below its header.")
    index = {item_id: place for place, item_id in enumerate(item_ids)}
    unknown = [item_id for item_id in read if item_id not in index]
    if len(unknown) > MOST_UNKNOWN * len(read):
        raise InputError(
            f"{len(unknown)} of the {len(read)} item ids in {path} are not in the catalogue: {listed(unknown)}. "
            "Check the column of the ids."
        )
    known = [item_id for item_id in read if item_id in index]
    return Outcome(
        np.array([index[item_id] for item_id in known], dtype=np.int64),
        np.array([read[item_id] for item_id in known], dtype=np.float64),
        unknown,
    )


def _columns(path: Path, header: list[str], item_column: str, value_column: str | None) -> tuple[int, int]:
    if item_column not in header:
        raise InputError(
            f"{path} has no column {item_column}, only: {', '.join(header) or 'nothing'}; give --item-column."
        )
    others = [name for name in header if name != item_column]
    if value_column is None and len(others) != 1:
        raise InputError(
            f"{path} has {len(others)} columns beside {item_column}; say which with --value-column."
        )
    wanted = value_column if value_column is not None else others[0]
    if wanted not in others:
        raise InputError(f"{path} has no other column {wanted}, only: {', '.join(others)}.")
    return header.index(item_column), header.index(wanted)


def _values(
    path: Path, rows: Iterable[list[str]], width: int, item_place: int, value_place: int
) -> dict[str, float]:
    values: dict[str, float] = {}
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != width:
            raise InputError(f"{path}, line {number}: {len(row)} columns, the header has {width}.")
        item_id, text = row[item_place].strip(), row[value_place].strip()
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(
                f"{path}, line {number}: the outcome {text or '(empty)'} is not a finite number."
            )
        if item_id in values:
            raise InputError(f"{path}, line {number}: item {item_id} is there twice; give its mean once.")
        values[item_id] = value
    return values
