"""Dead latents that no item reaches get a new direction; all others are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saerec_ray.dictionary import trainer
from saerec_ray.dictionary.revival import forget, of_latents, point_anew, unreachable, worst_residuals
from saerec_ray.dictionary.trainer import DictionaryTraining
from tests.dictionary.test_trainer import best_of, config, finish, state, training, vectors
from tests.dictionary.test_training import ACTIVE, BATCH, WIDTH, bent_model, dead_latents, inputs

LOST = 7


def lose(run: DictionaryTraining, *latents: int) -> None:
    """No item activates these latents any more, by far."""
    with torch.no_grad():
        for model in (run.model, run.average):
            model.encoder_bias[list(latents)] = -1000.0


def lost_training(folder: Path, **settings: Any) -> DictionaryTraining:
    run = training(folder, config(**({"epochs": 24, "learning_rate": 5e-3} | settings)))
    lose(run, LOST)
    return run


def test_a_latent_is_out_of_reach_when_it_is_dead_and_no_item_activates_it() -> None:
    model = bent_model()
    with torch.no_grad():
        model.encoder_bias[[3, 5, 9]] = -1000
        model.encoder[9], model.encoder_bias[9] = inputs()[4], 1e-3 - inputs()[4].square().sum()  # one item
    assert unreachable(model, dead_latents(2, 3, 5, 9), inputs()).tolist() == [3, 5]
    assert unreachable(model, dead_latents(2), inputs()).tolist() == []
    assert unreachable(model, dead_latents(), inputs()).tolist() == []


def written_residuals(model: Any) -> torch.Tensor:
    x = inputs().double()
    activations = (x @ model.encoder.double().T + model.encoder_bias.double()).relu()
    limits = activations.sort(dim=1, descending=True).values[:, ACTIVE - 1 : ACTIVE]
    codes = activations * (activations >= limits)
    return (x - codes @ model.decoder.double() - model.decoder_bias.double()).detach()


def test_new_directions_are_residuals_of_the_worst_explained_inputs_and_not_alike() -> None:
    model = bent_model()
    written = written_residuals(model)
    written = written[written.norm(dim=1).argsort(descending=True)]
    unit = (written / written.norm(dim=1, keepdim=True)).float()
    found = worst_residuals(model, inputs(), BATCH)
    torch.testing.assert_close(found[0], unit[0], atol=1e-5, rtol=0)
    places = [int((unit @ direction).argmax()) for direction in found]
    assert places == sorted(places)
    torch.testing.assert_close(found, unit[places], atol=1e-5, rtol=0)
    cosines = found @ found.T - 2 * torch.eye(len(found))
    assert float(cosines.max()) <= 0.5
    skipped = [place for place in range(BATCH) if place not in places]
    assert skipped, "or nothing was left out for being alike"
    assert all(float((found @ unit[place]).max()) > 0.5 for place in skipped), "only those much like another"
    torch.testing.assert_close(worst_residuals(model, inputs(), 4), found[:4])
    assert len(worst_residuals(model, torch.cat([inputs()[:1]] * 5), 4)) == 1


@pytest.mark.parametrize("kind", ["batchtopk", "jumprelu", "paper"])
def test_a_new_direction_is_that_of_decoder_and_encoder_and_other_latents_stay(kind: str) -> None:
    model, before = bent_model(kind), bent_model(kind)
    direction = torch.nn.functional.normalize(inputs()[:2], dim=1)
    if kind == "jumprelu":
        with torch.no_grad():
            model.log_threshold += 3
    point_anew(model, torch.tensor([4, 11]), direction)
    torch.testing.assert_close(model.decoder[[4, 11]], direction)
    torch.testing.assert_close(model.encoder[[4, 11]], direction)
    assert model.encoder_bias[[4, 11]].tolist() == [0, 0]
    others = [latent for latent in range(WIDTH) if latent not in (4, 11)]
    for name, value in model.named_parameters():
        if name == "log_threshold":
            torch.testing.assert_close(value[[4, 11]], before.log_threshold[[4, 11]])
        elif name == "decoder_bias":
            assert torch.equal(value, before.decoder_bias)
        else:
            assert torch.equal(value[others], dict(before.named_parameters())[name][others])


def test_the_optimiser_forgets_revived_latents_and_nothing_else(tmp_path: Path) -> None:
    run = training(tmp_path, config(width=16))  # as wide as the vectors are long
    run.train_epoch()
    before = {value: {k: v.clone() for k, v in each.items()} for value, each in run.optimiser.state.items()}
    forget(run.optimiser, run.model, torch.tensor([2, 5]))
    others = [latent for latent in range(16) if latent not in (2, 5)]
    for parameter, remembered in run.optimiser.state.items():
        assert torch.equal(remembered["step"], before[parameter]["step"])
        for name in ("exp_avg", "exp_avg_sq"):
            if parameter is run.model.decoder_bias:
                assert torch.equal(remembered[name], before[parameter][name])
            else:
                assert not remembered[name][[2, 5]].any()
                assert torch.equal(remembered[name][others], before[parameter][name][others])
    assert len(of_latents(run.model)) == 3


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "matryoshka", "jumprelu", "paper"])
def test_a_latent_no_item_reaches_comes_back_and_is_used(kind: str, tmp_path: Path) -> None:
    run = finish(lost_training(tmp_path, kind=kind))
    assert run.silent_samples[LOST] < run.silent_limit
    codes = best_of(run).encode(vectors()[:-100])
    assert np.bincount(codes.indices, minlength=32)[LOST] > 0


def test_without_new_directions_the_loss_for_dead_latents_never_brings_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "unreachable", lambda *_: torch.empty(0, dtype=torch.int64))
    run = finish(lost_training(tmp_path))
    assert run.silent_samples[LOST] >= run.silent_limit


def test_the_average_that_is_exported_starts_at_the_new_direction_too(tmp_path: Path) -> None:
    run = lost_training(tmp_path, average_decay=0.9999)
    while float(run.model.encoder_bias[LOST].detach()) < -900:
        run.train_epoch()
    assert run.epoch > 1, "not before it counts as dead"
    assert torch.equal(run.average.decoder[LOST], run.model.decoder[LOST].detach())
    assert torch.equal(run.average.encoder_bias[LOST], run.model.encoder_bias[LOST].detach())
    assert run.silent_samples[LOST] >= run.silent_limit, "it goes on being trained as a dead one"


def test_the_same_seed_revives_in_the_same_way(tmp_path: Path) -> None:
    one, other = (finish(lost_training(tmp_path / name)) for name in ("one", "other"))
    assert state(one) == state(other)
