"""From a history to a ranked and explained list: plain arrays, no gRPC and no store.

Recommend, ExplainUser and the preview of a steering write all rank through this module.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.bundle import Bundle
from saerec_ray.evidence import COMPARED_ITEMS, Evidence, by_places_moved, history_evidence, listed_intents
from saerec_ray.retrieval import Mask, Query, Retriever, Scored
from saerec_ray.scoring import (
    Adjustment,
    Floats,
    Indices,
    Parts,
    companion_parts,
    decompose,
    excluded_items,
    intent_values,
    prior,
    rank_of,
    top_items,
)
from saerec_server.history_items import HistoryItems

LISTED_COMPANIONS = 3


@dataclass(frozen=True)
class User:
    """What the model knows of one user."""

    history: Indices  # places in HistoryItems of what the model read, oldest first
    weights: Floats  # alpha_t, how much each counts in the profile; sums to 1
    profile: Floats  # a_u: (intents,)
    state: Floats  # h_u: (d_model,)
    prior: Floats  # p_u: (intents,)
    values: Floats  # q_u: (intents,)
    companions: csr_array  # c_u: (1, items)

    @property
    def cold(self) -> bool:
        """Whether nothing is known of the user, so that items are ranked by popularity."""
        return len(self.history) == 0


@dataclass(frozen=True)
class CompanionPart:
    """A history item, by its place in `User.history`, and what having taken it adds to one item's score."""

    place: int
    contribution: float


@dataclass(frozen=True)
class IntentReason:
    """What one intent adds to one item."""

    intent: int
    contribution: float
    contribution_vs_average: float
    rank_without: int


@dataclass(frozen=True)
class ItemReasons:
    """The parts of one item's score: intents, other, residual, bias, companions and steering sum to it."""

    intents: list[IntentReason]
    other_intents: float
    residual: float
    bias: float
    companions: float
    steering: list[tuple[int, float]]  # intent and what its adjustment adds
    unsteered_rank: int  # 0 when no adjustment acts
    evidence: list[Evidence]
    companion_parts: list[CompanionPart]  # the strongest of the companions' part, strongest first
    companions_by_text: bool  # nobody took the item in training: its companions are judged by texts


class Ranking:
    """One user's list under some adjustments, with what is needed to explain it."""

    def __init__(
        self,
        ranker: Ranker,
        user: User,
        adjustments: Sequence[Adjustment],
        allowed: Mask,
        count: int,
    ) -> None:
        """`allowed` marks the items that the filter lets through, before any EXCLUDE adjustment."""
        self._ranker = ranker
        self.user = user
        self.adjustments = list(adjustments)
        self._allowed = allowed
        eligible = allowed
        forbidden = excluded_items(ranker.bundle.space, adjustments)
        if len(forbidden):
            eligible = allowed.copy()
            eligible[forbidden] = False
        self._eligible = eligible
        self._query = Query(
            user.state,
            user.prior,
            user.values,
            self.adjustments,
            eligible,
            count,
            companions=user.companions,
            popular=user.cold,
        )
        listing = ranker.retriever.rank(self._query)
        self.items = listing.items  # best first
        self.scores = listing.scores
        self.exact = listing.exact

    @cached_property
    def scored(self) -> Scored:
        """Scores of the whole catalogue."""
        return self._ranker.retriever.score(self._query)

    @cached_property
    def eligible_scores(self) -> Floats:
        """Steered scores of the whole catalogue, minus infinity where an item may not be returned."""
        return np.where(self._eligible, self.scored.steered, np.float32(-np.inf))

    @cached_property
    def unsteered_scores(self) -> Floats:
        """The same without any adjustment."""
        return np.where(self._allowed, self.scored.base, np.float32(-np.inf))

    def best(self, count: int) -> Indices:
        """The user's best items that the filter lets through, without any adjustment, best first."""
        return top_items(self.unsteered_scores, count)

    def scores_without(self, intent: int) -> Floats:
        """The scores if the intent counted for nothing: neither its contribution nor its steering."""
        items, loadings = self._ranker.bundle.space.carriers(intent)
        scores = self.eligible_scores.copy()
        scores[items] -= self.user.values[intent] * loadings
        for shift in self.scored.steering:
            if shift.adjustment.intent == intent:
                scores[shift.items] -= shift.changes
        return scores


class Ranker:
    """Ranks and explains with one bundle; safe to share between threads."""

    def __init__(
        self, bundle: Bundle, encoder: UserEncoder, retriever: Retriever, history: HistoryItems
    ) -> None:
        """`encoder` reads histories in the space of `history`; everything is ranked in that of the bundle."""
        self.bundle = bundle
        self.history = history
        self.retriever = retriever
        self._encoder = encoder
        self.published = np.array([intent.published for intent in bundle.catalogue.intents])

    def user(self, history: Sequence[int]) -> User:
        """Reads a history of places in HistoryItems, oldest first; an empty one makes a cold user."""
        space = self.bundle.space
        recent = np.asarray(history, dtype=np.int64)[-self._encoder.max_length :]
        if len(recent) == 0:
            nothing = np.zeros(space.intent_count, dtype=np.float32)
            state = np.zeros(space.intent_vectors.shape[1], dtype=np.float32)
            alone = csr_array((1, space.item_count), dtype=np.float32)
            return User(recent, np.zeros(0, dtype=np.float32), nothing, state, nothing, nothing, alone)
        encoded = self._encoder.encode([recent])
        priors = prior(encoded.profiles, self.bundle.prior)
        return User(
            history=recent,
            weights=encoded.history_weights[0],
            profile=encoded.profiles[0],
            state=encoded.states[0],
            prior=priors[0],
            values=intent_values(space, encoded.states, priors)[0],
            companions=encoded.companions,
        )

    def rank(self, user: User, adjustments: Sequence[Adjustment], allowed: Mask, count: int) -> Ranking:
        """The `count` best items the filter allows."""
        return Ranking(self, user, adjustments, allowed, count)

    def explain(self, ranking: Ranking) -> list[ItemReasons]:
        """Why each listed item got its score, in the order of the list."""
        user, items = ranking.user, ranking.items.tolist()
        if user.cold:
            return [self._popularity_reasons(ranking, item) for item in items]
        parts = [
            decompose(self.bundle.space, user.state, user.values, item, user.companions) for item in items
        ]
        usual = user.values * self.bundle.space.mean_code_of(ranking.best(COMPARED_ITEMS))
        listed = [listed_intents(each, usual, self.published) for each in parts]
        named = [each.intents[places].tolist() for each, places in zip(parts, listed, strict=True)]
        ranks = _ranks_without(ranking, items, named)
        return [
            self._item_reasons(ranking, item, known, places, without)
            for item, known, places, without in zip(items, parts, listed, ranks, strict=True)
        ]

    def _popularity_reasons(self, ranking: Ranking, item: int) -> ItemReasons:
        popularity = float(self.bundle.space.popularity[item])
        steering, before = _steering_of(ranking, item), _unsteered_rank(ranking, item)
        return ItemReasons([], 0.0, 0.0, popularity, 0.0, steering, before, [], [], False)

    def _item_reasons(
        self, ranking: Ranking, item: int, parts: Parts, listed: Indices, ranks: Sequence[int]
    ) -> ItemReasons:
        user = ranking.user
        order = by_places_moved(rank_of(ranking.eligible_scores, item), ranks)
        reasons = [
            IntentReason(
                intent=int(parts.intents[listed[place]]),
                contribution=float(parts.contributions[listed[place]]),
                contribution_vs_average=float(parts.contributions_vs_average[listed[place]]),
                rank_without=ranks[place],
            )
            for place in order
        ]
        others = np.delete(parts.contributions, listed)
        return ItemReasons(
            intents=reasons,
            other_intents=float(others.sum(dtype=np.float64)),
            residual=parts.residual,
            bias=parts.bias,
            companions=parts.companions,
            steering=_steering_of(ranking, item),
            unsteered_rank=_unsteered_rank(ranking, item),
            evidence=history_evidence(
                self.history.space.codes,
                user.history,
                user.weights,
                parts.intents[listed],
                parts.contributions[listed],
            ),
            companion_parts=self._companion_parts(user, item) if parts.companions else [],
            companions_by_text=bool(parts.companions) and bool(self.bundle.space.popularity[item] == 0),
        )

    def _companion_parts(self, user: User, item: int) -> list[CompanionPart]:
        parts = companion_parts(self.history.space, user.history, item)
        strongest = np.argsort(-parts, kind="stable")[:LISTED_COMPANIONS]
        return [CompanionPart(int(place), float(parts[place])) for place in strongest if parts[place] > 0]

    def evidence_of_intent(self, user: User, intent: int, count: int) -> list[Evidence]:
        """The history items that activate one intent, and their shares of its activation."""
        whole = np.ones(1, dtype=np.float32)
        codes = self.history.space.codes
        return history_evidence(codes, user.history, user.weights, np.array([intent]), whole, count)


def _ranks_without(ranking: Ranking, items: Sequence[int], named: Sequence[Sequence[int]]) -> list[list[int]]:
    """The rank of each item without each of the intents named for it, in the order of `named`.

    Intent by intent: the scores without one are as long as the catalogue, and only those of one are held at a time.
    """
    listing = defaultdict[int, list[int]](list)
    for item, intents in zip(items, named, strict=True):
        for intent in intents:
            listing[intent].append(item)
    ranks: dict[tuple[int, int], int] = {}
    for intent, carriers in listing.items():
        scores = ranking.scores_without(intent)
        ranks |= {(item, intent): rank_of(scores, item) for item in carriers}
    return [[ranks[item, intent] for intent in intents] for item, intents in zip(items, named, strict=True)]


def _steering_of(ranking: Ranking, item: int) -> list[tuple[int, float]]:
    """The intents that steering acts on, and what it adds to one item."""
    return [
        (shift.adjustment.intent, change_of(shift.items, shift.changes, item))
        for shift in ranking.scored.steering
    ]


def _unsteered_rank(ranking: Ranking, item: int) -> int:
    """The item's rank without any adjustment; 0 when none acts."""
    return rank_of(ranking.unsteered_scores, item) if ranking.adjustments else 0


def change_of(items: Indices, changes: Floats, item: int) -> float:
    """What a shift adds to one item; `items` are ascending."""
    place = int(np.searchsorted(items, item))
    found = place < len(items) and items[place] == item
    return float(changes[place]) + 0.0 if found else 0.0  # -0.0 would read as a change
