"""Whether another training from another seed gives the same reasons: the members of a model, compared.

The members of one model are trained apart on the same dictionary, so they answer this without another run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.members import member_parts
from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.config import TrainConfig
from saerec_ray.evaluation.cited_intents import Cite, cited_intents
from saerec_ray.evaluation.history_ablation import CITED, LIST_LENGTH, encoded_again, jaccard
from saerec_ray.evaluation.scored_users import sample_cases, scored_users
from saerec_ray.scoring import ItemSpace, PriorTable


def seed_stability(
    space: ItemSpace,
    table: PriorTable,
    encoder: UserEncoder,
    settings: TrainConfig,
    users: EncodedUsers,
    count: int,
    seed: int,
    cite: Cite = cited_intents,
) -> dict[str, Any]:
    """The Jaccard overlap of the 3 first reasons of member 1 and member 2 for the same items and users.

    The items are the top 10 of the whole model for each of `count` users. `by_chance` is the mean overlap of
    member 1's reasons with as many random intents of the item as member 2 cites. With one member there is
    nothing to compare, and all figures are null. Items for which neither has a reason are left out.
    """
    figures: dict[str, Any] = dict.fromkeys(("top_3_jaccard_mean", "top_3_jaccard_p10", "by_chance"))
    if settings.members < 2:
        return {"members": settings.members, "users": 0, "items": 0, **figures}
    rng = np.random.default_rng(seed)
    chosen = sample_cases(users, count, seed)
    histories = [users.cases.histories[case] for case in chosen]
    first, second = member_parts(space, encoder, settings, table)[:2]
    by_member = (encoded_again(own, table, its_encoder, histories) for own, its_encoder in (first, second))
    overlaps, chances = [], []
    for user, one, other in zip(scored_users(space, table, users, chosen), *by_member, strict=True):
        for item in user.top(LIST_LENGTH).tolist():
            ours = cite(first[0], one, item, CITED)
            theirs = cite(second[0], other, item, CITED)
            overlap = jaccard(ours, theirs)
            by_chance = jaccard(ours, rng.choice(space.code(item)[0], len(theirs), replace=False))
            if overlap is not None and by_chance is not None:  # both know a reason, or neither does
                overlaps.append(overlap)
                chances.append(by_chance)
    if overlaps:
        figures = {
            "top_3_jaccard_mean": float(np.mean(overlaps)),
            "top_3_jaccard_p10": float(np.percentile(overlaps, 10)),
            "by_chance": float(np.mean(chances)),
        }
    return {"members": settings.members, "users": len(chosen), "items": len(overlaps), **figures}
