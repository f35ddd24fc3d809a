"""The loss of the dictionary, against formulas written out in float64, and the constraint on its decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from saerec_ray.dictionary.kinds import keep_top_of_rows
from saerec_ray.dictionary.training import LOOSE_SHARE, TrainingDictionary, active_at
from saerec_ray.dictionary_settings import DictionaryConfig

Doubles = npt.NDArray[np.float64]
D, WIDTH, ACTIVE, BATCH = 12, 32, 3, 20
LARGEST = ("topk", "batchtopk", "matryoshka", "paper")
KINDS = (*LARGEST, "jumprelu")
kinds = pytest.mark.parametrize("kind", KINDS)
kinds_of_the_largest = pytest.mark.parametrize("kind", LARGEST)
"""Where the wanted number of latents is active; `jumprelu` has a loss for that instead."""


def bent_model(kind: str = "batchtopk", **settings: Any) -> TrainingDictionary:
    """A model away from its start, with a decoder bias that would show wherever it does not belong."""
    config = DictionaryConfig(kind=kind, width=WIDTH, active=ACTIVE, **settings)
    model = TrainingDictionary(D, config, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.encoder_bias += 0.2 * torch.empty(WIDTH).normal_(generator=generator)
        model.decoder_bias += torch.empty(D).normal_(generator=generator)
    return model


def inputs(seed: int = 2) -> Tensor:
    return torch.empty(BATCH, D).normal_(generator=torch.Generator().manual_seed(seed))


def dead_latents(*latents: int) -> Tensor:
    dead = torch.zeros(WIDTH, dtype=torch.bool)
    dead[list(latents)] = True
    return dead


NONE_DEAD = dead_latents()
SOME_DEAD = dead_latents(0, 5, 6, 17, 31)


def doubles(tensor: Tensor) -> Doubles:
    return tensor.detach().double().numpy()


def written_activations(model: TrainingDictionary, x: Tensor) -> Doubles:
    """p = ReLU(W x + b)."""
    return np.maximum(doubles(x) @ doubles(model.encoder).T + doubles(model.encoder_bias), 0)


def written_codes(model: TrainingDictionary, x: Tensor, active: int) -> Doubles:
    """The active latents of a training batch, chosen by plain sorting."""
    activations = written_activations(model, x)
    if model.config.kind == "jumprelu":
        return activations * (activations > np.exp(doubles(model.log_threshold)))
    if model.config.kind in ("topk", "paper"):
        limits = -np.sort(-activations, axis=1)[:, active - 1 : active]
    else:
        limits = -np.sort(-activations.ravel())[active * len(x) - 1]
    return activations * (activations >= limits)


def written_fvu(model: TrainingDictionary, x: Tensor, prefix: int = WIDTH) -> float:
    codes = written_codes(model, x, ACTIVE)[:, :prefix]
    reconstruction = codes @ doubles(model.decoder)[:prefix] + doubles(model.decoder_bias)
    target = doubles(x)
    return float(((target - reconstruction) ** 2).sum() / (target**2).sum())


def gradients(model: TrainingDictionary, dead: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(inputs(), ACTIVE, dead)[0].backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@kinds_of_the_largest
def test_the_loss_is_the_mean_unexplained_variance_of_all_prefixes(kind: str) -> None:
    model = bent_model(kind, multi_k_weight=0, auxiliary_weight=0, prefixes=[0.25, 0.5, 1.0])
    loss, parts, _ = model(inputs(), ACTIVE, NONE_DEAD)
    prefixes = [8, 16, 32] if kind == "matryoshka" else [32]
    expected = [written_fvu(model, inputs(), prefix) for prefix in prefixes]
    assert float(loss.detach()) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(parts["fvu"]) == pytest.approx(expected[-1], rel=1e-5)


def test_with_learnt_thresholds_the_loss_is_unexplained_variance_and_what_sparsity_misses() -> None:
    model = bent_model("jumprelu", auxiliary_weight=0, sparsity_weight=0.5)
    loss, parts, _ = model(inputs(), ACTIVE, NONE_DEAD)
    l0 = (written_codes(model, inputs(), ACTIVE) > 0).sum(axis=1).mean()
    assert abs(l0 - ACTIVE) > 0.1
    expected = written_fvu(model, inputs())
    assert float(parts["fvu"]) == pytest.approx(expected, rel=1e-5)
    assert float(loss.detach()) == pytest.approx(expected + 0.5 * (l0 / ACTIVE - 1) ** 2, rel=1e-5)


@kinds_of_the_largest
def test_the_looser_codes_of_the_first_rows_are_held_to_the_direction_of_the_input(
    kind: str,
) -> None:
    without = bent_model(kind, multi_k_weight=0)(inputs(), ACTIVE, NONE_DEAD)[0]
    model = bent_model(kind, multi_k_weight=0.5)
    loss = model(inputs(), ACTIVE, NONE_DEAD)[0]
    first = inputs()[: int(BATCH * LOOSE_SHARE)]
    x = doubles(first)
    loose = written_codes(model, first, 4 * ACTIVE) @ doubles(model.decoder) + doubles(model.decoder_bias)
    cosines = (x * loose).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(loose, axis=1)
    assert 1 < len(cosines) < BATCH
    assert float((loss - without).detach()) == pytest.approx(0.5 * (1 - cosines.mean()), rel=1e-4)


@kinds_of_the_largest
def test_the_gradient_of_the_loss_is_that_of_small_steps(kind: str) -> None:
    """Whatever way the loss is computed, its gradient must be that of its value."""
    model = bent_model(kind).double()
    x = inputs().double()
    loss = model(x, ACTIVE, NONE_DEAD)[0]
    loss.backward()
    step = 1e-6
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        along = torch.empty_like(parameter).normal_(generator=generator)
        with torch.no_grad():
            parameter += step * along
            ahead = model(x, ACTIVE, NONE_DEAD)[0]
            parameter -= 2 * step * along
            behind = model(x, ACTIVE, NONE_DEAD)[0]
            parameter += step * along
        slope = float((ahead - behind).detach()) / (2 * step)
        assert float((parameter.grad * along).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-7), name


def written_auxiliary(model: TrainingDictionary, dead: Tensor, wanted: int) -> float:
    """|r - r'|^2 / |r|^2 with r = x - x' and r' from the strongest dead latents alone, without bias."""
    x = inputs()
    reconstruction = written_codes(model, x, ACTIVE) @ doubles(model.decoder) + doubles(model.decoder_bias)
    residual = doubles(x) - reconstruction
    activations = written_activations(model, x) * dead.numpy()
    limits = -np.sort(-activations, axis=1)[:, wanted - 1 : wanted]
    codes = activations * (activations >= limits)
    return float(((residual - codes @ doubles(model.decoder)) ** 2).sum() / (residual**2).sum())


@kinds
def test_dead_latents_are_asked_to_explain_what_is_left_over_without_the_decoder_bias(kind: str) -> None:
    model = bent_model(kind)
    _, parts, _ = model(inputs(), ACTIVE, SOME_DEAD)
    assert float(parts["auxiliary"]) == pytest.approx(written_auxiliary(model, SOME_DEAD, 5), rel=1e-5)


def test_of_many_dead_latents_only_the_strongest_of_each_item_are_asked() -> None:
    model = bent_model()
    dead = dead_latents(*range(20))  # max(2 k, d / 2) = 6 are wanted
    _, parts, _ = model(inputs(), ACTIVE, dead)
    assert float(parts["auxiliary"]) == pytest.approx(written_auxiliary(model, dead, 6), rel=1e-5)


@kinds
def test_the_dead_latent_loss_moves_dead_latents_only(kind: str) -> None:
    """The residual is a constant of that loss: living latents and the bias must not learn to feed it."""
    without = gradients(bent_model(kind, auxiliary_weight=0), SOME_DEAD)
    having = gradients(bent_model(kind, auxiliary_weight=1), SOME_DEAD)
    torch.testing.assert_close(having["decoder_bias"], without["decoder_bias"])
    if kind == "jumprelu":
        torch.testing.assert_close(having["log_threshold"], without["log_threshold"])
    for name in {"encoder", "encoder_bias", "decoder"} & having.keys():
        torch.testing.assert_close(having[name][~SOME_DEAD], without[name][~SOME_DEAD])
        moved = (having[name] - without[name])[SOME_DEAD]
        assert moved.abs().amax() > 1e-4, name


@kinds
def test_steps_on_the_dead_latent_loss_lower_it(kind: str) -> None:
    model = bent_model(kind, auxiliary_weight=1)
    before = float(model(inputs(), ACTIVE, SOME_DEAD)[1]["auxiliary"])
    with torch.no_grad():
        having = gradients_of_auxiliary(model)
        model.decoder -= 0.5 * having
    assert float(model(inputs(), ACTIVE, SOME_DEAD)[1]["auxiliary"]) < before


def gradients_of_auxiliary(model: TrainingDictionary) -> Tensor:
    with torch.enable_grad():
        having = gradients(model, SOME_DEAD)["decoder"]
        without = gradients(bent_model(model.config.kind, auxiliary_weight=0), SOME_DEAD)["decoder"]
    return (having - without) * SOME_DEAD[:, None]


@kinds
@pytest.mark.parametrize("dead", [NONE_DEAD, ~NONE_DEAD], ids=["none dead", "all dead"])
def test_loss_and_gradients_are_finite_whether_no_latent_is_dead_or_all_are(kind: str, dead: Tensor) -> None:
    model = bent_model(kind)
    loss, parts, _ = model(inputs(), ACTIVE, dead)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)
    assert (float(parts["auxiliary"]) == 0) == (not dead.any())


@kinds
def test_loss_and_gradients_are_finite_when_every_latent_is_silent(kind: str) -> None:
    model = bent_model(kind)
    with torch.no_grad():
        model.encoder_bias.fill_(-1000)
    loss, _, fired = model(inputs(), ACTIVE, ~NONE_DEAD)
    loss.backward()
    assert torch.isfinite(loss)
    assert not fired.any()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)


@kinds
def test_a_training_step_leaves_its_input_as_it_is(kind: str) -> None:
    x = inputs()
    kept = x.clone()
    loss, _, _ = bent_model(kind)(x, ACTIVE, SOME_DEAD)
    loss.backward()
    assert torch.equal(x, kept)


@kinds
def test_the_latents_said_to_have_fired_are_those_active_on_some_item(kind: str) -> None:
    model = bent_model(kind)
    _, _, fired = model(inputs(), ACTIVE, NONE_DEAD)
    expected = (written_codes(model, inputs(), ACTIVE) > 0).any(axis=0)
    np.testing.assert_array_equal(fired.numpy(), expected)
    assert 0 < fired.sum() < WIDTH


def test_the_gradient_of_the_decoder_never_points_along_its_rows() -> None:
    model = bent_model()
    model(inputs(), ACTIVE, NONE_DEAD)[0].backward()
    assert model.decoder.grad is not None
    assert (model.decoder.grad * model.decoder).sum(dim=1).abs().max() > 1e-3
    model.project_gradient()
    along = (model.decoder.grad * model.decoder.detach()).sum(dim=1)
    torch.testing.assert_close(along, torch.zeros(WIDTH), atol=1e-6, rtol=0)


def test_each_row_keeps_its_own_largest_activations() -> None:
    activations = torch.tensor([[9.0, 8.0, 7.0], [0.2, 0.3, 0.1]])
    torch.testing.assert_close(
        keep_top_of_rows(activations, 2), torch.tensor([[9.0, 8.0, 0.0], [0.2, 0.3, 0.0]])
    )


def test_sparsity_falls_from_four_times_k_to_k_and_stays_there() -> None:
    config = DictionaryConfig(width=64, active=8, anneal_share=0.25)
    active = [active_at(step, 100, config) for step in range(100)]
    assert active[0] == 32
    assert active == sorted(active, reverse=True)
    assert active[24] > 8
    assert set(active[25:]) == {8}
    assert active_at(0, 100, config.model_copy(update={"anneal_share": 0.0})) == 8


def test_the_same_seed_draws_the_same_start_and_leaves_other_random_numbers_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = bent_model(), bent_model()
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.encoder, second.encoder)
    torch.testing.assert_close(first.decoder.norm(dim=1), torch.ones(WIDTH))
