"""The training of the backbone, ended by an error after so many checkpoints; workers import it by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from saerec_ray.backbone.trainer import train_backbone
from saerec_ray.worker import Values, Worker


class StoppingWorker:
    """A worker that fails right after its n-th checkpoint."""

    def __init__(self, worker: Worker, checkpoints: int) -> None:
        self.rank, self.world_size, self.device = worker.rank, worker.world_size, worker.device
        self.restore, self.log = worker.restore, worker.log
        self._worker, self._left = worker, checkpoints

    def save(self, write: Callable[[Path], None], metrics: Values) -> None:
        """See Worker."""
        self._worker.save(write, metrics)
        self._left -= 1
        if not self._left:
            raise RuntimeError("stopped on purpose")


def train_until_checkpoint(checkpoints: int, worker: Worker, parameters: dict[str, Any]) -> None:
    """Trains until that many checkpoints were taken in this start."""
    train_backbone(StoppingWorker(worker, checkpoints), parameters)
