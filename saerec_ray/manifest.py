"""Stage directories: written aside, moved into place whole, described by a manifest."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from saerec_ray import __version__
from saerec_ray.errors import StageError

MANIFEST_NAME = "stage.json"
SOURCES = "saerec-ray sources"
"""The name of the hash of this library's sources among the versions."""
_RECORDED_PACKAGES = (
    "torch",
    "numpy",
    "ray",
    "polars",
    "pyarrow",
    "scipy",
    "sentence-transformers",
    "faiss-cpu",
)


class Manifest(BaseModel):
    """What a stage read, did and wrote."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    files: dict[str, str]
    metrics: dict[str, Any]
    seconds: float
    resumed: bool = False
    """Whether it went on from what a stopped attempt had done, whose time is not in `seconds`."""
    finished: str

    @property
    def content_hash(self) -> str:
        """SHA-256 over the written files alone: a rerun with equal output changes nothing after it."""
        listing = "\n".join(f"{digest}  {name}" for name, digest in sorted(self.files.items()))
        return hashlib.sha256(listing.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_files(folder: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """Hashes of the named files, or of all files below the folder except its manifest."""
    if names is None:
        names = (
            str(path.relative_to(folder))
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != MANIFEST_NAME
        )
    return {name: file_sha256(folder / name) for name in names}


def recorded_versions() -> dict[str, str]:
    """Versions of this library, Python and the packages that shape results, and the hash of this library's sources.

    Between two releases the version stands still while the sources do not.
    """
    versions = {"saerec-ray": __version__, SOURCES: sources_hash(), "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


@functools.cache
def sources_hash(package: Path = Path(__file__).parent) -> str:
    """The first 12 digits of the SHA-256 over the code and the presets of a package, by name and content.

    Found once a process: that is what runs, whatever is edited meanwhile.
    """
    whole = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.yaml")]):
        whole.update(f"{file_sha256(path)}  {path.relative_to(package).as_posix()}\n".encode())
    return whole.hexdigest()[:12]


def timestamp() -> str:
    """The time now, UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_manifest(folder: Path) -> Manifest:
    """Reads a stage's manifest. Raises StageError when the stage has not finished or the file is damaged."""
    path = folder / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise StageError(f"{folder} has no {MANIFEST_NAME}: run the stage '{folder.name}' first.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise StageError(f"{path} is damaged; delete {folder} and run the stage again.") from error


def is_current(folder: Path, fingerprint: str) -> bool:
    """Whether the folder holds a finished, undamaged result with this fingerprint."""
    try:
        manifest = read_manifest(folder)
    except StageError:
        return False
    if manifest.fingerprint != fingerprint:
        return False
    try:
        return hash_files(folder, manifest.files) == manifest.files
    except OSError:
        return False


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        handle.write("\n")
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot do this for a folder, and say so.
        if not (path.is_dir() and error.errno == errno.EINVAL):
            raise
    finally:
        os.close(handle)


def restore_folder(target: Path) -> None:
    """Puts back what a killed `replaced_folder` had moved away and not replaced yet."""
    old = _old(target)
    if old.exists() and not target.exists():
        old.rename(target)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


@contextlib.contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`; on success it takes the target's place, on failure it goes.

    The old one goes when the new one is on the disk, with all that is in it: a power cut leaves one of them whole.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    restore_folder(target)
    aside, old = target.with_name(f".{target.name}.writing"), _old(target)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        for path in (*aside.rglob("*"), aside):
            _sync(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    aside.rename(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)
