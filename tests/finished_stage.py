"""A stage folder that says it has finished."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saerec_ray.manifest import MANIFEST_NAME, Manifest, hash_files, read_manifest, write_json


def finish_stage(folder: Path, config: dict[str, Any] | None = None, reads: Sequence[str] = ()) -> None:
    """Writes the manifest of the stage that the folder is named after, over the files that lie in it.

    `reads`: finished stages beside it that it is said to have read.
    """
    manifest = Manifest(
        stage=folder.name,
        fingerprint=folder.name,
        inputs={stage: read_manifest(folder.parent / stage).content_hash for stage in reads},
        config=config or {},
        seed=7,
        versions={},
        files=hash_files(folder),
        metrics={},
        seconds=0.0,
        finished="2026-01-01T00:00:00+00:00",
    )
    write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))
