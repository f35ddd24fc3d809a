"""Training: it learns, stops in time, goes on bit for bit, and two workers take the step of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saerec_ray import distributed, training_state
from saerec_ray.attempts import begin_attempt
from saerec_ray.backbone.frozen import write_frozen
from saerec_ray.backbone.trainer import (
    BEST_FILE,
    BackboneTraining,
    together,
    train_backbone,
    trained_parts,
)
from saerec_ray.backbone.validation import VALIDATION_CUTOFF, encode_users, held_out, model_ranks, ndcg
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.errors import StageError
from saerec_ray.local_workers import LocalWorker, latest_checkpoint
from tests.backbone.small_sets import (
    ITEMS,
    frozen_of,
    grouped_users,
    sequences_of,
    small_settings,
    untrained_weights,
    write_sequences,
)
from tests.backbone.stopped_training import train_until_checkpoint

Train = Callable[..., Path]
SEQUENCES = sequences_of(grouped_users())
FROZEN = frozen_of(SEQUENCES)
SAMPLES = int(np.maximum(SEQUENCES.train_lengths - 1, 0).sum())
DROPOUT = {"dropout": 0.3, "residual_dropout": 0.3}


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Trains on the small set and returns the last checkpoint; the same name is the same training."""

    def train(
        name: str = "backbone",
        *,
        workers: int = 1,
        loop: distributed.Loop = train_backbone,
        sequences: PreparedSequences = SEQUENCES,
        intents: bool = True,
        checkpoint_samples: int = 10**9,
        on_log: distributed.OnLog | None = None,
        **changes: Any,
    ) -> Path:
        write_sequences(sequences, tmp_path)
        write_frozen(FROZEN, tmp_path)
        parameters = {
            "prepared": str(tmp_path),
            "frozen": str(tmp_path),
            "config": small_settings(**changes).model_dump(mode="json"),
            "intents": intents,
            "seed": 7,
            "checkpoint_samples": checkpoint_samples,
        }
        return distributed.run(
            loop,
            parameters,
            folder=tmp_path / "runs",
            name=name,
            workers=workers,
            engine="local",
            max_failures=0,
            gpus=False,
            on_log=on_log,
        )

    return train


def numbers(checkpoint: Path) -> dict[str, Any]:
    return training_state.load_training_state(checkpoint)[1]


def validation_ndcg(weights: dict[str, Tensor], sequences: PreparedSequences = SEQUENCES) -> float:
    space, encoder = trained_parts(together([weights]), small_settings(), FROZEN)
    users = encode_users(encoder, held_out(sequences, "validation"))
    return ndcg(model_ranks(space, FROZEN.prior, users), VALIDATION_CUTOFF)


@pytest.mark.parametrize("intents", [True, False], ids=["with intents", "without intents"])
def test_the_loss_falls_and_held_out_items_are_found(train: Train, intents: bool) -> None:
    logged: list[dict[str, Any]] = []
    checkpoint = train(intents=intents, epochs=25, learning_rate=0.01, patience=25, on_log=logged.append)
    assert logged[0]["loss"] == pytest.approx(np.log(FROZEN.codes.shape[0]), rel=0.1), "it knows nothing yet"
    assert logged[-1]["loss"] < logged[0]["loss"] / 2
    assert logged[-1]["samples"] == logged[-1]["samples_an_epoch"] == SAMPLES
    assert numbers(checkpoint)["epoch"] == 25
    untrained = validation_ndcg(untrained_weights(small_settings(), FROZEN))
    assert numbers(checkpoint)["best_ndcg"] > max(0.5, 2 * untrained)


def test_the_kept_weights_are_those_with_the_best_validation(train: Train) -> None:
    """At this rate of learning the quality goes up and down."""
    checkpoint = train(epochs=12, learning_rate=0.2, decay_share=0.0, patience=12)
    kept = load_file(checkpoint / BEST_FILE)
    assert validation_ndcg(kept) == pytest.approx(numbers(checkpoint)["best_ndcg"], rel=1e-6)
    last = training_state.with_prefix(training_state.load_training_state(checkpoint)[0], "model.")
    assert validation_ndcg(last) < validation_ndcg(kept), "the last weights would do for this test too"


def test_items_without_training_interactions_are_scored_by_their_intents_alone() -> None:
    """As targets they were only ever wrong: what that taught their own parameters would bury them."""
    known = np.ones(ITEMS, dtype=bool)
    known[[2, 7]] = False
    weights = untrained_weights(small_settings(), FROZEN)
    frozen = replace(FROZEN, popularity=np.where(known, np.float32(1), np.float32(0)))
    space, _ = trained_parts(together([weights]), small_settings(), frozen)
    assert not space.residuals[~known].any()
    assert not space.biases[~known].any()
    np.testing.assert_array_equal(space.residuals[known], weights["items.residuals"].numpy()[known])
    np.testing.assert_array_equal(space.biases[known], weights["items.biases"].numpy()[known])
    assert np.abs(space.item_vectors[~known]).sum(axis=1).all(), "they still have their intents"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sample_of_the_catalogue_teaches_nearly_as_much_as_all_of_it(train: Train, workers: int) -> None:
    settings = {"epochs": 20, "learning_rate": 0.01, "patience": 20, "workers": workers}
    full = numbers(train("full", **settings))["best_ndcg"]
    sampled = numbers(train("sampled", full_softmax_items=1, negatives=16, **settings))["best_ndcg"]
    assert full > 0.5
    assert sampled > 0.8 * full


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("limit", [1, 10**6], ids=["a sample", "the whole catalogue"])
def test_without_residuals_intents_learn_alone(train: Train, limit: int, workers: int) -> None:
    settings = {"epochs": 20, "learning_rate": 0.01, "patience": 20, "workers": workers}
    checkpoint = train(residuals=False, full_softmax_items=limit, negatives=16, **settings)
    assert numbers(checkpoint)["best_ndcg"] > 2 * validation_ndcg(untrained_weights(small_settings(), FROZEN))
    assert not load_file(checkpoint / BEST_FILE)["items.residuals"].any()


@pytest.mark.parametrize("patience", [1, 3])
def test_it_stops_after_so_many_epochs_without_a_better_validation(train: Train, patience: int) -> None:
    checkpoint = train(epochs=9, learning_rate=1e-12, patience=patience)
    assert numbers(checkpoint)["epoch"] == 1 + patience
    assert numbers(checkpoint)["epochs_without_gain"] == patience


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("steps", [1, 10], ids=["scores after the last step", "the loss before"])
def test_a_training_that_diverges_ends_and_says_what_to_change(
    train: Train, workers: int, steps: int
) -> None:
    """Ranked by scores that are no numbers, every held-out item would be the first, and the weights the best."""
    settings = {"learning_rate": 1e30, "warm_up_share": 0.0, "batch_size": -(-SAMPLES // steps)}
    with pytest.raises(StageError, match=r"not finite; lower train\.learning_rate"):
        train(workers=workers, epochs=1, **settings)


def test_weights_that_are_not_finite_are_not_kept_where_nothing_is_held_out(tmp_path: Path) -> None:
    run = started(tmp_path, sequences_of([(train_part, [], []) for train_part, _, _ in grouped_users()]))
    with torch.no_grad():
        run.model.items.residuals[3, 0] = torch.nan
    with pytest.raises(StageError, match="not finite"):
        run.validate()
    assert run.best is None


def test_where_nothing_is_held_out_it_trains_to_the_end_and_keeps_the_last_weights(train: Train) -> None:
    alone = sequences_of([(train_part, [], []) for train_part, _, _ in grouped_users()])
    checkpoint = train(sequences=alone, epochs=5, patience=1)
    assert numbers(checkpoint)["epoch"] == 5
    last = training_state.with_prefix(training_state.load_training_state(checkpoint)[0], "model.")
    assert same_bits(load_file(checkpoint / BEST_FILE), last)


def same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def state(checkpoint: Path) -> dict[str, Tensor]:
    """Model, optimiser, random state of every worker and best weights."""
    return {
        f"{path.name}/{name}": value
        for path in sorted(checkpoint.glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


@pytest.mark.parametrize(
    ("changes", "checkpoints"),
    [
        pytest.param({}, 1, id="one worker, early in the first epoch"),
        pytest.param({}, 4, id="one worker, in the second epoch"),
        pytest.param({}, 3, id="one worker, between epochs"),
        pytest.param(
            {"full_softmax_items": 1, "negatives": 8},
            4,
            id="on a sample of the catalogue, in the second epoch",
        ),
        pytest.param(
            {"full_softmax_items": 1, "negatives": 8, "residuals": False},
            4,
            id="on a sample, without residuals, in the second epoch",
        ),
        pytest.param({"workers": 2}, 4, id="two workers, in the second epoch", marks=pytest.mark.slow),
        pytest.param(
            {"workers": 2, "full_softmax_items": 1, "negatives": 8},
            4,
            id="two workers on a sample, in the second epoch",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_stopped_training_goes_on_bit_for_bit(
    train: Train, changes: dict[str, Any], checkpoints: int
) -> None:
    settings = {"checkpoint_samples": SAMPLES * 2 // 5, "epochs": 3, **DROPOUT, **changes}
    undisturbed = train("undisturbed", **settings)
    with pytest.raises(StageError, match="stopped on purpose"):
        train("stopped", loop=partial(train_until_checkpoint, checkpoints), **settings)
    resumed = train("stopped", **settings)
    assert numbers(resumed) == numbers(undisturbed)
    assert same_bits(state(resumed), state(undisturbed))


def test_another_seed_of_dropout_would_end_with_other_bits(train: Train) -> None:
    """Shows that the test above can fail: without dropout nothing random is left in a step."""
    with_dropout, without = train("with", epochs=1, **DROPOUT), train("without", epochs=1)
    assert not same_bits(state(with_dropout), state(without))


def test_the_same_training_has_the_same_bits_again(train: Train) -> None:
    assert same_bits(state(train("once", **DROPOUT)), state(train("again", **DROPOUT)))


def started(
    folder: Path, sequences: PreparedSequences = SEQUENCES, *, intents: bool = True, **changes: Any
) -> BackboneTraining:
    """A training whose steps depend on random numbers, before its first step."""
    attempt = begin_attempt(folder, "backbone", {}, latest_checkpoint)
    worker = LocalWorker(0, 1, torch.device("cpu"), attempt)
    settings = small_settings(epochs=4, **DROPOUT, **changes)
    return BackboneTraining(worker, settings, FROZEN, sequences, {"seed": 7, "intents": intents})


def residuals_after_a_step(folder: Path, **changes: Any) -> tuple[Tensor, Tensor]:
    """Residuals before and after the first step of a training."""
    run = started(folder, warm_up_share=0.0, learning_rate=0.1, **changes)
    before = run.model.items.residuals.detach().clone()
    run.model.train()
    run.step(np.arange(4), 1.0)
    return before, run.model.items.residuals.detach()


def test_decay_shrinks_all_residuals_at_every_step(tmp_path: Path) -> None:
    before, plain = residuals_after_a_step(tmp_path / "plain", residual_decay=0.0)
    _, decayed = residuals_after_a_step(tmp_path / "decayed", residual_decay=0.5)
    torch.testing.assert_close(decayed, plain - 0.1 * 0.5 * before)


@pytest.mark.parametrize(
    "sample", [{}, {"full_softmax_items": 1, "negatives": 8}], ids=["all items", "a sample"]
)
def test_without_intents_item_vectors_have_a_decay_of_their_own(
    tmp_path: Path, sample: dict[str, int]
) -> None:
    before, plain = residuals_after_a_step(tmp_path / "plain", intents=False, residual_decay=0.0, **sample)
    _, not_of_it = residuals_after_a_step(tmp_path / "not", intents=False, residual_decay=0.5, **sample)
    torch.testing.assert_close(not_of_it, plain, rtol=0, atol=0)
    _, decayed = residuals_after_a_step(tmp_path / "decayed", intents=False, baseline_decay=0.5, **sample)
    in_use = (decayed != before).any(dim=1)
    expected = plain * (1 - 0.1 * 0.5) if sample else plain - 0.1 * 0.5 * before
    torch.testing.assert_close(decayed[in_use], expected[in_use])
    _, with_intents = residuals_after_a_step(tmp_path / "with", residual_decay=0.0, **sample)
    _, the_same = residuals_after_a_step(tmp_path / "same", residual_decay=0.0, baseline_decay=0.5, **sample)
    torch.testing.assert_close(the_same, with_intents, rtol=0, atol=0)


def test_on_a_sample_decay_shrinks_the_residuals_that_are_in_use(tmp_path: Path) -> None:
    sample = {"full_softmax_items": 1, "negatives": 8}
    before, plain = residuals_after_a_step(tmp_path / "plain", residual_decay=0.0, **sample)
    _, decayed = residuals_after_a_step(tmp_path / "decayed", residual_decay=0.5, **sample)
    in_use = (decayed != before).any(dim=1)
    assert 0 < in_use.sum() < ITEMS
    torch.testing.assert_close(decayed[in_use], plain[in_use] * (1 - 0.1 * 0.5))
    torch.testing.assert_close(decayed[~in_use], plain[~in_use], rtol=0, atol=0)


def learnt(run: BackboneTraining) -> dict[str, Any]:
    """What later steps depend on: weights, optimisers and random numbers, in bits, and progress."""
    values = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    for kind, optimiser in run.optimisers.items():
        values |= {
            f"{kind}.{name}": value for name, value in training_state.optimizer_tensors(optimiser).items()
        }
    values["random"] = torch.get_rng_state()
    bits = {name: value.numpy().tobytes() for name, value in values.items()}
    _, keys, place, *_ = np.random.get_state()
    return {**bits, "numpy": (keys.tobytes(), place), "done": (run.epoch, run.samples_done)}


def test_a_validation_changes_nothing_that_training_goes_on_from(tmp_path: Path) -> None:
    run = started(tmp_path)
    run.train_epoch(10**9)
    before = learnt(run)
    run.validate()
    run.validate()
    assert learnt(run) == before
    best = {name: value.clone() for name, value in (run.best or {}).items()}
    run.train_epoch(10**9)
    assert learnt(run) != before
    assert same_bits(run.best or {}, best), "what is kept does not move with the model"
    assert best


def test_how_often_it_is_validated_does_not_change_what_is_learnt(tmp_path: Path) -> None:
    found = []
    for validations in (0, 1, 3):
        run = started(tmp_path / str(validations))
        for _ in range(3):
            run.train_epoch(10**9)
            for _ in range(validations):
                run.validate()
        found.append(learnt(run))
    assert found[0] == found[1] == found[2]


def gradients(checkpoint: Path) -> dict[str, Tensor]:
    """After a single step the first running average of an Adam is a tenth of the gradient."""
    tensors = training_state.load_training_state(checkpoint)[0]
    return {name: value * 10 for name, value in tensors.items() if name.endswith("exp_avg")}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="the whole catalogue"),
        pytest.param({"full_softmax_items": 1, "negatives": 8}, id="a sample"),
    ],
)
def test_two_workers_take_the_step_of_one_and_validate_on_all_cases_together(
    train: Train, changes: dict[str, Any]
) -> None:
    """With an odd number of samples: each must count alike, whoever has one more."""
    users = grouped_users()
    users[0] = (users[0][0][: len(users[0][0]) - (SAMPLES + 1) % 2], *users[0][1:])
    sequences = sequences_of(users)
    samples = int(np.maximum(sequences.train_lengths - 1, 0).sum())
    assert samples % 2 == 1
    settings = {"sequences": sequences, "epochs": 1, "batch_size": samples, **changes}
    checkpoint = train("two", workers=2, **settings)
    one, two = gradients(train("one", **settings)), gradients(checkpoint)
    assert one.keys() == two.keys()
    assert ("sparse_optimiser.0.exp_avg" in one) == bool(changes), "residuals have an optimiser of their own"
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    largest = {name: float(gradient.abs().max()) for name, gradient in one.items()}
    assert max(largest.values()) > 1e-3
    assert not changes or largest["sparse_optimiser.0.exp_avg"] > 1e-3

    kept = load_file(checkpoint / BEST_FILE)
    assert numbers(checkpoint)["best_ndcg"] == pytest.approx(validation_ndcg(kept, sequences), rel=1e-6)
