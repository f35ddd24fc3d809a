"""Where held-out items rank, with the scoring code of the server; the whole catalogue competes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.scoring import ItemSpace, PriorTable, base_scores, intent_values, prior

Floats = npt.NDArray[np.float32]
Part = Literal["validation", "test"]

_USERS_AT_ONCE = 256
_SCORES_AT_ONCE = 1 << 25
"""128 MiB of float32: with a million items fewer users are scored at once."""
_MOST_SCORES = 2_000_000_000
"""Scores one choice on validation may cost: all users of a usual catalogue, 2,000 of a million items."""


@dataclass(frozen=True)
class HeldOut:
    """Users with their known history and the items to be found."""

    users: npt.NDArray[np.int64]  # (cases,) row in the sequences
    histories: list[npt.NDArray[np.int32]]
    targets: list[npt.NDArray[np.int32]]

    def __len__(self) -> int:
        return len(self.users)

    def share(self, rank: int, world_size: int) -> HeldOut:
        """Every world_size-th case, from `rank` on."""
        return HeldOut(
            self.users[rank::world_size], self.histories[rank::world_size], self.targets[rank::world_size]
        )

    def at(self, rows: npt.NDArray[np.int64]) -> HeldOut:
        """The given cases, in their order."""
        return HeldOut(
            self.users[rows], [self.histories[row] for row in rows], [self.targets[row] for row in rows]
        )


def affordable(cases: HeldOut, items: int, seed: int) -> HeldOut:
    """The cases to choose on: all of them, or a random sample where the catalogue makes all too many scores."""
    most = max(1, _MOST_SCORES // items)
    if len(cases) <= most:
        return cases
    return cases.at(np.sort(np.random.default_rng(seed).choice(len(cases), most, replace=False)))


def held_out(sequences: PreparedSequences, part: Part) -> HeldOut:
    """The cases of a part: its targets, and everything before them as history.

    Users without history or without targets in the part are left out.
    """
    users, histories, targets = [], [], []
    for user in range(len(sequences)):
        start, end = int(sequences.offsets[user]), int(sequences.offsets[user + 1])
        middle = start + int(sequences.validation_lengths[user])
        first = start + int(sequences.train_lengths[user])
        begin, stop = (first, middle) if part == "validation" else (middle, end)
        if begin > start and stop > begin:
            users.append(user)
            histories.append(sequences.items[start:begin])
            targets.append(sequences.items[begin:stop])
    return HeldOut(np.asarray(users, dtype=np.int64), histories, targets)


@dataclass(frozen=True)
class EncodedUsers:
    """Cases with their states and profiles, encoded once and scored as often as needed."""

    cases: HeldOut
    states: Floats  # (cases, d_model)
    profiles: Floats  # (cases, intents)
    companions: csr_array  # (cases, items)


def encode_users(encoder: UserEncoder, cases: HeldOut) -> EncodedUsers:
    """Encodes all cases, in batches of similar length."""
    order = np.argsort([len(history) for history in cases.histories], kind="stable")
    states: list[Floats] = []
    profiles: list[Floats] = []
    companions: list[csr_array] = []
    for start in range(0, len(order), _USERS_AT_ONCE):
        users = encoder.encode([cases.histories[row] for row in order[start : start + _USERS_AT_ONCE]])
        states.append(users.states)
        profiles.append(users.profiles)
        companions.append(users.companions)
    back = np.argsort(order, kind="stable")
    together = csr_array(vstack(companions, format="csr"))
    return EncodedUsers(cases, np.concatenate(states)[back], np.concatenate(profiles)[back], together[back])


def user_scores(space: ItemSpace, table: PriorTable, users: EncodedUsers) -> Iterator[tuple[int, Floats]]:
    """Base scores of all cases in batches: the first case of the batch and the scores (batch, items)."""
    at_once = max(1, min(_USERS_AT_ONCE, _SCORES_AT_ONCE // space.item_count))
    for start in range(0, len(users.cases), at_once):
        stop = start + at_once
        priors = prior(users.profiles[start:stop], table)
        values = intent_values(space, users.states[start:stop], priors)
        yield start, base_scores(space, users.states[start:stop], values, users.companions[start:stop])


def model_ranks(space: ItemSpace, table: PriorTable, users: EncodedUsers) -> npt.NDArray[np.int64]:
    """Rank of every target, from 1; see target_ranks."""
    return target_ranks(users.cases, lambda: user_scores(space, table, users))


def target_ranks(
    cases: HeldOut, batches: Callable[[], Iterator[tuple[int, Floats]]]
) -> npt.NDArray[np.int64]:
    """Rank of every target of every case, from 1, among all items the user has not met before.

    Ties count against the target unless its index is lower, as in the order the server serves. Other
    targets of the same case are not competitors. A target already met keeps its place: it competes too.
    A score that is not a number counts against the target, whether it is its own or another's.
    """
    ranks: list[int] = []
    for start, scores in batches():
        for row, user_scores_row in enumerate(scores):
            history, targets = cases.histories[start + row], cases.targets[start + row]
            kept = user_scores_row[targets]
            kept = np.where(np.isnan(kept), -np.inf, kept)
            user_scores_row[history] = -np.inf
            user_scores_row[targets] = -np.inf
            for target, score in zip(targets, kept, strict=True):
                better = int((~(user_scores_row <= score)).sum())
                ties = int((user_scores_row[:target] == score).sum())
                ranks.append(1 + better + ties)
    return np.asarray(ranks, dtype=np.int64)


def ndcg(ranks: npt.NDArray[np.int64], cutoff: int) -> float:
    """Mean of 1 / log2(rank + 1) over targets ranked within the cutoff; each target counts alone."""
    if len(ranks) == 0:
        return 0.0
    return float(np.where(ranks <= cutoff, 1 / np.log2(ranks + 1), 0).mean())
