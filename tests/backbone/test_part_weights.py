"""The weights of prior and companions: chosen among candidates by what they do for the scores of the server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.backbone import part_weights
from saerec_ray.backbone.frozen import Frozen
from saerec_ray.backbone.part_weights import choose_companion_weight, choose_prior_weight
from saerec_ray.backbone.validation import (
    VALIDATION_CUTOFF,
    EncodedUsers,
    HeldOut,
    encode_users,
    held_out,
    model_ranks,
    ndcg,
    ndcg_of_weights,
    prior_scores,
)
from saerec_ray.scoring import ItemSpace, PriorTable, prior
from tests.backbone.small_sets import (
    INTENTS,
    ITEMS,
    frozen_of,
    grouped_users,
    sequences_of,
    small_encoder,
    small_settings,
)

FROZEN = frozen_of(sequences_of(grouped_users()))


def users_who_want_what_they_had(seed: int = 2, count: int = 60) -> tuple[ItemSpace, Frozen, EncodedUsers]:
    """States that say nothing and profiles that say all: the target is the item the prior likes best."""
    rng = np.random.default_rng(seed)
    space = ItemSpace(
        codes=FROZEN.codes,
        intent_vectors=rng.normal(scale=0.1, size=(INTENTS, 16)).astype(np.float32),
        residuals=rng.normal(size=(ITEMS, 16)).astype(np.float32),
        biases=np.zeros(ITEMS, dtype=np.float32),
        popularity=FROZEN.popularity,
        prior_weight=0.0,
    )
    profiles = rng.gamma(0.3, size=(count, INTENTS)).astype(np.float32)
    liked = (FROZEN.codes @ prior(profiles, FROZEN.prior).T).argmax(axis=0)
    cases = HeldOut(
        np.arange(count),
        [np.array([(target + 1) % ITEMS], dtype=np.int32) for target in liked],
        [np.array([target], dtype=np.int32) for target in liked],
    )
    states = rng.normal(size=(count, 16)).astype(np.float32)
    return space, FROZEN, EncodedUsers(cases, states, profiles, csr_array((count, ITEMS), dtype=np.float32))


def test_a_prior_that_knows_gets_the_largest_weight_in_units_of_the_score_spread() -> None:
    space, frozen, users = users_who_want_what_they_had()
    weight, tried = choose_prior_weight(small_settings(prior_weights=[2.0, 0.5]), space, frozen, users)
    assert list(tried) == ["0", "0.5", "2"], "0 is always tried"
    assert tried["0"] < tried["0.5"] < tried["2"]
    vectors = np.asarray(space.codes @ space.intent_vectors) + space.residuals
    base = (users.states @ vectors.T).std(axis=1).mean()
    of_prior = (space.codes @ prior(users.profiles, frozen.prior).T).std(axis=0).mean()
    assert weight == pytest.approx(2.0 * base / of_prior, rel=1e-4)


def test_a_prior_that_does_not_help_gets_no_weight() -> None:
    space, frozen, users = users_who_want_what_they_had()
    vectors = np.asarray(space.codes @ space.intent_vectors) + space.residuals
    wanted = (users.states @ vectors.T).argmax(axis=1).astype(np.int32)
    cases = HeldOut(users.cases.users, [(w[None] + 1) % ITEMS for w in wanted], [w[None] for w in wanted])
    weight, tried = choose_prior_weight(
        small_settings(prior_weights=[0.5, 8.0]), space, frozen, replace(users, cases=cases)
    )
    assert weight == 0
    assert tried["0"] == 1 > tried["8"]


def test_of_equally_good_weights_the_smallest_is_taken() -> None:
    space, frozen, users = users_who_want_what_they_had()
    weight, tried = choose_prior_weight(small_settings(prior_weights=[1e-9, 2e-9]), space, frozen, users)
    assert len(set(tried.values())) == 1
    assert weight == 0


@pytest.mark.parametrize(
    ("tolerance", "expected"), [(0.0, "0.5"), (0.05, "0.3"), (0.35, "0.1"), (0.6, "0")], ids=str
)
def test_the_smallest_weight_is_taken_that_loses_no_more_than_is_tolerated(
    monkeypatch: pytest.MonkeyPatch, tolerance: float, expected: str
) -> None:
    found = [0.05, 0.07, 0.096, 0.1, 0.099]
    monkeypatch.setattr(part_weights, "ndcg_of_weights", lambda *given: found)
    space, frozen, users = users_who_want_what_they_had()
    users = replace(users, companions=csr_array(np.ones((len(users.cases), ITEMS), dtype=np.float32)))
    config = small_settings(companion_weights=[0.1, 0.3, 0.5, 1.0], companion_tolerance=tolerance)
    weight, best, tried = choose_companion_weight(config, space, frozen, users)
    assert list(tried.values()) == found
    assert weight == pytest.approx(best * float(expected) / 0.5), "0.5 is the best"


def test_a_prior_that_says_nothing_gets_no_weight() -> None:
    space, frozen, users = users_who_want_what_they_had()
    silent = PriorTable(np.zeros(INTENTS, np.float32), np.zeros(INTENTS, np.float32), 0.1)
    weight, _ = choose_prior_weight(small_settings(), space, replace(frozen, prior=silent), users)
    assert weight == 0


def test_companions_that_foretell_what_comes_next_get_a_weight_and_help() -> None:
    """Everybody walks round a group of items in order; an untrained encoder knows nothing of it."""
    sequences = sequences_of(grouped_users())
    frozen = frozen_of(sequences)
    space, encoder = small_encoder(frozen)
    users = encode_users(encoder, held_out(sequences, "validation"))
    weight, _, tried = choose_companion_weight(
        small_settings(companion_weights=[8.0, 2.0]), space, frozen, users
    )
    assert list(tried) == ["0", "2", "8"], "0 is always tried"
    assert weight > 0
    assert max(tried["2"], tried["8"]) > 2 * tried["0"]


def test_companions_that_mislead_get_no_weight() -> None:
    sequences = sequences_of(grouped_users())
    frozen = frozen_of(sequences)
    space, encoder = small_encoder(frozen)
    users = encode_users(encoder, held_out(sequences, "validation"))
    good = np.flatnonzero(model_ranks(space, frozen.prior, users) > 0)
    wrong = np.ones((len(good), ITEMS), dtype=np.float32)
    for row, targets in enumerate(users.cases.targets):
        wrong[row, targets] = 0
    misled = type(users)(users.cases, users.states, users.profiles, csr_array(wrong))
    config = small_settings(companion_weights=[8.0], companion_tolerance=0.0)
    weight, _, tried = choose_companion_weight(config, space, frozen, misled)
    assert weight == 0
    assert tried["8"] < tried["0"]


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.floats(0, 5), min_size=1, max_size=4),
    own_prior=st.floats(0, 2),
    own_companions=st.floats(0, 2),
)
def test_what_is_tried_together_is_what_each_weight_gives_alone(
    weights: list[float], own_prior: float, own_companions: float
) -> None:
    sequences = sequences_of(grouped_users(300))  # more than are scored at once
    frozen = frozen_of(sequences)
    space, encoder = small_encoder(frozen)
    users = encode_users(encoder, held_out(sequences, "validation"))
    of_prior = replace(space, prior_weight=0.0, companion_weight=own_companions)
    of_companions = replace(space, prior_weight=own_prior, companion_weight=0.0)
    for without, name, part in (
        (of_prior, "prior_weight", lambda rows: prior_scores(space, frozen.prior, users, rows)),
        (of_companions, "companion_weight", lambda rows: users.companions[rows].toarray()),
    ):
        found = ndcg_of_weights(without, frozen.prior, users, part, weights)
        alone = [
            ndcg(model_ranks(replace(without, **{name: weight}), frozen.prior, users), VALIDATION_CUTOFF)
            for weight in weights
        ]
        assert found == pytest.approx(alone, abs=2e-3), "equal but for ties that rounding breaks"
