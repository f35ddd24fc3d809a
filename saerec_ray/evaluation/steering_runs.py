"""One steered list after another: what each shows of the intent, of its attribute, and of the held-out items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import HeldOut, target_ranks
from saerec_ray.evaluation.mass_preserving import mass_preserving_scores
from saerec_ray.evaluation.scored_users import ScoredUser
from saerec_ray.scoring import (
    Adjustment,
    Floats,
    Indices,
    ItemSpace,
    Mode,
    SteeringTable,
    apply_shifts,
    shifts,
    top_items,
)

LIST_LENGTH = 20
MODES = (Mode.BOOST, Mode.AVOID, Mode.SUPPRESS)
MASS_PRESERVING = "mass_preserving"
RULES = (*(mode.value for mode in MODES), MASS_PRESERVING)
"""The server's three rules, and the one they are compared with."""
MIXES = (
    *(0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.0007),
    *(0.001, 0.0015, 0.002, 0.003, 0.005, 0.007),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.07),
    *(0.1, 0.3, 1.0),
)
"""Strengths of the mass-preserving rule. How early it takes over lists depends on the mass, so the low end is fine: a
lift of 2 to 4 lies at 0.03 to 0.08 with some hundred intents, and at 0.002 to 0.003 with some thousands."""
RAISING = (Mode.BOOST.value, MASS_PRESERVING)
"""The rules that are meant to show more of an intent; the others show less."""


@dataclass(frozen=True)
class SteeredIntent:
    """An intent to steer, with the items that carry the attribute it stands for, where it has one."""

    intent: int
    label: str
    attribute: str | None = None
    carriers: npt.NDArray[np.bool_] | None = None  # ground truth: (items,)


def own_intent(
    space: ItemSpace, history: npt.NDArray[np.int32], intents: Sequence[SteeredIntent]
) -> SteeredIntent | None:
    """The intent among these that the second half of a user's history carries most; None without any."""
    recent = history[len(history) // 2 :]
    mass = np.asarray(space.codes[recent].sum(axis=0)).ravel()[[each.intent for each in intents]]
    return intents[int(mass.argmax())] if len(mass) and mass.max() > 0 else None


@dataclass(frozen=True)
class Outcome:
    """One list."""

    strength: float
    items: Indices
    loading: float  # mean loading of the intent over the list
    capped_loading: float  # the same with loadings cut at the cap, as boost and avoid weigh them
    carried: float  # share of the list that carries the intent
    with_attribute: float  # share of the list that has the attribute; nan without one
    gain: float  # NDCG@20 of the user's targets


@dataclass(frozen=True)
class Run:
    """One user, one intent, one rule: the outcomes from strength 0 up."""

    user: ScoredUser
    steered: SteeredIntent
    rule: str
    outcomes: list[Outcome]


def steps_of(rule: str, strengths: Sequence[float]) -> list[float]:
    """The strengths of a rule's outcomes, from 0 up; `strengths` are those of the server's rules."""
    return [0.0, *(MIXES if rule == MASS_PRESERVING else strengths)]


def user_runs(
    space: ItemSpace,
    table: SteeringTable,
    user: ScoredUser,
    intents: Sequence[SteeredIntent],
    strengths: Sequence[float],
) -> Iterator[Run]:
    """All runs of one user: every intent alone under every rule, with the shifts the server would apply.

    At the strengths of steps_of, which `strengths` are for the rules of the server.
    """
    edits = [
        Adjustment(steered.intent, mode, strength)
        for steered in intents
        for mode in MODES
        for strength in strengths
    ]
    made = {shift.adjustment: shift for shift in shifts(space, table, user.scores, user.values, edits)}
    for steered in intents:
        measure = _Measure(space, table, user, steered)
        start = measure.outcome(0.0, user.scores)
        for mode in MODES:
            outcomes = [
                measure.outcome(
                    strength, apply_shifts(user.scores, [made[Adjustment(steered.intent, mode, strength)]])
                )
                for strength in strengths
            ]
            yield Run(user, steered, mode.value, [start, *outcomes])
        scores = mass_preserving_scores(space, user.scores, user.values, steered.intent, MIXES)
        mixed = [measure.outcome(strength, each) for strength, each in zip(MIXES, scores, strict=True)]
        yield Run(user, steered, MASS_PRESERVING, [start, *mixed])


def gain(user: ScoredUser, scores: Floats) -> float:
    """NDCG@20 of the user's targets under these scores (items,); 0 without targets."""
    held = HeldOut(np.zeros(1, dtype=np.int64), [user.history], [user.targets])
    ranks = target_ranks(held, lambda: iter([(0, scores[None].copy())]))
    if len(ranks) == 0:
        return 0.0
    return float(np.where(ranks <= LIST_LENGTH, 1 / np.log2(ranks + 1), 0.0).mean())


class _Measure:
    """Measures lists of one user for one intent."""

    def __init__(
        self, space: ItemSpace, table: SteeringTable, user: ScoredUser, steered: SteeredIntent
    ) -> None:
        self._user, self._steered = user, steered
        carriers, loadings = space.carriers(steered.intent)
        self._loadings = np.zeros(space.item_count, dtype=np.float64)
        self._loadings[carriers] = loadings
        self._cap = float(table.loading_caps[steered.intent])

    def outcome(self, strength: float, scores: Floats) -> Outcome:
        items = top_items(self._user.eligible(scores), LIST_LENGTH)
        loadings = self._loadings[items]
        truth = self._steered.carriers
        return Outcome(
            strength=strength,
            items=items,
            loading=float(loadings.mean()) if len(items) else 0.0,
            capped_loading=float(np.minimum(loadings, self._cap).mean()) if len(items) else 0.0,
            carried=float((loadings > 0).mean()) if len(items) else 0.0,
            with_attribute=float(truth[items].mean()) if truth is not None and len(items) else float("nan"),
            gain=gain(self._user, scores),
        )


def violations(run: Run) -> int:
    """Steps at which a stronger setting shows the intent less (boost) or more (avoid, suppress) than before.

    Boost and avoid promise it for loadings cut at the cap, suppress and the rule compared with are held to
    the loadings themselves.
    """
    capped = run.rule in (Mode.BOOST.value, Mode.AVOID.value)
    shown = np.array([each.capped_loading if capped else each.loading for each in run.outcomes])
    wanted = 1.0 if run.rule in RAISING else -1.0
    return int((wanted * np.diff(shown) < -1e-6).sum())
