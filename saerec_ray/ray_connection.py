"""Connecting to Ray, or starting it on this machine, for as long as it is needed."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from saerec_ray.attempts import first_line
from saerec_ray.errors import StageError

Engine = Literal["auto", "ray", "local"]

_START_TRIES = 3
_OBJECT_STORE_BYTES = 256 << 20

_kept_until: contextlib.ExitStack | None = None
"""What shuts Ray down, within `ray_kept`."""


def chosen_engine(engine: Engine) -> Literal["ray", "local"]:
    """What `auto` stands for: Ray where it is installed."""
    if engine != "auto":
        return engine
    return "ray" if importlib.util.find_spec("ray") else "local"


@contextlib.contextmanager
def start_ray() -> Iterator[None]:
    """Connects to Ray for the length of the block; inside `ray_kept`, until that ends.

    Inside a Ray job, or with RAY_ADDRESS set, that cluster is used and left running; otherwise a small
    cluster is started on this machine, reachable from here alone, and shut down afterwards.
    """
    if _ray_is_running():
        yield
    elif _kept_until is not None:
        _kept_until.enter_context(_connected())
        yield
    else:
        with _connected():
            yield


@contextlib.contextmanager
def ray_kept() -> Iterator[None]:
    """Within this block the first `start_ray` starts Ray for all; nothing is started where nobody asks.

    Starting it takes 5 s on a quiet machine, stopping it 2 s: too much to do for every stage.
    """
    global _kept_until
    if _kept_until is not None:
        yield
        return
    with contextlib.ExitStack() as stack:
        _kept_until = stack
        try:
            yield
        finally:
            _kept_until = None


@contextlib.contextmanager
def _connected() -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    remote = bool(os.environ.get("RAY_ADDRESS"))
    if not remote:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    on_terminate = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if remote:
            try:
                ray.init(logging_level=logging.ERROR, log_to_driver=False)
            except ConnectionError as error:
                raise StageError(
                    f"No Ray cluster answers at RAY_ADDRESS={os.environ['RAY_ADDRESS']}: "
                    "start it, or unset RAY_ADDRESS to train on this machine."
                ) from error
        else:
            _start_local_ray(Path(folder))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray has put its own in place
        try:
            yield
        finally:
            ray.shutdown()


def _start_local_ray(folder: Path) -> None:
    """Starts Ray on this machine; Ray gives itself 30 s, which a busy machine may need more than once."""
    import ray

    problem: Exception | None = None
    for attempt in range(_START_TRIES):
        try:
            ray.init(
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=str(folder / str(attempt)),  # short, because Unix socket paths are limited
            )
        except Exception as error:  # noqa: BLE001 (Ray raises a bare Exception when it takes too long)
            problem = error
            ray.shutdown()
        else:
            return
    raise StageError(
        f"Ray did not start on this machine in {_START_TRIES} tries: {first_line(str(problem))}. "
        "Train without it (cluster.engine: local), or try again when the machine is less busy."
    ) from problem


def _ray_is_running() -> bool:
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())
