"""What drives one user, and what a change of steering does to the user's first page; plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from saerec_ray.evidence import Evidence
from saerec_ray.intents.population import Verdict, compare_with_population
from saerec_ray.retrieval import Mask
from saerec_ray.scoring import Adjustment, Floats, Indices, decompose, exposure
from saerec_server.ranking import Ranker, Ranking, User

PAGE = 20
"""Items of the first page, on which shares and effects are measured."""
MOVED_INTENTS = 10
"""How many intents beside the adjusted ones an effect names."""


_ROUNDING = 1e-6


@dataclass(frozen=True)
class UserReason:
    """One intent of one user."""

    intent: int
    personal: bool  # the profile carries it
    steered: bool  # listed only because of steering
    base_weight: float  # q_uf
    weight: float  # q_uf with every adjustment of the intent
    percentile: float  # share of training users with a smaller base weight
    log_lift: float
    z_score: float
    verdict: Verdict
    evidence: list[Evidence]


@dataclass(frozen=True)
class UserInsight:
    """What drives a user's ranking."""

    reasons: list[UserReason]
    intent_share: float
    fidelity: float


@dataclass(frozen=True)
class Effect:
    """Before and after of a change, on the first page."""

    overlap: float
    exposures: list[tuple[int, float, float]]  # intent, before, after


def explain_user(
    ranker: Ranker,
    user: User,
    history: Sequence[int],
    seen: Sequence[int],
    adjustments: Sequence[Adjustment],
    max_intents: int,
    max_evidence: int,
) -> UserInsight:
    """The published intents that stand out, then those worth most to the user.

    Intents significantly over- or under-represented in `history` come first, by their z-score; the others by
    their weight. Shares are of the first page, which holds no item of `seen`. Items of other domains are left
    out of the comparison: the population met items of this catalogue alone, so how often it met an intent says
    nothing of others. Intents of which nothing is known, worth nothing, are not listed.
    """
    everything = np.ones(ranker.bundle.space.item_count, dtype=bool)
    ranking = ranker.rank(user, adjustments, _unseen(ranker, everything, seen), PAGE)
    compared = compare_with_population(
        ranker.bundle.space.codes,
        np.asarray(ranker.history.at_home(history), dtype=np.int64),
        ranker.bundle.population,
    )
    weights = user.values.copy()
    for shift in ranking.scored.steering:
        weights[shift.adjustment.intent] += np.float32(shift.step)
    significant = np.array([verdict is not Verdict.TYPICAL for verdict in compared.verdicts])
    loudness = np.where(significant, np.abs(compared.z_scores), 0)
    published = np.flatnonzero(ranker.published)

    def strongest(worth: Floats) -> Indices:
        known = published[(worth[published] != 0) | (user.values[published] != 0) | (loudness[published] > 0)]
        order = np.lexsort((-np.abs(worth[known]), -loudness[known]))
        return np.asarray(known[order][:max_intents], dtype=np.int64)

    unsteered = set(strongest(user.values).tolist())
    listed = strongest(weights)
    reasons = []
    for intent in listed.tolist():
        personal = bool(user.profile[intent] > 0)
        reasons.append(
            UserReason(
                intent=intent,
                personal=personal,
                steered=not personal and intent not in unsteered,
                base_weight=float(user.values[intent]),
                weight=float(weights[intent]),
                percentile=_percentile(ranker.bundle.value_quantiles[:, intent], float(user.values[intent])),
                log_lift=float(compared.log_lifts[intent]),
                z_score=float(compared.z_scores[intent]),
                verdict=compared.verdicts[intent],
                evidence=ranker.evidence_of_intent(user, intent, max_evidence),
            )
        )
    return UserInsight(reasons, _intent_share(ranker, ranking), _fidelity(ranker, ranking, listed))


def steering_effect(
    ranker: Ranker, user: User, seen: Sequence[int], before: Sequence[Adjustment], after: Sequence[Adjustment]
) -> Effect:
    """How the first page changes when `after` acts instead of `before`."""
    allowed = _unseen(ranker, np.ones(ranker.bundle.space.item_count, dtype=bool), seen)
    old = ranker.rank(user, before, allowed, PAGE).items
    new = ranker.rank(user, after, allowed, PAGE).items
    space = ranker.bundle.space
    adjusted = list(dict.fromkeys(edit.intent for edit in (*after, *before)))
    means = [_mean_code(ranker, items) for items in (old, new)]
    moved = np.abs(means[1] - means[0]) * ranker.published
    moved[adjusted] = 0
    order = np.argsort(-moved, kind="stable")[:MOVED_INTENTS]
    named = [*adjusted, *(int(intent) for intent in order if moved[intent] > _ROUNDING)]
    shared = len(np.intersect1d(old, new))
    longest = max(len(old), len(new))
    return Effect(
        overlap=shared / longest if longest else 1.0,
        exposures=[(intent, exposure(space, intent, old), exposure(space, intent, new)) for intent in named],
    )


def _unseen(ranker: Ranker, mask: Mask, seen: Sequence[int]) -> Mask:
    mask[ranker.history.at_home(seen)] = False
    return mask


def _mean_code(ranker: Ranker, items: Indices) -> Floats:
    space = ranker.bundle.space
    if len(items) == 0:
        return np.zeros(space.intent_count, dtype=np.float32)
    return np.asarray(space.codes[items].mean(axis=0), dtype=np.float32).ravel()


def _percentile(quantiles: Floats, value: float) -> float:
    """Share of the population below `value`, from evenly spaced quantiles."""
    return float(np.interp(value, quantiles, np.linspace(0.0, 1.0, len(quantiles))))


def _intent_share(ranker: Ranker, ranking: Ranking) -> float:
    """sum |contribution| / (sum |contribution| + |residual| + companions) over the list; 0 for a cold user."""
    if ranking.user.cold:
        return 0.0
    explained = unexplained = 0.0
    for item in ranking.items:
        parts = decompose(
            ranker.bundle.space, ranking.user.state, ranking.user.values, int(item), ranking.user.companions
        )
        explained += float(np.abs(parts.contributions).sum())
        unexplained += abs(parts.residual) + parts.companions
    total = explained + unexplained
    return explained / total if total > 0 else 0.0


def _fidelity(ranker: Ranker, ranking: Ranking, listed: Indices) -> float:
    """R squared, up to a constant, of the base scores rebuilt from the listed intents alone."""
    if ranking.user.cold or len(listed) == 0:
        return 0.0
    scores = ranking.scored.base.astype(np.float64)
    rebuilt = ranker.bundle.space.codes[:, listed] @ ranking.user.values[listed]
    spread = float(scores.var())
    return 1.0 - float((scores - rebuilt).var()) / spread if spread > 0 else 0.0
