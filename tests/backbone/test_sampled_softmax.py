"""The sampled softmax: an unbiased estimate of the full one, drawn alike by every worker."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.backbone.encoder import intent_context, right_aligned
from saerec_ray.backbone.model import Backbone
from saerec_ray.backbone.sampled_softmax import Negatives, NegativeSampler, sampled_cross_entropy
from tests.backbone.small_sets import ITEMS, frozen_of, grouped_users, sequences_of, small_settings

FROZEN = frozen_of(sequences_of(grouped_users()))
INTERACTIONS = np.expm1(FROZEN.popularity)


def test_items_are_drawn_in_proportion_to_the_root_of_their_interactions() -> None:
    interactions = np.array([0, 3, 8, 99])
    drawn = NegativeSampler(interactions).draw(200_000, (1, 2)).items.numpy()
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, np.array([1, 2, 3, 10]) / 16, atol=5e-3)


def test_the_expected_number_of_draws_is_recorded() -> None:
    negatives = NegativeSampler(np.array([0, 3, 8, 99])).draw(64, (7,))
    expected = 64 * np.array([1, 2, 3, 10]) / 16
    np.testing.assert_allclose(negatives.log_expected.exp(), expected[negatives.items.numpy()], rtol=1e-5)


@settings(max_examples=30)
@given(key=st.lists(st.integers(0, 2**31), min_size=1, max_size=3), count=st.integers(1, 50))
def test_draws_depend_on_the_key_alone(key: list[int], count: int) -> None:
    first, second = (NegativeSampler(INTERACTIONS).draw(count, key) for _ in range(2))
    assert torch.equal(first.items, second.items)
    assert len(first.items) == count
    assert int(first.items.max()) < ITEMS


def test_the_estimate_of_the_sum_over_other_items_is_unbiased() -> None:
    """Mean over many draws of sum exp(s_j) / expected equals the sum over all j but the target."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(ITEMS, generator=generator)
    target, sampler = 5, NegativeSampler(INTERACTIONS)
    estimates = []
    for draw in range(3000):
        negatives = sampler.draw(16, (draw,))
        loss = sampled_cross_entropy(
            scores[[target]], scores[negatives.items][None], torch.tensor([target]), negatives
        )
        estimates.append(float(torch.exp(loss + scores[target]) - torch.exp(scores[target])))
    others = float(torch.exp(scores).sum() - torch.exp(scores[target]))
    assert np.mean(estimates) == pytest.approx(others, rel=0.02)


def test_a_target_that_is_drawn_does_not_compete_with_itself() -> None:
    negatives = Negatives(torch.tensor([4, 4]), torch.zeros(2))
    loss = sampled_cross_entropy(
        torch.tensor([1.0]), torch.tensor([[1.0, 1.0]]), torch.tensor([4]), negatives
    )
    assert float(loss) == 0


def test_drawing_every_item_once_gives_the_full_loss_and_its_gradients() -> None:
    torch.manual_seed(2)
    model = Backbone(ITEMS, small_settings(), torch.from_numpy(FROZEN.decoder))
    with torch.no_grad():
        model.items.residuals.normal_(std=0.5)
        model.encoder.branch_scale.fill_(0.7)
    context = intent_context(FROZEN.codes, FROZEN.prior, small_settings())
    items, present = right_aligned([np.array([3, 9, 14]), np.array([5])])
    targets = torch.tensor([7, 31])
    everything = Negatives(torch.arange(ITEMS), torch.zeros(ITEMS))
    gradients = []
    for negatives in (None, everything):
        model.zero_grad()
        loss = model(items, present, targets, context, negatives)
        loss.backward()
        gradients.append({name: weights.grad.to_dense() for name, weights in model.named_parameters()})
        gradients[-1]["loss"] = loss.detach()
    for name, full in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], full, rtol=1e-3, atol=1e-6, msg=name)


def test_residuals_of_items_out_of_use_get_no_gradient() -> None:
    model = Backbone(ITEMS, small_settings(), torch.from_numpy(FROZEN.decoder))
    context = intent_context(FROZEN.codes, FROZEN.prior, small_settings())
    items, present = right_aligned([np.array([3, 9])])
    model(
        items, present, torch.tensor([7]), context, Negatives(torch.tensor([1, 2]), torch.zeros(2))
    ).backward()
    gradient = model.items.residuals.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert set(gradient.coalesce().indices()[0].tolist()) == {1, 2, 3, 7, 9}
