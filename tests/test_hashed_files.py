"""Files that cannot be read are a fault with a reason, as damaged ones are."""

from __future__ import annotations

from pathlib import Path

import pytest

from saerec_ray import hashed_files
from saerec_ray.hashed_files import FileRecord, fault_of_files


def test_a_folder_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    fault = fault_of_files(tmp_path / "gone", {}, ())
    assert fault == "gone cannot be read: No such file or directory"


def test_a_file_of_somebody_else_is_a_fault_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root reads every file, so the refusal of the system is played."""
    (tmp_path / "model.safetensors").write_bytes(b"x")

    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(hashed_files, "file_sha256", refused)
    fault = fault_of_files(tmp_path, {"model.safetensors": FileRecord(bytes=1, sha256="")}, ())
    assert fault == "model.safetensors cannot be read: Permission denied"
