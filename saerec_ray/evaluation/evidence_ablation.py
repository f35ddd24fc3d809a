"""Whether the history items that a server cites behind a recommendation are what put it there.

"Because of" names up to three history items. Exactly these are removed, the user is encoded again, and the fall in
rank is compared with that without as many other history items, which may carry the same intents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation.history_ablation import EXPLAINED_ITEMS, Cut, compare_variants, cut
from saerec_ray.evaluation.scored_users import ScoredUser, sample_cases, scored_users
from saerec_ray.evidence import history_evidence, listed_intents
from saerec_ray.scoring import Floats, Indices, ItemSpace, PriorTable, decompose

Mask = npt.NDArray[np.bool_]


def cited_places(
    space: ItemSpace, user: ScoredUser, weights: Floats, item: int, published: Mask, longest: int
) -> Indices:
    """The places of what a server cites for an item, strongest first, in the `longest` latest history items.

    `weights`: alpha of these history items, oldest first; `published`: which intents people see, (intents,).
    """
    parts = decompose(space, user.state, user.values, item, user.companions)
    listed = listed_intents(parts, user.usual, published)
    cited = history_evidence(
        space.codes, user.history[-longest:], weights, parts.intents[listed], parts.contributions[listed]
    )
    return np.array([each.place for each in cited], dtype=np.int64)


def evidence_cuts(
    space: ItemSpace,
    user: ScoredUser,
    weights: Floats,
    published: Mask,
    rng: np.random.Generator,
    *,
    keep_last: bool,
    longest: int,
) -> list[Cut]:
    """The cuts for the first items of a user's list; none for an item whose history cannot be compared.

    With `keep_last` the latest history item is removed neither as cited nor as random.
    """
    history = user.history[-longest:]
    removable = np.arange(len(history) - 1 if keep_last else len(history))
    result = []
    for item in user.top(EXPLAINED_ITEMS).tolist():
        cited = cited_places(space, user, weights, item, published, longest)
        chosen, others = np.intersect1d(cited, removable), np.setdiff1d(removable, cited)
        if made := cut(user, item, history, chosen, others, rng):
            result.append(made)
    return result


def evidence_faithfulness(
    space: ItemSpace,
    table: PriorTable,
    encoder: UserEncoder,
    users: EncodedUsers,
    published: Mask,
    count: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Rank drop without the history items that a server cites, against equally many random other ones.

    For the first 3 items of the lists of `count` users, with the latest item removable (`any_item`) and not
    (`last_item_kept`); each as compare_cuts gives it. The same items stay out of the ranking as before, so a removed
    one does not compete. An item is left out where nothing is cited, or the history is too short to compare.
    """
    chosen = sample_cases(users, count, seed)
    scored = list(scored_users(space, table, users, chosen))
    read = encoder.encode([user.history for user in scored]).history_weights

    def made(rng: np.random.Generator, keep_last: bool) -> list[Cut]:
        return [
            each
            for user, weights in zip(scored, read, strict=True)
            for each in evidence_cuts(
                space, user, weights, published, rng, keep_last=keep_last, longest=encoder.max_length
            )
        ]

    compared = compare_variants(space, table, encoder, made, "cited", seed, on_progress)
    return {"users": len(chosen), **compared}
