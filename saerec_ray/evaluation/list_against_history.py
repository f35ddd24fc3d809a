"""Whether lists show the intents of a user in the shares that the history has (calibration, Steck 2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation.list_quality import popularity_lists
from saerec_ray.evaluation.scored_users import sample_cases, scored_users
from saerec_ray.evaluation.side_effects import divergence_terms
from saerec_ray.intents.population import Population, activation_mass, shrunk_shares
from saerec_ray.scoring import Indices, ItemSpace, PriorTable

LIST_LENGTH = 20
LISTS = ("own list", "list of another user", "popularity")
SHOWN_INTENTS = 10
BINS = 20

Doubles = npt.NDArray[np.float64]


def list_against_history(
    space: ItemSpace,
    table: PriorTable,
    users: EncodedUsers,
    population: Population,
    labels: Mapping[int, str],
    count: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """KL(profile || list) in nats for `count` users: 0 where the top 20 has the intents of the history in its shares.

    Both are shares of activation mass over all intents, drawn towards the population as in the verdicts: the
    profile over all known items, so that a short history asks for little, and the list over its 20 items. Plain
    shares of 20 items have none of most intents, and a list of many popular things would come out closest to
    everybody. Controls: the list of another user, and the most popular items. `intents` are those of `labels`,
    {intent: name}, whose terms add most to the KL of own lists: lists show them less, or to others, than histories
    do. `too_much` are those of which lists show most above histories.
    """
    chosen = sample_cases(users, count, seed)
    profiles, lists = [], []
    for done, user in enumerate(scored_users(space, table, users, chosen)):
        profiles.append(shrunk_shares(activation_mass(space.codes, user.history), population))
        lists.append(user.top(LIST_LENGTH))
        if on_progress:
            on_progress(done + 1, len(chosen))
    others = [lists[place] for place in np.roll(np.arange(len(lists)), 1)]
    popular = popularity_lists(space.popularity, users.cases, chosen, LIST_LENGTH)
    found = {
        name: _divergences(space, population, profiles, items)
        for name, items in zip(LISTS, (lists, others, popular), strict=True)
    }
    top = max(float(np.percentile(values, 99)) for values, *_ in found.values()) if len(chosen) else 1.0
    edges = np.linspace(0, max(top, 1e-6), BINS + 1)
    _, terms, shares = found[LISTS[0]]
    wanted = np.mean(profiles, axis=0) if profiles else np.zeros(space.intent_count)
    rows: list[dict[str, Any]] = [
        {
            "label": labels[intent],
            "share_of_histories": float(wanted[intent]),
            "share_of_lists": float(shares[intent]),
            "term": float(terms[intent]),
        }
        for intent in sorted(labels)
    ]
    missing = sorted(rows, key=lambda row: -row["term"])
    surplus = sorted(rows, key=lambda row: row["share_of_histories"] - row["share_of_lists"])
    return {
        "users": len(chosen),
        "list_length": LIST_LENGTH,
        "edges": edges.tolist(),
        "lists": {name: _summary(values, edges) for name, (values, *_) in found.items()},
        "intents": [row for row in missing[:SHOWN_INTENTS] if row["term"] > 0],
        "too_much": [
            row for row in surplus[:SHOWN_INTENTS] if row["share_of_lists"] > row["share_of_histories"]
        ],
    }


def _divergences(
    space: ItemSpace, population: Population, profiles: Sequence[Doubles], lists: Sequence[Indices]
) -> tuple[Doubles, Doubles, Doubles]:
    """KL of every user; and, over users, the mean term and the mean share of the list of every intent."""
    terms, shares = np.zeros(space.intent_count), np.zeros(space.intent_count)
    values = []
    for profile, items in zip(profiles, lists, strict=True):
        own = shrunk_shares(activation_mass(space.codes, items), population)
        each = divergence_terms(profile, own)
        values.append(float(each.sum()))
        terms += each
        shares += own
    users = max(len(values), 1)
    return np.array(values), terms / users, shares / users


def _summary(values: Doubles, edges: Doubles) -> dict[str, Any]:
    """Users beyond the last edge are counted in the last bin."""
    if len(values) == 0:
        return {"median": None, "p90": None, "histogram": [0] * (len(edges) - 1)}
    return {
        "median": float(np.median(values)),
        "p90": float(np.percentile(values, 90)),
        "histogram": np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist(),
    }
