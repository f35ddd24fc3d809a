"""Training a dictionary on any vectors, without the other stages."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.numpy import save_file

from saerec_ray.config import ClusterConfig
from saerec_ray.dictionary.build import OnLog, train_on
from saerec_ray.dictionary.sae import Dictionary, Floats
from saerec_ray.dictionary.vectors import VectorSource, read_vectors
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.distributed import Engine
from saerec_ray.errors import InputError
from saerec_ray.manifest import sources_hash
from saerec_ray.sources import LARGEST_SEED
from saerec_ray.text.embed import EMBEDDINGS_FILE

_NOT_HERE = {"source", "recentre", "cooccurrence", "attributes"}
"""Settings of the dictionary stage that need other stages."""


def fit(
    vectors: VectorSource,
    *,
    column: str = "vector",
    seed: int = 42,
    workers: int = 1,
    engine: Engine = "local",
    gpus: bool = True,
    workdir: str | Path | None = None,
    on_log: OnLog | None = None,
    **settings: Any,
) -> Dictionary:
    """Trains a sparse autoencoder on vectors and returns it, ready for `encode`.

    `vectors`: an array, (rows, d), or the path of a Parquet file with a `column` of vectors, of a folder of
    such files, or of the folder of an embed stage. `settings` are those of the section `dictionary` of a
    configuration: kind, width, active, epochs, seeds and so on (`saerec dictionary --help` lists them).
    `workers` processes train, on this machine (engine "local") or on Ray (engine "ray"; `workdir` must then
    be a folder that all nodes see). In `workdir` a call that was stopped is gone on with by the same call of
    the same code; nothing is left there at the end. `on_log` gets the figures of every epoch.
    Raises InputError for vectors or settings that cannot be used, StageError when training fails.

    >>> import numpy as np
    >>> from saerec_ray.dictionary import encode, fit
    >>> vectors = np.random.default_rng(0).normal(size=(400, 16))
    >>> dictionary = fit(vectors, width=32, active=4, epochs=5, batch_size=64)
    >>> encode(dictionary, vectors).shape
    (400, 32)
    """
    config = _config(settings, workers)
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed must be a whole number from 0 to {LARGEST_SEED}; it is {seed}.")
    read = read_vectors(vectors, column)
    if (read == read[0]).all():
        raise InputError("All vectors are equal, so there is nothing to learn from them.")
    cluster = ClusterConfig(engine=engine, gpus=gpus)
    with _folder(workdir) as parent:
        runs = parent / f"fit-{_digest(read, config, seed)}"
        (runs / "vectors").mkdir(parents=True, exist_ok=True)
        save_file({"embeddings": read}, runs / "vectors" / EMBEDDINGS_FILE)
        try:
            trained = train_on(
                config, cluster, seed, runs / "vectors", runs, "dictionary", on_log, width_setting="width"
            )
        except InputError:  # the same call would be refused again
            _remove(runs)
            raise
        _remove(runs)
    return trained.dictionary


def _config(settings: dict[str, Any], workers: int) -> DictionaryConfig:
    """Raises InputError that names each setting that is wrong."""
    if foreign := _NOT_HERE & settings.keys():
        raise InputError(f"{', '.join(sorted(foreign))}: set in a configuration of all stages only.")
    try:
        return DictionaryConfig.model_validate({**settings, "workers": workers})
    except ValidationError as error:
        problems = (
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise InputError(f"The dictionary cannot be trained so: {'; '.join(problems)}.") from error


@contextlib.contextmanager
def _folder(workdir: str | Path | None) -> Iterator[Path]:
    if workdir is not None:
        yield Path(workdir).absolute()
        return
    with tempfile.TemporaryDirectory(prefix="dictionary-") as folder:
        yield Path(folder)


def _remove(folder: Path) -> None:
    """Removes a training; a worker about to end may still be adding files to it."""
    shutil.rmtree(folder, ignore_errors=True)


def _digest(vectors: Floats, config: DictionaryConfig, seed: int) -> str:
    """Another for other vectors, settings or code, so that only the same training is gone on with."""
    digest = hashlib.sha256(vectors.tobytes())
    digest.update(f"{vectors.shape}{config.model_dump_json()}{seed}{sources_hash()}".encode())
    return digest.hexdigest()[:12]
