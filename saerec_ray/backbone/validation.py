"""Where held-out items rank by the one score; the whole catalogue competes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from saerec_ray.backbone.companions import without_items
from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.scoring import ItemSpace, PriorTable, prior

Floats = npt.NDArray[np.float32]
Part = Literal["validation", "test"]

VALIDATION_CUTOFF = 10
"""Choices are made by NDCG@10."""
_USERS_AT_ONCE = 256
_SCORES_AT_ONCE = 1 << 25
"""128 MiB of float32: with a million items fewer users are scored at once."""
_TRANSPOSED_AT_ONCE = 32
"""Columns of a product that become rows while they are still in the cache of the CPU."""
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

    def with_targets_among(self, items: npt.NDArray[np.bool_]) -> HeldOut:
        """The cases with a target among the given items, (items,), and of their targets only those."""
        chosen = [case for case, targets in enumerate(self.targets) if items[targets].any()]
        kept = self.at(np.array(chosen, dtype=np.int64))
        return HeldOut(kept.users, kept.histories, [targets[items[targets]] for targets in kept.targets])

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

    Users without history or without targets in the part are left out. Raises ValueError for a part of another
    name, so that a slip of the pen never reads the test items.
    """
    if part not in get_args(Part):
        raise ValueError(f"{part!r} is no part that is held out: {', '.join(get_args(Part))}")
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

    def without_companions_among(self, items: npt.NDArray[np.bool_]) -> EncodedUsers:
        """The same users, to whom nothing leads to the given items, (items,)."""
        return replace(self, companions=without_items(self.companions, items))


def encode_users(encoder: UserEncoder, cases: HeldOut) -> EncodedUsers:
    """Encodes all cases, in batches of similar length."""
    order = np.argsort([len(history) for history in cases.histories], kind="stable")
    states = np.empty((len(cases), encoder.width), dtype=np.float32)
    profiles = np.empty((len(cases), encoder.intent_count), dtype=np.float32)
    companions: list[csr_array] = []
    for start in range(0, len(order), _USERS_AT_ONCE):
        rows = order[start : start + _USERS_AT_ONCE]
        users = encoder.encode([cases.histories[row] for row in rows])
        states[rows], profiles[rows] = users.states, users.profiles
        companions.append(users.companions)
    together = csr_array(vstack(companions, format="csr"))
    return EncodedUsers(cases, states, profiles, together[np.argsort(order, kind="stable")])


def users_at_once(items: int) -> int:
    """How many users to score together, so that memory is bounded however many items there are."""
    return max(1, min(_USERS_AT_ONCE, _SCORES_AT_ONCE // max(items, 1)))


def user_scores(space: ItemSpace, table: PriorTable, users: EncodedUsers) -> Iterator[tuple[int, Floats]]:
    """Base scores of all cases in batches: the first case of the batch and the scores (batch, items).

    The numbers of scoring.base_scores but for rounding. That keeps intents apart, which the inner product with whole
    item vectors need not: for many users it takes a fifth of the time.
    """
    at_once = users_at_once(space.item_count)
    for start in range(0, len(users.cases), at_once):
        rows = slice(start, start + at_once)
        scores = users.states[rows] @ space.item_vectors.T  # (batch, items)
        scores += space.biases
        if space.prior_weight:
            scores += np.float32(space.prior_weight) * prior_scores(space, table, users, rows)
        if space.companion_weight:
            scores += np.float32(space.companion_weight) * users.companions[rows].toarray()
        yield start, scores


def prior_scores(space: ItemSpace, table: PriorTable, users: EncodedUsers, rows: slice) -> Floats:
    """z_i . p_u of the cases in these rows, what lambda weighs in their scores: (rows, items)."""
    priors = prior(users.profiles[rows], table)
    found = np.empty((len(priors), space.item_count), dtype=np.float32)
    for start in range(0, len(priors), _TRANSPOSED_AT_ONCE):
        few = slice(start, start + _TRANSPOSED_AT_ONCE)
        found[few] = (space.codes @ priors[few].T).T
    return found


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
    ranks = [np.empty(0, dtype=np.int64)]
    for start, scores in batches():
        rows = slice(start, start + len(scores))
        ranks.append(_ranks(cases.histories[rows], cases.targets[rows], scores))
    return np.concatenate(ranks)


def _ranks(
    histories: list[npt.NDArray[np.int32]], targets: list[npt.NDArray[np.int32]], scores: Floats
) -> npt.NDArray[np.int64]:
    """The ranks of one batch, target after target: (targets,). Writes into `scores`, (batch, items)."""
    users = np.arange(len(scores))
    rows = np.repeat(users, [len(each) for each in targets])  # the user of each target
    wanted = np.concatenate(targets)
    own = scores[rows, wanted]
    own = np.where(np.isnan(own), -np.inf, own)
    scores[np.repeat(users, [len(each) for each in histories]), np.concatenate(histories)] = -np.inf
    scores[rows, wanted] = -np.inf
    ranks = np.empty(len(rows), dtype=np.int64)
    one_each = np.array_equal(rows, users)
    for start in range(0, len(rows), len(scores)):  # as many targets at a time as there are users
        some = slice(start, start + len(scores))
        rivals = scores if one_each else scores[rows[some]]
        ranks[some] = 1 + (~(rivals <= own[some, None])).sum(axis=1)
        for place in np.flatnonzero((rivals == own[some, None]).any(axis=1)):
            earlier = rivals[place, : wanted[start + place]]
            ranks[start + place] += int((earlier == own[start + place]).sum())
    return ranks


def ndcg(ranks: npt.NDArray[np.int64], cutoff: int) -> float:
    """Mean of 1 / log2(rank + 1) over targets ranked within the cutoff; each target counts alone."""
    if len(ranks) == 0:
        return 0.0
    return float(np.where(ranks <= cutoff, 1 / np.log2(ranks + 1), 0).mean())


def ndcg_of_weights(
    space: ItemSpace,
    table: PriorTable,
    users: EncodedUsers,
    added: Callable[[slice], Floats],
    weights: list[float],
) -> list[float]:
    """NDCG@VALIDATION_CUTOFF of the scores of `space` with something added to them, so many times: one number a weight.

    `added` gives it for the cases in some rows, (rows, items). All weights share what the scores cost.
    """
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in weights]
    for start, scores in user_scores(space, table, users):
        rows = slice(start, start + len(scores))
        histories, targets = users.cases.histories[rows], users.cases.targets[rows]
        more = added(rows)
        for ranks, weight in zip(found, weights, strict=True):
            ranks.append(_ranks(histories, targets, scores + np.float32(weight) * more))
    return [ndcg(np.concatenate(ranks), VALIDATION_CUTOFF) if ranks else 0.0 for ranks in found]
