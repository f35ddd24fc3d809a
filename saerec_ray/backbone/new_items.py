"""The bias of items that nobody took in training: so high that they are listed as often as the average item.

They have no residual, and training never meets them (method.md, section 3: eps = 0). All other items have what the
loss gave them on top of their intents, so with a bias of 0 new ones are listed too seldom to be found. One number for
all of them leaves their order to their intents and companions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import EncodedUsers, user_scores
from saerec_ray.scoring import ItemSpace, PriorTable

Floats = npt.NDArray[np.float32]

LIST = 10


def new_items(popularity: Floats) -> npt.NDArray[np.bool_]:
    """Which items have no training interaction, (items,); `popularity` is log(1 + interactions)."""
    return np.equal(popularity, 0)


def choose_new_item_bias(
    space: ItemSpace, table: PriorTable, users: EncodedUsers, exposure: float, most: float
) -> tuple[float, float]:
    """The bias of new items, and the share of lists that they have without it.

    `exposure` is how often a new item is to be listed among the first LIST of the users, in units of the average
    item: with 1, new items get the share of places that they have of the catalogue, but no more than `most` of all
    places: in a catalogue that is mostly new they would push out what people are known to take. The bias is the
    smallest that gives it. It is below 0 only where they would have more than `most` without it. `space` has a bias
    of 0 for new items. Both are 0 without new items, without users, and where all items are new.
    """
    new = new_items(space.popularity)
    if not len(users.cases) or not new.any() or new.all():
        return 0.0, 0.0
    needed = biases_needed(space, table, users, new)
    bias = bias_of_share(needed, min(exposure * float(new.mean()), most))
    natural = float((needed < 0).mean())
    return bias if natural > most else max(bias, 0.0), natural


def bias_of_share(needed: Floats, share: float) -> float:
    """The smallest bias with which new items have that share of all places, by biases_needed: (users, LIST).

    0 where the share is no place at all, which leaves new items as they score. Where they cannot have so many
    places, the bias with which they have all that they can.
    """
    wanted = min(round(share * needed.size), int((needed < np.inf).sum()))
    if not wanted:
        return 0.0
    # Minus infinity is where there is nothing else to list: no bias keeps new items from these places.
    lowest = needed.min(initial=0.0, where=np.isfinite(needed))
    return max(float(np.partition(needed, wanted - 1, axis=None)[wanted - 1]), float(lowest))


def biases_needed(
    space: ItemSpace, table: PriorTable, users: EncodedUsers, new: npt.NDArray[np.bool_]
) -> Floats:
    """From which bias on the first, second, ... new item of each user is listed: (users, LIST).

    The new item behind k others is listed when fewer than LIST - k of the rest score higher, whatever the bias:
    it adds the same to all new items. Infinite where the user has no further new item. `space` has a bias of 0 for
    new items.
    """
    return np.concatenate(list(_biases_needed(space, table, users, new)))


def _biases_needed(
    space: ItemSpace, table: PriorTable, users: EncodedUsers, new: npt.NDArray[np.bool_]
) -> Iterator[Floats]:
    for start, scores in user_scores(space, table, users):
        for row, own in enumerate(scores):
            own[users.cases.histories[start + row]] = -np.inf
        first, rest = _highest(scores[:, new]), _highest(scores[:, ~new])
        missing = np.isneginf(first)
        yield np.where(missing, np.inf, rest[:, ::-1] - np.where(missing, 0, first))


def _highest(scores: Floats) -> Floats:
    """The LIST highest of every row, descending, filled up with minus infinity: (users, LIST)."""
    kept = min(LIST, scores.shape[1])
    found = -np.sort(np.partition(-scores, kept - 1, axis=1)[:, :kept], axis=1)
    return np.pad(found, ((0, 0), (0, LIST - kept)), constant_values=-np.inf)
