"""What workers leave behind when they fail, and what the driver makes of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from saerec_ray.attempts import Attempt
from saerec_ray.errors import InputError, StageError


def fail(attempt: Attempt, rank: int, error: Exception, time: float) -> None:
    """A worker fails at a time."""
    with contextlib.suppress(type(error)), attempt.reporting(rank):
        raise error
    report = attempt.folder / f"failure_{rank}.json"
    report.write_text(json.dumps({**json.loads(report.read_text("utf-8")), "time": time}), "utf-8")


def test_the_first_failure_is_the_reason(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    fail(attempt, 0, RuntimeError("connection closed by peer"), 2.0)
    fail(attempt, 1, ValueError("the disk made a noise"), 1.0)
    assert not attempt.refused()
    assert str(attempt.reason()).startswith("Training failed: ValueError: the disk made a noise (more in ")


@pytest.mark.parametrize("kind", [InputError, StageError])
def test_an_error_meant_for_people_is_the_reason_whenever_it_came(
    kind: type[InputError | StageError], tmp_path: Path
) -> None:
    """Another worker may have missed the one that refused before that one had written why."""
    attempt = Attempt(tmp_path)
    fail(attempt, 0, RuntimeError("connection closed by peer"), 1.0)
    fail(attempt, 1, kind("the sixth column is missing"), 2.0)
    assert attempt.refused()
    reason = attempt.reason()
    assert type(reason) is kind
    assert str(reason) == "the sixth column is missing"


def test_a_failure_that_a_worker_takes_back_while_it_is_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker removes its failure as it starts again."""
    attempt = Attempt(tmp_path)
    fail(attempt, 0, ValueError("the disk made a noise"), 1.0)
    fail(attempt, 1, ValueError("the wire was cut"), 2.0)
    glob = Path.glob

    def taken_back_after_the_look(folder: Path, pattern: str) -> Iterator[Path]:
        found = list(glob(folder, pattern))
        (attempt.folder / "failure_0.json").unlink(missing_ok=True)
        return iter(found)

    monkeypatch.setattr(Path, "glob", taken_back_after_the_look)
    assert not attempt.refused()
    assert "the wire was cut" in str(attempt.reason())
    (attempt.folder / "failure_1.json").unlink()
    said: Any = RuntimeError("it was killed")
    assert str(attempt.reason(said)) == "Training failed: RuntimeError: it was killed."
