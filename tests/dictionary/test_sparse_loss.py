"""The losses of sparse codes and their gradients, against the same formulas on dense codes with torch's own."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saerec_ray.dictionary.sparse_batch import ActiveEntries
from saerec_ray.dictionary.sparse_loss import sparse_losses

BATCH, WIDTH, D = 10, 14, 6
Outcome = dict[str, Tensor]


class Case(NamedTuple):
    x: Tensor
    weights: dict[str, Tensor]
    active: Tensor  # (batch, latents) bool, as all below
    loosely_active: Tensor


def case(seed: int, share: float = 0.4, loose_share: float = 0.8) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.empty(*shape, dtype=torch.float64).normal_(generator=generator)

    x = draw(BATCH, D)
    weights = {
        "encoder": draw(WIDTH, D),
        "encoder_bias": draw(WIDTH),
        "decoder": draw(WIDTH, D),
        "decoder_bias": draw(D),
    }
    positive = x @ weights["encoder"].T + weights["encoder_bias"] > 0
    active, loosely_active = (
        positive & (torch.rand(BATCH, WIDTH, generator=generator) < limit) for limit in (share, loose_share)
    )
    return Case(x, weights, active, loosely_active)


def entries(given: Case, active: Tensor) -> ActiveEntries:
    rows, latents = active.nonzero(as_tuple=True)
    p = given.x @ given.weights["encoder"].T + given.weights["encoder_bias"]
    return ActiveEntries(rows, latents, p[rows, latents])


def sparse(given: Case, prefixes: list[int], loose_rows: int, slopes: Tensor) -> Outcome:
    """Losses, and gradients of their sum weighted by the slopes."""
    own = {name: value.clone().requires_grad_() for name, value in given.weights.items()}
    looser = entries(given, given.loosely_active[:loose_rows]), loose_rows
    fvu, cosine, residual = sparse_losses(
        given.x,
        (own["encoder"], own["encoder_bias"]),
        (own["decoder"], own["decoder_bias"]),
        entries(given, given.active),
        torch.tensor(prefixes),
        looser if loose_rows else None,
    )
    assert not residual.requires_grad
    ((fvu * slopes[:-1]).sum() + cosine * slopes[-1]).backward()
    return outcome(fvu, cosine, residual, own)


def dense(given: Case, prefixes: list[int], loose_rows: int, slopes: Tensor) -> Outcome:
    """The same written out on whole matrices."""
    own = {name: value.clone().requires_grad_() for name, value in given.weights.items()}
    p = given.x @ own["encoder"].T + own["encoder_bias"]
    residuals = [
        given.x - own["decoder_bias"] - (p * given.active)[:, :end] @ own["decoder"][:end] for end in prefixes
    ]
    fvu = torch.stack([each.square().sum() for each in residuals]) / given.x.square().sum()
    whole = (p * given.loosely_active) @ own["decoder"] + own["decoder_bias"]
    cosines = torch.nn.functional.cosine_similarity(given.x, whole, dim=1)[:loose_rows]
    cosine = cosines.mean() if loose_rows else fvu.new_zeros(())
    ((fvu * slopes[:-1]).sum() + cosine * slopes[-1]).backward()
    return outcome(fvu, cosine, residuals[-1], own)


def outcome(fvu: Tensor, cosine: Tensor, residual: Tensor, own: dict[str, Tensor]) -> Outcome:
    gradients = {f"gradient of {name}": value.grad for name, value in own.items()}
    losses = {"fvu": fvu, "cosine": cosine, "residual": residual}
    return {name: value.detach() for name, value in (losses | gradients).items() if value is not None}


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    prefixes=st.sampled_from([[14], [3, 14], [1, 5, 9, 14]]),
    loose_rows=st.sampled_from([0, 1, 4, BATCH]),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_losses_and_gradients_are_those_of_dense_codes(
    seed: int, prefixes: list[int], loose_rows: int, share: float
) -> None:
    given_case = case(seed, share)
    slopes = torch.rand(len(prefixes) + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = dense(given_case, prefixes, loose_rows, slopes)
    for name, value in sparse(given_case, prefixes, loose_rows, slopes).items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_tied_weights_get_the_gradients_of_both_their_uses() -> None:
    given_case = case(0)
    both = given_case.weights["decoder"].clone().requires_grad_()
    bias = given_case.weights["encoder_bias"]
    fvu, _, _ = sparse_losses(
        given_case.x,
        (both, bias),
        (both, given_case.weights["decoder_bias"]),
        tied := entries(
            given_case._replace(weights=given_case.weights | {"encoder": both.detach()}), given_case.active
        ),
        torch.tensor([WIDTH]),
    )
    fvu.sum().backward()
    codes = torch.zeros(BATCH, WIDTH, dtype=torch.float64)
    codes[tied.rows, tied.latents] = 1
    again = given_case.weights["decoder"].clone().requires_grad_()
    reconstruction = ((given_case.x @ again.T + bias) * codes) @ again + given_case.weights["decoder_bias"]
    ((given_case.x - reconstruction).square().sum() / given_case.x.square().sum()).backward()
    torch.testing.assert_close(both.grad, again.grad)


def test_rows_without_any_direction_have_no_cosine_and_turn_nothing() -> None:
    silent = case(1)
    silent.weights["decoder_bias"].zero_()
    silent.loosely_active[2] = False
    slopes = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = sparse(silent, [WIDTH], BATCH, slopes)
    assert all(torch.isfinite(value).all() for value in found.values())
    assert float(found["gradient of decoder_bias"].abs().max()) < 10
    kept = torch.arange(BATCH) != 2
    others = silent._replace(
        x=silent.x[kept], active=silent.active[kept], loosely_active=silent.loosely_active[kept]
    )
    alone = sparse(others, [WIDTH], BATCH - 1, slopes)
    for name in ("cosine", "gradient of decoder", "gradient of decoder_bias", "gradient of encoder"):
        torch.testing.assert_close(found[name], alone[name] * (BATCH - 1) / BATCH, msg=name)


@pytest.mark.parametrize("rows", [1, BATCH])
def test_inputs_and_entries_are_left_as_they_are(rows: int) -> None:
    given_case = case(3)
    kept = {name: value.clone() for name, value in given_case.weights.items()} | {"x": given_case.x.clone()}
    sparse(given_case, [5, WIDTH], rows, torch.ones(3, dtype=torch.float64))
    for name, value in (given_case.weights | {"x": given_case.x}).items():
        assert torch.equal(value, kept[name])
