"""What every kind of test may use: the command line, and one real, small, trained bundle."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports torch: on a busy machine two threads of one process mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray gives its workers way to everything else (nice 15): a training beside tests would take many times as long.
os.environ.setdefault("RAY_worker_niceness", "0")

import pytest

from tests.small_run import run_small

if TYPE_CHECKING:
    from tests.command_line import Outcome, Run

if importlib.util.find_spec("hypothesis"):  # the client alone is tested too where it is all there is
    from hypothesis import settings

    # How long one example takes says more of what else the machine does than of the code.
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Future[Path]:
    """The run whose bundle tests wait for, begun with the first test when any test is going to need it."""
    finished: Future[Path] = Future()
    if any(needs_training(item) for item in request.session.items):
        own = tmp_path_factory.getbasetemp()
        folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
        threading.Thread(target=train_once, args=(folder, finished), name="small-run", daemon=True).start()
    return finished


def needs_training(item: pytest.Item) -> bool:
    return "trained_workdir" in getattr(item, "fixturenames", ()) or bool(item.get_closest_marker("trained"))


def train_once(folder: Path, finished: Future[Path]) -> None:
    """Where several processes share the tests, the first one trains and the others wait."""
    workdir = folder / "trained"
    try:
        with (folder / "trained.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (workdir / "bundle").is_dir():
                workdir.mkdir(exist_ok=True)
                run = run_small(workdir)
                assert run.returncode == 0, run.stderr[-4000:]
    except BaseException as error:  # noqa: BLE001 (handed to the tests that need it)
        finished.set_exception(error)
    else:
        finished.set_result(workdir)


@pytest.fixture(scope="session")
def trained_workdir(_training: Future[Path]) -> Path:
    """The work directory of a finished run on a real data set, with two Ray workers."""
    return _training.result()


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
