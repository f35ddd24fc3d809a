"""Reasons of one member against those of another, for the same items and users."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from saerec_ray.backbone.members import member_parts
from saerec_ray.backbone.trainer import together, trained_parts
from saerec_ray.backbone.validation import encode_users, held_out
from saerec_ray.evaluation.seed_stability import seed_stability
from tests.backbone.small_sets import (
    frozen_of,
    grouped_users,
    sequences_of,
    small_settings,
    untrained_weights,
)
from tests.evaluation.toy_models import Toy, served_reasons

SEQUENCES = sequences_of(grouped_users())
FROZEN = frozen_of(SEQUENCES)
CASES = held_out(SEQUENCES, "test")


def measure(*seeds: int, prior_weight: float = 0.3, count: int = 20) -> tuple[dict[str, Any], Any]:
    """The measurement on a model whose members have random weights of these seeds, and that model."""
    settings = small_settings(members=len(seeds))
    joined = together([untrained_weights(small_settings(), FROZEN, seed) for seed in seeds])
    space, encoder = trained_parts(joined, settings, FROZEN, prior_weight)
    users = encode_users(encoder, CASES)
    found = seed_stability(space, FROZEN.prior, encoder, settings, users, count, seed=9)
    return found, (space, encoder, settings, users)


def test_members_of_one_seed_give_the_same_reasons_and_others_do_not() -> None:
    same, _ = measure(3, 3)
    assert same["top_3_jaccard_mean"] == same["top_3_jaccard_p10"] == 1
    assert same["users"] == 20
    assert same["items"] == 199, "no intent speaks for one of the 200"
    other, _ = measure(3, 4)
    assert other["top_3_jaccard_mean"] < 1
    assert other == measure(3, 4)[0], "the seed decides everything"


def test_the_overlap_is_that_of_the_three_first_reasons_written_out() -> None:
    found, (space, encoder, settings, users) = measure(5, 6, count=len(CASES))
    toy = Toy(space, FROZEN.prior, users)
    members = [
        (own, Toy(own, FROZEN.prior, encode_users(its_encoder, CASES)).scored())
        for own, its_encoder in member_parts(space, encoder, settings, FROZEN.prior)
    ]
    overlaps = []
    for row, user in enumerate(toy.scored()):
        for item in user.top(10).tolist():
            top = [set(served_reasons(own, users[row], item)) for own, users in members]
            overlaps.append(len(top[0] & top[1]) / len(top[0] | top[1]) if top[0] | top[1] else 1)
    assert found["items"] == len(overlaps)
    assert found["top_3_jaccard_mean"] == pytest.approx(np.mean(overlaps))
    assert found["top_3_jaccard_p10"] == pytest.approx(np.percentile(overlaps, 10))


def test_only_the_first_two_of_three_members_are_compared() -> None:
    three, _ = measure(3, 3, 8, prior_weight=0.0)
    assert three["members"] == 3
    assert three["top_3_jaccard_mean"] == 1


def test_one_member_has_nothing_to_be_compared_with() -> None:
    found, _ = measure(3)
    assert found == {
        "members": 1,
        "users": 0,
        "items": 0,
        "top_3_jaccard_mean": None,
        "top_3_jaccard_p10": None,
        "by_chance": None,
    }
