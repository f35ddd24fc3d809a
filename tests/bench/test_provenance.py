"""A section names the commit of its figures, and says so where other sources made them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from saerec_ray.manifest import sources_hash, write_json
from tests.bench import provenance
from tests.bench.provenance import commit
from tests.bench.published import circumstances, finished_part


def test_figures_of_other_sources_are_taken_with_a_warning_and_the_section_names_both_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(provenance, "_kept_from", [])
    path = tmp_path / "seed-1.json"
    kept = finished_part(path, [], lambda: {"fvu": 0.25})
    finished_part(path, [], lambda: pytest.fail("measured again"))
    assert capsys.readouterr().err == ""
    assert circumstances().endswith(f"; commit {commit()}.")
    write_json(path, kept | {"sources": "0" * 12, "commit": "0123456789"})
    for _ in range(2):
        assert finished_part(path, [], lambda: pytest.fail("measured again"))["fvu"] == 0.25
    said = capsys.readouterr().err
    assert f"{path} was made by other sources, at commit 0123456789; this is commit {commit()}" in said
    assert "Delete the file to measure again" in said
    assert circumstances().endswith(
        f"; commit {commit()}; some figures were kept from other sources, at commit 0123456789."
    )


def test_figures_that_were_kept_before_sources_were_recorded_are_of_an_unknown_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(provenance, "_kept_from", [])
    write_json(tmp_path / "old.json", {"fvu": 0.25, "settings": []})
    assert finished_part(tmp_path / "old.json", [], dict)["fvu"] == 0.25
    assert "at commit unknown" in capsys.readouterr().err
    assert "some figures were kept from other sources, at commit unknown." in circumstances()


def test_a_stage_that_other_sources_made_is_not_passed_off_as_of_this_commit() -> None:
    versions = {"python": "3.11", "torch": "2.6", "saerec-ray": "0.1"}
    assert circumstances(versions=versions | {"saerec-ray sources": sources_hash()}).endswith(
        f"; commit {commit()}."
    )
    assert circumstances(versions=versions | {"saerec-ray sources": "0" * 12}).endswith(
        f"; published at commit {commit()}, made by other sources (000000000000)."
    )
    assert circumstances(versions=versions).endswith(
        f"; published at commit {commit()}, made by sources that were not recorded."
    )


def test_a_commit_is_short_and_dirty_where_tracked_files_other_than_the_page_are_modified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert commit(tmp_path) == "unknown", "no checkout"
    git("init")
    assert commit(tmp_path) == "unknown", "no commit yet"
    (tmp_path / "docs").mkdir()
    for name in ("code.py", "docs/results.md"):
        (tmp_path / name).write_text("1", "utf-8")
    git("add", ".")
    git("commit", "-m", "first", "--no-gpg-sign")
    short = git("rev-parse", "HEAD")[:10]
    (tmp_path / "untracked.py").write_text("1", "utf-8")
    (tmp_path / "docs/results.md").write_text("2", "utf-8")
    assert commit(tmp_path) == short
    (tmp_path / "code.py").write_text("2", "utf-8")
    assert commit(tmp_path) == f"{short}-dirty"
    assert commit(tmp_path / "docs") == "unknown", "a folder inside the checkout of something else"
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) == "unknown", "no git"
