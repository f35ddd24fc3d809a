"""What every kind of test may use: the command line, and one real, small, trained bundle."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports torch: on a busy machine two threads of one process mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.small_run import run_small

if TYPE_CHECKING:
    from tests.command_line import Outcome, Run


@pytest.fixture(scope="session")
def trained_workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a finished run on a real data set, with two Ray workers.

    Where several processes share the tests, the first that needs it makes it and the others wait.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    workdir = shared / "trained"
    with (shared / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "bundle").is_dir():
            workdir.mkdir(exist_ok=True)
            finished = run_small(workdir)
            assert finished.returncode == 0, finished.stderr[-4000:]
    return workdir


@pytest.fixture(scope="session")
def trained_bundle(trained_workdir: Path) -> Path:
    return trained_workdir / "bundle"


@pytest.fixture
def saerec(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs the command in this process, with the handlers of signals put back afterwards."""
    from tests.command_line import run_command  # the client alone is tested too where it is all there is

    monkeypatch.setenv("COLUMNS", "180")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def command(*arguments: object) -> Outcome:
        return run_command(capsys, monkeypatch, arguments)

    yield command
    for number, handler in before.items():
        signal.signal(number, handler)
