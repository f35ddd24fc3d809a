"""The embed stage: item texts to vectors, on Ray Data actors or in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.numpy import load_file, save_file

from saerec_ray.config import ClusterConfig, EmbedConfig
from saerec_ray.data.prepared import read_items, read_reviews
from saerec_ray.errors import StageError
from saerec_ray.precision import chosen_precision
from saerec_ray.ray_connection import chosen_engine, start_ray
from saerec_ray.text.cache import EmbeddingCache, text_key, write_part
from saerec_ray.text.encoder import TextEncoder, model_fingerprint, model_location
from saerec_ray.torch_threads import one_torch_thread

Floats = npt.NDArray[np.float32]
OnProgress = Callable[[int, int], None]

EMBEDDINGS_FILE = "embeddings.safetensors"
REVIEW_EMBEDDINGS_FILE = "reviews.safetensors"
"""Only there when the prepared set has reviews."""
_CHUNK_TEXTS = 256
_CPU_SHARE = 0.5
"""CPUs a Ray Data actor asks for: whole CPUs must stay free for the tasks that read and write."""


def embed(
    config: EmbedConfig,
    cluster: ClusterConfig,
    prepared: Path,
    folder: Path,
    cache_folder: Path,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Writes the vector of every item's text into `folder`, in the order of item indices.

    Texts are encoded once each; chunks already finished are read from `cache_folder`. Returns the metrics.
    Raises InputError when the model cannot be loaded.
    """
    started = time.monotonic()
    items, reviews = read_items(prepared), read_reviews(prepared)
    texts = items.texts + (reviews.texts if reviews else [])
    engine = chosen_engine(cluster.engine)
    gpu = cluster.gpus and _has_gpu(engine)
    precision = chosen_precision(config.precision, "cuda" if gpu else "cpu")
    fingerprint = model_fingerprint(config.model, model_location(config.model), precision, config.max_tokens)
    cache = EmbeddingCache(cache_folder, fingerprint)
    keys = [text_key(fingerprint, text) for text in texts]
    known = cache.lookup(keys)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if missing:
        done = 0
        for count in _encode_chunks(config, engine, gpu, precision, missing, cache.folder):
            done += count
            if on_progress:
                on_progress(done, len(missing))
        known |= cache.lookup(missing)
    if len(known) < len(set(keys)):
        raise StageError(f"{len(set(keys)) - len(known)} texts got no vector; run the stage again.")
    vectors = np.stack([known[key] for key in keys])  # (items, then reviews; d)
    count = len(items)
    save_file({"embeddings": vectors[:count]}, folder / EMBEDDINGS_FILE, metadata={"model": config.model})
    if reviews:
        save_file({"embeddings": vectors[count:], "items": reviews.items}, folder / REVIEW_EMBEDDINGS_FILE)
    seconds = time.monotonic() - started
    return {
        "items": count,
        **({"reviews": len(reviews.texts)} if reviews else {}),
        "encoded_now": len(missing),
        "from_cache": len(set(keys)) - len(missing),
        "texts_per_second": round(len(missing) / seconds, 1),
        "dimension": int(vectors.shape[1]),
        "model": config.model,
        "model_fingerprint": fingerprint,
        "precision": precision,
    }


def load_embeddings(folder: Path) -> Floats:
    """The vectors of an embed folder: (items, d), rows of length 1."""
    return load_file(folder / EMBEDDINGS_FILE)["embeddings"]


def load_review_embeddings(folder: Path) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The vectors of reviews of an embed folder, (reviews, d), and the index of the item each is about.

    There are none, of the length of the item vectors, when the prepared set has no reviews.
    """
    path = folder / REVIEW_EMBEDDINGS_FILE
    if not path.exists():
        return np.empty((0, load_embeddings(folder).shape[1]), dtype=np.float32), np.empty(0, dtype=np.int64)
    arrays = load_file(path)
    return arrays["embeddings"], arrays["items"].astype(np.int64)


def _has_gpu(engine: Literal["ray", "local"]) -> bool:
    """Whether there is a GPU where texts are encoded: with Ray on any node of the cluster."""
    if engine == "local":
        return torch.cuda.is_available()
    with start_ray():
        import ray

        return bool(ray.cluster_resources().get("GPU", 0) >= 1)  # type: ignore[no-untyped-call]


def _encode_chunks(
    config: EmbedConfig,
    engine: Literal["ray", "local"],
    gpu: bool,
    precision: str,
    missing: dict[bytes, str],
    cache_folder: Path,
) -> Iterator[int]:
    """Encodes texts into cache parts and yields how many each finished chunk had."""
    # Texts of one length share a batch, so that padding is not computed.
    ordered = sorted(missing.items(), key=lambda pair: len(pair[1]))
    table = pa.table(
        {"key": pa.array([key for key, _ in ordered], pa.binary(16)), "text": [text for _, text in ordered]}
    )
    settings: dict[str, Any] = {
        "model": config.model,
        "precision": precision,
        "max_tokens": config.max_tokens,
        "batch_size": config.batch_size,
        "cache_folder": str(cache_folder.absolute()),
        "gpu": gpu,
    }
    if engine == "local":
        with one_torch_thread():
            encoder = _ChunkEncoder(**settings)
            for start in range(0, len(table), _CHUNK_TEXTS):
                yield int(encoder(table.slice(start, _CHUNK_TEXTS))["count"][0].as_py())
        return
    TextEncoder(
        config.model, "float32", config.max_tokens, device="cpu"
    )  # a wrong model fails here, in one sentence
    yield from _encode_with_ray(config, settings, table)


class _ChunkEncoder:
    """Encodes a chunk of texts and writes it to the cache; one in each Ray Data actor."""

    def __init__(
        self,
        model: str,
        precision: str,
        max_tokens: int | None,
        batch_size: int,
        cache_folder: str,
        gpu: bool,
    ) -> None:
        torch.set_num_threads(1)
        # Ray counts a GPU that a torch for CPUs cannot use.
        device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
        self._encoder = TextEncoder(model, precision, max_tokens, device)  # type: ignore[arg-type]
        self._batch_size, self._folder = batch_size, Path(cache_folder)

    def __call__(self, chunk: pa.Table) -> pa.Table:
        vectors = self._encoder.encode(chunk["text"].to_pylist(), self._batch_size)
        write_part(self._folder, chunk["key"].to_pylist(), vectors)
        return pa.table({"count": pa.array([len(chunk)], pa.int64())})


def _bound_encoder(settings: dict[str, Any]) -> type[_ChunkEncoder]:
    """The encoder with its settings inside the class, so that Ray can restart an actor that died."""

    class BoundEncoder(_ChunkEncoder):
        def __init__(self) -> None:
            super().__init__(**settings)

    return BoundEncoder


def _encode_with_ray(config: EmbedConfig, settings: dict[str, Any], table: pa.Table) -> Iterator[int]:
    with start_ray():
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(resources.get("GPU", 0)) if settings["gpu"] else 0
        if not gpus and resources.get("CPU", 0) < 1:
            raise StageError("The cluster has no free CPU to encode texts on.")
        # Half a CPU each, and half of all CPUs at the most: reading tasks need whole ones.
        most = gpus or max(1, int(resources["CPU"]))
        actors = min(config.actors, most)
        blocks = max(actors, -(-len(table) // _CHUNK_TEXTS))
        dataset = ray.data.from_arrow(table).repartition(blocks)
        encoded = dataset.map_batches(
            _bound_encoder(settings),
            batch_size=_CHUNK_TEXTS,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=None if gpus else _CPU_SHARE,
            num_gpus=1 if gpus else None,
        )
        try:
            for batch in encoded.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield sum(cast(pa.Table, batch)["count"].to_pylist())
        except ray.exceptions.RayError as error:
            raise StageError(f"Encoding texts failed: {str(error).strip().splitlines()[-1]}") from error
