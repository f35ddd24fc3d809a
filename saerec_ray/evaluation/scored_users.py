"""Users with their scores in hand, one at a time: what every measurement after accuracy starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.backbone.validation import EncodedUsers, HeldOut
from saerec_ray.evidence import COMPARED_ITEMS
from saerec_ray.scoring import (
    Floats,
    Indices,
    ItemSpace,
    PriorTable,
    base_scores,
    intent_values,
    prior,
    rank_of,
    top_items,
)

_USERS_AT_ONCE = 64


@dataclass(frozen=True)
class ScoredUser:
    """One case with everything its scores were made of."""

    case: int  # row in the encoded users
    state: Floats  # h_u: (d_model,)
    profile: Floats  # a_u: (intents,)
    values: Floats  # q_u: (intents,)
    history: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]
    scores: Floats  # s(u, i) of all items, seen or not: (items,)
    companions: csr_array  # c_u: (1, items)
    best_code: Floats  # mean code of the COMPARED_ITEMS best unseen items: (intents,)

    @cached_property
    def usual(self) -> Floats:
        """What each intent adds to these items on average: (intents,)."""
        return self.values * self.best_code

    def eligible(self, scores: Floats) -> Floats:
        """A copy of any scores (items,) in which the items of the history stand at minus infinity."""
        return _without(scores, self.history)

    @cached_property
    def eligible_scores(self) -> Floats:
        """The base scores with the history at minus infinity: (items,)."""
        return self.eligible(self.scores)

    def top(self, count: int) -> Indices:
        """The user's list: the best unseen items, best first."""
        return top_items(self.eligible_scores, count)


def sample_cases(users: EncodedUsers | HeldOut, count: int, seed: int) -> Indices:
    """At most `count` random cases, ascending; the same seed gives the same cases."""
    cases = users if isinstance(users, HeldOut) else users.cases
    chosen = np.random.default_rng(seed).permutation(len(cases))[:count]
    return np.sort(chosen).astype(np.int64)


def scored_users(
    space: ItemSpace, table: PriorTable, users: EncodedUsers, cases: Sequence[int] | Indices
) -> Iterator[ScoredUser]:
    """Scores the given cases, in their order, a few at a time."""
    chosen = np.asarray(cases, dtype=np.int64)
    for start in range(0, len(chosen), _USERS_AT_ONCE):
        batch = chosen[start : start + _USERS_AT_ONCE]
        states, profiles = users.states[batch], users.profiles[batch]
        values = intent_values(space, states, prior(profiles, table))
        companions = users.companions[batch]
        scores = base_scores(space, states, values, companions)
        for row, case in enumerate(batch):
            best = top_items(_without(scores[row], users.cases.histories[case]), COMPARED_ITEMS)
            yield ScoredUser(
                case=int(case),
                state=states[row],
                profile=profiles[row],
                values=values[row],
                history=users.cases.histories[case],
                targets=users.cases.targets[case],
                scores=scores[row],
                companions=companions[[row]],
                best_code=space.mean_code_of(best),
            )


def _without(scores: Floats, items: npt.NDArray[np.int32]) -> Floats:
    """A copy in which some items stand at minus infinity."""
    masked = scores.copy()
    masked[items] = -np.inf
    return masked


def without_intents(space: ItemSpace, user: ScoredUser, intents: Indices) -> Floats:
    """The user's scores if the given intents were worth nothing to them, q_uf := 0 for all items: (items,)."""
    scores = user.scores.copy()
    for intent in intents:
        items, loadings = space.carriers(int(intent))
        scores[items] -= user.values[intent] * loadings
    return scores


def rank_without(space: ItemSpace, user: ScoredUser, item: int, intents: Indices) -> int:
    """The item's place in the user's list if the intents were worth nothing to the user."""
    return rank_of(user.eligible(without_intents(space, user, intents)), item)
