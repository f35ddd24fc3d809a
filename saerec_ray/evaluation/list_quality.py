"""What lists look like beside being right: how popular their items are, and how much of the catalogue they reach."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import EncodedUsers, HeldOut
from saerec_ray.evaluation.scored_users import scored_users
from saerec_ray.scoring import Floats, Indices, ItemSpace, PriorTable, top_items

LIST_LENGTH = 10


def model_lists(
    space: ItemSpace, table: PriorTable, users: EncodedUsers, cases: Indices, length: int = LIST_LENGTH
) -> list[Indices]:
    """The list of every given case, as the server would make it."""
    return [user.top(length) for user in scored_users(space, table, users, cases)]


def popularity_lists(
    popularity: Floats, held: HeldOut, cases: Indices, length: int = LIST_LENGTH
) -> list[Indices]:
    """The lists of the popularity baseline: the most popular items not yet met."""
    lists = []
    for case in cases:
        scores = popularity.copy()
        scores[held.histories[case]] = -np.inf
        lists.append(top_items(scores, length))
    return lists


def list_quality(
    lists: Iterable[Indices],
    histories: Iterable[npt.NDArray[np.int32]],
    interactions: npt.NDArray[np.float64],
) -> dict[str, float]:
    """Popularity of lists against histories, and the share of the catalogue that is in any list.

    `interactions` counts the training interactions of each item, (items,). The popularity of a list is the
    mean over its items; then the mean over users is taken, so that every user counts once. The bias is the
    ratio of the two means: 1 where lists are as popular as what people met.
    """
    listed: set[int] = set()
    of_lists, of_histories = [], []
    for items, history in zip(lists, histories, strict=True):
        listed.update(items.tolist())
        if len(items):
            of_lists.append(float(interactions[items].mean()))
            of_histories.append(float(interactions[history].mean()))
    recommended = float(np.mean(of_lists)) if of_lists else 0.0
    met = float(np.mean(of_histories)) if of_histories else 0.0
    return {
        "users": float(len(of_lists)),
        "list_popularity": recommended,
        "history_popularity": met,
        "popularity_bias": recommended / met if met > 0 else 0.0,
        "catalogue_coverage": len(listed) / len(interactions),
    }
