"""The bundle stage: everything the finished stages made, put together into one bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saerec_ray.backbone.build import read_model, read_steering
from saerec_ray.bundle import BundleContent, BundleOrigin, write_bundle
from saerec_ray.config import Config
from saerec_ray.data.prepared import read_items
from saerec_ray.dictionary.concatenated import read_arrays
from saerec_ray.errors import StageError
from saerec_ray.evaluation.build import REPORT_FILE
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.intents.stage import read_label_vectors, read_population
from saerec_ray.manifest import read_manifest, recorded_versions
from saerec_ray.scoring import SteeringTable


def assemble_bundle(config: Config, workdir: Path, folder: Path) -> dict[str, Any]:
    """Reads the finished stages below `workdir`, writes the bundle into `folder`, returns its versions.

    Raises StageError for a control run, whose labels do not belong to its codes.
    """
    if config.train.shuffle_codes:
        raise StageError(
            "A run with train.shuffle_codes is a control: its labels are false, so no bundle is made."
        )
    space, encoder, frozen = read_model(workdir / "train", config.train)
    steering = read_steering(workdir / "train")
    content = BundleContent(
        config=config,
        items=read_items(workdir / "prepare"),
        catalogue=read_catalogue(workdir / "intents"),
        space=space,
        prior=frozen.prior,
        steering=SteeringTable(steering["targets"], steering["spreads"], steering["loading_caps"]),
        population=read_population(workdir / "intents"),
        value_quantiles=steering["value_quantiles"],
        label_vectors=read_label_vectors(workdir / "intents"),
        backbone=encoder.weights(),
        dictionary=read_arrays(workdir / "dictionary"),
        evaluation=json.loads((workdir / "evaluate" / REPORT_FILE).read_text("utf-8")),
    )
    origin = BundleOrigin(
        data_sha256=read_manifest(workdir / "prepare").content_hash,
        dictionary_sha256=read_manifest(workdir / "dictionary").content_hash,
        versions=recorded_versions(),
        seed=config.seed,
    )
    manifest = write_bundle(content, origin, folder)
    return {
        "model_version": manifest.model_version,
        "intents_version": manifest.intents_version,
        "catalog_version": manifest.catalog_version,
        "bytes": sum(record.bytes for record in manifest.files.values()),
    }
