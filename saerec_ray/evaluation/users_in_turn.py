"""Ranks and lists of many users, encoded in turn.

A profile has a number for every intent, so a million users with 4,096 intents would be 15 GiB at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.validation import EncodedUsers, HeldOut, encode_users, model_ranks
from saerec_ray.evaluation.accuracy import Ranks
from saerec_ray.evaluation.list_quality import model_lists
from saerec_ray.evaluation.scored_users import sample_cases
from saerec_ray.scoring import Indices, ItemSpace, PriorTable

_USERS_AT_ONCE = 2048
"""32 MiB of profiles with 4,096 intents."""


def encoded_in_turn(encoder: UserEncoder, cases: HeldOut) -> Iterator[EncodedUsers]:
    """All cases in their order, encoded some at a time."""
    for start in range(0, len(cases), _USERS_AT_ONCE):
        yield encode_users(encoder, cases.at(np.arange(start, min(start + _USERS_AT_ONCE, len(cases)))))


def ranks_in_turn(space: ItemSpace, table: PriorTable, encoder: UserEncoder, cases: HeldOut) -> Ranks:
    """The rank of every target of every case, as model_ranks gives them."""
    found = [model_ranks(space, table, users) for users in encoded_in_turn(encoder, cases)]
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


def lists_in_turn(space: ItemSpace, table: PriorTable, encoder: UserEncoder, cases: HeldOut) -> list[Indices]:
    """The list of every case, as model_lists gives them."""
    return [
        items
        for users in encoded_in_turn(encoder, cases)
        for items in model_lists(space, table, users, np.arange(len(users.cases)))
    ]


def sampled_users(encoder: UserEncoder, cases: HeldOut, count: int, seed: int) -> EncodedUsers | None:
    """At most `count` random cases, those that sample_cases draws, encoded; None without any case."""
    return encode_users(encoder, cases.at(sample_cases(cases, count, seed))) if len(cases) else None
