"""Workers on this machine: where they compute, and which of them says why a training ended."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException

from saerec_ray import local_workers
from saerec_ray.attempts import Attempt, begin_attempt
from saerec_ray.errors import InputError, StageError
from saerec_ray.local_workers import latest_checkpoint, run_local
from saerec_ray.worker import Worker


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return begin_attempt(tmp_path, "training", {}, latest_checkpoint)


def do_nothing(worker: Worker, parameters: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(("gpus", "used"), [(0, False), (1, False), (2, True), (5, True)])
def test_two_processes_compute_on_gpus_when_each_has_its_own(
    gpus: int, used: bool, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one GPU both would be refused by what they talk to each other with."""
    chosen: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(local_workers, "_run_processes", lambda *arguments: chosen.append(arguments[-1]))
    run_local(do_nothing, {}, attempt, 2, 0, True)
    run_local(do_nothing, {}, attempt, 2, 0, False)
    assert chosen == [used, False]


def test_each_process_has_a_gpu_of_its_own() -> None:
    assert [local_workers._device(True, rank) for rank in range(3)] == [
        torch.device("cuda", rank) for rank in range(3)
    ]
    assert local_workers._device(False, 1) == torch.device("cpu")


def run_processes(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, error: Exception, max_failures: int
) -> tuple[int, Exception]:
    """How often two processes were started of which one says `error` and the other dies, and what was raised."""
    tries = 0

    def one_fails_and_the_other_dies(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        with contextlib.suppress(type(error)), attempt.reporting(0):
            raise error
        raise ProcessExitedException("it was killed", error_index=1, error_pid=1, exit_code=-9)

    monkeypatch.setattr(local_workers, "_run_processes", one_fails_and_the_other_dies)
    with pytest.raises((InputError, StageError)) as caught:
        run_local(do_nothing, {}, attempt, 2, max_failures, False)
    return tries, caught.value


def test_what_one_worker_refuses_is_not_tried_again_because_another_died_of_it(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, raised = run_processes(attempt, monkeypatch, InputError("the sixth column is missing"), 3)
    assert tries == 1
    assert isinstance(raised, InputError)
    assert str(raised) == "the sixth column is missing"


def test_a_worker_that_died_is_started_again_and_named_when_the_others_only_miss_it(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, raised = run_processes(attempt, monkeypatch, RuntimeError("connection closed by peer"), 2)
    assert tries == 3
    assert str(raised).startswith("Training failed: worker 1 died: ")
