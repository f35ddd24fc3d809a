"""Training without Ray: in this process, or in several on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from saerec_ray.attempts import CHECKPOINT_NAME, KEPT_CHECKPOINTS, Attempt, trailing_number
from saerec_ray.errors import StageError
from saerec_ray.gpu_choice import choose_gpus
from saerec_ray.manifest import write_json
from saerec_ray.torch_threads import one_torch_thread
from saerec_ray.worker import Loop, Values, append_values

_POLL_SECONDS = 0.2


class LocalWorker:
    """A worker in this process, or in one of several local processes joined by torch.distributed."""

    def __init__(self, rank: int, world_size: int, device: torch.device, attempt: Attempt) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device
        self._attempt, self._folder = attempt, attempt.checkpoints

    @contextlib.contextmanager
    def restore(self) -> Iterator[Path | None]:
        """See Worker."""
        yield latest_checkpoint(self._folder) or self._attempt.start

    def save(self, write: Callable[[Path], None], metrics: Values) -> None:
        """See Worker."""
        latest = latest_checkpoint(self._folder)
        number = 0 if latest is None else trailing_number(latest) + 1
        aside = self._folder / f".{CHECKPOINT_NAME.format(number)}"
        self._wait()  # nobody begins before all have read the latest number
        if self.rank == 0:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        self._wait()
        write(aside)
        self._wait()
        if self.rank == 0:
            target = self._folder / CHECKPOINT_NAME.format(number)
            shutil.rmtree(target, ignore_errors=True)  # whole, but never became the latest
            aside.rename(target)
            write_json(self._folder / "latest.json", {"checkpoint": target.name, "metrics": dict(metrics)})
            for old in sorted(self._folder.glob("checkpoint_*"))[:-KEPT_CHECKPOINTS]:
                shutil.rmtree(old)
        self._wait()

    def log(self, values: Values) -> None:
        """See Worker."""
        if self.rank == 0:
            append_values(self._attempt.log, values)

    def _wait(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint among those of local workers, or None."""
    try:
        return folder / cast(str, json.loads((folder / "latest.json").read_text("utf-8"))["checkpoint"])
    except FileNotFoundError:
        return None


def run_local(
    loop: Loop, parameters: dict[str, Any], attempt: Attempt, workers: int, max_failures: int, gpus: bool
) -> None:
    """Runs the loop in this process when there is one worker, else in as many new ones.

    GPUs are used when they are wanted and there is one for each worker.
    Raises InputError and StageError of the loop at once, other errors as StageError after `max_failures`.
    """
    gpus = choose_gpus(gpus, _gpu_count(), workers)
    for failures in range(max_failures + 1):
        try:
            if workers == 1:
                with attempt.reporting(0), one_torch_thread():
                    loop(LocalWorker(0, 1, _device(gpus, 0), attempt), parameters)
            else:
                _run_processes(loop, parameters, attempt, workers, gpus)
        except ProcessExitedException as error:
            if attempt.refused():  # another worker's word, which starting again would not change
                raise attempt.reason() from error
            if failures == max_failures:  # the others could only say that it has gone
                raise StageError(f"Training failed: worker {error.error_index} died: {error}.") from error
        except Exception as error:
            if attempt.refused() or failures == max_failures:
                raise attempt.reason(error) from error
        else:
            return


def _run_processes(
    loop: Loop, parameters: dict[str, Any], attempt: Attempt, workers: int, gpus: bool
) -> None:
    with tempfile.TemporaryDirectory() as meeting:
        store = Path(meeting) / "store"
        context = start_processes(  # type: ignore[no-untyped-call]
            _local_process,
            (os.getpid(), loop, parameters, workers, attempt, gpus, store),
            nprocs=workers,
            join=False,
            start_method="spawn",
        )
        try:
            while not context.join():
                pass
        finally:
            for process in context.processes:
                process.kill()  # when this process was interrupted; else they have ended


def _local_process(
    rank: int,
    driver: int,
    loop: Loop,
    parameters: dict[str, Any],
    workers: int,
    attempt: Attempt,
    gpus: bool,
    store: Path,
) -> None:
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    torch.set_num_threads(1)
    device = _device(gpus, rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # the random state of checkpoints is that of the current device
    with attempt.reporting(rank):
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=workers,
        )
        try:
            loop(LocalWorker(rank, workers, device, attempt), parameters)
            torch.distributed.barrier()  # nobody leaves while another is still joining
        finally:
            torch.distributed.destroy_process_group()


def _end_with(driver: int) -> None:
    """Ends this process soon after its driver, whatever it is doing."""
    while os.getppid() == driver:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def _gpu_count() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _device(gpus: bool, rank: int) -> torch.device:
    return torch.device("cuda", rank) if gpus else torch.device("cpu")
