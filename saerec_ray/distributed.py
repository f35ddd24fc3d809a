"""The only place that knows Ray Train: runs a plain loop on N workers, with checkpoints and resume.

The same loop runs through Ray Train or, without Ray, in this process (one worker) or in local processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from saerec_ray.errors import StageError
from saerec_ray.manifest import write_json

Values = Mapping[str, float | int | str]
OnLog = Callable[[dict[str, Any]], None]
Engine = Literal["auto", "ray", "local"]

_CHECKPOINT = "checkpoint_{:06d}"
_KEPT_CHECKPOINTS = 2
_POLL_SECONDS = 0.2
_RAY_POLL_SECONDS = "0.5"
_OBJECT_STORE_BYTES = 256 << 20


class Worker(Protocol):
    """What a loop is given: who it is, and how to log, save and restore."""

    rank: int
    world_size: int
    device: torch.device

    def restore(self) -> contextlib.AbstractContextManager[Path | None]:
        """The folder of the latest checkpoint, or None at a fresh start."""

    def save(self, write: Callable[[Path], None], metrics: Values) -> None:
        """Takes a checkpoint. Every worker calls it, equally often; `write` adds its files to a folder."""

    def log(self, values: Values) -> None:
        """Passes values to the driver's `on_log`; only the first worker's are kept."""


Loop = Callable[[Worker, dict[str, Any]], None]


def wrap(model: nn.Module, worker: Worker) -> nn.Module:
    """The model with averaged gradients when there are several workers, else the model itself."""
    if worker.world_size == 1:
        return model
    devices = [worker.device] if worker.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=devices)


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

    An unfinished run of the same name, parameters and workers in `folder` is resumed; anything else found
    under the name is removed first. `on_log` gets what the first worker logs, from another thread.
    Raises StageError with the worker's own message when the loop fails more than `max_failures` times.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    engine = _chosen_engine(engine)
    _claim(folder, name, {"parameters": parameters, "workers": workers, "engine": engine})
    log = folder / f"{name}.jsonl"
    log.touch()
    with _followed(log, on_log):
        if engine == "ray":
            checkpoint = _run_ray(loop, parameters, folder, name, workers, max_failures, gpus, log)
        else:
            checkpoint = _run_local(loop, parameters, folder / name, workers, max_failures, gpus, log)
    if checkpoint is None:
        raise StageError(f"The training '{name}' ended without a checkpoint.")
    return checkpoint


def _chosen_engine(engine: Engine) -> Literal["ray", "local"]:
    if engine != "auto":
        return engine
    import importlib.util

    return "ray" if importlib.util.find_spec("ray") else "local"


def _claim(folder: Path, name: str, identity: dict[str, Any]) -> None:
    """Removes state under the name that belongs to another run, and marks the name as this run's."""
    marker = folder / f"{name}.json"
    text = json.dumps(identity, sort_keys=True, default=str)
    wanted = hashlib.sha256(text.encode()).hexdigest()
    try:
        found = json.loads(marker.read_text("utf-8"))["run"]
    except (OSError, ValueError, KeyError):
        found = None
    if found != wanted:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / f"{name}.jsonl").unlink(missing_ok=True)
        write_json(marker, {"run": wanted})


@contextlib.contextmanager
def _followed(log: Path, on_log: OnLog | None) -> Iterator[None]:
    """Passes lines appended to the log to `on_log` while the block runs."""
    if on_log is None:
        yield
        return
    over = threading.Event()
    position = log.stat().st_size

    def follow() -> None:
        with log.open(encoding="utf-8") as handle:
            handle.seek(position)
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


def _append(log: Path, values: Values) -> None:
    with log.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(dict(values)) + "\n")


def _device(gpus: bool, rank: int) -> torch.device:
    if gpus and torch.cuda.is_available():
        return torch.device("cuda", rank % torch.cuda.device_count())
    return torch.device("cpu")


# Without Ray


class LocalWorker:
    """A worker in this process, or in one of several local processes joined by torch.distributed."""

    def __init__(self, rank: int, world_size: int, device: torch.device, folder: Path, log: Path) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device
        self._folder, self._log = folder, log

    @contextlib.contextmanager
    def restore(self) -> Iterator[Path | None]:
        """See Worker."""
        yield latest_checkpoint(self._folder)

    def save(self, write: Callable[[Path], None], metrics: Values) -> None:
        """See Worker."""
        latest = latest_checkpoint(self._folder)
        number = 0 if latest is None else int(latest.name.rpartition("_")[2]) + 1
        aside = self._folder / f".{_CHECKPOINT.format(number)}"
        self._wait()  # nobody begins before all have read the latest number
        if self.rank == 0:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        self._wait()
        write(aside)
        self._wait()
        if self.rank == 0:
            target = self._folder / _CHECKPOINT.format(number)
            shutil.rmtree(target, ignore_errors=True)  # whole, but never became the latest
            aside.rename(target)
            write_json(self._folder / "latest.json", {"checkpoint": target.name, "metrics": dict(metrics)})
            for old in sorted(self._folder.glob("checkpoint_*"))[:-_KEPT_CHECKPOINTS]:
                shutil.rmtree(old)
        self._wait()

    def log(self, values: Values) -> None:
        """See Worker."""
        if self.rank == 0:
            _append(self._log, values)

    def _wait(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a local run, or None."""
    try:
        return folder / cast(str, json.loads((folder / "latest.json").read_text("utf-8"))["checkpoint"])
    except FileNotFoundError:
        return None


def _run_local(
    loop: Loop,
    parameters: dict[str, Any],
    folder: Path,
    workers: int,
    max_failures: int,
    gpus: bool,
    log: Path,
) -> Path | None:
    folder.mkdir(parents=True, exist_ok=True)
    if workers == 1:
        loop(LocalWorker(0, 1, _device(gpus, 0), folder, log), parameters)
        return latest_checkpoint(folder)
    for attempt in range(max_failures + 1):
        try:
            with tempfile.TemporaryDirectory() as meeting:
                start_processes(  # type: ignore[no-untyped-call]
                    _local_process,
                    (loop, parameters, workers, folder, log, gpus, Path(meeting) / "store"),
                    nprocs=workers,
                    start_method="spawn",
                )
            break
        except (ProcessRaisedException, ProcessExitedException) as error:
            if attempt == max_failures:
                raise StageError(f"Training failed: {_last_line(error)}") from error
    return latest_checkpoint(folder)


def _local_process(
    rank: int,
    loop: Loop,
    parameters: dict[str, Any],
    workers: int,
    folder: Path,
    log: Path,
    gpus: bool,
    store: Path,
) -> None:
    torch.set_num_threads(1)
    device = _device(gpus, rank)
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=workers,
    )
    try:
        loop(LocalWorker(rank, workers, device, folder, log), parameters)
    finally:
        torch.distributed.destroy_process_group()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


# With Ray


class RayWorker:
    """A worker of Ray Train."""

    def __init__(self, log: Path) -> None:
        import ray.train
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self._log = log
        self._number = 0

    @contextlib.contextmanager
    def restore(self) -> Iterator[Path | None]:
        """See Worker."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        self._number = int(Path(checkpoint.path).name.rpartition("_")[2]) + 1
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
                checkpoint_dir_name=_CHECKPOINT.format(self._number),
            )
        self._number += 1

    def log(self, values: Values) -> None:
        """See Worker."""
        if self.rank == 0:
            _append(self._log, values)


def _ray_loop(config: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    config["loop"](RayWorker(Path(config["log"])), config["parameters"])


def _run_ray(
    loop: Loop,
    parameters: dict[str, Any],
    folder: Path,
    name: str,
    workers: int,
    max_failures: int,
    gpus: bool,
    log: Path,
) -> Path | None:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _RAY_POLL_SECONDS)
    with start_ray():
        import ray
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.config import LoggingConfig
        from ray.train.v2.api.exceptions import TrainingFailedError

        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        use_gpu = gpus and resources.get("GPU", 0) >= workers
        if resources.get("CPU", 0) < workers:
            raise StageError(
                f"The cluster has {resources.get('CPU', 0):g} CPUs for {workers} workers; "
                "lower the number of workers or add nodes."
            )
        trainer = TorchTrainer(
            _ray_loop,
            train_loop_config={"loop": loop, "parameters": parameters, "log": str(log)},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, placement_strategy="SPREAD"),
            run_config=RunConfig(
                name=name,
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=_KEPT_CHECKPOINTS),
                logging_config=LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
            ),
        )
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            causes = getattr(error, "worker_failures", None) or {0: error}
            cause = next(iter(causes.values()))
            reason = (str(cause).strip().splitlines() or [""])[0]
            raise StageError(f"Training failed: {type(cause).__name__}: {reason}") from error
        return None if result.checkpoint is None else Path(result.checkpoint.path)


@contextlib.contextmanager
def start_ray() -> Iterator[None]:
    """Connects to Ray for the length of the block.

    Inside a Ray job, or with RAY_ADDRESS set, that cluster is used and left running; otherwise a small
    cluster is started on this machine, reachable from here alone, and shut down afterwards.
    """
    if _ray_is_running():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    remote = bool(os.environ.get("RAY_ADDRESS"))
    if not remote:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if remote:
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=folder,  # short, because Unix socket paths are limited
            )
        try:
            yield
        finally:
            ray.shutdown()


def _ray_is_running() -> bool:
    import sys

    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())
