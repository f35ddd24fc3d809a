"""A finished prepare stage of given histories, without a source and without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from saerec_ray.data.prepared import (
    ITEMS_FILE,
    SEQUENCES_FILE,
    SEQUENCES_SCHEMA,
    PreparedItems,
    items_table,
)
from tests.finished_stage import finish_stage

Histories = Mapping[str, Sequence[tuple[str, int | None]]]
"""Items and seconds of every user, oldest first."""


def write_prepared(workdir: Path, histories: Histories, item_ids: Sequence[str] | None = None) -> Path:
    """Writes the stage, with the last item of every user as test and the one before as validation.

    The items are those of the histories, or `item_ids`. Returns the work directory.
    """
    known = list(item_ids or dict.fromkeys(item for met in histories.values() for item, _ in met))
    place = {item: index for index, item in enumerate(known)}
    folder = workdir / "prepare"
    folder.mkdir(parents=True, exist_ok=True)
    nothing = [""] * len(known)
    pq.write_table(
        items_table(PreparedItems(known, nothing, nothing, [{} for _ in known])), folder / ITEMS_FILE
    )
    table = pa.table(
        {
            "user_id": list(histories),
            "items": [[place[item] for item, _ in met] for met in histories.values()],
            "times": [[second for _, second in met] for met in histories.values()],
            "train_length": [max(0, len(met) - 2) for met in histories.values()],
            "validation_length": [max(0, len(met) - 1) for met in histories.values()],
        },
        schema=SEQUENCES_SCHEMA,
    )
    pq.write_table(table, folder / SEQUENCES_FILE)
    finish_stage(folder)
    return workdir
