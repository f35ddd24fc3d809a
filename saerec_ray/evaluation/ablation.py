"""Whether the cited intents are what puts an item where it is: take them away and see how far it falls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation.cited_intents import (
    Cite,
    cited_intents,
    densities,
    matched_by_density,
    speaking_intents,
)
from saerec_ray.evaluation.intervals import bootstrap_interval, mean_by_user
from saerec_ray.evaluation.scored_users import ScoredUser, rank_without, sample_cases, scored_users
from saerec_ray.scoring import Indices, ItemSpace, PriorTable, rank_of

LIST_LENGTH = 10
REMOVED = (1, 2, 3, 5)
CONTROLS = ("other_reasons", "same_item", "same_user")
"""The strictest first."""


def rank_drop(space: ItemSpace, user: ScoredUser, item: int, intents: Indices) -> int:
    """How many places the item falls when the intents are worth nothing to the user; negative when it rises."""
    return rank_without(space, user, item, intents) - rank_of(user.eligible_scores, item)


def cited_against_random(
    space: ItemSpace,
    table: PriorTable,
    users: EncodedUsers,
    count: int,
    seed: int,
    cite: Cite = cited_intents,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """What removals finds of `count` of the users."""
    chosen = sample_cases(users, count, seed)

    def told() -> Iterator[ScoredUser]:
        for done, user in enumerate(scored_users(space, table, users, chosen), start=1):
            yield user
            if on_progress:
                on_progress(done, len(chosen))

    return removals(space, told(), seed, cite)


def removals(
    space: ItemSpace,
    users: Iterable[ScoredUser],
    seed: int,
    cite: Cite = cited_intents,
) -> dict[str, Any]:
    """Removes the m first reasons of each item in the top 10 of each user, and m random intents.

    `cite` says what the reasons are. Those of a server are ordered by this very fall, one by one, so with m = 1 the
    control wins where a reason that is not listed has a larger one, and ties where nothing moves the item.
    The removed intents are worth nothing for all items (q_uf := 0), and the catalogue is ranked again. Three
    controls, each matched to the cited intents by density and free of them:
    other_reasons   other intents that the item carries and that speak for it: only strength tells them from the cited
    same_item       other intents that the item carries, also such as speak against it
    same_user       other intents of the items the user has met
    For each m and control: cases, median rank drops, their ratio (null when the control's median is not
    above 0), the share of cases in which the cited intents make the item fall further (mean over users), and
    of ties. A case with fewer than m reasons or m candidates for the control is left out.
    """
    rng = np.random.default_rng(seed)
    density = densities(space)
    pairs: dict[tuple[int, str], list[tuple[int, int, int]]] = defaultdict(list)
    for user in users:
        own = np.flatnonzero(user.profile > 0)
        for item in user.top(LIST_LENGTH).tolist():
            reasons = cite(space, user, item, max(REMOVED))
            carried = space.code(item)[0]
            speaking = speaking_intents(space, user, item)
            for m in REMOVED:
                if len(reasons) < m:
                    break
                cited = rank_drop(space, user, item, reasons[:m])
                for name, candidates in zip(CONTROLS, (speaking, carried, own), strict=True):
                    drawn = matched_by_density(reasons[:m], candidates, density, rng)
                    if drawn is not None:
                        pairs[m, name].append((user.case, cited, rank_drop(space, user, item, drawn)))
    return {
        str(m): {name: _compare(pairs[m, name], seed) for name in CONTROLS if pairs[m, name]} for m in REMOVED
    }


def _compare(pairs: list[tuple[int, int, int]], seed: int) -> dict[str, Any]:
    cases, cited, drawn = np.asarray(pairs, dtype=np.int64).T
    wins, ties = (mean_by_user(each.astype(np.float64), cases) for each in (cited > drawn, cited == drawn))
    typical = float(np.median(drawn))
    return {
        "cases": len(pairs),
        "median_drop_cited": float(np.median(cited)),
        "median_drop_random": typical,
        "ratio": float(np.median(cited)) / typical if typical > 0 else None,
        "mean_drop_cited": float(cited.mean()),
        "mean_drop_random": float(drawn.mean()),
        "win_rate": float(wins.mean()),
        "win_rate_interval": list(bootstrap_interval(wins, seed)),
        "ties": float(ties.mean()),
    }
