"""Checkpoints bring a training back bit for bit, and hold nothing but tensors and plain values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from saerec_ray import training_state

OPTIMISERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=1e-2),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1, amsgrad=True),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9),
}


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.5), nn.Linear(7, 1))


def train(model: nn.Module, optimiser: torch.optim.Optimizer, steps: int) -> None:
    """Steps that depend on the random state: the inputs and the dropout are drawn from it."""
    for _ in range(steps):
        optimiser.zero_grad()
        model(torch.randn(8, 5)).square().mean().backward()
        optimiser.step()


def save(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optimiser.{k}": v for k, v in training_state.optimizer_tensors(optimiser).items()}
    training_state.save_training_state(folder, tensors, {"epoch": 3})
    training_state.save_random_state(folder, rank=0)


def load(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    tensors, _ = training_state.load_training_state(folder)
    model.load_state_dict(training_state.with_prefix(tensors, "model."))
    training_state.load_optimizer_tensors(optimiser, training_state.with_prefix(tensors, "optimiser."))
    training_state.load_random_state(folder, rank=0)


def same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_restored_training_ends_with_the_bits_of_one_that_never_stopped(kind: str, tmp_path: Path) -> None:
    model = network(seed=1)
    optimiser = OPTIMISERS[kind](model)
    train(model, optimiser, steps=5)
    save(tmp_path, model, optimiser)
    train(model, optimiser, steps=5)

    restored = network(seed=2)
    its_optimiser = OPTIMISERS[kind](restored)
    load(tmp_path, restored, its_optimiser)
    train(restored, its_optimiser, steps=5)

    assert same_bits(dict(restored.state_dict()), dict(model.state_dict()))
    assert same_bits(
        training_state.optimizer_tensors(its_optimiser), training_state.optimizer_tensors(optimiser)
    )


def test_without_the_optimiser_state_the_bits_would_differ(tmp_path: Path) -> None:
    """Shows that the test above can fail."""
    model = network(seed=1)
    optimiser = OPTIMISERS["adam"](model)
    train(model, optimiser, steps=5)
    save(tmp_path, model, optimiser)
    train(model, optimiser, steps=5)

    restored = network(seed=1)
    load(tmp_path, restored, OPTIMISERS["adam"](restored))
    train(restored, OPTIMISERS["adam"](restored), steps=5)

    assert not same_bits(dict(restored.state_dict()), dict(model.state_dict()))


def test_a_fresh_optimiser_has_nothing_to_keep_and_takes_nothing_back() -> None:
    optimiser = OPTIMISERS["adam"](network(seed=1))
    assert training_state.optimizer_tensors(optimiser) == {}
    training_state.load_optimizer_tensors(optimiser, {})
    assert optimiser.state_dict()["state"] == {}


def test_the_learning_rate_of_the_new_optimiser_stays(tmp_path: Path) -> None:
    model = network(seed=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    train(model, optimiser, steps=1)
    kept = training_state.optimizer_tensors(optimiser)
    other = torch.optim.Adam(model.parameters(), lr=5e-4)
    training_state.load_optimizer_tensors(other, kept)
    assert other.param_groups[0]["lr"] == 5e-4
    assert same_bits(training_state.optimizer_tensors(other), kept)


def test_each_worker_gets_its_own_random_state_back(tmp_path: Path) -> None:
    drawn = {}
    for rank in (0, 1):
        torch.manual_seed(100 + rank)
        torch.rand(rank + 3)
        training_state.save_random_state(tmp_path, rank)
        drawn[rank] = torch.rand(4)
    torch.manual_seed(0)
    for rank in (1, 0):
        training_state.load_random_state(tmp_path, rank)
        assert torch.equal(torch.rand(4), drawn[rank])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_worker_the_checkpoint_does_not_know_keeps_its_random_state(tmp_path: Path) -> None:
    training_state.save_random_state(tmp_path, rank=0)
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    training_state.load_random_state(tmp_path, rank=1)
    assert torch.equal(torch.rand(4), expected)


def test_tensors_of_any_shape_and_kind_come_back_equal(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(1e-45),  # the smallest float: rounding would lose it
        "counts": torch.arange(6, dtype=torch.int64).reshape(2, 3),
        "transposed": torch.randn(4, 3).T,
        "part": torch.randn(10)[2:5],
        "half": torch.randn(3).to(torch.bfloat16),
        "with_gradient": nn.Parameter(torch.randn(2)),
        "empty": torch.empty(0, 4),
    }
    tensors["shared"] = tensors["counts"]  # safetensors refuses shared memory
    numbers = {"epoch": 2, "best": 0.1 + 0.2, "none": None, "name": "größe"}
    training_state.save_training_state(tmp_path, tensors, numbers)
    read, read_numbers = training_state.load_training_state(tmp_path)
    assert same_bits(read, {name: value.detach() for name, value in tensors.items()})
    assert read_numbers == numbers


def test_saved_tensors_do_not_change_with_the_model_afterwards(tmp_path: Path) -> None:
    weights = torch.zeros(3)
    training_state.save_training_state(tmp_path, {"weights": weights}, {})
    weights += 1
    assert training_state.load_training_state(tmp_path)[0]["weights"].tolist() == [0, 0, 0]


def test_a_prefix_selects_and_shortens_names() -> None:
    one, two = torch.ones(1), torch.zeros(1)
    assert training_state.with_prefix({"model.a.b": one, "optimiser.0.x": two}, "model.") == {"a.b": one}


def test_a_checkpoint_is_safetensors_and_json_alone(tmp_path: Path) -> None:
    """Both can be read without executing anything that is in them."""
    model = network(seed=1)
    optimiser = OPTIMISERS["adam"](model)
    train(model, optimiser, steps=1)
    save(tmp_path, model, optimiser)
    files = {path.name: path for path in tmp_path.iterdir()}
    assert set(files) == {
        training_state.TENSORS_FILE,
        training_state.NUMBERS_FILE,
        "random_0.safetensors",
    }
    for name, path in files.items():
        assert load_file(path) if name.endswith(".safetensors") else json.loads(path.read_text("utf-8"))
