"""A model of several members taken apart: each member is what it was before they were joined."""

from __future__ import annotations

import numpy as np
import pytest

from saerec_ray.backbone.members import member_parts
from saerec_ray.scoring import base_scores, intent_values, prior
from tests.backbone.small_sets import frozen_of, grouped_users, sequences_of, small_encoder, small_settings

SEQUENCES = sequences_of(grouped_users())
FROZEN = frozen_of(SEQUENCES)
HISTORIES = [SEQUENCES.train(user) for user in range(12)]


@pytest.mark.parametrize("members", [1, 2, 3])
def test_each_member_is_the_model_that_was_trained_alone(members: int) -> None:
    space, encoder = small_encoder(FROZEN, members=members)
    parts = member_parts(space, encoder, small_settings(members=members), FROZEN.prior)
    assert len(parts) == members
    for member, (own_space, own_encoder) in enumerate(parts):
        alone_space, alone_encoder = small_encoder(FROZEN, seed=1 + member)
        np.testing.assert_array_equal(own_space.intent_vectors, alone_space.intent_vectors)
        np.testing.assert_array_equal(own_space.residuals, alone_space.residuals)
        own, alone = own_encoder.encode(HISTORIES), alone_encoder.encode(HISTORIES)
        np.testing.assert_allclose(own.states, alone.states, atol=1e-6)
        np.testing.assert_allclose(own.profiles, alone.profiles, atol=1e-6)


def test_the_scores_of_the_whole_are_the_mean_of_the_members_scores() -> None:
    space, encoder = small_encoder(FROZEN, members=2)
    found = []
    for own, its_encoder in [
        (space, encoder),
        *member_parts(space, encoder, small_settings(members=2), FROZEN.prior),
    ]:
        users = its_encoder.encode(HISTORIES)
        values = intent_values(own, users.states, prior(users.profiles, FROZEN.prior))
        found.append(base_scores(own, users.states, values, users.companions))
    whole, *members = found
    np.testing.assert_allclose(whole, np.mean(members, axis=0), atol=1e-4)
    assert np.abs(members[0] - members[1]).max() > 0.1, "they were not trained from one seed"
