"""The best items for one user: over the whole catalogue when it is small, over candidates when it is large.

Candidates are the items with the best h_u . e_i + b_i, found with FAISS, together with the heaviest carriers
of the intents that the prior or a boost lifts, and all companions of the history. They are scored exactly, and a
certificate tells whether any item left out could still belong to the list (the threshold algorithm of Fagin,
Lotem and Naor, 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.scoring import (
    Adjustment,
    Floats,
    Indices,
    ItemSpace,
    Mode,
    Shift,
    SteeringTable,
    apply_shifts,
    base_scores,
    shifts,
    top_items,
)

EXACT_LIMIT = 200_000
"""Catalogues up to this many items are scored whole."""
POOL_SIZE = 2_000
"""Dense candidates of a large catalogue, at least."""
POSTING_SIZE = 500
"""Carriers taken of each intent that the prior or a boost lifts."""
PRIOR_INTENTS = 32
"""How many of the prior's strongest intents get their carriers taken."""
REFERENCE_ITEMS = 20_000
"""Items whose scores measure the score spread of a large catalogue."""
GROWTH = 4
"""How much larger the second pool is when the first one is not certain."""
_ROUNDING = 1e-5

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Query:
    """What is asked for one user."""

    state: Floats  # h_u: (d_model,)
    prior: Floats  # p_u: (intents,)
    values: Floats  # q_u: (intents,)
    adjustments: Sequence[Adjustment]
    eligible: Mask  # items that may be returned: (items,)
    count: int
    companions: csr_array | None = None  # c_u: (1, items), where the score has companions
    popular: bool = False  # rank by popularity instead: the user has no history


@dataclass(frozen=True)
class Scored:
    """Scores of some items, ascending by index."""

    items: Indices
    base: Floats
    steering: list[Shift]
    steered: Floats


@dataclass(frozen=True)
class Listing:
    """The ranked list, best first, and whether it is certain to equal the list over the whole catalogue."""

    items: Indices
    scores: Floats
    exact: bool


class Retriever:
    """Ranks a catalogue for one query at a time; safe to share between threads."""

    def __init__(
        self,
        space: ItemSpace,
        table: SteeringTable,
        exact_limit: int = EXACT_LIMIT,
        pool_size: int = POOL_SIZE,
        posting_size: int = POSTING_SIZE,
    ) -> None:
        self._space = space
        self._table = table
        self._pool_size = pool_size
        self._posting_size = posting_size
        self._everything = np.arange(space.item_count, dtype=np.int64)
        self._large = space.item_count > exact_limit
        if self._large:
            places = np.linspace(0, space.item_count - 1, min(space.item_count, REFERENCE_ITEMS))
            self._reference = np.unique(places.astype(np.int64))
            self._reference_space = _rows(space, self._reference)
            self._index = _dense_index(space)
            self._most_intents = int(np.diff(space.codes.indptr).max(initial=0))
            self._heaviest_carriers  # noqa: B018 (built now, not during the first request)

    def score(self, query: Query) -> Scored:
        """Scores the whole catalogue."""
        return self._score(query, self._everything)

    def rank(self, query: Query) -> Listing:
        """The `count` best eligible items."""
        if not self._large or query.popular:
            return _best(self.score(query), query, exact=True)
        eligible = np.flatnonzero(query.eligible)
        pool_size = max(self._pool_size, query.count)
        listing = self._from_pool(query, pool_size, self._posting_size, eligible)
        if not listing.exact:
            listing = self._from_pool(query, GROWTH * pool_size, GROWTH * self._posting_size, eligible)
        return listing

    def steering(self, query: Query) -> list[Shift]:
        """The shifts of the query's adjustments over all items."""
        return shifts(self._space, self._table, self._spread_scores(query), query.values, query.adjustments)

    def _score(self, query: Query, items: Indices) -> Scored:
        whole = len(items) == self._space.item_count
        if query.popular:
            base = self._space.popularity[items]
        else:
            space = self._space if whole else _rows(self._space, items)
            base = base_scores(space, query.state[None], query.values[None], _of(query.companions, items))[0]
        if not query.adjustments:
            return Scored(items, base, [], base)
        if whole and not self._large:
            steering = shifts(self._space, self._table, base, query.values, query.adjustments)
        else:
            steering = self.steering(query)
        local = steering if whole else [_restricted(shift, items) for shift in steering]
        return Scored(items, base, steering, apply_shifts(base, local))

    def _spread_scores(self, query: Query) -> Floats:
        """The base scores whose spread limits the shifts: all of them, or those of a fixed sample."""
        if query.popular:
            return self._space.popularity
        space = self._reference_space if self._large else self._space
        companions = _of(query.companions, self._reference if self._large else self._everything)
        return np.asarray(base_scores(space, query.state[None], query.values[None], companions)[0])

    def _from_pool(self, query: Query, pool_size: int, posting_size: int, eligible: Indices) -> Listing:
        if pool_size >= len(eligible):
            return _best(self._score(query, eligible), query, exact=True)
        dense_items, dense_scores = self._dense_candidates(query, pool_size)
        gains, lifted = self._gains(query)
        pools, remaining = [dense_items], gains.most.copy()
        for intent in lifted:
            carriers, loadings = self._heaviest_carriers[intent]
            pools.append(carriers[:posting_size])
            cut = float(loadings[posting_size]) if len(loadings) > posting_size else 0.0
            remaining[intent] = gains.at(intent, cut)
        if query.companions is not None and self._space.companion_weight:
            pools.append(query.companions.indices.astype(np.int64))  # so no item outside has companions' part
        pool = np.unique(np.concatenate(pools))
        scored = self._score(query, pool[query.eligible[pool]])
        listing = _best(scored, query, exact=False)
        # An item outside carries no more intents than any item does, each at most at its cut.
        count = min(self._most_intents, len(remaining))
        outside = float(dense_scores[-1]) + float(np.partition(remaining, -count)[-count:].sum())
        certain = len(listing.items) >= query.count and listing.scores[-1] >= outside + _ROUNDING * max(
            1.0, abs(outside)
        )
        return Listing(listing.items, listing.scores, exact=bool(certain))

    def _dense_candidates(self, query: Query, count: int) -> tuple[Indices, Floats]:
        vector = np.append(query.state, np.float32(1.0))[None].astype(np.float32)
        bits = np.packbits(query.eligible, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)  # type: ignore[arg-type,call-arg]
        params = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        scores, items = self._index.search(vector, count, params=params)
        found = items[0] >= 0
        return items[0][found].astype(np.int64), scores[0][found]

    def _gains(self, query: Query) -> tuple[_Gains, Indices]:
        """What intents can add to the dense score of an item, and the intents whose carriers to take."""
        rate = np.maximum(self._space.prior_weight * query.prior, 0).astype(np.float64)
        steps = np.zeros_like(rate)
        for shift in self.steering(query):
            if shift.adjustment.mode is Mode.BOOST:
                steps[shift.adjustment.intent] += shift.step
        gains = _Gains(rate, steps, self._table.loading_caps, self._largest_loadings)
        strongest = np.argsort(-gains.most, kind="stable")[:PRIOR_INTENTS]
        lifted = np.union1d(strongest[gains.most[strongest] > 0], np.flatnonzero(steps))
        return gains, lifted.astype(np.int64)

    @cached_property
    def _largest_loadings(self) -> Floats:
        return np.asarray(self._space.codes.max(axis=0).todense(), dtype=np.float32).ravel()

    @cached_property
    def _heaviest_carriers(self) -> list[tuple[Indices, Floats]]:
        """Carriers of every intent, heaviest first."""
        result = []
        for intent in range(self._space.intent_count):
            items, loadings = self._space.carriers(intent)
            order = np.argsort(-loadings, kind="stable")
            result.append((items[order], loadings[order]))
        return result


@dataclass(frozen=True)
class _Gains:
    """An upper bound on what one intent adds to an item beyond the dense score, by its loading z.

    rate z from the prior, step min(z, cap) from a boost; avoid, suppress and exclude add nothing.
    """

    rate: npt.NDArray[np.float64]
    steps: npt.NDArray[np.float64]
    caps: Floats
    largest: Floats

    @cached_property
    def most(self) -> npt.NDArray[np.float64]:
        """At the largest loading any item has: (intents,)."""
        gain = self.rate * self.largest + self.steps * np.minimum(self.largest, self.caps)
        return np.asarray(gain, dtype=np.float64)

    def at(self, intent: int, loading: float) -> float:
        """At one loading."""
        return float(self.rate[intent] * loading + self.steps[intent] * min(loading, self.caps[intent]))


def _rows(space: ItemSpace, items: Indices) -> ItemSpace:
    return ItemSpace(
        codes=csr_array(space.codes[items]),
        intent_vectors=space.intent_vectors,
        residuals=space.residuals[items],
        biases=space.biases[items],
        popularity=space.popularity[items],
        prior_weight=space.prior_weight,
        companion_weight=space.companion_weight,
    )


def _of(companions: csr_array | None, items: Indices) -> csr_array | None:
    """The part of c_u of some items, ascending: (1, items given)."""
    if companions is None or len(items) == companions.shape[1]:
        return companions
    return csr_array(companions[:, items])


def _restricted(shift: Shift, items: Indices) -> Shift:
    """The shift in terms of places in `items`, which are ascending."""
    kept = np.isin(shift.items, items)
    places = np.searchsorted(items, shift.items[kept])
    return Shift(shift.adjustment, places, shift.changes[kept], shift.step)


def _best(scored: Scored, query: Query, *, exact: bool) -> Listing:
    allowed = np.where(query.eligible[scored.items], scored.steered, -np.inf)
    places = top_items(allowed, query.count)
    return Listing(scored.items[places], scored.steered[places], exact)


def _dense_index(space: ItemSpace) -> faiss.IndexFlatIP:
    """Exact inner products of [h_u, 1] with [e_i, b_i], always built from the arrays."""
    faiss.omp_set_num_threads(1)
    vectors = np.column_stack([space.item_vectors, space.biases]).astype(np.float32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index
