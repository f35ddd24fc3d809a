"""The loss over the whole catalogue, against PyTorch's own cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saerec_ray.backbone import catalogue_softmax
from saerec_ray.backbone.catalogue_softmax import catalogue_cross_entropy

WIDTH = 8


def example(batch: int, items: int, seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, item vectors, biases, all with gradients in double precision, and targets."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=random, dtype=torch.float64) * scale).requires_grad_()

    targets = torch.randint(items, (batch,), generator=random)
    return normal(batch, WIDTH), normal(items, WIDTH), normal(items), targets


def expected_and_found(
    tensors: tuple[Tensor, Tensor, Tensor, Tensor], dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """The loss and its three gradients: PyTorch's in double precision, and ours."""
    *weights, targets = tensors
    truth = F.cross_entropy(weights[0] @ weights[1].T + weights[2], targets)
    (3 * truth).backward()
    ours = [each.detach().float().requires_grad_() for each in weights]
    loss = catalogue_cross_entropy(*ours, targets, dtype)
    (3 * loss).backward()
    gradients = [each.grad for each in ours]
    assert all(each is not None and each.dtype == torch.float32 for each in gradients)
    return [truth, *(each.grad for each in weights)], [loss, *gradients]


@given(
    batch=st.integers(1, 9),
    items=st.integers(1, 30),
    at_once=st.integers(1, 100),
    seed=st.integers(0, 2**31),
)
def test_loss_and_gradients_are_those_of_cross_entropy_however_many_rows_go_at_once(
    batch: int, items: int, at_once: int, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue_softmax, "_LOGITS_AT_ONCE", at_once)
        expected, found = expected_and_found(example(batch, items, seed), torch.float32)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other.double(), one, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_they_are_close() -> None:
    expected, found = expected_and_found(example(64, 500, seed=1), torch.bfloat16)
    for one, other in zip(expected, found, strict=True):
        assert (other.double() - one).norm() < 0.02 * one.norm()


def test_scores_too_large_for_exp_are_no_trouble() -> None:
    expected, found = expected_and_found(example(5, 40, seed=2, scale=30.0), torch.float32)
    assert expected[0] > 100, "some targets are far from the top"
    for one, other in zip(expected, found, strict=True):
        assert other.isfinite().all()
        torch.testing.assert_close(other.double(), one, rtol=1e-4, atol=1e-4)


def test_a_score_that_is_not_a_number_shows_in_the_loss() -> None:
    states, vectors, biases, targets = (each.detach() for each in example(3, 10, seed=3))
    vectors[4] = float("nan")
    assert catalogue_cross_entropy(
        states.float(), vectors.float(), biases.float(), targets, torch.float32
    ).isnan()


def test_without_a_gradient_the_loss_is_the_same() -> None:
    *weights, targets = example(4, 12, seed=4)
    with torch.no_grad():
        loss = catalogue_cross_entropy(*(each.float() for each in weights), targets, torch.float32)
    assert float(loss) == pytest.approx(
        float(F.cross_entropy(weights[0] @ weights[1].T + weights[2], targets)), rel=1e-5
    )
