"""What a training loop is given, on whatever engine it runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

Values = Mapping[str, float | int | str]


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


def append_values(log: Path, values: Values) -> None:
    """Adds one line to a log of JSON lines."""
    with log.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(dict(values)) + "\n")
