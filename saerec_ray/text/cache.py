"""Vectors of texts already encoded, kept by hash of model and text, so that a second run only adds new ones."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)


def text_key(fingerprint: str, text: str) -> bytes:
    """16 bytes that identify a text under a model."""
    return hashlib.sha256(f"{fingerprint}\n{text}".encode()).digest()[:16]


class EmbeddingCache:
    """A folder of Parquet parts, one a finished chunk; parts are added whole and never changed."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder / fingerprint[:16]
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self) -> Path:
        """Where the parts of this model are."""
        return self._folder

    def lookup(self, keys: Iterable[bytes]) -> dict[bytes, Floats]:
        """The vectors of the keys that are known. Damaged parts are ignored, with a warning."""
        wanted = set(keys)
        found: dict[bytes, Floats] = {}
        for path in sorted(self._folder.glob("*.parquet")):
            try:
                table = pq.read_table(path)
                part_keys = table["key"].to_pylist()
                vectors = _matrix(table["vector"])
            except (pa.ArrowException, OSError, KeyError, ValueError) as error:
                logger.warning("Ignoring the damaged cache file %s: %s", path, error)
                continue
            if not np.isfinite(vectors).all():
                logger.warning("Ignoring the cache file %s: it holds numbers that are not finite", path)
                continue
            found.update((key, vectors[row]) for row, key in enumerate(part_keys) if key in wanted)
        return found


def write_part(folder: Path, keys: list[bytes], vectors: Floats) -> None:
    """Adds one part; a reader sees it whole or not at all."""
    array = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1]
    )
    table = pa.table({"key": pa.array(keys, pa.binary(16)), "vector": array})
    name = uuid.uuid4().hex
    temporary = folder / f".{name}.tmp"
    pq.write_table(table, temporary)
    os.replace(temporary, folder / f"{name}.parquet")


def _matrix(column: pa.ChunkedArray) -> Floats:
    """The vectors of a column, (rows, d). Raises ValueError when it holds anything else."""
    if not pa.types.is_fixed_size_list(column.type) or column.null_count:
        raise ValueError("it holds something else than vectors")
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    flat = np.concatenate(parts) if parts else np.empty(0)
    return np.asarray(flat, dtype=np.float32).reshape(-1, column.type.list_size)
