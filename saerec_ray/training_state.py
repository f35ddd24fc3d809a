"""Checkpoints as safetensors and JSON: model, optimiser and random state, restored bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

TENSORS_FILE = "state.safetensors"
NUMBERS_FILE = "state.json"
_INTEGER = ".integer"


def save_training_state(folder: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Writes named tensors and plain values into a checkpoint folder."""
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()},
        folder / TENSORS_FILE,
    )
    (folder / NUMBERS_FILE).write_text(json.dumps(numbers), "utf-8")


def load_training_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what save_training_state wrote."""
    return load_file(folder / TENSORS_FILE), load_numbers(folder)


def load_numbers(folder: Path) -> dict[str, Any]:
    """Only the plain values of what save_training_state wrote."""
    numbers: dict[str, Any] = json.loads((folder / NUMBERS_FILE).read_text("utf-8"))
    return numbers


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The running averages and step counts of an optimiser as named tensors: `parameter.key`.

    Counts that the optimiser keeps as plain integers are named `parameter.key.integer`.
    """
    tensors: dict[str, Tensor] = {}
    for parameter, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}.{key}"] = value
            else:
                tensors[f"{parameter}.{key}{_INTEGER}"] = torch.tensor(value, dtype=torch.int64)
    return tensors


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts the tensors of optimizer_tensors back; learning rate and other settings stay as they are."""
    current = optimizer.state_dict()
    state: dict[int, dict[str, Tensor | int]] = {}
    for name, value in tensors.items():
        parameter, key = name.removesuffix(_INTEGER).split(".", 1)
        state.setdefault(int(parameter), {})[key] = int(value) if name.endswith(_INTEGER) else value
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})


def save_random_state(folder: Path, rank: int) -> None:
    """Writes this worker's random state, so that dropout goes on as if nothing had happened."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    save_file(states, folder / f"random_{rank}.safetensors")


def load_random_state(folder: Path, rank: int) -> None:
    """Restores this worker's random state; a worker the checkpoint does not know keeps its own."""
    path = folder / f"random_{rank}.safetensors"
    if not path.exists():
        return
    states = load_file(path)
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
