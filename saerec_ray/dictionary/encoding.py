"""A trained dictionary in use: encode, save, load. Needs neither torch nor ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import DICTIONARY_FILE, Dictionary
from saerec_ray.dictionary.vectors import VectorSource, read_vectors
from saerec_ray.errors import InputError

_SUFFIX = ".safetensors"


def encode(
    dictionary: Dictionary | str | Path, vectors: VectorSource, *, column: str = "vector"
) -> csr_array:
    """The codes of vectors, (rows, latents): sparse, non-negative, each row's by itself.

    `dictionary` is one from `fit` or where `save` or the dictionary stage put it; `vectors` as for `fit`.
    Raises InputError when either cannot be used, or when the vectors have another length than those the
    dictionary was trained on.
    """
    if not isinstance(dictionary, Dictionary):
        dictionary = load(dictionary)
    read = read_vectors(vectors, column)
    expected = dictionary.decoder.shape[1]
    if read.shape[1] != expected:
        raise InputError(
            f"The dictionary reads vectors of {expected} numbers, but these have {read.shape[1]}."
        )
    return dictionary.encode(read)


def save(dictionary: Dictionary, path: str | Path) -> Path:
    """Writes a dictionary as safetensors and returns the file.

    `path` is a file that ends in .safetensors, or a folder, which is made if needed and gets one.
    Raises InputError when it cannot be written.
    """
    file = _file(Path(path))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.ascontiguousarray(values) for name, values in dictionary.arrays().items()}
        save_file(arrays, file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"The dictionary cannot be written to {file}: {error}") from error
    return file


def load(path: str | Path) -> Dictionary:
    """Reads what `save` or the dictionary stage wrote. Raises InputError when there is no whole dictionary."""
    file = _file(Path(path))
    try:
        return Dictionary.from_arrays(load_file(file))
    except FileNotFoundError as error:
        raise InputError(f"There is no dictionary at {file}.") from error
    except (SafetensorError, OSError, KeyError, IndexError) as error:
        raise InputError(f"{file} does not hold a whole dictionary: {error}") from error


def _file(path: Path) -> Path:
    return path if path.suffix == _SUFFIX else path / DICTIONARY_FILE
