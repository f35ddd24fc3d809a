"""What serves is what was trained: the encoder behind plain arrays, its determinism, its refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.backbone.encoder import (
    UserEncoder,
    intent_context,
    pad_codes,
    public_intents,
    right_aligned,
)
from saerec_ray.backbone.model import Backbone, user_profiles
from saerec_ray.backbone.trainer import together, trained_parts
from saerec_ray.scoring import base_scores, intent_values
from tests.backbone.small_sets import (
    INTENTS,
    ITEMS,
    frozen_of,
    grouped_users,
    sequences_of,
    small_encoder,
    small_settings,
    untrained_weights,
)

FROZEN = frozen_of(sequences_of(grouped_users()))
HISTORIES = [
    np.array(history, dtype=np.int32) for history in ([3, 9, 14], [22], [31, 5, 5, 0, 39, 17, 8, 2], [6, 7])
]


@pytest.mark.parametrize("branches", ["none", "personal", "public", "both"])
def test_states_and_profiles_are_those_of_the_trained_backbone(branches: str) -> None:
    configuration = small_settings(branches=branches)
    weights = untrained_weights(configuration, FROZEN)
    trained = Backbone(ITEMS, configuration, torch.from_numpy(FROZEN.decoder))
    trained.load_state_dict(weights)
    trained.eval()
    context = intent_context(FROZEN.codes, FROZEN.prior, configuration)
    items, present = right_aligned(HISTORIES)
    with torch.inference_mode():
        alpha = trained.encoder.history_weights(present)
        profiles = user_profiles(items, alpha, context)
        states, _ = trained.encoder(
            trained.items(context)[items], present, profiles, trained.items.intent_vectors, context
        )
    _, encoder = small_encoder(FROZEN, branches=branches)
    users = encoder.encode(HISTORIES)
    np.testing.assert_allclose(users.states, states, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(users.profiles, profiles, rtol=1e-6, atol=1e-7)
    for row, history in enumerate(HISTORIES):
        np.testing.assert_array_equal(users.history_weights[row], alpha[row, -len(history) :])
        assert users.history_weights[row].sum() == pytest.approx(1)


def test_only_the_latest_interactions_are_read() -> None:
    _, encoder = small_encoder(FROZEN)
    long = np.arange(30) % ITEMS
    assert encoder.max_length == 8
    users, recent = encoder.encode([long]), encoder.encode([long[-8:]])
    np.testing.assert_array_equal(users.states, recent.states)
    assert len(users.history_weights[0]) == 8
    assert np.abs(users.states - encoder.encode([long[-7:]]).states).max() > 1e-4


def test_the_same_history_has_the_same_bits_again_on_every_thread_and_from_a_copy() -> None:
    _, encoder = small_encoder(FROZEN)
    first = encoder.encode(HISTORIES).states.tobytes()
    with ThreadPoolExecutor(4) as threads:
        again = list(threads.map(lambda _: encoder.encode(HISTORIES).states.tobytes(), range(16)))
    assert set(again) == {first}
    space, _ = small_encoder(FROZEN)
    torch.manual_seed(12)
    copy = UserEncoder(small_settings(), encoder.weights(), space, FROZEN.prior)
    assert copy.encode(HISTORIES).states.tobytes() == first


def test_making_an_encoder_draws_nothing_from_the_random_numbers_of_a_training() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    space, encoder = small_encoder(FROZEN)
    torch.manual_seed(3)
    UserEncoder(small_settings(), encoder.weights(), space, FROZEN.prior).encode(HISTORIES)
    assert torch.equal(torch.rand(3), expected)


def test_an_ensemble_scores_with_the_mean_of_its_members() -> None:
    alone = [small_encoder(FROZEN, seed=seed) for seed in (4, 5, 6)]
    space, encoder = small_encoder(FROZEN, seed=4, members=3)
    users = encoder.encode(HISTORIES)
    apart = [(own, each.encode(HISTORIES)) for own, each in alone]
    expected = np.mean(
        [base_scores(own, of.states, intent_values(own, of.states, of.profiles)) for own, of in apart], axis=0
    )
    found = base_scores(space, users.states, intent_values(space, users.states, users.profiles))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for row, weights in enumerate(users.history_weights):
        assert weights.sum() == pytest.approx(1)
        np.testing.assert_allclose(weights, np.mean([of.history_weights[row] for _, of in apart], axis=0))


def test_the_weights_of_an_ensemble_make_the_same_ensemble() -> None:
    space, encoder = small_encoder(FROZEN, members=2)
    copy = UserEncoder(small_settings(members=2), encoder.weights(), space, FROZEN.prior)
    np.testing.assert_array_equal(copy.encode(HISTORIES).states, encoder.encode(HISTORIES).states)


def test_an_ensemble_with_a_member_missing_is_refused() -> None:
    space, encoder = small_encoder(FROZEN, members=2)
    weights = {name: value for name, value in encoder.weights().items() if not name.startswith("1.")}
    with pytest.raises(ValueError, match=r"weights do not fit the configuration: .*Missing key"):
        UserEncoder(small_settings(members=2), weights, space, FROZEN.prior)


def test_item_vectors_of_another_length_than_configured_are_refused() -> None:
    space, encoder = small_encoder(FROZEN)
    with pytest.raises(ValueError, match="item vectors have 16 numbers where the configuration says 32"):
        UserEncoder(small_settings(d_model=32), encoder.weights(), space, FROZEN.prior)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop("0.positions"), r"Missing key.*positions"),
        (lambda weights: weights.update({"0.extra": weights["0.positions"]}), r"Unexpected key.*extra"),
        (
            lambda weights: weights.update({"0.positions": weights["0.positions"][:-1]}),
            r"size mismatch for positions",
        ),
        (
            lambda weights: weights.update({"0.gate.weight": weights["0.gate.weight"].T.copy()}),
            "size mismatch for gate",
        ),
        (
            lambda weights: weights.update({"1.positions": weights["0.positions"]}),
            "1.positions is of no member",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(change: object, complaint: str) -> None:
    space, encoder = small_encoder(FROZEN)
    weights = dict(encoder.weights())
    change(weights)  # type: ignore[operator]
    with pytest.raises(ValueError, match=f"weights do not fit the configuration: .*{complaint}") as caught:
        UserEncoder(small_settings(), weights, space, FROZEN.prior)
    assert "\n" not in str(caught.value)


def test_weights_of_other_branches_than_configured_are_refused() -> None:
    space, encoder = small_encoder(FROZEN, branches="personal")
    with pytest.raises(ValueError, match="do not fit the configuration"):
        UserEncoder(small_settings(branches="both"), encoder.weights(), space, FROZEN.prior)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0, 1))
def test_padded_codes_are_the_codes(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    dense = (rng.random((9, 7)) < density) * rng.gamma(1.0, size=(9, 7)).astype(np.float32)
    intents, values = pad_codes(csr_array(dense))
    again = np.zeros_like(dense)
    np.add.at(again, (np.arange(9)[:, None], intents), values)
    np.testing.assert_array_equal(again, dense)
    assert intents.shape[1] == max(1, int((dense > 0).sum(axis=1).max()))


def test_public_intents_are_the_heaviest_and_of_equal_ones_the_first() -> None:
    assert public_intents(np.array([0.1, 0.5, 0.2, 0.5, 0.4], dtype=np.float32), 3).tolist() == [1, 3, 4]
    assert len(public_intents(FROZEN.prior.public, 1000)) == INTENTS


def test_more_personal_intents_than_there_are_means_all() -> None:
    _, encoder = small_encoder(FROZEN, personal_intents=500, public_intents=500)
    assert np.isfinite(encoder.encode(HISTORIES).states).all()


def test_a_profile_without_any_intent_has_a_finite_state() -> None:
    empty = csr_array((ITEMS, INTENTS), dtype=np.float32)
    _, encoder = small_encoder(replace(FROZEN, codes=empty))
    users = encoder.encode(HISTORIES)
    assert (users.profiles == 0).all()
    assert np.isfinite(users.states).all()


@pytest.mark.parametrize(
    ("branches", "favoured"),
    [("both", "own_state"), ("both", "personal"), ("both", "public"), ("public", "public")],
)
def test_what_the_gate_gives_each_branch_has_the_name_of_the_branch(branches: str, favoured: str) -> None:
    config = small_settings(branches=branches)
    weights = untrained_weights(config, FROZEN)
    names = ["own_state", *(["personal", "public"] if branches == "both" else [branches])]
    weights["encoder.gate.weight"].zero_()
    weights["encoder.gate.bias"].zero_()[names.index(favoured)] = 3.0
    _, encoder = trained_parts(together([weights]), config, FROZEN)
    found = encoder.branch_weights(HISTORIES)
    rest = 1 / (np.exp(3.0) + len(names) - 1)
    for name in names:
        share = np.exp(3.0) * rest if name == favoured else rest
        np.testing.assert_allclose(found.pop(f"gate_{name}"), np.full((len(HISTORIES), 1), share), rtol=1e-5)
    assert found == {"branch_scale": pytest.approx([0.7])}
