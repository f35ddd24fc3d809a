"""Small models with known truths: random ones for laws, and one in which two intents decide everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.backbone.encoder import UserStates
from saerec_ray.backbone.validation import EncodedUsers, HeldOut
from saerec_ray.evaluation.scored_users import ScoredUser, scored_users
from saerec_ray.scoring import (
    COMPANION_DECAY,
    COMPANION_MEMORY,
    Floats,
    ItemSpace,
    PriorTable,
    SteeringTable,
    companion_strengths,
    loading_caps,
)
from tests.synthetic import synthetic_codes, synthetic_companions


@dataclass(frozen=True)
class Toy:
    """A catalogue with encoded users."""

    space: ItemSpace
    table: PriorTable
    users: EncodedUsers

    def scored(self) -> list[ScoredUser]:
        return list(scored_users(self.space, self.table, self.users, np.arange(len(self.users.cases))))

    @property
    def steering(self) -> SteeringTable:
        whole = np.ones(self.space.intent_count, dtype=np.float32)
        return SteeringTable(2 * whole, whole, loading_caps(self.space.codes))


def no_prior(intents: int) -> PriorTable:
    nothing = np.zeros(intents, dtype=np.float32)
    return PriorTable(nothing, nothing, 0.0)


def held(histories: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> HeldOut:
    return HeldOut(
        np.arange(len(histories)),
        [np.array(history, dtype=np.int32) for history in histories],
        [np.array(each, dtype=np.int32) for each in targets],
    )


def strengths_of(histories: Sequence[npt.NDArray[Any]], companions: csr_array) -> csr_array:
    """c_u by the definition: (users, items)."""
    found = np.zeros((len(histories), companions.shape[0]), dtype=np.float32)
    for row, history in enumerate(histories):
        for age, item in enumerate(history[::-1][:COMPANION_MEMORY]):
            found[row] += COMPANION_DECAY**age * companions[[int(item)]].toarray()[0]
    return csr_array(found)


def random_toy(seed: int, items: int = 60, intents: int = 12, users: int = 6, d_model: int = 6) -> Toy:
    rng = np.random.default_rng(seed)
    codes = synthetic_codes(rng, items, intents)
    public = rng.random(intents)
    order = [rng.permutation(items) for _ in range(users)]
    histories = [own[: rng.integers(3, 12)] for own in order]
    profiles = np.stack([np.asarray(codes[history].mean(axis=0)).ravel() for history in histories])
    companions = synthetic_companions(np.random.default_rng(seed + 1), items)
    return Toy(
        space=ItemSpace(
            codes=codes,
            intent_vectors=rng.normal(size=(intents, d_model)).astype(np.float32),
            residuals=rng.normal(scale=0.3, size=(items, d_model)).astype(np.float32),
            biases=rng.normal(size=items).astype(np.float32),
            popularity=np.log1p(rng.integers(0, 9, size=items)).astype(np.float32),
            prior_weight=float(rng.uniform(0, 1)),
            companions=companions,
            companion_weight=0.8,
        ),
        table=PriorTable(
            rng.gamma(2.0, size=intents).astype(np.float32),
            (public / np.linalg.norm(public)).astype(np.float32),
            0.2,
        ),
        users=EncodedUsers(
            held(histories, [own[-1:] for own in order]),
            rng.normal(size=(users, d_model)).astype(np.float32),
            profiles.astype(np.float32),
            strengths_of(histories, companions),
        ),
    )


def planted_toy(seed: int, users: int = 40, items: int = 400, intents: int = 16) -> Toy:
    """Every user likes two intents strongly and is indifferent to the rest; every item carries four.

    All loadings are 1 and all intents are equally frequent, so nothing but the user tells them apart.
    """
    rng = np.random.default_rng(seed)
    dense = np.zeros((items, intents), dtype=np.float32)
    for item in range(items):
        dense[item, rng.choice(intents, 4, replace=False)] = 1.0
    codes = csr_array(dense)
    states = rng.normal(scale=0.01, size=(users, intents))
    histories = []
    for user in range(users):
        liked = rng.choice(intents, 2, replace=False)
        states[user, liked] = 2.0
        carriers = np.flatnonzero(dense[:, liked].sum(axis=1) > 0)
        histories.append(rng.choice(carriers, 12, replace=False))
    profiles = np.stack([dense[history].mean(axis=0) for history in histories])
    return Toy(
        space=ItemSpace(
            codes=codes,
            intent_vectors=np.eye(intents, dtype=np.float32),
            residuals=rng.normal(scale=0.05, size=(items, intents)).astype(np.float32),
            biases=np.zeros(items, dtype=np.float32),
            popularity=np.ones(items, dtype=np.float32),
            prior_weight=0.0,
        ),
        table=no_prior(intents),
        users=EncodedUsers(
            held(histories, [[0]] * users),
            states.astype(np.float32),
            profiles.astype(np.float32),
            csr_array((users, items), dtype=np.float32),
        ),
    )


class AveragingEncoder:
    """An encoder without order: the state is the sum of the codes of the history, through the intent vectors.

    Removing carriers of an intent then lowers exactly the worth of what they carry.
    """

    max_length = 50

    def __init__(self, space: ItemSpace) -> None:
        self._space = space
        self.width = space.residuals.shape[1]
        self.intent_count = space.intent_count

    def encode(self, histories: Sequence[npt.NDArray[Any]]) -> UserStates:
        profiles = np.stack(
            [np.asarray(self._space.codes[history].sum(axis=0)).ravel() for history in histories]
        ).astype(np.float32)
        states: Floats = profiles @ self._space.intent_vectors
        weights = [np.full(len(h), 1 / len(h)) for h in histories]
        return UserStates(states, profiles, weights, companion_strengths(self._space, histories))


def served_reasons(
    space: ItemSpace, user: ScoredUser, item: int, published: npt.NDArray[np.bool_] | None = None
) -> list[int]:
    """The first three reasons for an item, written out.

    Of the five published intents, or of all, that differ the most from what they are to all unseen items, at most 100,
    those that speak for the item, by how many places it moves without each.
    """
    codes = space.codes.toarray()
    unseen = np.setdiff1d(np.arange(space.item_count), user.history)
    assert len(unseen) <= 100, "or not all of them are among the best"

    def place(scores: Floats) -> int:
        order = sorted(unseen.tolist(), key=lambda each: (-scores[each], each))
        return order.index(item) if item in order else 0

    beyond = np.abs(user.values) * (codes[item] - codes[unseen].mean(axis=0))
    nameable = np.flatnonzero(codes[item] * user.values * (True if published is None else published)).tolist()
    listed = sorted(nameable, key=lambda intent: -beyond[intent])[:5]
    moved = {
        intent: abs(place(user.scores - user.values[intent] * codes[:, intent]) - place(user.scores))
        for intent in listed
    }
    return [intent for intent in sorted(listed, key=lambda each: -moved[each]) if user.values[intent] > 0][:3]
