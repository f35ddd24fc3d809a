"""One loop, several engines: the same result, checkpoints, resume, and errors a person can read."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from saerec_ray import distributed, gpu_choice
from saerec_ray.attempts import Attempt, begin_attempt
from saerec_ray.distributed import Engine, Loop
from saerec_ray.errors import InputError, StageError
from saerec_ray.local_workers import latest_checkpoint
from saerec_ray.manifest import write_json
from saerec_ray.ray_connection import start_ray
from tests.tiny_training import (
    NUMBERS,
    add_in_company,
    add_numbers,
    end_without_checkpoint,
    fail_always,
    fail_together,
    numbers_of_starts,
)

SUM = sum(range(NUMBERS))
ENGINES = [
    pytest.param("local", 1, id="this process"),
    pytest.param("local", 2, id="two processes"),
    pytest.param("ray", 2, id="ray", marks=pytest.mark.ray),
]
Run = Callable[..., Path]
RAY_HEARS_OF_A_CHECKPOINT = 5.0
"""Seconds: longer than the time between two looks of Ray Train at its workers, on a busy machine too."""


@pytest.fixture(scope="module", autouse=True)
def _one_cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """All Ray tests of this file share one cluster, started when the first one needs it."""
    if not any(item.get_closest_marker("ray") for item in request.session.items):
        yield
        return
    with start_ray():
        yield


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a loop under one name in one folder; `trace` tells what its workers did."""

    def run(
        engine: Engine,
        workers: int,
        loop: Loop = add_numbers,
        max_failures: int = 0,
        on_log: distributed.OnLog | None = None,
        **parameters: Any,
    ) -> Path:
        after = RAY_HEARS_OF_A_CHECKPOINT if engine == "ray" else 0.0
        return distributed.run(
            loop,
            {"trace": str(tmp_path / "trace.txt"), "fail_after": after, **parameters},
            folder=tmp_path / "runs",
            name="sum",
            workers=workers,
            engine=engine,
            max_failures=max_failures,
            gpus=False,
            on_log=on_log,
        )

    return run


def trace(tmp_path: Path) -> list[str]:
    """What the workers noted; the first worker's starts only, because their order varies."""
    lines = (tmp_path / "trace.txt").read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("1/")]


def reached(checkpoint: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((checkpoint / "sum.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize(("engine", "workers"), ENGINES)
def test_every_engine_comes_to_the_same_sum(run: Run, tmp_path: Path, engine: Engine, workers: int) -> None:
    logged: list[dict[str, Any]] = []
    checkpoint = run(engine, workers, on_log=logged.append)

    assert reached(checkpoint) == {"place": NUMBERS, "total": SUM}
    assert {path.name for path in checkpoint.glob("rank_*")} == {
        f"rank_{rank}.json" for rank in range(workers)
    }
    assert [line["place"] for line in logged] == list(range(4, NUMBERS + 1, 4)), "each line once, in order"
    assert logged[-1]["total"] == SUM
    kept = sorted(path.name for path in checkpoint.parent.glob("checkpoint_0*"))
    assert kept == ["checkpoint_000004", "checkpoint_000005"], "older checkpoints are removed"
    assert trace(tmp_path) == [f"0/{workers} from 0"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_finished_training_has_nothing_left_to_do(run: Run, tmp_path: Path, workers: int) -> None:
    run("local", workers)
    assert reached(run("local", workers)) == {"place": NUMBERS, "total": SUM}
    assert trace(tmp_path) == [f"0/{workers} from 0", f"0/{workers} from {NUMBERS}"]


def test_a_training_that_failed_goes_on_from_the_last_whole_checkpoint(run: Run, tmp_path: Path) -> None:
    checkpoint = run("local", 1, fail_at=3, fail_how="raises", max_failures=1)
    assert reached(checkpoint) == {"place": NUMBERS, "total": SUM}
    assert trace(tmp_path) == ["0/1 from 0", "failing", "0/1 from 12"]


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_a_worker_that_was_killed_is_started_again(run: Run, tmp_path: Path, engine: Engine) -> None:
    workers = 2
    checkpoint = run(engine, workers, fail_at=3, fail_how="killed", fail_rank=1, max_failures=1)
    assert reached(checkpoint) == {"place": NUMBERS, "total": SUM}
    assert trace(tmp_path) == [f"0/{workers} from 0", "failing", f"0/{workers} from 12"]


@pytest.mark.parametrize(("engine", "workers"), ENGINES[1:])
def test_without_tries_left_it_is_one_sentence_and_the_next_run_goes_on(
    run: Run, tmp_path: Path, engine: Engine, workers: int
) -> None:
    parameters = {"fail_at": 3, "fail_how": "killed", "fail_rank": 1}
    with pytest.raises(StageError) as caught:
        run(engine, workers, **parameters)
    assert str(caught.value).startswith("Training failed: worker 1 died: ")
    assert "\n" not in str(caught.value)
    assert reached(run(engine, workers, **parameters)) == {"place": NUMBERS, "total": SUM}
    assert trace(tmp_path) == [f"0/{workers} from 0", "failing", f"0/{workers} from 12"]


@pytest.mark.parametrize(("engine", "workers"), ENGINES)
def test_an_error_meant_for_people_passes_as_it_is_and_is_not_tried_again(
    run: Run, tmp_path: Path, engine: Engine, workers: int
) -> None:
    with pytest.raises(InputError) as caught:
        run(engine, workers, fail_always, max_failures=3, error="InputError")
    assert str(caught.value).startswith("the sixth column is missing")
    starts = (tmp_path / "trace.txt").read_text("utf-8").splitlines()
    assert starts.count("0 started") <= 1
    assert starts.count("1 started") <= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_any_other_error_is_tried_again_and_then_told_in_one_sentence(
    run: Run, tmp_path: Path, workers: int
) -> None:
    with pytest.raises(StageError) as caught:
        run("local", workers, fail_together, max_failures=1)
    message, _, rest = str(caught.value).partition(" (more in ")
    assert message == "Training failed: ValueError: the sixth column is missing"
    details = json.loads(Path(rest.removesuffix(").")).read_text("utf-8"))
    assert "second line of the message" in details["message"]
    assert any("fail_together" in line for line in details["traceback"])
    assert numbers_of_starts({"trace": tmp_path / "trace.txt"}, workers) == [2] * workers


@pytest.mark.ray
def test_more_workers_than_the_cluster_has_cpus_is_refused_at_once(run: Run) -> None:
    with pytest.raises(StageError, match=r"CPUs for 1000 workers; lower the number of workers or add nodes"):
        run("ray", 1000)


def test_with_ray_what_a_worker_refused_is_told_rather_than_that_another_was_killed(tmp_path: Path) -> None:
    from ray.exceptions import RayActorError  # Ray reads the environment as it is imported

    class WorkersFailedError(Exception):
        worker_failures = {1: RayActorError()}  # noqa: RUF012 (as Ray Train has it)

    attempt = Attempt(tmp_path)
    assert str(distributed._reason(WorkersFailedError(), attempt)).startswith(
        "Training failed: worker 1 died: "
    )
    with contextlib.suppress(InputError), attempt.reporting(0):
        raise InputError("the sixth column is missing")
    reason = distributed._reason(WorkersFailedError(), attempt)
    assert isinstance(reason, InputError)
    assert str(reason) == "the sixth column is missing"


@pytest.mark.parametrize(("gpus", "room"), [(0, 4), (1, 4), (2, 1), (7, 3)])
def test_ray_trains_on_gpus_when_there_is_one_for_each_worker_and_says_when_there_are_too_few(
    gpus: int, room: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu_choice._say_too_few.cache_clear()
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": float(gpus)})
    assert distributed._room(2, True) == room, "trainings of two workers at a time"
    assert distributed._room(2, False) == 4
    assert len(caplog.messages) == (gpus == 1)


@pytest.mark.parametrize("change", ["parameters", "workers"])
def test_another_training_under_the_same_name_starts_fresh(run: Run, tmp_path: Path, change: str) -> None:
    with pytest.raises(StageError):
        run("local", 1, fail_at=3, fail_how="raises")
    workers = 2 if change == "workers" else 1
    extra = {"fail_at": 4} if change == "parameters" else {"fail_at": 3}
    assert reached(run("local", workers, fail_how="raises", **extra)) == {"place": NUMBERS, "total": SUM}
    assert trace(tmp_path)[-1] == f"0/{workers} from 0"
    assert len(list((tmp_path / "runs" / "sum").iterdir())) == 1, "the other training's files are gone"


def test_a_loop_that_never_saves_is_an_error(run: Run) -> None:
    with pytest.raises(StageError, match="'sum' ended without a checkpoint"):
        run("local", 1, end_without_checkpoint)


def test_a_checkpoint_that_was_cut_short_is_not_used(run: Run, tmp_path: Path) -> None:
    """Files of the next checkpoint were there, but the last word about it was not yet written."""
    with pytest.raises(StageError):
        run("local", 1, fail_at=3, fail_how="raises")
    (folder,) = (tmp_path / "runs" / "sum").glob("*/attempt_*/checkpoints")
    for name in (".checkpoint_000003", "checkpoint_000003"):
        (folder / name).mkdir()
        (folder / name / "sum.json").write_text('{"place": 20, "total', "utf-8")
    assert reached(run("local", 1, fail_at=3, fail_how="raises"))["total"] == SUM
    assert trace(tmp_path)[-1] == "0/1 from 12"


def test_what_workers_of_a_dead_driver_still_write_never_reaches_the_next_attempt(tmp_path: Path) -> None:
    """A late worker removes old checkpoints and takes new ones while the next attempt begins."""
    identity = {"parameters": 1}

    def save(attempt: Attempt, number: int) -> None:
        folder = attempt.checkpoints / f"checkpoint_{number:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sum.json").write_text(json.dumps({"place": number}), "utf-8")
        write_json(attempt.checkpoints / "latest.json", {"checkpoint": folder.name})
        for old in sorted(attempt.checkpoints.glob("checkpoint_*"))[:-2]:
            os.unlink(old / "sum.json")
            old.rmdir()

    late = begin_attempt(tmp_path, "sum", identity, latest_checkpoint)
    save(late, 1)
    over = threading.Event()

    def keep_writing() -> None:
        number = 2
        while not over.is_set():
            with contextlib.suppress(OSError):  # its folder was removed under it
                save(late, number)
                number += 1

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        attempts = [begin_attempt(tmp_path, "sum", identity, latest_checkpoint) for _ in range(20)]
    finally:
        over.set()
        writer.join()
    assert attempts[-1].start is not None
    assert json.loads((attempts[-1].start / "sum.json").read_text("utf-8"))["place"] >= 1
    assert attempts[-1].folder.name == "attempt_0021"
    assert not attempts[-1].checkpoints.exists(), "the late worker knows its own folder alone"


def run_many(tmp_path: Path, engine: Engine, parameters: dict[str, Any], **options: Any) -> dict[str, Path]:
    """Trainings that each note their starts in a file of their own."""
    return distributed.run_many(
        options.pop("loop", add_numbers),
        {name: {"trace": str(tmp_path / f"{name}.txt"), **each} for name, each in parameters.items()},
        **{"folder": tmp_path / "runs", "workers": 1, "engine": engine, "max_failures": 0, "gpus": False}
        | options,
    )


def starts(tmp_path: Path, name: str) -> list[str]:
    path = tmp_path / f"{name}.txt"
    return path.read_text("utf-8").splitlines() if path.exists() else []


def test_several_trainings_end_under_their_names_and_are_heard_by_name(tmp_path: Path) -> None:
    logged: list[tuple[str, int]] = []
    checkpoints = run_many(
        tmp_path,
        "local",
        {"first": {}, "second": {}},
        on_log=lambda name, values: logged.append((name, values["place"])),
    )
    assert list(checkpoints) == ["first", "second"]
    assert {reached(checkpoint)["total"] for checkpoint in checkpoints.values()} == {SUM}
    rounds = list(range(4, NUMBERS + 1, 4))
    assert logged == [("first", place) for place in rounds] + [("second", place) for place in rounds]


def test_of_several_trainings_each_is_resumed_by_itself(tmp_path: Path) -> None:
    parameters = {"first": {}, "second": {"fail_at": 3, "fail_how": "raises"}, "third": {}}
    with pytest.raises(StageError, match="the disk made a noise"):
        run_many(tmp_path, "local", parameters)
    checkpoints = run_many(tmp_path, "local", parameters)
    assert {reached(checkpoint)["total"] for checkpoint in checkpoints.values()} == {SUM}
    assert starts(tmp_path, "first") == ["0/1 from 0", f"0/1 from {NUMBERS}"]
    assert starts(tmp_path, "second") == ["0/1 from 0", "failing", "0/1 from 12"]
    assert starts(tmp_path, "third") == ["0/1 from 0"]


@pytest.mark.ray
def test_ray_trains_several_at_the_same_time(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    parameters = {name: {"company": 2, "meeting": str(meeting)} for name in ("first", "second")}
    checkpoints = run_many(tmp_path, "ray", parameters, loop=add_in_company)
    assert {reached(checkpoint)["total"] for checkpoint in checkpoints.values()} == {SUM}


@pytest.mark.ray
@pytest.mark.slow
def test_with_ray_one_that_fails_lets_those_under_way_finish_and_is_named(tmp_path: Path) -> None:
    failing = {"fail_at": 1, "fail_how": "raises", "fail_after": RAY_HEARS_OF_A_CHECKPOINT}
    parameters = {"first": failing, "second": {}}
    with pytest.raises(StageError, match="the disk made a noise"):
        run_many(tmp_path, "ray", parameters)
    checkpoints = run_many(tmp_path, "ray", parameters)
    assert {reached(checkpoint)["total"] for checkpoint in checkpoints.values()} == {SUM}
    assert starts(tmp_path, "second") == ["0/1 from 0", f"0/1 from {NUMBERS}"]
    assert starts(tmp_path, "first")[-1] == "0/1 from 4"


@pytest.mark.parametrize(("at_a_time", "most"), [(1, 1), (2, 2), (9, 5)])
def test_no_more_trainings_run_at_a_time_than_there_is_room_for(at_a_time: int, most: int) -> None:
    under_way, seen, changed = 0, [0], threading.Condition()

    def work(name: str) -> Path:
        nonlocal under_way
        with changed:
            under_way += 1
            seen.append(under_way)
            changed.notify_all()
            changed.wait_for(lambda: max(seen) >= most, 20)
        time.sleep(0.1)  # for one more than there is room for to come in
        with changed:
            under_way -= 1
        return Path(name)

    names = [str(number) for number in range(5)]
    assert distributed._side_by_side(work, names, at_a_time) == {name: Path(name) for name in names}
    assert max(seen) == most


def test_after_a_failure_no_further_training_is_begun() -> None:
    begun: list[str] = []

    def work(name: str) -> Path:
        begun.append(name)
        if name == "b":
            raise InputError("b cannot be")
        return Path(name)

    with pytest.raises(InputError, match="b cannot be"):
        distributed._side_by_side(work, ["a", "b", "c", "d"], 1)
    assert begun == ["a", "b"]


def test_checkpoints_that_ray_cannot_read_are_named_and_never_skipped_in_silence(tmp_path: Path) -> None:
    earlier = begin_attempt(tmp_path, "sum", {}, distributed._latest_ray_checkpoint)
    earlier.checkpoints.mkdir(parents=True)
    snapshot = earlier.checkpoints / "checkpoint_manager_snapshot.json"
    snapshot.write_text('{"checkpoint_results": [{"checkpoint_dir_name": "checkp', "utf-8")
    with pytest.raises(StageError, match=r"^The checkpoints in .+ cannot be read: .+; delete that folder"):
        begin_attempt(tmp_path, "sum", {}, distributed._latest_ray_checkpoint)
