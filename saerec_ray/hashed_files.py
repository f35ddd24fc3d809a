"""Files of a folder with their sizes and hashes, so that damage is seen before anything is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from saerec_ray.manifest import file_sha256


class FileRecord(BaseModel):
    """Size and hash of one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str


class ManifestFormat(BaseModel):
    """The one field that a manifest of any version has."""

    format_version: int


def records(folder: Path, hashes: Mapping[str, str]) -> dict[str, FileRecord]:
    """The records of files whose hashes are known, by name."""
    return {
        name: FileRecord(bytes=(folder / name).stat().st_size, sha256=sha256)
        for name, sha256 in hashes.items()
    }


def fault_of_files(folder: Path, files: Mapping[str, FileRecord], beside: Collection[str]) -> str | None:
    """What is wrong with the files of a folder, as the end of a sentence; None when they are as recorded.

    No other files may lie there but those named in `beside`.
    """
    try:
        return _fault(folder, files, beside)
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read: {error.strerror}"


def _fault(folder: Path, files: Mapping[str, FileRecord], beside: Collection[str]) -> str | None:
    present = {entry.name for entry in folder.iterdir()}
    if strangers := sorted(present - {*files, *beside}):
        return f"it holds the unknown file {strangers[0]}"
    for name, record in files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            return f"{name} is missing or not a plain file"
        if path.stat().st_size != record.bytes:
            return f"{name} has {path.stat().st_size} bytes, not {record.bytes}"
        if file_sha256(path) != record.sha256:
            return f"the content of {name} does not match its hash"
    return None
