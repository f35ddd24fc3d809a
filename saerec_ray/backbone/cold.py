"""Items without any training interaction, and those held out as if they were such: training never meets them.

As targets they could only be wrong. The training runs on a catalogue without them; afterwards they are put back with
their codes, no residual and the bias of new items, as companions of others by their texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array
from torch import Tensor

from saerec_ray.backbone.frozen import Frozen, write_frozen
from saerec_ray.config import Config
from saerec_ray.data.prepared import SEQUENCES_FILE, SEQUENCES_SCHEMA, PreparedSequences
from saerec_ray.errors import InputError

Mask = npt.NDArray[np.bool_]

COLD_FILE = "cold.safetensors"
_ITEM_TENSORS = ("items.residuals", "items.biases")
"""What the backbone learns for single items, one row an item."""


def draw_cold_items(items: int, share: float, seed: int) -> Mask:
    """Which items are cold, (items,): a random share of them. Raises InputError when none would be left."""
    count = round(share * items)
    if count >= items:
        raise InputError(f"train.cold_share {share} leaves none of {items} items to train on; lower it.")
    cold = np.zeros(items, dtype=bool)
    cold[np.random.default_rng([seed, items]).permutation(items)[:count]] = True
    return cold


def without_cold(sequences: PreparedSequences, cold: Mask) -> PreparedSequences:
    """The same users without their interactions with cold items; item indices stay as they are."""
    users = np.repeat(np.arange(len(sequences)), np.diff(sequences.offsets))
    places = np.arange(len(sequences.items)) - sequences.offsets[:-1][users]
    kept = ~cold[sequences.items]

    def lengths(before: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        inside = kept & (places < before[users])
        return np.bincount(users[inside], minlength=len(sequences)).astype(np.int32)

    counts = np.bincount(users[kept], minlength=len(sequences))
    return PreparedSequences(
        user_ids=sequences.user_ids,
        items=sequences.items[kept],
        times=None if sequences.times is None else sequences.times[kept],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        train_lengths=lengths(sequences.train_lengths),
        validation_lengths=lengths(sequences.validation_lengths),
    )


def training_seed(config: Config) -> int:
    """The seed that the training uses, and the draw of cold items with it."""
    return config.seed if config.train.seed is None else config.train.seed


def cold_items(config: Config, items: int) -> list[int]:
    """The items of which nothing may be learnt, as if they came after the training."""
    drawn: list[int] = np.flatnonzero(
        draw_cold_items(items, config.train.cold_share, training_seed(config))
    ).tolist()
    return drawn


def met_in_training(config: Config, sequences: PreparedSequences, items: int) -> PreparedSequences:
    """The interactions without those of cold items: nothing may be learnt of an item from people before it is met."""
    return without_cold(sequences, draw_cold_items(items, config.train.cold_share, training_seed(config)))


@dataclass(frozen=True)
class WarmCatalogue:
    """A folder with what the training reads, without items that it never meets, here called cold, numbered anew."""

    folder: Path
    cold: Mask

    @staticmethod
    def write(folder: Path, sequences: PreparedSequences, frozen: Frozen, cold: Mask) -> WarmCatalogue:
        """Writes sequences and the frozen side of the items that are not cold."""
        folder.mkdir(parents=True, exist_ok=True)
        warm = ~cold
        numbers = np.cumsum(warm) - 1
        kept = without_cold(sequences, cold)
        _write_sequences(replace(kept, items=numbers[kept.items].astype(np.int32)), folder)
        of_warm = replace(
            frozen,
            codes=csr_array(frozen.codes[warm]),
            popularity=frozen.popularity[warm],
            companions=csr_array(frozen.companions[warm][:, warm]),
        )
        write_frozen(of_warm, folder)
        return WarmCatalogue(folder, cold)

    def whole(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The trained state for the whole catalogue: rows of zeros for cold items."""
        warm = torch.from_numpy(np.flatnonzero(~self.cold))
        result = dict(state)
        for name in _ITEM_TENSORS:
            rows = state[name]
            result[name] = rows.new_zeros((len(self.cold), *rows.shape[1:])).index_copy(0, warm, rows)
        return result


def write_cold_items(cold: Mask, folder: Path) -> None:
    """Records which items are cold beside the model."""
    save_file({"cold": cold}, folder / COLD_FILE)


def read_cold_items(folder: Path) -> Mask | None:
    """Which items the model of a train folder never met; None when it met all."""
    path = folder / COLD_FILE
    return load_file(path)["cold"] if path.exists() else None


def _write_sequences(sequences: PreparedSequences, folder: Path) -> None:
    offsets = pa.array(sequences.offsets.astype(np.int32))
    times = sequences.times
    values = pa.nulls(len(sequences.items), pa.int64()) if times is None else pa.array(times)
    table = pa.table(
        {
            "user_id": sequences.user_ids,
            "items": pa.ListArray.from_arrays(offsets, pa.array(sequences.items, pa.int32())),
            "times": pa.ListArray.from_arrays(offsets, values),
            "train_length": pa.array(sequences.train_lengths),
            "validation_length": pa.array(sequences.validation_lengths),
        },
        schema=SEQUENCES_SCHEMA,
    )
    pq.write_table(table, folder / SEQUENCES_FILE)
