"""The second half of the dictionary stage: the dictionary of co-occurrence, beside that of the texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from saerec_ray.config import ClusterConfig
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary.build import train_on
from saerec_ray.dictionary.concatenated import concatenated, spread, write_cooccurrence
from saerec_ray.dictionary.cooccurrence import item_vectors
from saerec_ray.dictionary.sae import Floats, read_codes, write_codes
from saerec_ray.dictionary.stability import read_stability, write_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.text.embed import EMBEDDINGS_FILE

NAME = "cooccurrence"


def autoencoder_settings(config: DictionaryConfig) -> DictionaryConfig:
    """The settings of the second autoencoder: those of the first, but for its own size and epochs.

    Raises ValueError when the configuration has no second one.
    """
    own = config.cooccurrence
    if own is None:
        raise ValueError("dictionary.cooccurrence is not set")
    changes = {"width": own.width, "active": own.active, "epochs": own.epochs}
    return config.model_copy(update={**changes, "source": None, "cooccurrence": None, "attributes": None})


def add_cooccurrence(
    config: DictionaryConfig,
    cluster: ClusterConfig,
    seed: int,
    sequences: PreparedSequences,
    folder: Path,
    runs: Path,
    on_log: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Trains the second dictionary and appends its codes to those that the stage folder already holds.

    Items without a co-occurrence vector keep their text code alone. Returns the metrics.
    Raises InputError when there are too few items for the configuration.
    """
    settings = autoencoder_settings(config)
    text = read_codes(folder)
    items = text.shape[0]
    assert config.cooccurrence is not None  # autoencoder_settings has checked it
    found = item_vectors(config.cooccurrence, sequences, items, seed)
    vectors = runs / f"{NAME}-vectors"
    vectors.mkdir(parents=True, exist_ok=True)
    save_file({"embeddings": found.vectors}, vectors / EMBEDDINGS_FILE)
    trained = train_on(
        settings,
        cluster,
        seed,
        vectors,
        runs,
        NAME,
        on_log,
        width_setting="dictionary.cooccurrence.width",
    )
    codes = spread(trained.dictionary.encode(found.vectors), found.rows, items)
    write_cooccurrence(trained.dictionary, folder)
    write_codes(concatenated(text, codes), folder)
    widths = text.shape[1], settings.width
    stability = stability_of_both(read_stability(folder), trained.stability, widths)
    if stability is not None:
        write_stability(stability, folder)
    return {"items": len(found.rows), **trained.metrics}


def stability_of_both(
    text: Floats | None, cooccurrence: Floats | None, widths: tuple[int, int]
) -> Floats | None:
    """The stability of the latents of both dictionaries in a row, NaN where one was trained with one seed.

    None when both were. `widths`: how many latents each has.
    """
    if text is None and cooccurrence is None:
        return None
    parts = [
        np.full(width, np.nan, dtype=np.float32) if values is None else values
        for values, width in zip((text, cooccurrence), widths, strict=True)
    ]
    return np.concatenate(parts)
