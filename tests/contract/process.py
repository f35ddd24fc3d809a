"""A server in a process of its own, to kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from saerec_server.settings import ServerSettings
from tests.contract.running import settings_of

_PROGRAM = """
import sys
from saerec_server.serve import run_server
from saerec_server.settings import ServerSettings
settings = ServerSettings.model_validate_json(sys.argv[1])
run_server(settings, on_ready=lambda port: print(port, flush=True))
"""


class ServerProcess:
    """A running server process; `port` is where it listens."""

    def __init__(self, settings: ServerSettings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, settings.model_dump_json()],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server ended with code {self._process.wait(30)}"
        self.port = int(line)

    def kill(self) -> None:
        """SIGKILL: no goodbye of any kind."""
        self._process.kill()
        self._process.wait(30)

    def terminate(self) -> None:
        """SIGTERM: asks to drain."""
        self._process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Waits for the end."""
        return self._process.wait(60)


@contextlib.contextmanager
def server_process(bundle: Path, state: Path, drain_seconds: float = 0) -> Iterator[ServerProcess]:
    process = ServerProcess(settings_of(bundle, state=state, drain_seconds=drain_seconds))
    try:
        yield process
    finally:
        process.kill()
