"""Training on vectors with planted directions: what it finds, when it ends, and how it goes on."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from saerec_ray import distributed
from saerec_ray.attempts import begin_attempt
from saerec_ray.dictionary.metrics import fraction_of_variance_unexplained
from saerec_ray.dictionary.sae import Dictionary, Floats
from saerec_ray.dictionary.trainer import DictionaryTraining
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import StageError
from saerec_ray.local_workers import LocalWorker, latest_checkpoint
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.dictionary.joined_workers import REVIVED, train_and_tell
from tests.dictionary.planted import best_cosines, planted_directions, planted_vectors
from tests.dictionary.uneven_workers import train_unevenly

KINDS = ("topk", "batchtopk", "matryoshka")
kinds = pytest.mark.parametrize("kind", KINDS)
Held = list[dict[str, torch.Tensor]]


def config(kind: str = "batchtopk", **settings: Any) -> DictionaryConfig:
    return DictionaryConfig(
        **{"kind": kind, "width": 32, "active": 3, "batch_size": 128, "epochs": 12, "patience": 100}
        | settings
    )


def vectors(items: int = 600, seed: int = 0) -> Floats:
    return planted_vectors(items, planted_directions(24, 16), 3, seed)[0]


def training(folder: Path, settings: DictionaryConfig, items: Floats | None = None) -> DictionaryTraining:
    attempt = begin_attempt(folder, "training", {}, latest_checkpoint)
    worker = LocalWorker(0, 1, torch.device("cpu"), attempt)
    items = vectors() if items is None else items
    return DictionaryTraining(worker, settings, items[:-100], items[-100:], seed=5)


def finish(run: DictionaryTraining) -> DictionaryTraining:
    while not run.finished:
        run.train_epoch()
        run.evaluate()
    return run


def state(run: DictionaryTraining) -> dict[str, Any]:
    """Everything a training holds, in bits."""
    tensors = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in run.average.state_dict().items()}
    for index, values in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    best = {} if run.best is None else run.best.arrays()
    return {
        **{name: value.numpy().tobytes() for name, value in tensors.items()},
        **{f"best.{name}": value.tobytes() for name, value in best.items()},
        "silent_samples": run.silent_samples.tolist(),
        "numbers": (run.epoch, run.best_error, run.evaluations_without_gain),
    }


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def best_of(run: DictionaryTraining) -> Dictionary:
    assert run.best is not None
    return run.best


@kinds
def test_training_recovers_the_directions_the_vectors_are_made_of(kind: str, tmp_path: Path) -> None:
    directions = planted_directions(24, 32)
    items, _ = planted_vectors(1200, directions, 2)
    settings = config(kind, width=32, active=2, epochs=60, learning_rate=5e-3, prefixes=[0.75, 1.0])
    found = best_of(finish(training(tmp_path, settings, items)))
    cosines = best_cosines(directions, found.decoder)
    assert (cosines > 0.85).mean() >= 0.9, np.sort(cosines)
    assert fraction_of_variance_unexplained(found, items[-100:]) < 0.1
    untrained = training(tmp_path, settings, items).average.decoder.detach().numpy()
    assert best_cosines(directions, untrained).mean() < 0.6


@pytest.mark.parametrize("kind", ["matryoshka", "jumprelu", "paper"])
@pytest.mark.parametrize("stopped_after", [1, 4, 9])
def test_a_restored_training_ends_with_the_bits_of_one_that_never_stopped(
    stopped_after: int, kind: str, tmp_path: Path
) -> None:
    """Averages, dead-latent counters, optimiser, best result and patience are all part of a checkpoint.

    So are thresholds where they are learnt, and the one matrix of a tied dictionary.
    """
    settings = config(kind)
    whole = training(tmp_path / "whole", settings)
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    while not whole.finished:
        whole.train_epoch()
        whole.evaluate()
        if whole.epoch == stopped_after:
            whole.silent_samples[3] = 10**6  # a latent long dead
            whole.evaluations_without_gain += 7
            whole.write(checkpoint)
            kept = copy.deepcopy(state(whole))
    torch.manual_seed(99)
    restored = training(tmp_path / "restored", settings)
    restored.load(checkpoint)
    assert state(restored) == kept
    assert state(finish(restored)) == state(whole)


def test_an_evaluation_changes_nothing_that_training_goes_on_from(tmp_path: Path) -> None:
    run = training(tmp_path, config(anneal_share=0.9))
    run.train_epoch()
    run.silent_samples[2] = 500
    before, random_state = copy.deepcopy(state(run)), torch.get_rng_state()
    run.evaluate()
    run.evaluate()
    assert state(run) == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert run.model.training


def test_how_often_it_is_evaluated_does_not_change_what_is_learnt(tmp_path: Path) -> None:
    often, once = training(tmp_path / "a", config()), training(tmp_path / "b", config())
    for _ in range(4):
        often.train_epoch()
        often.evaluate()
        once.train_epoch()
    for left, right in zip(often.average.parameters(), once.average.parameters(), strict=True):
        assert torch.equal(left, right)


def test_after_every_step_the_decoder_rows_have_unit_length(tmp_path: Path) -> None:
    run = training(tmp_path, config(learning_rate=0.05))
    for _ in range(3):
        run.train_epoch()
        torch.testing.assert_close(run.model.decoder.norm(dim=1), torch.ones(32), atol=1e-6, rtol=0)


def test_every_step_is_taken_with_clipped_gradients_that_do_not_point_along_the_decoder_rows(
    tmp_path: Path,
) -> None:
    run = training(tmp_path, config())
    along: list[float] = []
    lengths: list[float] = []

    def look(*_: Any) -> None:
        gradient = run.model.decoder.grad
        assert gradient is not None
        along.append(float((gradient * run.model.decoder.detach()).sum(dim=1).abs().max()))
        lengths.append(sum(float(value.grad.square().sum()) for value in run.model.parameters()) ** 0.5)  # type: ignore[union-attr]

    run.optimiser.register_step_pre_hook(look)
    run.train_epoch()
    assert len(along) == run.steps_an_epoch
    assert max(along) < 1e-6 < min(lengths)
    assert max(lengths) <= 1 + 1e-5


def test_training_leaves_the_vectors_it_is_given_as_they_are(tmp_path: Path) -> None:
    items = vectors()
    finish(training(tmp_path, config(epochs=2), items))
    np.testing.assert_array_equal(items, vectors())


def test_the_target_of_training_is_centred_on_the_training_items_alone(tmp_path: Path) -> None:
    run = training(tmp_path, config())
    np.testing.assert_allclose(run.x.mean(dim=0).numpy(), 0, atol=1e-5)
    assert float(run.x.square().mean()) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("items", "epochs", "batch"), [(200, 30, 512), (600, 60, 128), (2000, 400, 64), (5000, 2, 64)]
)
def test_a_silent_latent_counts_as_dead_long_before_training_ends_but_not_within_an_epoch(
    items: int, epochs: int, batch: int, tmp_path: Path
) -> None:
    run = training(tmp_path, config(epochs=epochs, batch_size=batch), vectors(items))
    assert run.silent_limit >= len(run.x)
    assert run.silent_limit <= max(epochs / 4, 1) * len(run.x)
    assert run.silent_limit <= max(256 * run.batch_size, len(run.x))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_latent_too_weak_to_fire_counts_as_dead_and_only_the_loss_for_dead_latents_brings_it_back(
    weight: float, tmp_path: Path
) -> None:
    run = training(
        tmp_path, config(epochs=40, auxiliary_weight=weight, multi_k_weight=0.0, learning_rate=5e-3)
    )
    with torch.no_grad():
        run.model.encoder[7] *= 0.02
    run.train_epoch()
    assert run.silent_samples[7] == run.steps_an_epoch * run.batch_size
    assert run.silent_samples.min() == 0  # others fired in the last step
    dead = []
    while not run.finished:
        run.train_epoch()
        dead.append(bool(run.silent_samples[7] >= run.silent_limit))
    assert any(dead)
    assert dead[-1] == (weight == 0)


def test_training_ends_when_the_held_out_error_stops_falling(tmp_path: Path) -> None:
    run = training(tmp_path, config(epochs=50, patience=3, learning_rate=1e-7, anneal_share=0.0))
    finish(run)
    assert run.evaluations_without_gain == 3
    assert run.epoch < 50


def test_the_best_dictionary_is_kept_even_if_training_gets_worse_afterwards(tmp_path: Path) -> None:
    run = training(tmp_path, config(anneal_share=0.0))
    run.train_epoch()
    run.evaluate()
    best, error = best_of(run), run.best_error
    with torch.no_grad():
        run.average.decoder.copy_(-run.average.decoder)
    run.evaluate()
    assert best_of(run) is best
    assert run.evaluations_without_gain == 1
    assert fraction_of_variance_unexplained(best, vectors()[-100:]) == pytest.approx(error)


def test_no_result_counts_before_the_sparsity_is_the_one_asked_for(tmp_path: Path) -> None:
    run = training(tmp_path, config(epochs=8, anneal_share=0.5))
    for epoch in range(1, 9):
        run.train_epoch()
        run.evaluate()
        assert (run.best is not None) == (epoch >= 4)


def parameters_of(folder: Path, settings: DictionaryConfig, items: Floats, **more: Any) -> dict[str, Any]:
    """Of the loop, with the vectors in a folder of their own."""
    (folder / "embed").mkdir(parents=True)
    save_file({"embeddings": items}, folder / "embed" / EMBEDDINGS_FILE)
    return {
        "embeddings": str(folder / "embed"),
        "config": settings.model_dump(mode="json"),
        "seed": 5,
        "split_seed": 5,
        "cold": [],
        "told": str(folder),
        **more,
    }


def run_locally(folder: Path, loop: distributed.Loop, parameters: dict[str, Any], workers: int) -> None:
    runs = {"folder": folder / "runs", "name": "training", "engine": "local", "gpus": False}
    distributed.run(loop, parameters, workers=workers, max_failures=0, **runs)


def told(
    folder: Path, workers: int, settings: DictionaryConfig, items: Floats, mute: Sequence[int] = ()
) -> Held:
    """What each worker holds at the end of a training."""
    folder = folder / str(workers)
    parameters = parameters_of(folder, settings, items, mute=list(mute))
    run_locally(folder, train_and_tell, parameters, workers)
    return [load_file(folder / f"{rank}.safetensors") for rank in range(workers)]


ONE_STEP: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 10_000,
    "learning_rate": 1e-3,
    "warm_up_share": 0.0,
    "decay_share": 0.0,
    "anneal_share": 0.0,
    "centre": False,
    "revive": False,
}
"""With every item in one step. Items that are not centred are equally long, so that a half of them has half of the
variance, and with `topk` each has its latents whatever others there are: the mean of two losses is that of both."""


@pytest.mark.parametrize(
    ("items", "settings"),
    [
        pytest.param(640, {}, id="halves"),
        pytest.param(11, {"width": 16, "multi_k_weight": 0.0}, id="one has 5 of 9, which all count alike"),
    ],
)
def test_two_workers_take_the_step_of_one(items: int, settings: dict[str, Any], tmp_path: Path) -> None:
    both = config("topk", **ONE_STEP | settings)
    (one,) = told(tmp_path, 1, both, vectors(items))
    first, second = told(tmp_path, 2, both, vectors(items))
    assert equal(first, second)
    gradients = {name: value for name, value in one.items() if name.endswith("exp_avg")}
    assert len(gradients) == 4
    for name, gradient in gradients.items():
        torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-7, msg=name)
        assert float(gradient.abs().max()) > 1e-4


@pytest.mark.parametrize("kind", ["matryoshka", "jumprelu"])
def test_workers_hold_the_same_bits_after_every_kind_of_step(kind: str, tmp_path: Path) -> None:
    """Also after latents were pointed anew, which the first worker chooses for all."""
    first, second = told(tmp_path, 2, config(kind, epochs=4), vectors(), mute=[3, 9])
    assert {3, 9} <= set(first[REVIVED].tolist())
    assert equal(first, second)


@pytest.mark.parametrize(
    ("learning_rate", "errors"),
    [(0.005, [1.0]), (1e-7, [1 / number for number in range(1, 60)])],
    ids=["others would stop", "others would go on"],
)
def test_when_training_ends_is_decided_by_the_first_worker_for_all(
    learning_rate: float, errors: list[float], tmp_path: Path
) -> None:
    """On machines that round differently one worker would end alone, and the others would wait for it."""
    settings = config(epochs=6, patience=2, learning_rate=learning_rate, anneal_share=0.0)
    parameters = parameters_of(tmp_path, settings, vectors(), errors=errors)
    run_locally(tmp_path, train_unevenly, parameters, workers=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text("utf-8")) for rank in range(2))
    assert first == second
    assert first["epoch"] == (6 if learning_rate > 1e-3 else 3)


def test_a_training_that_diverges_says_so_and_what_to_change(tmp_path: Path) -> None:
    run = training(tmp_path, config())
    run.train_epoch()
    with torch.no_grad():
        run.average.decoder[0, 0] = float("nan")
    with pytest.raises(StageError, match="learning_rate"):
        run.evaluate()
