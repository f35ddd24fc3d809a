"""Loops of a few lines for tests of the machinery around training; workers import them by name."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from saerec_ray.distributed import Worker
from saerec_ray.errors import InputError

NUMBERS = 24
"""The loop adds the numbers 0 to 23; worker r of n takes those that leave r when divided by n."""


def add_numbers(worker: Worker, parameters: dict[str, Any]) -> None:
    """Adds NUMBERS numbers, in rounds of 4, with a checkpoint after every round.

    Parameters: `trace` (a file that gets one line for each start), and if wanted `fail_at` (a round at whose
    begin worker `fail_rank` fails, once, in the way `fail_how` and after `fail_after` seconds).
    """
    place, total = 0, 0
    with worker.restore() as folder:
        if folder is not None:
            state = json.loads((folder / "sum.json").read_text("utf-8"))
            place, total = state["place"], state["total"]
    trace(parameters, f"{worker.rank}/{worker.world_size} from {place}")
    while place < NUMBERS:
        if place // 4 == parameters.get("fail_at"):
            fail_once(worker, parameters)
        part = torch.tensor(sum(number for number in range(place, place + 4) if mine(worker, number)))
        if worker.world_size > 1:
            torch.distributed.all_reduce(part)
        place, total = place + 4, total + int(part)
        worker.log({"place": place, "total": total})
        worker.save(lambda folder: write(worker, folder, place, total), {"total": total})  # noqa: B023


def mine(worker: Worker, number: int) -> bool:
    return number % worker.world_size == worker.rank


def write(worker: Worker, folder: Path, place: int, total: int) -> None:
    (folder / f"rank_{worker.rank}.json").write_text(json.dumps({"pid": os.getpid()}), "utf-8")
    if worker.rank == 0:
        (folder / "sum.json").write_text(json.dumps({"place": place, "total": total}), "utf-8")


def trace(parameters: dict[str, Any], line: str) -> None:
    with Path(parameters["trace"]).open("a", encoding="utf-8") as handle:
        handle.write(f"{line}\n")


def fail_once(worker: Worker, parameters: dict[str, Any]) -> None:
    """Fails on the wanted rank, unless the trace says that it did already."""
    if worker.rank != parameters.get("fail_rank", 0) or "failing" in Path(parameters["trace"]).read_text():
        return
    trace(parameters, "failing")
    time.sleep(parameters.get("fail_after", 0.0))
    if parameters["fail_how"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("the disk made a noise\nand then it stopped")


def fail_always(worker: Worker, parameters: dict[str, Any]) -> None:
    """Fails each time with the error named by `error`, after a line in the trace."""
    trace(parameters, f"{worker.rank} started")
    kinds = {"InputError": InputError, "ValueError": ValueError}
    raise kinds[parameters["error"]]("the sixth column is missing\nsecond line of the message")


def fail_together(worker: Worker, parameters: dict[str, Any]) -> None:
    """Fails each time like fail_always, but no worker before all have left their line of this start."""
    trace(parameters, f"{worker.rank} started")
    waited = time.monotonic()
    while len(set(numbers_of_starts(parameters, worker.world_size))) > 1:
        if time.monotonic() - waited > 60:
            raise InputError("nobody else came")
        time.sleep(0.02)
    raise ValueError("the sixth column is missing\nsecond line of the message")


def numbers_of_starts(parameters: dict[str, Any], workers: int) -> list[int]:
    """How often each worker left a line."""
    lines = Path(parameters["trace"]).read_text("utf-8").splitlines()
    return [lines.count(f"{rank} started") for rank in range(workers)]


def add_in_company(worker: Worker, parameters: dict[str, Any]) -> None:
    """Adds numbers once `company` trainings are under way at the same time; gives up after 60 seconds.

    Parameters besides those of add_numbers: `company` and `meeting` (a folder).
    """
    folder = Path(parameters["meeting"])
    (folder / str(os.getpid())).touch()
    waited = time.monotonic()
    while len(list(folder.iterdir())) < parameters["company"]:
        if time.monotonic() - waited > 60:
            raise InputError("nobody else came")
        time.sleep(0.05)
    add_numbers(worker, parameters)


def end_without_checkpoint(worker: Worker, parameters: dict[str, Any]) -> None:
    """Does nothing at all."""
