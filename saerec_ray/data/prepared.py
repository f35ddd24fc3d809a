"""The prepared set: what every later stage knows of the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ITEMS_FILE = "items.parquet"
SEQUENCES_FILE = "sequences.parquet"
REVIEWS_FILE = "reviews.parquet"
"""Only there when reviews were asked for."""
REJECTED_FILE = "rejected.parquet"

ITEMS_SCHEMA = pa.schema(
    [
        ("item_index", pa.int32()),  # 0 .. number of items - 1, also the row number
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("attributes", pa.map_(pa.string(), pa.list_(pa.string()))),
    ]
)
SEQUENCES_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("items", pa.list_(pa.int32())),  # item indices, oldest first
        ("times", pa.list_(pa.int64())),  # seconds since 1970; null where the source has only order
        ("train_length", pa.int32()),  # items[:train_length] may be learned from
        ("validation_length", pa.int32()),  # items[train_length:validation_length] are validation targets
    ]
)
REVIEWS_SCHEMA = pa.schema(
    [
        ("item", pa.int32()),  # item index, ascending
        ("text", pa.string()),  # of a training interaction
    ]
)


@dataclass(frozen=True)
class PreparedItems:
    """The catalogue, one entry an item index."""

    ids: list[str]
    titles: list[str]
    texts: list[str]
    attributes: list[dict[str, list[str]]]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class PreparedSequences:
    """Every user's interactions in order, flat, with where training, validation and test end.

    User u has items[offsets[u]:offsets[u + 1]]; of these the first train_lengths[u] may be learned from,
    those up to validation_lengths[u] are validation targets, the rest test targets.
    """

    user_ids: list[str]
    items: npt.NDArray[np.int32]  # (interactions,)
    times: npt.NDArray[np.int64] | None  # (interactions,) seconds since 1970
    offsets: npt.NDArray[np.int64]  # (users + 1,)
    train_lengths: npt.NDArray[np.int32]  # (users,)
    validation_lengths: npt.NDArray[np.int32]  # (users,)

    def __len__(self) -> int:
        return len(self.user_ids)

    def train(self, user: int) -> npt.NDArray[np.int32]:
        """The training items of one user, oldest first."""
        start = self.offsets[user]
        return self.items[start : start + self.train_lengths[user]]

    def train_interactions(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """User index and item index of every training interaction, in order."""
        lengths = np.diff(self.offsets)
        users = np.repeat(np.arange(len(lengths)), lengths)
        positions = np.arange(len(self.items)) - self.offsets[:-1].repeat(lengths)
        kept = positions < self.train_lengths.repeat(lengths)
        return users[kept], self.items[kept]


@dataclass(frozen=True)
class PreparedReviews:
    """Texts that people wrote about items they met in training."""

    items: npt.NDArray[np.int32]  # (reviews,) item indices, ascending
    texts: list[str]


def read_reviews(folder: Path) -> PreparedReviews | None:
    """Reads the reviews of a prepared set; None when it has none."""
    path = folder / REVIEWS_FILE
    if not path.exists():
        return None
    table = pq.read_table(path, schema=REVIEWS_SCHEMA)
    return PreparedReviews(np.asarray(table["item"], dtype=np.int32), table["text"].to_pylist())


def read_items(folder: Path) -> PreparedItems:
    """Reads the catalogue of a prepared set."""
    table = pq.read_table(folder / ITEMS_FILE, schema=ITEMS_SCHEMA)
    return PreparedItems(
        ids=table["item_id"].to_pylist(),
        titles=table["title"].to_pylist(),
        texts=table["text"].to_pylist(),
        attributes=[dict(pairs) for pairs in table["attributes"].to_pylist()],
    )


def read_sequences(folder: Path) -> PreparedSequences:
    """Reads the interactions of a prepared set."""
    table = pq.read_table(folder / SEQUENCES_FILE, schema=SEQUENCES_SCHEMA).combine_chunks()
    items = table["items"].combine_chunks()
    times = table["times"].combine_chunks()
    return PreparedSequences(
        user_ids=table["user_id"].to_pylist(),
        items=np.asarray(items.flatten(), dtype=np.int32),
        times=None if times.flatten().null_count else np.asarray(times.flatten(), dtype=np.int64),
        offsets=np.asarray(items.offsets, dtype=np.int64),
        train_lengths=np.asarray(table["train_length"], dtype=np.int32),
        validation_lengths=np.asarray(table["validation_length"], dtype=np.int32),
    )


def items_table(items: PreparedItems) -> pa.Table:
    """The catalogue as a table of ITEMS_SCHEMA."""
    return pa.table(
        {
            "item_index": pa.array(range(len(items)), pa.int32()),
            "item_id": items.ids,
            "title": items.titles,
            "text": items.texts,
            "attributes": pa.array(
                [list(values.items()) for values in items.attributes], ITEMS_SCHEMA.field("attributes").type
            ),
        },
        schema=ITEMS_SCHEMA,
    )
