"""What every kind of test may use: one real, small, trained bundle."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports torch: on a busy machine two threads of one process mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.small_run import run_small


@pytest.hookimpl(tryfirst=True)  # the plugin reads the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, one gets all that use the trained bundle, so it is made once.

    Other files go to a process whole.
    """
    for item in items:
        trained = "trained_workdir" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("trained" if trained else item.nodeid.split("::")[0]))


@pytest.fixture(scope="session")
def trained_workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a finished run on a real data set, with two Ray workers."""
    workdir = tmp_path_factory.mktemp("trained")
    finished = run_small(workdir)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return workdir


@pytest.fixture(scope="session")
def trained_bundle(trained_workdir: Path) -> Path:
    return trained_workdir / "bundle"
