"""The training of a dictionary on workers that each leave what they hold at its end; they import it by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file

from saerec_ray.dictionary import trainer
from saerec_ray.worker import Worker

REVIVED = "revived"
"""The name beside the tensors of a worker: latents that were pointed anew."""


def train_and_tell(worker: Worker, parameters: dict[str, Any]) -> None:
    """Trains as always, and leaves model, averages, optimiser and silence of each worker in `told`.

    Parameters besides those of train_dictionary: `told` (a folder) and `mute` (latents that begin so that no item
    reaches them).
    """
    runs: list[trainer.DictionaryTraining] = []
    revived: list[int] = []

    class Watched(trainer.DictionaryTraining):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            with torch.no_grad():
                self.model.encoder_bias[parameters["mute"]] = -100
            runs.append(self)

    def point_anew(model: Any, latents: torch.Tensor, directions: torch.Tensor) -> None:
        revived.extend(latents.tolist())
        real(model, latents, directions)

    real = trainer.point_anew
    with (
        mock.patch.object(trainer, "DictionaryTraining", Watched),
        mock.patch.object(trainer, "point_anew", point_anew),
    ):
        trainer.train_dictionary(worker, parameters)
    (run,) = runs
    held = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    held |= {f"average.{name}": value for name, value in run.average.state_dict().items()}
    for place, values in run.optimiser.state_dict()["state"].items():
        held |= {f"optimiser.{place}.{name}": torch.as_tensor(value) for name, value in values.items()}
    held |= {"silent_samples": run.silent_samples, REVIVED: torch.tensor(revived, dtype=torch.int64)}
    save_file(
        {name: value.contiguous().clone() for name, value in held.items()},
        Path(parameters["told"]) / f"{worker.rank}.safetensors",
    )
