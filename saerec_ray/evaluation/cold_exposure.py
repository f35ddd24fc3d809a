"""What items that training never met gain, and what all others lose, the more often they are listed.

One bias for all of them decides how often (backbone/new_items.py). No model can list new items more often without
listing others less, so a rate at which new items are found means something only beside what it costs: the table has
both, for the model as it is served, without companions by text, for larger biases, for the bias that gives new
items as many places as the best reading of the texts does, and for that reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.cold import without_cold
from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.frozen import Frozen
from saerec_ray.backbone.new_items import LIST, bias_of_share, biases_needed, new_items
from saerec_ray.backbone.validation import (
    EncodedUsers,
    HeldOut,
    affordable,
    held_out,
    target_ranks,
    user_scores,
)
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.evaluation.accuracy import Ranks, accuracy, target_cases
from saerec_ray.evaluation.intervals import target_interval
from saerec_ray.evaluation.scored_users import sample_cases
from saerec_ray.evaluation.users_in_turn import encoded_in_turn
from saerec_ray.scoring import ItemSpace

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Batches = Iterator[tuple[int, Floats]]

EXPOSURES = (1.5, 2.0, 3.0)
"""How often new items are listed, in units of the average item, beside the exposure that is served."""
USERS = 5000
"""Validation users on whom a bias is chosen, and test users with other targets, at most."""
NO_BIAS = "no bias"
NO_COMPANIONS = "no companions by text"
SERVED = "as served"
AS_TEXT = "as text"
TEXT = "text"
_BIAS_DIGITS = 4
"""More would depend on how many users are encoded at once."""


@dataclass(frozen=True)
class Scorer:
    """A model with everything that scores users."""

    space: ItemSpace
    encoder: UserEncoder
    frozen: Frozen
    by_text: bool = True
    """Whether new items are companions of others; see backbone/companions_by_text.py."""

    @property
    def has_companions_by_text(self) -> bool:
        """Whether that makes a difference."""
        space = self.space
        if not space.companion_weight or space.companions is None:
            return False
        return bool(space.companions[:, np.flatnonzero(new_items(space.popularity))].nnz)

    def with_bias(self, bias: float) -> Scorer:
        """The same model with another bias for new items."""
        biases = np.where(new_items(self.space.popularity), np.float32(bias), self.space.biases)
        return replace(self, space=replace(self.space, biases=biases))

    def scores(self, cases: HeldOut) -> Batches:
        """Base scores of all cases in batches, as user_scores gives them."""
        done = 0
        for users in self._encoded(cases):
            for start, scores in user_scores(self.space, self.frozen.prior, users):
                yield done + start, scores
            done += len(users.cases)

    def biases_needed(self, cases: HeldOut) -> Floats:
        """From which bias on new items are listed, where they have none yet: (cases, LIST); see new_items.py."""
        new = new_items(self.space.popularity)
        return np.concatenate(
            [biases_needed(self.space, self.frozen.prior, users, new) for users in self._encoded(cases)]
        )

    def _encoded(self, cases: HeldOut) -> Iterator[EncodedUsers]:
        new = new_items(self.space.popularity)
        for users in encoded_in_turn(self.encoder, cases):
            yield users if self.by_text else users.without_companions_among(new)


def measure_exposure(
    scorer: Scorer,
    sequences: PreparedSequences,
    cold: Mask,
    cases: HeldOut,
    text: Callable[[HeldOut], Callable[[], Batches]],
    text_ranks: Ranks,
    seed: int,
) -> dict[str, Any]:
    """Ranks cold targets, and those of other users, among all items, at several exposures.

    `cold`: the items kept out of training, (items,); `cases`: users with cold targets alone; `text`: what gives the
    scores of the best reading of the texts for some cases, `text_ranks` what it made of `cases`. Other users have warm
    targets alone, a random USERS of them. A row has the accuracy at LIST of `cold` and of `others`, the share of the
    `places` among the first LIST of the users with cold targets that new items have, and but for the text the bias and
    the difference of HR to the text with its 95% interval over users. The biases of EXPOSURES are chosen on validation
    users without their cold items, whatever `train.new_item_places` allows; without validation users there are none.
    Two rows compare at equal places, with the bias that gives new items among `cases` as many as another row has:
    AS_TEXT as the text, and NO_COMPANIONS, where new items are companions of others, as the model as served. They are
    left out where the other row has none.
    """
    every = held_out(sequences, "test")
    warm = every.at(np.array([not cold[targets].any() for targets in every.targets], dtype=bool).nonzero()[0])
    others = affordable(warm.at(sample_cases(warm, USERS, seed)), scorer.space.item_count, seed)
    new = new_items(scorer.space.popularity)

    def measured(model: Scorer, bias: float) -> dict[str, Any]:
        biased = model.with_bias(bias)
        row, ranks = _row(partial(biased.scores, cases), partial(biased.scores, others), cases, others, new)
        gains = (ranks <= LIST).astype(np.float64) - (text_ranks <= LIST)
        return {
            **row,
            "bias": bias,
            "HR_difference": float(gains.mean()),
            "HR_difference_interval": list(target_interval(gains, target_cases(cases), seed)),
        }

    def measured_at(places: float, model: Scorer) -> dict[str, Any]:
        needed = model.with_bias(0.0).biases_needed(cases)
        return measured(model, round(bias_of_share(needed, places), _BIAS_DIGITS))

    rows = {TEXT: _row(text(cases), text(others), cases, others, new)[0]}
    rows |= {name: measured(scorer, bias) for name, bias in _biases(scorer, sequences, cold, seed).items()}
    if rows[TEXT]["places"]:
        rows[AS_TEXT] = measured_at(rows[TEXT]["places"], scorer)
    if scorer.has_companions_by_text and rows[SERVED]["places"]:
        rows[NO_COMPANIONS] = measured_at(rows[SERVED]["places"], replace(scorer, by_text=False))
    return {"others": len(others), "rows": rows}


def _biases(scorer: Scorer, sequences: PreparedSequences, cold: Mask, seed: int) -> dict[str, float]:
    """The biases to compare by the name of their row."""
    found = {NO_BIAS: 0.0, SERVED: float(scorer.space.biases[cold][0])}
    plain, new = scorer.with_bias(0.0), new_items(scorer.space.popularity)
    # As the bias that is served was chosen: by people who have not met a cold item.
    cases = affordable(held_out(without_cold(sequences, cold), "validation"), plain.space.item_count, seed)
    if len(cases):
        needed = plain.biases_needed(cases.at(sample_cases(cases, USERS, seed)))
        for exposure in EXPOSURES:
            share = min(exposure * float(new.mean()), 1.0)
            found[f"{exposure:g}"] = round(bias_of_share(needed, share), _BIAS_DIGITS)
    return found


def _row(
    of_cold: Callable[[], Batches],
    of_others: Callable[[], Batches],
    cases: HeldOut,
    others: HeldOut,
    new: Mask,
) -> tuple[dict[str, Any], Ranks]:
    """The figures of one ranking, and the ranks of the cold targets."""
    listed = 0

    def counted() -> Batches:
        nonlocal listed
        for start, scores in of_cold():
            listed += _new_listed(scores, cases.histories[start : start + len(scores)], new)
            yield start, scores

    ranks = target_ranks(cases, counted)
    return {
        "places": listed / (LIST * len(cases)),
        "cold": accuracy(ranks, (LIST,)),
        "others": accuracy(target_ranks(others, of_others), (LIST,)),
    }, ranks


def _new_listed(scores: Floats, histories: list[npt.NDArray[np.int32]], new: Mask) -> int:
    """How many of the first LIST unseen items of all users are new; `scores`: (batch, items)."""
    unseen = scores.copy()
    for own, history in zip(unseen, histories, strict=True):
        own[history] = -np.inf
    first = min(LIST, unseen.shape[1])
    top = np.argpartition(-unseen, first - 1, axis=1)[:, :first]
    return int((new[top] & (np.take_along_axis(unseen, top, axis=1) > -np.inf)).sum())
