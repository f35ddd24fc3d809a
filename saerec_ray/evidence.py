"""Which intents an explanation lists for an item, in which order, and which history items it cites behind them.

The server explains with this module and the evaluation measures with it, so what is measured is what is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.scoring import Floats, Indices, Parts

LISTED_INTENTS = 5
LISTED_EVIDENCE = 3
COMPARED_ITEMS = 100
"""An item is compared with so many of the user's best items."""


@dataclass(frozen=True)
class Evidence:
    """A history item, by its place in the history, and its share of what is explained."""

    place: int
    share: float


def setting_apart(contributions: Floats, usual: Floats) -> Indices:
    """The order of intents by how much they set an item apart: by |q_uf| (z_if - mean z_f), the largest first.

    It is the contrastive contribution of method.md, section 3, against the user's best items in place of all.
    `contributions`: q_uf z_if, `usual`: q_uf times the mean of z_f over the user's best items, of the same intents.
    What all of these items have puts none of them before another; equal ones go by the size of the contribution.
    """
    sizes = np.abs(contributions)
    return np.lexsort((-sizes, np.abs(usual) - sizes))


def listed_intents(parts: Parts, usual: Floats, published: npt.NDArray[np.bool_]) -> Indices:
    """The places in `parts.intents` of the intents to list: those that set the item apart, for or against it.

    `usual`: what each intent adds to the user's COMPARED_ITEMS best items on average, (intents,); `published`:
    which intents people may see, (intents,).
    """
    nameable = np.flatnonzero(published[parts.intents] & (parts.contributions != 0))
    order = setting_apart(parts.contributions[nameable], usual[parts.intents[nameable]])
    return nameable[order][:LISTED_INTENTS]


def by_places_moved(rank: int, ranks_without: Sequence[int]) -> Indices:
    """The order of the listed intents by how many places the item moves without each, the most first.

    `rank`: the item's place, `ranks_without`: its place if one of them counted for nothing, in the order of
    listed_intents, which equal ones keep. So the first is the one that matters most for the place, for it or against.
    """
    return np.argsort(-np.abs(np.asarray(ranks_without, dtype=np.int64) - rank), kind="stable")


def history_evidence(
    codes: csr_array,
    history: npt.NDArray[np.integer[Any]],
    weights: Floats,
    intents: npt.NDArray[np.integer[Any]],
    contributions: Floats,
    count: int = LISTED_EVIDENCE,
) -> list[Evidence]:
    """The history items behind some intents, strongest first: at most `count`.

    Of an item at place t the share is sum_f c_f (alpha_t z_tf / a_f) / sum_f c_f over the intents f that speak for
    the recommended item, c_f > 0: how much of their contribution its codes carry. An intent that speaks against the
    item is no reason for it, and history items have no share of one that none of them carries.
    `codes`: of all items that a history may hold, (items, intents); `history`: rows of it, oldest first; `weights`:
    alpha_t, (history,); `contributions`: c_f, one for each of `intents`.
    """
    reasons = contributions > 0
    if len(history) == 0 or not reasons.any():
        return []
    worth = contributions[reasons].astype(np.float64)
    carried = codes[history][:, intents[reasons]].toarray() * weights.astype(np.float64)[:, None]
    profile = carried.sum(axis=0)  # a_f
    portions = np.divide(carried, profile, out=np.zeros_like(carried), where=profile > 0)
    shares = portions @ (worth / worth.sum())  # (history,)
    strongest = np.argsort(-shares, kind="stable")[:count]
    return [Evidence(int(place), min(1.0, float(shares[place]))) for place in strongest if shares[place] > 0]
