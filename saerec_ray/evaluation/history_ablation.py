"""What explanations have to do with the history: items removed from it, and the user encoded again.

This is another claim than that of the ablation of intents. Contributions are exact parts of the score; that
the cited intents came from certain purchases is only as true as this measurement says. Here all history items go that
carry the three first reasons; the few that a server names are those of evidence_ablation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.validation import EncodedUsers, HeldOut, encode_users
from saerec_ray.evaluation.cited_intents import Cite, cited_intents
from saerec_ray.evaluation.intervals import bootstrap_interval, mean_by_user
from saerec_ray.evaluation.scored_users import ScoredUser, sample_cases, scored_users
from saerec_ray.scoring import Indices, ItemSpace, PriorTable, rank_of

LIST_LENGTH = 10
EXPLAINED_ITEMS = 3
CITED = 3
VARIANTS = (("any_item", False), ("last_item_kept", True))
"""What may be removed, and whether the latest item, which counts most in any sequence model, stays."""

History = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Cut:
    """One item of a list with two histories shortened by the same number of items."""

    user: ScoredUser
    item: int
    without_chosen: History
    without_random: History


def cut(
    user: ScoredUser, item: int, history: History, chosen: Indices, others: Indices, rng: np.random.Generator
) -> Cut | None:
    """The history without the places `chosen`, and without as many random ones of `others`.

    None where there is nothing to compare: no place was chosen, there are too few others, or nothing would be left.
    """
    if len(chosen) == 0 or len(others) < len(chosen) or len(chosen) == len(history):
        return None
    drawn = rng.choice(others, len(chosen), replace=False)
    return Cut(user, item, np.delete(history, chosen), np.delete(history, drawn))


def cuts(
    space: ItemSpace,
    user: ScoredUser,
    rng: np.random.Generator,
    *,
    keep_last: bool,
    longest: int,
    cite: Cite = cited_intents,
) -> list[Cut]:
    """The cuts for the first items of a user's list; none for an item whose history cannot be compared.

    Carriers are history items with one of the cited intents among the `longest` that the encoder reads; the
    random ones are drawn among the others. Both must leave something, so at least one item stays in each.
    With `keep_last` the latest item, which counts most in any sequence model, is removed by neither.
    """
    history = user.history[-longest:]
    removable = np.arange(len(history) - 1 if keep_last else len(history))
    result = []
    for item in user.top(EXPLAINED_ITEMS).tolist():
        reasons = cite(space, user, item, CITED)
        if len(reasons) == 0:
            continue
        carries = np.asarray(space.codes[history][:, reasons].sum(axis=1)).ravel() > 0
        carriers = removable[carries[removable]]
        others = removable[~carries[removable]]
        if made := cut(user, item, history, carriers, others, rng):
            result.append(made)
    return result


def history_faithfulness(
    space: ItemSpace,
    table: PriorTable,
    encoder: UserEncoder,
    users: EncodedUsers,
    count: int,
    seed: int,
    cite: Cite = cited_intents,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Rank drop without the history items that carry the cited intents, against equally many random ones.

    For the first 3 items of the lists of `count` users and at most 3 reasons of each, with the latest item
    removable (`any_item`) and not (`last_item_kept`). The same items stay out of the ranking as before, so a
    removed one does not compete. `compared` says how many items could be: histories in which most items
    carry a cited intent have nothing to compare with.
    """
    chosen = sample_cases(users, count, seed)

    def made(rng: np.random.Generator, keep_last: bool) -> list[Cut]:
        return [
            each
            for user in scored_users(space, table, users, chosen)
            for each in cuts(space, user, rng, keep_last=keep_last, longest=encoder.max_length, cite=cite)
        ]

    compared = compare_variants(space, table, encoder, made, "carriers", seed, on_progress)
    return {"users": len(chosen), **compared}


def compare_variants(
    space: ItemSpace,
    table: PriorTable,
    encoder: UserEncoder,
    made: Callable[[np.random.Generator, bool], list[Cut]],
    removed: str,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """What compare_cuts finds of each of VARIANTS; one without any cut is left out.

    `made` gives the cuts, with a generator of its own each time and whether the latest item stays.
    """
    result: dict[str, Any] = {}
    for part, (name, keep_last) in enumerate(VARIANTS):
        if found := made(np.random.default_rng(seed), keep_last):
            result[name] = compare_cuts(space, table, encoder, found, removed, seed)
        if on_progress:
            on_progress(part + 1, len(VARIANTS))
    return result


def compare_cuts(
    space: ItemSpace, table: PriorTable, encoder: UserEncoder, found: list[Cut], removed: str, seed: int
) -> dict[str, Any]:
    """How far the items fall without what was chosen, called `removed`, and without the random ones.

    Of `found`, which is not empty: rank drops, their ratio (null where the median of the random ones is not above 0),
    and how often what was chosen makes an item fall further (`win_rate`), as far (`ties`) or less far (`loss_rate`):
    means over users, so that the three sum to 1.
    """
    histories = [each.without_chosen for each in found] + [each.without_random for each in found]
    again = encoded_again(space, table, encoder, histories)
    ranks = np.array(
        [
            rank_of(each.user.eligible(user.scores), each.item)
            for each, user in zip([*found, *found], again, strict=True)
        ]
    )
    before = np.array([rank_of(each.user.eligible_scores, each.item) for each in found])
    chosen, drawn = ranks[: len(found)] - before, ranks[len(found) :] - before
    cases = np.array([each.user.case for each in found])
    wins, ties, losses = (
        mean_by_user(outcome.astype(np.float64), cases)
        for outcome in (chosen > drawn, chosen == drawn, chosen < drawn)
    )
    typical = float(np.median(drawn))
    return {
        "compared": len(found),
        f"median_drop_{removed}": float(np.median(chosen)),
        "median_drop_random": typical,
        "ratio": float(np.median(chosen)) / typical if typical > 0 else None,
        f"mean_drop_{removed}": float(chosen.mean()),
        "mean_drop_random": float(drawn.mean()),
        "win_rate": float(wins.mean()),
        "win_rate_interval": list(bootstrap_interval(wins, seed)),
        "ties": float(ties.mean()),
        "loss_rate": float(losses.mean()),
    }


def encoded_again(
    space: ItemSpace, table: PriorTable, encoder: UserEncoder, histories: list[History]
) -> Iterator[ScoredUser]:
    """Users with these histories, encoded and scored one after the other."""
    if not histories:
        return iter(())
    nothing = [np.empty(0, dtype=np.int32)] * len(histories)
    users = encode_users(encoder, HeldOut(np.arange(len(histories)), histories, nothing))
    return scored_users(space, table, users, np.arange(len(histories)))


def stability(
    space: ItemSpace,
    table: PriorTable,
    encoder: UserEncoder,
    users: EncodedUsers,
    count: int,
    seed: int,
    cite: Cite = cited_intents,
) -> dict[str, Any]:
    """How much the 3 first reasons of an item change when one random history item, not the last, is gone.

    The mean Jaccard overlap of the reasons before and after, over the items of the top 10; 1 is no change.
    `by_chance` is that of the reasons before with as many random intents of the item as there are reasons after.
    Items without reasons before and after, and users with fewer than 3 items in their history are left out.
    """
    rng = np.random.default_rng(seed)
    chosen = sample_cases(users, count, seed)
    before = [
        user
        for user in scored_users(space, table, users, chosen)
        if min(len(user.history), encoder.max_length) > 2
    ]
    histories = []
    for user in before:
        history = user.history[-encoder.max_length :]
        histories.append(np.delete(history, rng.integers(len(history) - 1)))
    overlaps, chances = [], []
    drawing = np.random.default_rng([seed, 1])
    for user, changed in zip(before, encoded_again(space, table, encoder, histories), strict=True):
        for item in user.top(LIST_LENGTH).tolist():
            one, other = (cite(space, each, item, CITED) for each in (user, changed))
            overlap = jaccard(one, other)
            by_chance = jaccard(one, drawing.choice(space.code(item)[0], len(other), replace=False))
            if overlap is not None and by_chance is not None:  # None: no reason before and after
                overlaps.append(overlap)
                chances.append(by_chance)
    return {
        "users": len(before),
        "items": len(overlaps),
        "top_3_jaccard_mean": float(np.mean(overlaps)) if overlaps else None,
        "top_3_jaccard_p10": float(np.percentile(overlaps, 10)) if overlaps else None,
        "by_chance": float(np.mean(chances)) if chances else None,
    }


def jaccard(one: Indices, other: Indices) -> float | None:
    """Shared elements over all elements; None for two empty sets, which have nothing to keep."""
    union = len(np.union1d(one, other))
    return len(np.intersect1d(one, other)) / union if union else None
