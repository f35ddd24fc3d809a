"""A training on disk: every start has a folder of its own, and goes on from a checkpoint copied into it.

    NAME/<digest of what the training is>/
        attempt_0001/
            start/            the checkpoint it goes on from; absent at a fresh start
            log.jsonl         what the first worker logged
            failure_0.json    why worker 0 failed
            checkpoints/      what this attempt saved itself

Workers outlive a driver that was killed by some seconds. They know their own attempt alone, so nothing they
still write can reach the attempt that took over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saerec_ray.errors import InputError, StageError
from saerec_ray.manifest import write_json

LatestCheckpoint = Callable[[Path], Path | None]
"""The newest whole checkpoint in a `checkpoints` folder, or None."""

CHECKPOINT_NAME = "checkpoint_{:06d}"
KEPT_CHECKPOINTS = 2

_COPY_TRIES = 5
_FINAL_ERRORS: dict[str, type[InputError | StageError]] = {
    error.__name__: error for error in (InputError, StageError)
}
"""Errors that say what is wrong: the same would happen at the next try."""


@dataclass(frozen=True)
class Attempt:
    """One start of a training."""

    folder: Path

    @property
    def start(self) -> Path | None:
        """The checkpoint this attempt goes on from."""
        return self.folder / "start" if (self.folder / "start").exists() else None

    @property
    def checkpoints(self) -> Path:
        """Where this attempt saves checkpoints."""
        return self.folder / "checkpoints"

    @property
    def log(self) -> Path:
        """JSON lines, in the order in which they were logged."""
        return self.folder / "log.jsonl"

    @contextlib.contextmanager
    def reporting(self, rank: int) -> Iterator[None]:
        """Leaves an error of the block where the driver finds it, and lets it pass."""
        report = self.folder / f"failure_{rank}.json"
        report.unlink(missing_ok=True)  # of this worker's last try
        try:
            yield
        except Exception as error:
            write_json(
                report,
                {
                    "kind": type(error).__name__,
                    "message": str(error),
                    "time": time.time(),
                    "traceback": traceback.format_exception(error),
                },
            )
            raise

    def refused(self) -> bool:
        """Whether a worker failed in a way that trying again cannot mend."""
        return self._failure().get("kind") in _FINAL_ERRORS

    def reason(self, error: Exception | None = None) -> Exception:
        """What the driver raises: the worker's error if it was meant for people, else one sentence about it.

        `error` is what the engine says, for the case that no worker left a word.
        """
        failure = self._failure()
        if not failure:
            return StageError(f"Training failed: {type(error).__name__}: {first_line(str(error))}.")
        if failure["kind"] in _FINAL_ERRORS:
            return _FINAL_ERRORS[failure["kind"]](failure["message"])
        return StageError(
            f"Training failed: {failure['kind']}: {first_line(failure['message'])} (more in {failure['path']})."
        )

    def _failure(self) -> dict[str, Any]:
        """The failure that says most: one that trying again cannot mend, else the first.

        Later ones of other workers often only say that the first has gone.
        """
        found: list[dict[str, Any]] = []
        for path in self.folder.glob("failure_*.json"):
            with contextlib.suppress(FileNotFoundError):  # its worker was started again meanwhile
                found.append({**json.loads(path.read_text("utf-8")), "path": path})
        return min(
            found,
            key=lambda failure: (failure["kind"] not in _FINAL_ERRORS, float(failure["time"])),
            default={},
        )


def trailing_number(path: Path) -> int:
    """The number at the end of the name of an attempt or checkpoint; it rises by one with each."""
    return int(path.name.rpartition("_")[2])


def first_line(message: str) -> str:
    """The first line that says something, without the full stop."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no message"


def begin_attempt(folder: Path, name: str, identity: dict[str, Any], latest: LatestCheckpoint) -> Attempt:
    """Makes the folder of the next attempt, with the newest checkpoint of the earlier ones as its start.

    Earlier attempts are removed, and so is every other training of that name.
    """
    text = json.dumps(identity, sort_keys=True, default=str)
    training = folder / name / hashlib.sha256(text.encode()).hexdigest()[:16]
    training.mkdir(parents=True, exist_ok=True)
    for other in (folder / name).iterdir():
        if other != training:
            _remove(other)
    earlier = sorted(training.glob("attempt_*"))
    number = trailing_number(earlier[-1]) + 1 if earlier else 1
    attempt = Attempt(training / f"attempt_{number:04d}")
    aside = attempt.folder.with_name(f".{attempt.folder.name}")
    _remove(aside)
    aside.mkdir()
    (aside / "log.jsonl").touch()
    _copy_newest([Attempt(path) for path in reversed(earlier)], latest, aside / "start")
    aside.rename(attempt.folder)
    for path in earlier:
        _remove(path)
    return attempt


def _copy_newest(earlier: list[Attempt], latest: LatestCheckpoint, target: Path) -> None:
    """Copies the newest checkpoint; workers of a killed driver may be replacing it at this moment."""
    for _ in range(_COPY_TRIES):
        newest = next(filter(None, (latest(each.checkpoints) or each.start for each in earlier)), None)
        if newest is None:
            return
        try:
            shutil.copytree(newest, target)
        except (FileNotFoundError, shutil.Error):
            _remove(target)
        else:
            return
    raise StageError(f"The checkpoint to go on from keeps changing in {target.parent.parent}; try again.")


def _remove(path: Path) -> None:
    """Removes what nobody needs; a worker about to end may still be adding files to it."""
    shutil.rmtree(path, ignore_errors=True)
