"""A stage folder that says it has finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saerec_ray.manifest import MANIFEST_NAME, Manifest, hash_files, write_json


def finish_stage(folder: Path, config: dict[str, Any] | None = None) -> None:
    """Writes the manifest of the stage that the folder is named after, over the files that lie in it."""
    manifest = Manifest(
        stage=folder.name,
        fingerprint=folder.name,
        inputs={},
        config=config or {},
        seed=7,
        versions={},
        files=hash_files(folder),
        metrics={},
        seconds=0.0,
        finished="2026-01-01T00:00:00+00:00",
    )
    write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))
