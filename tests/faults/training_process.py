"""A stage of `saerec` in a process of its own, watched from outside and struck in the middle of its work."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

SECONDS_TO_WAIT = 600
_WORKER_NAMES = ("RayTrainWorker", "multiprocessing.spawn")


def _hear_ctrl_c() -> None:
    """Processes in the background of a shell are started with Ctrl-C ignored, and their children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class StageProcess:
    """`saerec STAGE` at work in a directory."""

    def __init__(self, stage: str, workdir: Path, *arguments: str) -> None:
        self.stage, self.workdir = stage, workdir
        self._command = psutil.Popen(
            [
                *(sys.executable, "-m", "saerec_ray", stage),
                *("--config", str(workdir / "small.yaml"), "--workdir", str(workdir), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_hear_ctrl_c,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "HF_HUB_OFFLINE": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
            },
        )

    def workers(self) -> list[psutil.Process]:
        """The processes that train; they stay in this list's hands when their parent dies."""
        found = []
        for process in self._command.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(name in " ".join(process.cmdline()) for name in _WORKER_NAMES):
                    found.append(process)
        return found

    def wait_for_checkpoints(self, number: int) -> None:
        """Returns when the checkpoint of this number has been written by the attempt under way."""
        name = f"checkpoint_{number:06d}"
        self._wait_until(
            lambda: any(self.workdir.glob(f".runs/*/*/*/attempt_*/checkpoints/{name}/state.json"))
        )

    def resumed_from(self) -> dict[str, Any]:
        """How far the checkpoint had come from which the attempt under way went on."""
        starts = f".runs/{self.stage}-*/*/*/attempt_*/start/state.json"
        self._wait_until(lambda: any(self.workdir.glob(starts)))
        (path,) = self.workdir.glob(starts)
        progress: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return progress

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the driver alone, not to its workers."""
        self._command.send_signal(number)

    def finish(self) -> tuple[int, str]:
        """Waits for the end; the exit code and all output."""
        try:
            output, _ = self._command.communicate(timeout=SECONDS_TO_WAIT)
        except subprocess.TimeoutExpired:
            self._command.kill()
            raise
        return self._command.returncode, output

    def _wait_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS_TO_WAIT
        while not happened():
            if self._command.poll() is not None:
                raise AssertionError(f"ended too early: {self.finish()}")
            if time.monotonic() > deadline:
                self._command.kill()
                raise AssertionError("took too long")
            time.sleep(0.1)


def seconds_until_gone(processes: list[psutil.Process]) -> float:
    """How long the processes lived on."""
    started = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=SECONDS_TO_WAIT)
    assert not alive, f"still there after {SECONDS_TO_WAIT} s: {alive}"
    return time.monotonic() - started
