"""The only place that knows Ray Train: runs a plain loop on N workers, with checkpoints and resume.

The same loop runs through Ray Train or, without Ray, in this process (one worker) or in local processes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn

from saerec_ray.attempts import (
    CHECKPOINT_NAME,
    KEPT_CHECKPOINTS,
    Attempt,
    begin_attempt,
    first_line,
    trailing_number,
)
from saerec_ray.errors import StageError
from saerec_ray.gpu_choice import choose_gpus
from saerec_ray.local_workers import latest_checkpoint, run_local
from saerec_ray.ray_connection import Engine, chosen_engine, start_ray
from saerec_ray.worker import Loop, Values, Worker, append_values

__all__ = ["Engine", "Loop", "OnLog", "Worker", "average_sparse", "run", "run_many", "wrap"]

OnLog = Callable[[dict[str, Any]], None]

_POLL_SECONDS = 0.2
_RAY_POLL_SECONDS = "0.2"
_READ_TRIES = 5


def wrap(model: nn.Module, worker: Worker, sparse: Sequence[str] = ()) -> nn.Module:
    """The model with averaged gradients when there are several workers, else the model itself.

    `sparse` names parameters with sparse gradients: average_sparse does the same for them after backward.
    """
    if worker.world_size == 1:
        return model
    ignore = nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    ignore(model, list(sparse))  # type: ignore[no-untyped-call]
    devices = [worker.device] if worker.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices)


def average_sparse(parameter: nn.Parameter, worker: Worker) -> None:
    """Replaces the sparse gradient of a parameter by its mean over the workers; every worker takes part."""
    if worker.world_size == 1 or parameter.grad is None:
        return
    own = parameter.grad.coalesce()
    count = torch.tensor([own.values().shape[0]], device=worker.device)
    counts = [torch.zeros_like(count) for _ in range(worker.world_size)]
    torch.distributed.all_gather(counts, count)
    longest = int(max(counts))
    rows = own.indices()[0].new_zeros(longest)
    values = own.values().new_zeros((longest, *own.values().shape[1:]))
    rows[: int(count)], values[: int(count)] = own.indices()[0], own.values()
    all_rows = [torch.zeros_like(rows) for _ in counts]
    all_values = [torch.zeros_like(values) for _ in counts]
    torch.distributed.all_gather(all_rows, rows)
    torch.distributed.all_gather(all_values, values)
    present = [slice(int(each)) for each in counts]
    parameter.grad = torch.sparse_coo_tensor(
        torch.cat([each[kept] for each, kept in zip(all_rows, present, strict=True)])[None],
        torch.cat([each[kept] for each, kept in zip(all_values, present, strict=True)]) / worker.world_size,
        parameter.shape,
    ).coalesce()


def run(
    loop: Loop,
    parameters: dict[str, Any],
    *,
    folder: Path,
    name: str,
    workers: int,
    engine: Engine,
    max_failures: int,
    gpus: bool,
    on_log: OnLog | None = None,
) -> Path:
    """Runs the loop to its end and returns the folder of the last checkpoint.

    A run of the same name, parameters and workers in `folder` is resumed, even while workers of a killed
    driver still write there; anything else found under the name is removed first. `on_log` gets what the
    first worker logs, from another thread. An InputError or StageError of the loop is raised at once; any
    other error is retried from the last checkpoint, and after `max_failures` times becomes a StageError
    with the worker's own message.
    """
    engine = chosen_engine(engine)
    latest = _latest_ray_checkpoint if engine == "ray" else latest_checkpoint
    identity = {"parameters": parameters, "workers": workers, "engine": engine}
    attempt = begin_attempt(folder.absolute(), name, identity, latest)
    run_on = _run_ray if engine == "ray" else run_local
    with _followed(attempt.log, on_log):
        run_on(loop, parameters, attempt, workers, max_failures, gpus)
    checkpoint = latest(attempt.checkpoints) or attempt.start
    if checkpoint is None:
        raise StageError(f"The training '{name}' ended without a checkpoint.")
    return checkpoint


def run_many(
    loop: Loop,
    parameters: Mapping[str, dict[str, Any]],
    *,
    folder: Path,
    workers: int,
    engine: Engine,
    max_failures: int,
    gpus: bool,
    on_log: Callable[[str, dict[str, Any]], None] | None = None,
) -> dict[str, Path]:
    """Runs the same loop once for each entry of `parameters`, and returns the last checkpoints by name.

    With Ray as many at a time as the cluster has room for, else one after the other. Each is a `run` of its
    own, and is resumed by itself. `on_log` also gets the name, from several threads. When one fails, those
    under way come to their end first, so that nothing they learnt is lost; then its error is raised.
    """

    def run_one(name: str) -> Path:
        return run(
            loop,
            parameters[name],
            folder=folder,
            name=name,
            workers=workers,
            engine=engine,
            max_failures=max_failures,
            gpus=gpus,
            on_log=None if on_log is None else functools.partial(on_log, name),
        )

    if chosen_engine(engine) == "local":
        return {name: run_one(name) for name in parameters}
    with start_ray():
        return _side_by_side(run_one, list(parameters), _room(workers, gpus))


def _side_by_side(run_one: Callable[[str], Path], names: list[str], at_a_time: int) -> dict[str, Path]:
    """Calls for every name on threads that nobody has to wait for when this one is interrupted."""
    results: dict[str, Future[Path]] = {name: Future() for name in names}
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    failed = threading.Event()

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not failed.is_set():
                name = waiting.get_nowait()
                try:
                    results[name].set_result(run_one(name))
                except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
                    failed.set()
                    results[name].set_exception(error)

    at_a_time = min(at_a_time, len(names))
    lanes = [threading.Thread(target=work, name="trainings", daemon=True) for _ in range(at_a_time)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    for result in results.values():
        if result.done() and (error := result.exception()):
            raise error
    return {name: result.result() for name, result in results.items()}


def _room(workers: int, gpus: bool) -> int:
    """How many trainings of so many workers the cluster can hold at a time; at least one."""
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    kind = "GPU" if choose_gpus(gpus, int(resources.get("GPU", 0)), workers) else "CPU"
    return max(1, int(resources.get(kind, 0) // workers))


@contextlib.contextmanager
def _followed(log: Path, on_log: OnLog | None) -> Iterator[None]:
    """Passes lines appended to the log to `on_log` while the block runs."""
    if on_log is None:
        yield
        return
    over = threading.Event()

    def follow() -> None:
        with log.open(encoding="utf-8") as handle:
            pending = ""
            while True:
                ending = over.is_set()
                pending += handle.read()
                *lines, pending = pending.split("\n")
                for line in lines:
                    on_log(json.loads(line))
                if ending:
                    return
                over.wait(_POLL_SECONDS)

    follower = threading.Thread(target=follow, name="training-log", daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


class RayWorker:
    """A worker of Ray Train."""

    def __init__(self, attempt: Attempt) -> None:
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self._attempt = attempt
        self._next = 0

    @contextlib.contextmanager
    def restore(self) -> Iterator[Path | None]:
        """See Worker."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield self._attempt.start
            return
        self._next = trailing_number(Path(checkpoint.path)) + 1
        with checkpoint.as_directory() as folder:
            yield Path(folder)

    def save(self, write: Callable[[Path], None], metrics: Values) -> None:
        """See Worker."""
        import ray.train

        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            ray.train.report(
                dict(metrics),
                checkpoint=ray.train.Checkpoint.from_directory(folder),
                checkpoint_dir_name=CHECKPOINT_NAME.format(self._next),
            )
        self._next += 1

    def log(self, values: Values) -> None:
        """See Worker."""
        if self.rank == 0:
            append_values(self._attempt.log, values)


def _ray_loop(config: dict[str, Any]) -> None:
    attempt: Attempt = config["attempt"]
    if attempt.refused():
        return  # Ray starts workers again after every error; the driver raises this one
    torch.set_num_threads(1)
    worker = RayWorker(attempt)
    with attempt.reporting(worker.rank):
        config["loop"](worker, config["parameters"])


def _latest_ray_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that Ray Train knows to be whole, or None."""
    from ray.train import Result

    problem: Exception | None = None
    for _ in range(_READ_TRIES):  # what is left of a killed run may be writing at this moment
        try:
            checkpoint = Result.from_path(str(folder)).checkpoint
        except RuntimeError:
            return None  # Ray Train has taken none
        except Exception as error:  # noqa: BLE001 (Ray Train's own are private)
            problem = error
            time.sleep(_POLL_SECONDS)
        else:
            return None if checkpoint is None else Path(checkpoint.path)
    raise StageError(
        f"The checkpoints in {folder} cannot be read: {first_line(str(problem))}; "
        "delete that folder to go on from an earlier one."
    ) from problem


def _run_ray(
    loop: Loop, parameters: dict[str, Any], attempt: Attempt, workers: int, max_failures: int, gpus: bool
) -> None:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _RAY_POLL_SECONDS)
    with start_ray():
        import ray
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.config import LoggingConfig
        from ray.train.v2.api.exceptions import TrainingFailedError

        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        use_gpu = choose_gpus(gpus, int(resources.get("GPU", 0)), workers)
        if resources.get("CPU", 0) < workers:
            raise StageError(
                f"The cluster has {resources.get('CPU', 0):g} CPUs for {workers} workers; "
                "lower the number of workers or add nodes."
            )
        trainer = TorchTrainer(
            _ray_loop,
            train_loop_config={"loop": loop, "parameters": parameters, "attempt": attempt},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, placement_strategy="SPREAD"),
            run_config=RunConfig(
                name=attempt.checkpoints.name,
                storage_path=str(attempt.folder),
                failure_config=FailureConfig(max_failures=max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
                logging_config=LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
            ),
        )
        try:
            _on_a_thread(trainer.fit)
        except TrainingFailedError as error:
            raise _reason(error, attempt) from error
    if attempt.refused():
        raise attempt.reason()


def _reason(error: Exception, attempt: Attempt) -> Exception:
    """What a worker refused is the reason, else one that was killed: the others can only say that it has gone."""
    import ray.exceptions

    if attempt.refused():
        return attempt.reason()
    failures = {
        rank: getattr(failure, "health_check_failure", failure)
        for rank, failure in getattr(error, "worker_failures", {}).items()
    }
    for rank, failure in failures.items():
        if isinstance(failure, ray.exceptions.RayActorError):
            return StageError(f"Training failed: worker {rank} died: {first_line(str(failure))}.")
    return attempt.reason(next(iter(failures.values()), error))


def _on_a_thread(work: Callable[[], object]) -> None:
    """Calls on another thread and waits: called on the main one, Ray would take Ctrl-C for itself."""
    result: Future[object] = Future()

    def call() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            result.set_exception(error)

    threading.Thread(target=call, name="training", daemon=True).start()
    result.result()
