"""The encoder and the item vectors against their formulas, and what padding, batch and future cannot touch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saerec_ray.backbone.encoder import intent_context, right_aligned
from saerec_ray.backbone.model import (
    Backbone,
    Dropout,
    IntentContext,
    ItemVectors,
    SequenceEncoder,
    user_profiles,
)
from tests.backbone.small_sets import INTENTS, ITEMS, frozen_of, grouped_users, sequences_of, small_settings

laws = settings(max_examples=40)
histories = st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=8)
FROZEN = frozen_of(sequences_of(grouped_users()))
CODES = np.asarray(FROZEN.codes.todense())


def context(**changes: Any) -> IntentContext:
    return intent_context(FROZEN.codes, FROZEN.prior, small_settings(**changes))


def backbone(scale: float = 0.7, intents: bool = True, seed: int = 1, **changes: Any) -> Backbone:
    """A backbone with random weights of a size at which everything has an effect; not training."""
    torch.manual_seed(seed)
    model = Backbone(ITEMS, small_settings(**changes), torch.from_numpy(FROZEN.decoder) if intents else None)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("residuals", "positions", "biases")):
                weights.normal_(std=0.5)
            if name == "items.intent_vectors":
                weights.mul_(20)
            if name == "encoder.branch_scale":
                weights.fill_(scale)
    return model.eval()


@torch.inference_mode()
def encode(
    model: Backbone, items: Tensor, present: Tensor, given_context: IntentContext | None = None
) -> tuple[Tensor, Tensor]:
    """States and gates of a batch, along the path that training takes."""
    known = given_context or context()
    profiles = user_profiles(items, model.encoder.history_weights(present), known)
    vectors = model.items(known)[items]
    states, gates = model.encoder(vectors, present, profiles, model.items.intent_vectors, known)
    return states, gates


def states_of(
    model: Backbone, batch: list[list[int]], extra_padding: int = 0, padding_item: int = 0
) -> Tensor:
    items, present = right_aligned([np.array(history) for history in batch])
    if extra_padding:
        items = torch.nn.functional.pad(items, (extra_padding, 0))
        present = torch.nn.functional.pad(present, (extra_padding, 0))
    items = items.masked_fill(~present, padding_item)
    return encode(model, items, present)[0]


@laws
@given(history=histories, padding=st.integers(0, 6), padding_item=st.integers(0, ITEMS - 1))
def test_padding_never_changes_a_state_whatever_stands_there(
    history: list[int], padding: int, padding_item: int
) -> None:
    model = backbone(max_length=14)
    alone = states_of(model, [history])
    padded = states_of(model, [history], padding, padding_item)
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)


@laws
@given(history=histories, others=st.lists(histories, min_size=1, max_size=4), place=st.integers(0, 4))
def test_the_state_of_a_history_does_not_depend_on_the_others_in_its_batch(
    history: list[int], others: list[list[int]], place: int
) -> None:
    model = backbone()
    place = min(place, len(others))
    together = states_of(model, [*others[:place], history, *others[place:]])
    torch.testing.assert_close(together[place], states_of(model, [history])[0], rtol=1e-5, atol=1e-5)


def test_the_item_at_every_place_and_its_order_count() -> None:
    """Shows that the two tests above can fail."""
    model = backbone(intents=False)
    history = [3, 9, 14, 22]
    state = states_of(model, [history])
    for place in range(len(history)):
        changed = [*history]
        changed[place] = 31
        assert (states_of(model, [changed]) - state).abs().max() > 1e-3
    assert (states_of(model, [[9, 3, 14, 22]]) - state).abs().max() > 1e-3


def test_a_place_of_a_block_reads_no_place_after_it() -> None:
    model = backbone()
    torch.manual_seed(0)
    before = torch.randn(1, 6, 16)
    mask = model.encoder._mask(torch.ones(1, 6, dtype=torch.bool))
    after = before.clone()
    after[0, 4:] += 1.0
    for block in model.encoder.blocks:
        with torch.inference_mode():
            change = (block(after, after, mask) - block(before, before, mask)).abs().amax(dim=2)[0]
        assert (change[:4] == 0).all()
        assert (change[4:] > 1e-3).all()


def test_item_vectors_are_the_intent_part_and_the_residual() -> None:
    model = backbone()
    with torch.inference_mode():
        vectors = model.items(context()).numpy()
    weights = {name: value.numpy() for name, value in model.items.state_dict().items()}
    expected = CODES.astype(np.float64) @ weights["intent_vectors"] + weights["residuals"]
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5)


def test_without_intents_item_vectors_are_the_residuals_alone() -> None:
    model = backbone(intents=False)
    assert torch.equal(model.items(context()), model.items.residuals)
    assert "items.intent_vectors" not in model.state_dict()
    assert not [name for name in model.state_dict() if "gate" in name or "personal" in name]


def test_residual_dropout_drops_whole_rows_and_leaves_the_others_as_they_are() -> None:
    vectors = ItemVectors(ITEMS, small_settings(residual_dropout=0.4), torch.from_numpy(FROZEN.decoder))
    with torch.no_grad():
        vectors.residuals.normal_()
        vectors.eval()
        intents_alone = vectors(context()) - vectors.residuals
        vectors.train()
        dropped = 0
        for seed in range(50):
            torch.manual_seed(seed)
            residuals = vectors(context()) - intents_alone
            gone = (residuals.abs() < 1e-5).all(dim=1)
            torch.testing.assert_close(residuals[~gone], vectors.residuals[~gone], rtol=1e-4, atol=1e-5)
            dropped += int(gone.sum())
    assert dropped / (50 * ITEMS) == pytest.approx(0.4, abs=0.05)


def test_no_residual_is_dropped_at_inference_or_without_intents() -> None:
    settings_ = small_settings(residual_dropout=0.9)
    with_intents = ItemVectors(ITEMS, settings_, torch.from_numpy(FROZEN.decoder)).eval()
    assert torch.equal(with_intents(context()), with_intents(context()))
    plain = ItemVectors(ITEMS, settings_, None).train()
    assert torch.equal(plain(context()), plain.residuals)


def test_at_branch_scale_0_the_state_is_that_of_the_plain_backbone() -> None:
    plain, with_intents = backbone(intents=False), backbone(scale=0.0)
    shared = {k: v for k, v in plain.encoder.state_dict().items() if k != "decay"}
    with_intents.encoder.load_state_dict(shared, strict=False)
    items, present = right_aligned([np.array([3, 9, 14]), np.array([22])])
    vectors = torch.randn(ITEMS, 16)
    profiles = torch.rand(2, INTENTS)
    intent_vectors = torch.randn(INTENTS, 16)
    with torch.inference_mode():
        expected, own = plain.encoder(vectors[items], present, profiles, None, context())
        states, gates = with_intents.encoder(vectors[items], present, profiles, intent_vectors, context())
        with_intents.encoder.branch_scale.fill_(0.7)
        moved, _ = with_intents.encoder(vectors[items], present, profiles, intent_vectors, context())
    assert torch.equal(states, expected)
    assert (moved - expected).abs().max() > 1e-3
    assert own.tolist() == [[1.0], [1.0]]
    torch.testing.assert_close(gates.sum(dim=1), torch.ones(2))


def test_training_starts_at_branch_scale_0() -> None:
    assert SequenceEncoder(small_settings(), intents=True).branch_scale.item() == 0


@laws
@given(batch=st.lists(histories, min_size=1, max_size=4), decay=st.floats(-6, 3))
def test_history_weights_sum_to_1_fall_with_age_and_are_0_at_padding(
    batch: list[list[int]], decay: float
) -> None:
    encoder = SequenceEncoder(small_settings(), intents=True)
    _, present = right_aligned([np.array(history) for history in batch])
    with torch.inference_mode():
        encoder.decay.fill_(decay)
        weights = encoder.history_weights(present)
    rate = math.log1p(math.exp(decay))
    for row, history in zip(weights, batch, strict=True):
        raw = np.exp([-rate * age for age in reversed(range(len(history)))])
        np.testing.assert_allclose(row[-len(history) :], raw / raw.sum(), rtol=1e-4, atol=1e-6)
        assert (row[: -len(history)] == 0).all()


@laws
@given(batch=st.lists(histories, min_size=1, max_size=4))
def test_a_profile_is_the_weighted_sum_of_the_codes_met(batch: list[list[int]]) -> None:
    items, present = right_aligned([np.array(history) for history in batch])
    weights = SequenceEncoder(small_settings(), intents=True).history_weights(present).detach()
    profiles = user_profiles(items, weights, context()).numpy()
    for row, history in enumerate(batch):
        own = weights[row, -len(history) :].numpy().astype(np.float64)
        np.testing.assert_allclose(profiles[row], own @ CODES[history], rtol=1e-5, atol=1e-6)


def gradient_of_intents(branches: str, profile: Tensor, known: IntentContext) -> set[int]:
    """The intents whose vectors have an effect on the state of a user with this profile."""
    model = backbone(branches=branches)
    vectors = torch.randn(INTENTS, 16, requires_grad=True)
    items, present = right_aligned([np.array([3, 9, 14])])
    inputs = torch.randn(ITEMS, 16)[items]
    state, _ = model.encoder(inputs, present, profile[None], vectors, known)
    state.square().sum().backward()
    assert vectors.grad is not None
    return set(torch.nonzero(vectors.grad.abs().amax(dim=1)).ravel().tolist())


def test_the_personal_branch_sees_the_strongest_intents_of_the_profile_weighted_by_rarity() -> None:
    rarity = torch.tensor([3.0, 1.0] * (INTENTS // 2))
    profile = torch.tensor([0.1, 0.2, 0.5, 0.9, 0.0, 1.0, 0.0, 0.6, 0.3, 0.0, 0.0, 0.8])
    known = replace(context(), inverse_document_frequency=rarity)
    expected = set(torch.topk(profile * rarity, 5).indices.tolist())
    assert expected == {2, 3, 5, 8, 11}, "rarity decides: by the profile alone it would be 7 instead of 8"
    assert gradient_of_intents("personal", profile, known) == expected


def test_the_personal_branch_sees_only_intents_that_the_profile_has() -> None:
    profile = torch.zeros(INTENTS)
    profile[[4, 7]] = 0.5
    known = replace(context(), inverse_document_frequency=torch.ones(INTENTS))
    assert gradient_of_intents("personal", profile, known) == {4, 7}


def test_the_public_branch_sees_the_frequent_and_widespread_intents_whoever_the_user_is() -> None:
    expected = set(np.argsort(-FROZEN.prior.public)[:4].tolist())
    for profile in (torch.zeros(INTENTS), torch.rand(INTENTS)):
        assert gradient_of_intents("public", profile, context()) == expected


def test_both_branches_see_both() -> None:
    profile = torch.zeros(INTENTS)
    outside = min(set(range(INTENTS)) - set(context().public.tolist()))
    profile[outside] = 1.0
    known = replace(context(), inverse_document_frequency=torch.ones(INTENTS))
    assert gradient_of_intents("both", profile, known) == {outside, *context().public.tolist()}


@pytest.mark.parametrize(("branches", "gates"), [("none", 1), ("personal", 2), ("public", 2), ("both", 3)])
def test_there_is_one_gate_for_the_own_state_and_one_for_each_branch(branches: str, gates: int) -> None:
    model = backbone(branches=branches)
    items, present = right_aligned([np.array([3, 9, 14]), np.array([5])])
    weights = encode(model, items, present)[1]
    assert weights.shape == (2, gates)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))


def test_the_decay_is_learned_only_where_a_personal_branch_uses_it() -> None:
    for branches, learned in (("none", False), ("public", False), ("personal", True), ("both", True)):
        parameters = dict(SequenceEncoder(small_settings(branches=branches), intents=True).named_parameters())
        assert ("decay" in parameters) == learned


def test_the_loss_is_the_cross_entropy_over_the_whole_catalogue() -> None:
    model = backbone()
    items, present = right_aligned([np.array([3, 9, 14]), np.array([5])])
    targets = torch.tensor([7, 31])
    with torch.inference_mode():
        loss = float(model(items, present, targets, context()))
        states = encode(model, items, present)[0].numpy().astype(np.float64)
        vectors = model.items(context()).numpy().astype(np.float64)
    scores = states @ vectors.T + model.items.biases.detach().numpy()
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    assert loss == pytest.approx(-(logs[0, 7] + logs[1, 31]) / 2, rel=1e-4)


def test_bfloat16_rounds_the_loss_and_nothing_that_is_kept() -> None:
    items, present = right_aligned([np.array([3, 9, 14]), np.array([5])])
    targets = torch.tensor([7, 31])
    exact, rounded = backbone(), backbone(precision="bfloat16")
    losses = [model(items, present, targets, context()) for model in (exact, rounded)]
    assert losses[1].dtype == torch.float32
    assert float(losses[0].detach()) != float(losses[1].detach())
    assert float(losses[1].detach()) == pytest.approx(float(losses[0].detach()), rel=5e-3)
    losses[1].backward()
    assert {weights.grad.dtype for weights in rounded.parameters() if weights.grad is not None} == {
        torch.float32
    }


def test_dropout_keeps_the_mean_and_is_off_outside_training() -> None:
    torch.manual_seed(4)
    dropout, x = Dropout(0.3), torch.ones(200, 500)
    dropped = dropout(x)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(dropped[dropped != 0].unique(), torch.tensor([1 / 0.7]))
    assert dropout.eval()(x) is x


def test_attention_in_training_is_that_of_inference_where_nothing_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items, present = right_aligned([np.array([3, 9, 14, 2]), np.array([5])])
    model = backbone(dropout=0.5)
    expected, _ = encode(model, items, present)
    monkeypatch.setattr(Dropout, "forward", lambda _self, x: x)
    found, _ = encode(model.train(), items, present)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_without_residuals_item_vectors_are_intents_alone_and_stay_so() -> None:
    torch.manual_seed(1)
    model = Backbone(ITEMS, small_settings(residuals=False), torch.from_numpy(FROZEN.decoder)).train()
    items, present = right_aligned([np.array([3, 9, 14]), np.array([5])])
    model(items, present, torch.tensor([7, 31]), context()).backward()
    assert model.items.residuals.grad is None
    assert not model.items.residuals.any()
    plain = Backbone(ITEMS, small_settings(residuals=False), None)
    assert plain.items.residuals.requires_grad, "the backbone without intents has nothing else"


def test_every_weight_gets_a_gradient() -> None:
    """Two workers average gradients and wait for each of them."""
    for branches in ("none", "personal", "public", "both"):
        model = backbone(branches=branches).train()
        items, present = right_aligned([np.array([3, 9, 14]), np.array([5])])
        model(items, present, torch.tensor([7, 31]), context()).backward()
        assert [name for name, weights in model.named_parameters() if weights.grad is None] == []
