"""Which intents predict an outcome of items, such as a high rating: found in one half, judged in the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, solve_triangular
from scipy.optimize import nnls
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, norm, rankdata

from saerec_ray.group_file import MAX_MEMBERS
from saerec_ray.intents.catalogue import Intent
from saerec_ray.intents.groups import MIN_WEIGHT_SHARE, Member
from saerec_ray.scoring import loading_caps

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]

MIN_AUC = 0.65
"""Held-out AUC below which the dictionary has no intent of the outcome."""
MAX_P_VALUE = 0.05
"""Chance of such an AUC or a higher one without any relation, above which it is taken for noise."""
FALSE_DISCOVERY_RATE = 0.05
"""Among the intents that the first half chooses for a group."""
MIN_ITEMS = 60
"""Items with an outcome, below which halves of thirds say nothing."""
MIN_CARRIERS = 5
"""Items of the first half that carry an intent, below which it is not tried."""
EVIDENCE = 5
_GROUP_RIDGE = 0.01
_SUPERVISED_RIDGE = 1.0
_CHUNK = 128


@dataclass(frozen=True)
class Contrast:
    """Items with a high outcome against items with a low one; those between are left out."""

    items: Indices
    high: npt.NDArray[np.bool_]  # one an item


@dataclass(frozen=True)
class OutcomeIntent:
    """One intent that was found in the first half."""

    intent: Intent
    auc: float  # held out
    q_value: float  # of that AUC, over all that were found
    weight: float  # in the group, relative to the strongest; 0 when it is no member
    evidence: list[int]  # held-out items with a high outcome that carry it most


@dataclass(frozen=True)
class Direction:
    """A weighted set of intents and how well it tells high outcomes from low ones."""

    members: list[Member]
    auc: float  # held out
    p_value: float
    evidence: list[int]  # held-out items that carry it most, whatever their outcome

    @property
    def holds(self) -> bool:
        """Whether it is more than chance."""
        return bool(self.members) and self.p_value <= MAX_P_VALUE


@dataclass(frozen=True)
class OutcomeProbe:
    """What a dictionary knows of an outcome."""

    found: list[OutcomeIntent]  # strongest held-out AUC first
    group: Direction
    supervised: Direction
    everything_auc: float
    """Held-out AUC of the supervised direction before it was cut to MAX_MEMBERS intents."""
    judged: int  # items in the judging contrast

    @property
    def has_intent(self) -> bool:
        """Whether the dictionary has an intent, or a group of them, of the outcome."""
        return self.group.holds and self.group.auc >= MIN_AUC


def probe_outcome(
    intents: Sequence[Intent],
    codes: csr_array,
    texts: Sequence[str],
    items: Indices,
    values: Scores,
    seed: int,
) -> OutcomeProbe:
    """Looks for steerable intents that items with a high outcome carry more than items with a low one.

    `codes`: (catalogue, intents); `texts`: one a catalogue item; `items`: those with an outcome; `values`: theirs.
    The items are split in halves, items with equal texts in the same one; in each half the top third of the
    outcome is told from the bottom third. In the first half up to MAX_MEMBERS intents with the most significant
    AUC, at a controlled false-discovery rate, are chosen and get weights >= 0 by ridge regression; the second half
    judges. The supervised direction is the ridge over all steerable intents, cut to those that matter most. Loadings
    count as steering counts them: up to their 90th
    percentile. Raises ValueError when the outcome is constant or there are fewer than MIN_ITEMS items.
    """
    if len(items) < MIN_ITEMS:
        raise ValueError(f"only {len(items)} items have an outcome, at least {MIN_ITEMS} are needed")
    if np.ptp(values) == 0:
        raise ValueError("the outcome is the same for all items")
    first, second = _halves(texts, items, seed)
    choosing, judging = contrast(items[first], values[first]), contrast(items[second], values[second])
    if not all(0 < each.high.sum() < len(each.high) for each in (choosing, judging)):
        raise ValueError("the outcome is the same for nearly all items")
    allowed = np.array([intent.published and intent.steerable for intent in intents])
    capped = _capped(codes)
    seen, unseen = _dense(capped, choosing), _dense(capped, judging)
    carriers = np.count_nonzero(seen, axis=0)
    candidates = np.flatnonzero(allowed & (carriers >= MIN_CARRIERS))
    _, p_values = auc_tests(seen[:, candidates], choosing.high)
    significant = false_discovery_control(p_values) <= FALSE_DISCOVERY_RATE if len(candidates) else []
    order = np.argsort(p_values, kind="stable")[:MAX_MEMBERS]
    chosen = candidates[[place for place in order if significant[place]]]
    group = _direction(intents, chosen, seen, unseen, choosing, judging, _GROUP_RIDGE)
    all_weights = ridge_weights(seen[:, candidates], choosing.high, _SUPERVISED_RIDGE)
    effects = all_weights * seen[:, candidates].std(axis=0)
    strongest = candidates[np.argsort(-effects, kind="stable")[:MAX_MEMBERS]]
    supervised = _direction(intents, strongest, seen, unseen, choosing, judging, _SUPERVISED_RIDGE)
    everything, _ = auc_tests((unseen[:, candidates] @ all_weights)[:, None], judging.high)
    return OutcomeProbe(
        found=_found(intents, chosen, group, unseen, judging),
        group=group,
        supervised=supervised,
        everything_auc=float(everything[0]),
        judged=len(judging.items),
    )


def contrast(items: Indices, values: Scores) -> Contrast:
    """The top third against the bottom third.

    Where values repeat so much that the thirds would share one: the items above it against those at or below it, or,
    where none is above, those at it against those below.
    """
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    if low < high:
        kept = (values <= low) | (values >= high)
        return Contrast(items[kept], values[kept] >= high)
    above = values > high
    return Contrast(items, above if above.any() else values >= high)


def auc_tests(scores: npt.NDArray[np.floating], high: npt.NDArray[np.bool_]) -> tuple[Scores, Scores]:
    """AUC of every column for high items, and the chance of so high a one by luck: both (columns,).

    The one-sided test of Mann and Whitney, with its normal approximation corrected for ties.
    """
    count, columns = scores.shape
    positives = int(high.sum())
    negatives = count - positives
    aucs, p_values = np.full(columns, 0.5), np.ones(columns)
    for start in range(0, columns, _CHUNK):
        ranks = rankdata(scores[:, start : start + _CHUNK], axis=0)
        above = ranks[high].sum(axis=0) - positives * (positives + 1) / 2
        # The variance of ranks is that of distinct ranks less what ties take away.
        variance = positives * negatives / (count - 1) * ranks.var(axis=0)
        spread = np.sqrt(variance)
        standard = np.divide(
            above - positives * negatives / 2 - 0.5, spread, out=np.zeros_like(above), where=spread > 0
        )
        aucs[start : start + _CHUNK] = above / (positives * negatives)
        p_values[start : start + _CHUNK] = np.where(spread > 0, norm.sf(standard), 1.0)
    return aucs, p_values


def ridge_weights(loadings: npt.NDArray[np.floating], high: npt.NDArray[np.bool_], ridge: float) -> Scores:
    """Weights >= 0 of the columns, by least squares on standardised loadings with a penalty of `ridge` an item."""
    count, columns = loadings.shape
    if columns == 0:
        return np.zeros(0)
    scale = loadings.std(axis=0, dtype=np.float64)
    scale[scale == 0] = np.inf
    standard = (loadings - loadings.mean(axis=0, dtype=np.float64)) / scale
    target = high - high.mean()
    gram = standard.T @ standard + ridge * count * np.eye(columns)
    factor = np.tril(cho_factor(gram, lower=True)[0])
    weights, _ = nnls(factor.T, solve_triangular(factor, standard.T @ target, lower=True))
    return np.asarray(weights / scale)


def _halves(texts: Sequence[str], items: Indices, seed: int) -> tuple[Indices, Indices]:
    """Places of items in either half; items whose texts are equal, as of variants, are in the same one."""
    keys = {re.sub(r"\W+", " ", texts[item]).strip().casefold() for item in items.tolist()}
    ordered = sorted(keys)
    shuffled = np.random.default_rng(seed).permutation(len(ordered))
    place = {key: int(at) for key, at in zip(ordered, shuffled, strict=True)}
    inside = np.array(
        [
            place[re.sub(r"\W+", " ", texts[item]).strip().casefold()] < (len(ordered) + 1) // 2
            for item in items.tolist()
        ]
    )
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def _capped(codes: csr_array) -> csr_array:
    caps = loading_caps(codes)
    data = np.minimum(codes.data, caps[codes.indices])
    return csr_array((data, codes.indices, codes.indptr), shape=codes.shape)


def _dense(codes: csr_array, part: Contrast) -> Floats:
    return np.asarray(codes[part.items].todense(), dtype=np.float32)


def _direction(
    intents: Sequence[Intent],
    chosen: Indices,
    seen: Floats,
    unseen: Floats,
    choosing: Contrast,
    judging: Contrast,
    ridge: float,
) -> Direction:
    """The chosen intents with their weights; those that matter little beside the one that matters most are left out.

    How much one matters is its weight times the standard deviation of its loadings.
    """
    weights = ridge_weights(seen[:, chosen], choosing.high, ridge)
    effects = weights * seen[:, chosen].std(axis=0)
    if effects.max(initial=0.0) == 0:
        return Direction([], 0.5, 1.0, [])
    kept = np.flatnonzero(effects >= MIN_WEIGHT_SHARE * effects.max())
    kept = kept[np.argsort(-weights[kept], kind="stable")]
    members = [Member(intents[chosen[place]], float(weights[place] / weights[kept[0]])) for place in kept]
    scores = unseen[:, chosen[kept]] @ weights[kept]
    aucs, p_values = auc_tests(scores[:, None], judging.high)
    return Direction(members, float(aucs[0]), float(p_values[0]), _strongest(scores, judging.items))


def _found(
    intents: Sequence[Intent], chosen: Indices, group: Direction, unseen: Floats, judging: Contrast
) -> list[OutcomeIntent]:
    if len(chosen) == 0:
        return []
    aucs, p_values = auc_tests(unseen[:, chosen], judging.high)
    q_values = false_discovery_control(p_values)
    weights = {member.intent.intent_id: member.weight for member in group.members}
    result = [
        OutcomeIntent(
            intents[latent],
            float(aucs[place]),
            float(q_values[place]),
            weights.get(intents[latent].intent_id, 0.0),
            _strongest(np.where(judging.high, unseen[:, latent], 0.0), judging.items),
        )
        for place, latent in enumerate(chosen)
    ]
    return sorted(result, key=lambda each: (-each.auc, each.intent.intent_id))


def _strongest(scores: npt.NDArray[np.floating], items: Indices) -> list[int]:
    order = np.argsort(-scores, kind="stable")[:EVIDENCE]
    return [int(items[place]) for place in order if scores[place] > 0]
