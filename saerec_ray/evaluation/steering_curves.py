"""What steering gains and costs: exposure and accuracy against strength, side effects, broken promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation.scored_users import sample_cases, scored_users
from saerec_ray.evaluation.segments import Population
from saerec_ray.evaluation.side_effects import SideEffects, mean_effects, rank_correlation
from saerec_ray.evaluation.steering_runs import (
    MASS_PRESERVING,
    RAISING,
    RULES,
    Run,
    SteeredIntent,
    own_intent,
    steps_of,
    user_runs,
    violations,
)
from saerec_ray.evaluation.steering_segments import draw_trials, trial_runs
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.scoring import ItemSpace, PriorTable, SteeringTable

RELATED = 0.2
"""Intents whose loadings correlate more than this with the steered one are expected to move with it."""
TOLERATED_LOSS = 0.02
LIFTS = (2.0, 3.0)
WIDEST_BRACKET = 2.0
"""A loss at a lift is known where the next lift that was measured is at most so many times the one asked for."""

Doubles = npt.NDArray[np.float64]


def steerable_intents(
    catalogue: Catalogue, space: ItemSpace, attributes: Sequence[dict[str, list[str]]], count: int, seed: int
) -> list[SteeredIntent]:
    """At most `count` random intents that people may steer, as many of each dictionary as there can be.

    `attributes` are those of each item, {name: values}. Held-out items have no say in the choice.
    """
    able = [
        intent
        for intent in catalogue.intents
        if intent.published and intent.steerable and len(space.carriers(intent.latent)[0])
    ]
    order = np.random.default_rng(seed).permutation(len(able))
    shuffled = [able[place] for place in order]
    turns: Counter[str] = Counter()  # how many of its dictionary come before an intent
    turn = []
    for intent in shuffled:
        turn.append(turns[intent.dictionary])
        turns[intent.dictionary] += 1
    mixed = [shuffled[place] for place in np.argsort(turn, kind="stable")]
    chosen = []
    for intent in mixed[:count]:
        match = intent.attribute
        carriers = (
            np.array([match.value in values.get(match.attribute, []) for values in attributes])
            if match
            else None
        )
        if carriers is not None and not carriers.any():
            match, carriers = None, None  # the catalogue's spelling is not that of the items
        name = f"{match.attribute}: {match.value}" if match else None
        chosen.append(SteeredIntent(intent.latent, intent.label, name, carriers))
    return chosen


def related_intents(space: ItemSpace, intent: int) -> npt.NDArray[np.bool_]:
    """The intents whose loadings over the catalogue correlate above RELATED with one, itself included."""
    items = space.item_count
    codes = space.codes.astype(np.float64)
    means = np.asarray(codes.mean(axis=0)).ravel()
    variances = np.asarray(codes.power(2).mean(axis=0)).ravel() - means**2
    column = np.zeros(items)
    carriers, loadings = space.carriers(intent)
    column[carriers] = loadings
    covariances = np.asarray(codes.T @ column).ravel() / items - means * means[intent]
    scale = np.sqrt(np.maximum(variances * variances[intent], 0))
    correlation = np.divide(covariances, scale, out=np.zeros_like(scale), where=scale > 0)
    related = np.asarray(correlation > RELATED)
    related[intent] = True
    return related


@dataclass
class Curve:
    """Sums over the runs of one rule; every array has one entry a strength, from 0 up."""

    steps: int
    intents: int
    runs: int = 0
    violations: int = 0
    loadings: Doubles = field(init=False)
    attribute_shares: Doubles = field(init=False)
    attribute_runs: int = 0
    gains: Doubles = field(init=False)
    segment_gains: Doubles = field(init=False)
    segment_runs: int = 0
    overlaps: Doubles = field(init=False)
    changed: Doubles = field(init=False)
    carried: Doubles = field(init=False)
    popularities: Doubles = field(init=False)
    exposures: Doubles = field(init=False)  # of every intent: (strengths, intents)
    effects: SideEffects | None = None

    def __post_init__(self) -> None:
        for name in (
            "loadings",
            "attribute_shares",
            "gains",
            "segment_gains",
            "overlaps",
            "changed",
            "carried",
            "popularities",
        ):
            setattr(self, name, np.zeros(self.steps))
        self.exposures = np.zeros((self.steps, self.intents))

    def add(self, run: Run, space: ItemSpace, interactions: Doubles) -> None:
        """Adds one run of the random users."""
        outcomes = run.outcomes
        if self.effects is not None:
            self.effects.add([each.items for each in outcomes])
        first = outcomes[0].items
        self.runs += 1
        self.violations += violations(run)
        self.loadings += [each.loading for each in outcomes]
        self.gains += [each.gain for each in outcomes]
        if run.steered.carriers is not None:
            self.attribute_runs += 1
            self.attribute_shares += [each.with_attribute for each in outcomes]
        self.overlaps += [len(np.intersect1d(each.items, first)) / max(len(first), 1) for each in outcomes]
        self.changed += [set(each.items.tolist()) != set(first.tolist()) for each in outcomes]
        self.carried += [each.carried for each in outcomes]
        self.popularities += [
            float(interactions[each.items].mean()) if len(each.items) else 0.0 for each in outcomes
        ]
        for step, each in enumerate(outcomes):
            start, end = space.codes.indptr[each.items], space.codes.indptr[each.items + 1]
            for low, high in zip(start, end, strict=True):
                self.exposures[step, space.codes.indices[low:high]] += space.codes.data[low:high] / len(
                    each.items
                )

    def add_segment(self, run: Run) -> None:
        """Adds the accuracy of one run of a user whose held-out item has the attribute of the steered intent."""
        self.segment_runs += 1
        self.segment_gains += [each.gain for each in run.outcomes]

    def merge(self, other: Curve) -> None:
        """Adds all runs of another curve."""
        for name in (
            "runs",
            "violations",
            "loadings",
            "attribute_shares",
            "attribute_runs",
            "gains",
            "segment_gains",
            "segment_runs",
            "overlaps",
            "changed",
            "carried",
            "popularities",
            "exposures",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def lifts(self) -> Doubles | None:
        """Exposure of the steered intents against that without steering; None where that is 0."""
        return self.loadings / self.loadings[0] if self.loadings[0] > 0 else None

    def losses(self) -> Doubles | None:
        """Share of NDCG@20 lost against no steering; None where that is 0."""
        return 1 - self.gains / self.gains[0] if self.gains[0] > 0 else None

    def drifts(self, related: npt.NDArray[np.bool_]) -> Doubles:
        """Sum of the changes of unrelated intents' exposure, as a share of all exposure without steering."""
        total = float(self.exposures[0].sum())
        changes = np.abs(self.exposures - self.exposures[0])[:, ~related].sum(axis=1)
        return np.asarray(changes / total if total > 0 else np.zeros(self.steps))

    def summary(self) -> dict[str, Any]:
        """Means over the runs; null where there is nothing to average or to compare with."""
        runs, lifts, losses = max(self.runs, 1), self.lifts(), self.losses()
        return {
            "runs": self.runs,
            "exposure": (self.loadings / runs).tolist(),
            "lift": None if lifts is None else lifts.tolist(),
            "attribute_share": _mean(self.attribute_shares, self.attribute_runs),
            "ndcg": (self.gains / runs).tolist(),
            "ndcg_loss": None if losses is None else losses.tolist(),
            "segment_runs": self.segment_runs,
            "ndcg_segment": _mean(self.segment_gains, self.segment_runs),
            "overlap": (self.overlaps / runs).tolist(),
            "lists_changed": (self.changed / runs).tolist(),
            "list_share_with_intent": (self.carried / runs).tolist(),
            "popularity": (self.popularities / runs).tolist(),
            "violations": self.violations,
            "violation_rate": self.violations / max(self.runs * (self.steps - 1), 1),
            "spearman": rank_correlation(self.loadings),
        }


def _mean(sums: Doubles, count: int) -> list[float] | None:
    return (sums / count).tolist() if count else None


def steering(
    space: ItemSpace,
    table: PriorTable,
    steering_table: SteeringTable,
    users: EncodedUsers,
    intents: Sequence[SteeredIntent],
    strengths: Sequence[float],
    count: int,
    seed: int,
    interactions: Doubles,
    on_progress: Callable[[int, int], None] | None = None,
    categories: csr_array | None = None,
    population: Population | None = None,
) -> dict[str, Any]:
    """Steers `count` random users with each intent alone, at every strength, under every rule.

    `random` gives all users all intents, as a policy would; `own` gives each user the one their recent
    history carries most, as a person would. Neither looks at held-out items. Lists are 20 long. `personal`
    accuracy (`ndcg`) is over these users. `ndcg_segment` is over users whose held-out item has the attribute of
    the steered intent: of the `population`, at most `most` random ones an intent, and for `own` among those whose
    own intent it is. `segment_runs` counts them; without `population` there are none.
    Each rule has its `strengths`, from 0 up: those of steps_of.
    `interactions` counts the training interactions of each item, (items,); `categories` are those of
    category_shares. Side effects of `random` are means over intents, each against the same users' lists.
    """

    def curve(rule: str) -> Curve:
        steps = len(steps_of(rule, strengths))
        return Curve(steps, space.intent_count, effects=SideEffects(steps, space.item_count, categories))

    by_intent = {rule: {each.intent: curve(rule) for each in intents} for rule in RULES}
    own = {rule: curve(rule) for rule in RULES}
    chosen = sample_cases(users, count, seed)
    trials = draw_trials(space, population, intents, seed)
    steps = len(chosen) + len(trials)
    for done, user in enumerate(scored_users(space, table, users, chosen)):
        wanted = own_intent(space, user.history, intents)
        for run in user_runs(space, steering_table, user, intents, strengths):
            by_intent[run.rule][run.steered.intent].add(run, space, interactions)
            if run.steered is wanted:
                own[run.rule].add(run, space, interactions)
        if on_progress:
            on_progress(done + 1, steps)
    drawn = trial_runs(space, table, steering_table, population, intents, trials, strengths)
    for done, (trial, runs) in enumerate(drawn):
        for run in runs:
            if trial.shared:
                by_intent[run.rule][run.steered.intent].add_segment(run)
            if trial.own:
                own[run.rule].add_segment(run)
        if on_progress:
            on_progress(len(chosen) + done + 1, steps)
    return {
        "users": len(chosen),
        "intents": [{"label": each.label, "attribute": each.attribute} for each in intents],
        "random": {
            rule: {"strengths": steps_of(rule, strengths)} | _over_intents(space, rule, intents, curves)
            for rule, curves in by_intent.items()
        },
        "own": {
            rule: {"strengths": steps_of(rule, strengths)} | each.summary() | mean_effects([each.effects])
            for rule, each in own.items()
            if each.runs and each.effects
        },
        "violations": sum(
            each.violations
            for rule, curves in by_intent.items()
            if rule != MASS_PRESERVING
            for each in curves.values()
        ),
    }


def _over_intents(
    space: ItemSpace, rule: str, intents: Sequence[SteeredIntent], curves: dict[int, Curve]
) -> dict[str, Any]:
    """All intents together, the intent in the middle, and each alone."""
    first = next(iter(curves.values()))
    pooled = Curve(first.steps, first.intents)
    drifts: list[Doubles] = []
    rows: list[dict[str, Any]] = []
    for steered in intents:
        curve = curves[steered.intent]
        pooled.merge(curve)
        related = related_intents(space, steered.intent)
        drifts.append(curve.drifts(related))
        rows.append({"label": steered.label, "attribute": steered.attribute, **_single(curve, related, rule)})
    effects = [curve.effects for curve in curves.values() if curve.effects is not None]
    result = (
        pooled.summary()
        | mean_effects(effects)
        | {
            "drift_of_unrelated": np.mean(drifts, axis=0).tolist(),
            "median_intent": {
                name: _median([row[name] for row in rows])
                for name in ("lift", "ndcg_loss", "lift_within_tolerated_loss", "selectivity", "spearman")
            },
            "each": rows,
        }
    )
    lifts, losses = pooled.lifts(), pooled.losses()
    if rule in RAISING and lifts is not None and losses is not None:
        result["ndcg_loss_at_lift"] = {f"{lift:g}": loss_at_lift(lifts, losses, lift) for lift in LIFTS}
    return result


def _single(curve: Curve, related: npt.NDArray[np.bool_], rule: str) -> dict[str, float | None]:
    """One intent at full strength: lift, loss, and selectivity; and how far it goes at a tolerated loss.

    That is the largest lift of a boost, the smallest of avoid and suppress, over all strengths.
    """
    furthest = np.max if rule in RAISING else np.min
    lifts, losses = curve.lifts(), curve.losses()
    changes = (curve.exposures[-1] - curve.exposures[0]) / max(curve.runs, 1)
    others = float(np.abs(changes[~related]).max(initial=0.0))
    own = abs(float(curve.loadings[-1] - curve.loadings[0])) / max(curve.runs, 1)
    return {
        "lift": None if lifts is None else float(lifts[-1]),
        "ndcg_loss": None if losses is None else float(losses[-1]),
        "lift_within_tolerated_loss": (
            None if lifts is None or losses is None else float(furthest(lifts[losses <= TOLERATED_LOSS]))
        ),
        "selectivity": own / others if others > 0 else None,
        "spearman": rank_correlation(curve.loadings),
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def loss_at_lift(lifts: Doubles, losses: Doubles, wanted: float) -> float | None:
    """NDCG lost where the exposure first reaches `wanted` times its start, between strengths by a line.

    None when no strength reaches it, or when the first that does goes so far beyond it that a line from the one before
    says nothing: more than WIDEST_BRACKET times `wanted`.
    """
    reached = np.flatnonzero(lifts >= wanted)
    if len(reached) == 0:
        return None
    after = int(reached[0])
    if lifts[after] > WIDEST_BRACKET * wanted:
        return None
    if after == 0:
        return float(losses[0])
    before = after - 1
    share = (wanted - lifts[before]) / (lifts[after] - lifts[before])
    return float(losses[before] + share * (losses[after] - losses[before]))
