"""AUC of the labels of a finished intents stage on the half of the items they were not made from, by embeddings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from saerec_ray.config import EmbedConfig, IntentsConfig
from saerec_ray.evaluation.coded_items import CodedItems
from saerec_ray.evaluation.label_detection import label_detection
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.manifest import read_manifest
from saerec_ray.text.encoder import TextEncoder


@cache
def encoder(model: str, precision: str, max_tokens: int | None) -> TextEncoder:
    """Loaded once for all runs."""
    return TextEncoder(model, precision, max_tokens)


def judged_labels(workdir: Path, coded: CodedItems) -> dict[str, Any]:
    """What label_detection finds for the labels of `workdir`, whose items are `coded`.

    Labels were published by their AUC on the same half: `own` is flattered by that choice, `fresh_gate` is not.
    """
    config = EmbedConfig.model_validate(read_manifest(workdir / "embed").config["settings"])
    named = read_manifest(workdir / "intents")
    return label_detection(
        read_catalogue(workdir / "intents"),
        coded.codes,
        coded.vectors,
        lambda texts: encoder(config.model, config.precision, config.max_tokens).encode(
            texts, config.batch_size
        ),
        named.seed,
        IntentsConfig.model_validate(named.config["settings"][0]).min_detection_auc,
    )
