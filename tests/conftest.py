"""What every kind of test may use: one real, small, trained bundle."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

# Before anything imports torch: on a busy machine two threads of one process mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.small_run import run_small


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
