"""Which sources made the figures of a section, and at which commit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saerec_ray.manifest import SOURCES, sources_hash

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "results.md"
UNKNOWN = "unknown"
_kept_from: list[str] = []
"""Commits of the kept figures that other sources made than those that run; filled by check_sources."""


def commit(checkout: Path = REPOSITORY) -> str:
    """The commit of a checkout, short, with -dirty where tracked files are modified; unknown outside of one.

    The page itself does not count: programs write it one after the other.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    page = PAGE.relative_to(REPOSITORY).as_posix()
    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != checkout.resolve():
            return UNKNOWN
        modified = git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){page}")
        return git("rev-parse", "--short=10", "HEAD") + ("-dirty" if modified else "")
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN


def sources_and_commit() -> dict[str, str]:
    """What is kept beside figures that are measured now."""
    return {"commit": commit(), "sources": sources_hash()}


def check_sources(path: Path, kept: Mapping[str, Any]) -> None:
    """Warns where other sources made the figures that are kept in `path`, and notes it for the section."""
    if kept.get("sources") == sources_hash():
        return
    made_at = kept.get("commit", UNKNOWN)
    print(
        f"WARNING: {path} was made by other sources, at commit {made_at}; this is commit {commit()}. Its figures are "
        "taken as they are, and the section says so. Delete the file to measure again.",
        file=sys.stderr,
        flush=True,
    )
    if made_at not in _kept_from:
        _kept_from.append(made_at)


def provenance(versions: Mapping[str, str]) -> str:
    """The commit of now, and what of a section it did not make: a stage of these versions, and kept figures."""
    if SOURCES not in versions:
        parts = [f"published at commit {commit()}, made by sources that were not recorded"]
    elif versions[SOURCES] != sources_hash():
        parts = [f"published at commit {commit()}, made by other sources ({versions[SOURCES]})"]
    else:
        parts = [f"commit {commit()}"]
    if _kept_from:
        parts.append(f"some figures were kept from other sources, at commit {', '.join(_kept_from)}")
    return "; ".join(parts)
