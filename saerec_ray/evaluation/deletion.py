"""Deletion and insertion curves: intents removed or kept in the order of an explanation, for the whole list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation.scored_users import ScoredUser, sample_cases, scored_users
from saerec_ray.scoring import Floats, Indices, ItemSpace, PriorTable, top_items

LIST_LENGTH = 10
CUTOFFS = (5, 10, 20)
SHARES = tuple(step / 10 for step in range(11))
LEAST_FALL = 0.05
"""Of what the intents of a list add and take away: below it a curve in units of the fall is mostly noise."""
ORDERS = ("contribution", "random", "activation", "user")

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ListIntents:
    """The intents that the items of one list carry, with what an order may go by; arrays are (intents,)."""

    intents: Indices
    contributions: Doubles  # sum over the list of q_uf z_if
    activations: Doubles  # sum over the list of z_if
    user_weights: Doubles  # a_uf, the user's profile

    def order(self, by: str, rng: np.random.Generator) -> Indices:
        """The intents, most important first, by one of ORDERS; ties by number."""
        weights = {
            "contribution": self.contributions,
            "random": rng.random(len(self.intents)),
            "activation": self.activations,
            "user": self.user_weights,
        }[by]
        return self.intents[np.argsort(-weights, kind="stable")]


def list_intents(space: ItemSpace, user: ScoredUser, items: Indices) -> ListIntents:
    """What the items of a list carry."""
    activations = np.asarray(space.codes[items].sum(axis=0), dtype=np.float64).ravel()
    intents = np.flatnonzero(activations).astype(np.int64)
    return ListIntents(
        intents=intents,
        contributions=activations[intents] * user.values[intents],
        activations=activations[intents],
        user_weights=user.profile[intents].astype(np.float64),
    )


def scores_by_removal(space: ItemSpace, user: ScoredUser, order: Indices) -> Floats:
    """Scores of all items when the first 0%, 10%, ..., 100% of `order` are worth nothing: (steps, items)."""
    removed = np.zeros((space.intent_count, len(SHARES)), dtype=np.float32)
    for step, share in enumerate(SHARES):
        first = order[: round(share * len(order))]
        removed[first, step] = user.values[first]
    return np.asarray(user.scores - (space.codes @ removed).T, dtype=np.float32)


def normalised(list_scores: Doubles, full: float, empty: float) -> Doubles:
    """Scores on the scale from 0, all of the list's intents removed, to 1, none removed."""
    return (list_scores - empty) / (full - empty)


def area(curve: Doubles) -> float:
    """Area under a curve over SHARES."""
    return float(np.trapezoid(curve, SHARES))


def deletion_and_insertion(
    space: ItemSpace,
    table: PriorTable,
    users: EncodedUsers,
    count: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The curves of `count` random users, averaged over the items of each list and then over users.

    The intents are those the top 10 carry. Deletion takes away the first x% of an order, so that a good
    order falls fast (small area); insertion keeps only them, so that a good order rises fast (large area).
    Orders: `contribution` is the explanation; `random`, `activation` (z alone) and `user` (the profile
    alone) are controls. Users whose lists lose next to nothing when all intents go, because what these add and
    take away is about as much, have no such curve; they are counted as left out. POS@K and NEG@K: share of the
    top K still there after the first, or the last, x% went, averaged over x = 10% ... 90%; a good order has low
    POS and high NEG.
    """
    rng = np.random.default_rng(seed)
    curves: dict[str, dict[str, list[Doubles]]] = {name: {"deletion": [], "insertion": []} for name in ORDERS}
    kept: dict[str, dict[str, list[Doubles]]] = {name: {"POS": [], "NEG": []} for name in ORDERS}
    left_out = 0
    chosen = sample_cases(users, count, seed)
    for done, user in enumerate(scored_users(space, table, users, chosen)):
        items = user.top(LIST_LENGTH)
        found = list_intents(space, user, items)
        for name in ORDERS:
            order = found.order(name, rng)
            forwards = scores_by_removal(space, user, order)
            backwards = scores_by_removal(space, user, order[::-1])
            deletion = forwards[:, items].mean(axis=1, dtype=np.float64)
            insertion = backwards[::-1][:, items].mean(axis=1, dtype=np.float64)
            full, empty = float(deletion[0]), float(deletion[-1])
            if full - empty <= LEAST_FALL * np.abs(found.contributions).sum() / len(items):
                left_out += name == ORDERS[0]
            else:
                curves[name]["deletion"].append(normalised(deletion, full, empty))
                curves[name]["insertion"].append(normalised(insertion, full, empty))
            kept[name]["POS"].append(_still_listed(user, forwards))
            kept[name]["NEG"].append(_still_listed(user, backwards))
        if on_progress:
            on_progress(done + 1, len(chosen))
    return {
        "users": len(chosen),
        "left_out": left_out,
        "shares": list(SHARES),
        "orders": {name: _summary(curves[name], kept[name]) for name in ORDERS},
    }


def _still_listed(user: ScoredUser, scores: Floats) -> Doubles:
    """Share of the top K that is still in it at every step but the first and last: (cutoffs,)."""
    longest = max(CUTOFFS)
    base = user.top(longest)
    shares = np.zeros(len(CUTOFFS))
    for step in scores[1:-1]:
        now = top_items(user.eligible(step), longest)
        shares += [len(np.intersect1d(base[:k], now[:k])) / max(len(base[:k]), 1) for k in CUTOFFS]
    return shares / max(len(scores) - 2, 1)


def _summary(curves: dict[str, list[Doubles]], kept: dict[str, list[Doubles]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, each in curves.items():
        if each:
            mean = np.mean(each, axis=0)
            result[name] = mean.tolist()
            result[f"{name}_area"] = area(mean)
    for name, shares in kept.items():
        means = np.mean(shares, axis=0) if shares else np.zeros(len(CUTOFFS))
        result |= {f"{name}@{cutoff}": float(mean) for cutoff, mean in zip(CUTOFFS, means, strict=True)}
    return result
