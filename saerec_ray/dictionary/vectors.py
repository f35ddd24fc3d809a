"""Vectors from whatever people have them in, checked before anything is computed with them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from saerec_ray.dictionary.sae import Floats
from saerec_ray.errors import InputError

VectorSource: TypeAlias = "npt.ArrayLike | str | Path"
"""Vectors, (rows, d); or a Parquet file, a folder of Parquet files, or the folder of an embed stage."""

_PARQUET = ".parquet"


def read_vectors(source: VectorSource, column: str = "vector") -> Floats:
    """The vectors of a source as float32, (rows, d).

    Of Parquet files `column` is read, lists of equally many numbers; a folder's files in the order of their
    names. Raises InputError when it is something else, empty, or holds numbers that are not finite.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        return _checked(_from_path(path, column), str(path))
    return _checked(source, "The array of vectors")


def _from_path(path: Path, column: str) -> npt.ArrayLike:
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if not path.is_dir():
        return _from_parquet([path], column)
    from saerec_ray.text.embed import EMBEDDINGS_FILE, load_embeddings

    if (path / EMBEDDINGS_FILE).is_file():
        return load_embeddings(path)
    files = sorted(path.glob(f"*{_PARQUET}"))
    if not files:
        raise InputError(f"The folder {path} has neither {EMBEDDINGS_FILE} nor {_PARQUET} files.")
    return _from_parquet(files, column)


def _from_parquet(files: list[Path], column: str) -> npt.ArrayLike:
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for file in files:
        try:
            names = pq.read_schema(file).names
            if column not in names:
                raise InputError(f"{file} has no column {column!r}; it has {', '.join(names)}.")
            values = pq.read_table(file, columns=[column])[column].combine_chunks()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file} is not a readable Parquet file: {error}") from error
        if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
                or pa.types.is_fixed_size_list(values.type)):  # fmt: skip
            raise InputError(f"The column {column!r} of {file} holds {values.type}, not lists of numbers.")
        lengths = set(values.value_lengths().to_pylist())
        numbers = values.flatten()
        if len(lengths) > 1 or values.null_count or numbers.null_count:
            raise InputError(
                f"The column {column!r} of {file} needs lists of one length in every row, without gaps."
            )
        if len(values):
            parts.append(np.asarray(numbers).reshape(len(values), lengths.pop()))
    if len({part.shape[1] for part in parts}) > 1:
        raise InputError(f"The files in {files[0].parent} hold vectors of different lengths.")
    return np.concatenate(parts) if parts else np.empty((0, 0))


def _checked(values: npt.ArrayLike, name: str) -> Floats:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name} must be a table of numbers, (rows, dimensions): {error}.") from error
    if array.ndim != 2 or array.shape[1] == 0 or len(array) == 0:
        raise InputError(f"{name} must have the shape (rows, dimensions), neither 0; it has {array.shape}.")
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"{name} must hold numbers; it holds {array.dtype}.")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(array, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(f"{name} holds numbers that are not finite, first in row {bad[0]}.")
    return vectors
