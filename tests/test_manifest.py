"""Stage directories appear whole or not at all, and damage is seen."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from saerec_ray.errors import StageError
from saerec_ray.manifest import (
    MANIFEST_NAME,
    Manifest,
    file_sha256,
    hash_files,
    is_current,
    read_manifest,
    recorded_versions,
    replaced_folder,
    restore_folder,
    sources_hash,
    timestamp,
    write_json,
)


def manifest(files: dict[str, str], fingerprint: str = "f1", seconds: float = 1.0) -> Manifest:
    return Manifest(
        stage="embed",
        fingerprint=fingerprint,
        inputs={},
        config={},
        seed=1,
        versions={},
        files=files,
        metrics={},
        seconds=seconds,
        finished=timestamp(),
    )


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished stage with a file in a folder."""
    folder = tmp_path / "embed"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.bin").write_bytes(b"one")
    (folder / "b.bin").write_bytes(b"two")
    write_json(folder / MANIFEST_NAME, manifest(hash_files(folder)).model_dump(mode="json"))
    return folder


def test_a_finished_folder_is_current_for_its_fingerprint_alone(finished: Path) -> None:
    assert set(hash_files(finished)) == {"b.bin", "deep/a.bin"}, "all files but the manifest"
    assert read_manifest(finished).files == hash_files(finished)
    assert is_current(finished, "f1")
    assert not is_current(finished, "f2")


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest cut", "manifest missing", "unknown key"])
def test_a_damaged_folder_is_not_current(finished: Path, damage: str) -> None:
    path = finished / MANIFEST_NAME
    match damage:
        case "changed":
            (finished / "deep" / "a.bin").write_bytes(b"onE")
        case "missing":
            (finished / "deep" / "a.bin").unlink()
        case "manifest cut":
            path.write_text(path.read_text("utf-8")[:50], "utf-8")
        case "manifest missing":
            path.unlink()
        case "unknown key":
            path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "more": 1}), "utf-8")
    assert not is_current(finished, "f1")


def test_a_stage_that_has_not_run_and_one_whose_manifest_is_damaged_say_what_to_do(finished: Path) -> None:
    with pytest.raises(StageError, match="run the stage 'train' first"):
        read_manifest(finished.parent / "train")
    (finished / MANIFEST_NAME).write_bytes(b"\xff")
    with pytest.raises(StageError, match=r"is damaged; delete .*/embed and run the stage again"):
        read_manifest(finished)


def test_the_content_hash_depends_on_names_and_bytes_alone() -> None:
    files = {"a": "1", "b": "2"}
    assert manifest(files).content_hash == manifest({"b": "2", "a": "1"}, "f2", seconds=9).content_hash
    for other in ({"a": "1"}, {"a": "2", "b": "1"}, {"a": "1", "c": "2"}):
        assert manifest(other).content_hash != manifest(files).content_hash


def test_hashes_are_sha256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "x") == expected
    assert hash_files(tmp_path) == hash_files(tmp_path, ["x"]) == {"x": expected}


def test_a_new_folder_takes_the_place_of_the_old_one_whole(finished: Path) -> None:
    with replaced_folder(finished) as folder:
        assert list(folder.iterdir()) == []
        (folder / "new.bin").write_bytes(b"new")
        assert (finished / "b.bin").exists(), "the old one stays until the new one is done"
    assert [path.name for path in finished.iterdir()] == ["new.bin"]
    assert [path.name for path in finished.parent.iterdir()] == ["embed"], "nothing is left beside it"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_folder_and_nothing_else(finished: Path, error: type[BaseException]) -> None:
    def write_half() -> None:
        with replaced_folder(finished) as folder:
            (folder / "half.bin").write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert is_current(finished, "f1")
    assert [path.name for path in finished.parent.iterdir()] == ["embed"]


def test_a_disk_that_does_not_take_the_new_files_leaves_the_old_folder_and_nothing_else(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write() -> None:
        with replaced_folder(finished) as folder:
            (folder / "new.bin").write_bytes(b"new")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write()
    assert is_current(finished, "f1")
    assert [path.name for path in finished.parent.iterdir()] == ["embed"]


KILLED = """
import os, signal, sys
from pathlib import Path
from saerec_ray.manifest import replaced_folder
with replaced_folder(Path(sys.argv[1])) as folder:
    (folder / "half.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_the_old_folder_whole_and_the_next_one_starts_empty(finished: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(finished)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert is_current(finished, "f1")
    assert (finished.parent / ".embed.writing" / "half.bin").exists()
    with replaced_folder(finished) as folder:
        assert list(folder.iterdir()) == []
        (folder / "new.bin").write_bytes(b"new")
    assert [path.name for path in finished.parent.iterdir()] == ["embed"]
    assert [path.name for path in finished.iterdir()] == ["new.bin"]


def test_a_process_killed_between_the_two_moves_leaves_the_old_folder_to_be_put_back(finished: Path) -> None:
    finished.rename(finished.parent / ".embed.old")
    restore_folder(finished)
    assert is_current(finished, "f1")
    restore_folder(finished)
    finished.rename(finished.parent / ".embed.old")
    with pytest.raises(KeyboardInterrupt), replaced_folder(finished):
        raise KeyboardInterrupt
    assert is_current(finished, "f1"), "a run that fails after that has not lost it either"
    assert [path.name for path in finished.parent.iterdir()] == ["embed"]


def test_a_leftover_never_replaces_a_newer_folder(finished: Path) -> None:
    shutil.copytree(finished, finished.parent / ".embed.old")
    (finished / "newer").write_text("", "utf-8")
    restore_folder(finished)
    assert (finished / "newer").exists()


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": "ü"})
    assert path.read_text("utf-8") == '{\n "a": "ü",\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text("utf-8")) == {"a": "ü", "b": 1}


def test_versions_of_what_shapes_results_are_recorded() -> None:
    assert {"saerec-ray", "saerec-ray sources", "python", "torch", "numpy"} <= set(recorded_versions())


def test_the_hash_of_sources_changes_with_any_python_file_or_preset_and_with_nothing_else(
    tmp_path: Path,
) -> None:
    def written(preset: str = "epochs: 1", **files: str) -> str:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        for name, text in files.items():
            (folder / name.replace("__", "/")).parent.mkdir(exist_ok=True)
            (folder / f"{name.replace('__', '/')}.py").write_text(text, "utf-8")
        (folder / "preset.yaml").write_text(preset, "utf-8")
        (folder / "notes.txt").write_text(str(folder), "utf-8")
        return sources_hash(folder)

    found = written(a="1", deep__b="2")
    assert re.fullmatch("[0-9a-f]{12}", found)
    assert written(a="1", deep__b="2") == found
    for changed in (
        {"a": "1"},
        {"a": "2", "deep__b": "2"},
        {"a": "1", "deep__c": "2"},
        {"a": "1", "deep__b": "2", "preset": "x"},
    ):
        assert written(**changed) != found
