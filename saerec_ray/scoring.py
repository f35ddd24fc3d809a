"""The one score: base, decomposition and steering, on plain arrays.

    s(u, i)  = sum_f z_if q_uf + h_u . eps_i + b_i + mu c_ui        with q_uf = h_u . d_f + lambda p_uf
    c(u, i)  = sum_t w_t C_(i_t, i)                       companions: what people take soon after i_t
    s'(u, i) = s(u, i) + sum_g shift_g(u, i)              one shift an adjustment, bounded and monotone

The server calls this module, and so does what measures explanations and steering: the parts of an explanation add
up to the served score. Accuracy ranks many users at once by the same sum, see backbone/validation.py.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

REACH = 5.0
"""rho: a full boost adds so many times what takes a user's q to that of the most interested; avoid alike."""
SHIFT_LIMIT = 0.5
"""kappa: the most one boost or avoid may move a score, as a share of the user's score spread."""
TOTAL_SHIFT_LIMIT = 2.5
"""The most all boosts and avoids together may move a score, in the same unit."""
COMPANION_MEMORY = 20
"""How many of the latest history items have companions that count."""
COMPANION_DECAY = 0.7
"""w_t = COMPANION_DECAY**age: what an item before the latest counts for, and so on."""
MAX_LIMITED_ADJUSTMENTS = int(TOTAL_SHIFT_LIMIT / SHIFT_LIMIT)
"""How many boosts and avoids may act at once under the two limits."""


@dataclass(frozen=True)
class ItemSpace:
    """Everything the score needs to know of the catalogue."""

    codes: csr_array  # z: (items, intents) float32, non-negative
    intent_vectors: Floats  # d_f: (intents, d_model)
    residuals: Floats  # eps_i: (items, d_model)
    biases: Floats  # b_i: (items,)
    popularity: Floats  # log-popularity, the score of users without history: (items,)
    prior_weight: float  # lambda
    companions: csr_array | None = None  # C: (items, items) float32, non-negative; None without companions
    companion_weight: float = 0.0  # mu

    @property
    def item_count(self) -> int:
        """Number of items."""
        return int(self.codes.shape[0])

    @property
    def intent_count(self) -> int:
        """Number of intents, published or not."""
        return int(self.codes.shape[1])

    @cached_property
    def postings(self) -> csc_array:
        """The codes by intent: which items carry it, how strongly."""
        return csc_array(self.codes)

    @cached_property
    def mean_code(self) -> Floats:
        """Mean of the codes over the catalogue: (intents,)."""
        return np.asarray(self.codes.mean(axis=0), dtype=np.float32).ravel()

    def mean_code_of(self, items: Indices) -> Floats:
        """Mean of the codes of some items, zeros where there are none: (intents,)."""
        if len(items) == 0:
            return np.zeros(self.intent_count, dtype=np.float32)
        return np.asarray(self.codes[items].mean(axis=0), dtype=np.float32).ravel()

    @cached_property
    def item_vectors(self) -> Floats:
        """e_i = D z_i + eps_i: (items, d_model)."""
        return np.asarray(self.codes @ self.intent_vectors + self.residuals, dtype=np.float32)

    def code(self, item: int) -> tuple[Indices, Floats]:
        """The intents an item carries and how strongly."""
        start, end = self.codes.indptr[item], self.codes.indptr[item + 1]
        return self.codes.indices[start:end].astype(np.int64), self.codes.data[start:end]

    def carriers(self, intent: int) -> tuple[Indices, Floats]:
        """The items that carry an intent and how strongly."""
        start, end = self.postings.indptr[intent], self.postings.indptr[intent + 1]
        return self.postings.indices[start:end].astype(np.int64), self.postings.data[start:end]


@dataclass(frozen=True)
class PriorTable:
    """What turns a profile into the prior p_u; frozen from the training interactions."""

    inverse_document_frequency: Floats  # log((users + 1) / (df_f + 1)): (intents,)
    public: Floats  # frequent and widespread intents, L2-normalised: (intents,)
    public_share: float  # weight of the public part, in [0, 1]


def prior(profile: Floats, table: PriorTable) -> Floats:
    """p_u: the profile weighted by rarity and normalised, mixed with what is common to all users.

    `profile` is (intents,) or (users, intents); a user without history gets the public part alone.
    """
    personal = profile * table.inverse_document_frequency
    norm = np.linalg.norm(personal, axis=-1, keepdims=True)
    personal = np.divide(personal, norm, out=np.zeros_like(personal), where=norm > 0)
    mixed = (1.0 - table.public_share) * personal + table.public_share * table.public
    return np.asarray(mixed, dtype=np.float32)


def intent_values(space: ItemSpace, states: Floats, priors: Floats) -> Floats:
    """q_uf, what each intent is worth to each user: (users, intents).

    `states` is h_u, (users, d_model); `priors` is p_u, (users, intents).
    """
    return np.asarray(states @ space.intent_vectors.T + space.prior_weight * priors, dtype=np.float32)


def companion_strengths(space: ItemSpace, histories: Sequence[npt.NDArray[np.integer[Any]]]) -> csr_array:
    """c(u, i): (users, items). `histories` hold item indices, oldest first; empty rows without companions."""
    if space.companions is None:
        return csr_array((len(histories), space.item_count), dtype=np.float32)
    recent = [history[-COMPANION_MEMORY:] for history in histories]
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in recent])])
    weights = [recency(len(history)) for history in recent]
    nothing: list[npt.NDArray[Any]] = [np.empty(0, dtype=np.int64)]
    rows = csr_array(
        (
            np.concatenate([*weights, *nothing]).astype(np.float32),
            np.concatenate([*recent, *nothing]),
            offsets,
        ),
        shape=(len(histories), space.item_count),
    )
    found = csr_array(rows @ space.companions)
    found.sort_indices()
    return found


def recency(length: int) -> Floats:
    """w_t of a history of so many items, oldest first: (length,)."""
    return np.power(COMPANION_DECAY, np.arange(length - 1, -1, -1)).astype(np.float32)


def companion_parts(space: ItemSpace, history: npt.NDArray[np.integer[Any]], item: int) -> Floats:
    """mu w_t C_(i_t, i): what each item of the history adds to the score of one item: (history,).

    The sum is the companions' part of the score.
    """
    parts = np.zeros(len(history), dtype=np.float32)
    if space.companions is None:
        return parts
    recent = np.asarray(history[-COMPANION_MEMORY:], dtype=np.int64)
    rates = space.companions[recent][:, [item]].toarray().ravel()
    parts[len(history) - len(recent) :] = np.float32(space.companion_weight) * recency(len(recent)) * rates
    return parts


def base_scores(
    space: ItemSpace, states: Floats, values: Floats, companions: csr_array | None = None
) -> Floats:
    """s(u, i) for every item: (users, items).

    `values` are those of intent_values, `companions` those of companion_strengths. Raises ValueError where the
    score has companions and they are missing.
    """
    intent_part = (space.codes @ values.T).T  # (users, items)
    scores = intent_part + states @ space.residuals.T + space.biases
    if space.companion_weight:
        scores += np.float32(space.companion_weight) * _given(companions).toarray()
    return np.asarray(scores, dtype=np.float32)


def _given(companions: csr_array | None) -> csr_array:
    if companions is None:
        raise ValueError("the score of this model has companions, so it needs the users' histories")
    return companions


@dataclass(frozen=True)
class Parts:
    """The exact parts of one base score: contributions.sum() + residual + bias + companions = s(u, i)."""

    intents: Indices  # the intents the item carries
    contributions: Floats  # q_uf z_if
    contributions_vs_average: Floats  # q_uf (z_if - mean z_f)
    residual: float
    bias: float
    companions: float  # mu c_ui


def decompose(
    space: ItemSpace, state: Floats, values: Floats, item: int, companions: csr_array | None = None
) -> Parts:
    """Takes one base score apart. `state` is (d_model,), `values` is (intents,), `companions` (1, items)."""
    intents, strengths = space.code(item)
    worth = values[intents]
    return Parts(
        intents=intents,
        contributions=worth * strengths,
        contributions_vs_average=worth * (strengths - space.mean_code[intents]),
        residual=float(state @ space.residuals[item]),
        bias=float(space.biases[item]),
        companions=(
            space.companion_weight * float(_given(companions)[0, item]) if space.companion_weight else 0.0
        ),
    )


class Mode(enum.Enum):
    """How an adjustment acts."""

    BOOST = "boost"
    AVOID = "avoid"
    SUPPRESS = "suppress"
    EXCLUDE = "exclude"

    @property
    def limited(self) -> bool:
        """Whether the adjustment counts against TOTAL_SHIFT_LIMIT."""
        return self in (Mode.BOOST, Mode.AVOID)


@dataclass(frozen=True)
class Adjustment:
    """One steering edit of one intent; strength in (0, 1]."""

    intent: int
    mode: Mode
    strength: float = 1.0


@dataclass(frozen=True)
class SteeringTable:
    """Fixed quantities of steering, one an intent; measured on the training population."""

    targets: Floats  # T_f, the 99th percentile of q_uf over users: (intents,)
    spreads: Floats  # sigma_f, the standard deviation of q_uf over users: (intents,)
    loading_caps: Floats  # 90th percentile of the positive loadings: (intents,)


def loading_caps(codes: csr_array) -> Floats:
    """The 90th percentile of each intent's positive loadings, where steering weights are cut: (intents,)."""
    columns = csc_array(codes)
    caps = np.zeros(codes.shape[1], dtype=np.float32)
    for intent in range(codes.shape[1]):
        loadings = columns.data[columns.indptr[intent] : columns.indptr[intent + 1]]
        if len(loadings):
            caps[intent] = np.percentile(loadings, 90)
    return caps


@dataclass(frozen=True)
class Shift:
    """What one adjustment adds to the scores of the items that carry its intent."""

    adjustment: Adjustment
    items: Indices
    changes: Floats
    step: float  # what it adds to q_u of its intent, before loadings are cut at the cap


def score_spread(scores: Floats) -> float:
    """R_u: the range between the 5th and the 95th percentile of a user's base scores."""
    low, high = np.percentile(scores, [5, 95])
    return float(high - low)


def shifts(
    space: ItemSpace, table: SteeringTable, scores: Floats, values: Floats, adjustments: Sequence[Adjustment]
) -> list[Shift]:
    """The shift of each adjustment, in the order of the intents, so that the order given does not matter.

    With w(i) the loading cut at the cap, R the score spread, rho = REACH and kappa = SHIFT_LIMIT:
    boost     + strength min(rho c, kappa R / max w) w(i)   c = max(T - q, sigma / 2)
    avoid     - the same                                    c = max(T + q, sigma / 2)
    suppress  - strength max(q, 0) z(i): at strength 1 the intent no longer adds to any score
    exclude   no shift: see excluded_items
    The limit is a property of each adjustment alone, which keeps exposure monotone in every strength.
    `scores` are the user's base scores, of all items or of a fixed sample of them: only their spread is
    read; `values` are q_u (intents,).
    """
    spread = score_spread(scores)
    result = []
    for adjustment in sorted(adjustments, key=lambda edit: (edit.intent, edit.mode.value, edit.strength)):
        if adjustment.mode is Mode.EXCLUDE:
            continue
        items, loadings = space.carriers(adjustment.intent)
        value = float(values[adjustment.intent])
        if adjustment.mode is Mode.SUPPRESS:
            step = -adjustment.strength * max(value, 0.0)
            changes = -(np.float32(adjustment.strength) * (np.float32(max(value, 0.0)) * loadings))
        else:
            step, changes = _limited_shift(adjustment, table, value, loadings, spread)
        result.append(Shift(adjustment, items, np.asarray(changes, dtype=np.float32), step))
    return result


def _limited_shift(
    adjustment: Adjustment, table: SteeringTable, value: float, loadings: Floats, spread: float
) -> tuple[float, Floats]:
    weights = np.minimum(loadings, table.loading_caps[adjustment.intent])
    largest = float(weights.max(initial=0.0))
    if largest == 0.0:
        return 0.0, np.zeros_like(loadings)
    target, floor = float(table.targets[adjustment.intent]), float(table.spreads[adjustment.intent]) / 2
    sign = 1.0 if adjustment.mode is Mode.BOOST else -1.0
    reach = REACH * max(target - sign * value, floor)
    step = sign * adjustment.strength * min(reach, SHIFT_LIMIT * spread / largest)
    return step, np.asarray(np.float32(step) * weights, dtype=np.float32)


def apply_shifts(scores: Floats, steering: Sequence[Shift]) -> Floats:
    """s'(u, i): the base scores with every shift added; the very same array content when there is none."""
    steered = scores.copy()
    for shift in steering:
        steered[shift.items] += shift.changes
    return steered


def excluded_items(space: ItemSpace, adjustments: Sequence[Adjustment]) -> Indices:
    """Items that an EXCLUDE adjustment forbids, ascending."""
    forbidden = [space.carriers(edit.intent)[0] for edit in adjustments if edit.mode is Mode.EXCLUDE]
    return np.unique(np.concatenate(forbidden)) if forbidden else np.empty(0, dtype=np.int64)


def exposure(space: ItemSpace, intent: int, items: Indices) -> float:
    """Mean loading of an intent over a list of items; 0 for an empty list."""
    if len(items) == 0:
        return 0.0
    carriers, loadings = space.carriers(intent)
    return float(loadings[np.isin(carriers, items)].sum() / len(items))


def top_items(scores: Floats, count: int) -> Indices:
    """Indices of the highest scores, best first, ties by index; items at minus infinity never appear."""
    eligible = np.flatnonzero(scores > -np.inf)
    if len(eligible) > count > 0:
        threshold = np.partition(scores[eligible], len(eligible) - count)[len(eligible) - count]
        eligible = eligible[scores[eligible] >= threshold]
    order = np.argsort(-scores[eligible], kind="stable")
    return eligible[order][:count].astype(np.int64)


def rank_of(scores: Floats, item: int) -> int:
    """The place of an item in the order of top_items, from 1; 0 when it is not eligible."""
    score = scores[item]
    if score == -np.inf:
        return 0
    return 1 + int((scores > score).sum()) + int((scores[:item] == score).sum())
