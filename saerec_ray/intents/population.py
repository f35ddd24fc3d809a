"""How much of each intent the training population shows, and how one user compares.

The statistics come from training interactions alone and are frozen into the bundle.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import binom, false_discovery_control

from saerec_ray.errors import StageError

Floats = npt.NDArray[np.float32]

MIN_LIFT = math.log(1.5)
MIN_Z_SCORE = 2.0
MIN_EXPECTED_COUNT = 5.0
SHRINKAGE_ITEMS = 10.0
FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True)
class Population:
    """Per-intent statistics of the training interactions; every array is (intents,)."""

    users: int
    mean_item_mass: float  # mean of sum_f z_if over interactions
    shares: Floats  # pi_f: share of all activation mass
    means: Floats  # mu_f: mean activation an interaction
    deviations: Floats  # sigma_f: standard deviation of the activation over interactions
    activation_rates: Floats  # share of interactions whose item carries f
    user_counts: Floats  # df_f: users with at least one item that carries f
    evenness: Floats  # entropy of the categories that carry f over log(categories), in [0, 1]

    def arrays(self) -> dict[str, Floats]:
        """The per-intent arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.type == "Floats"}


def measure_population(
    codes: csr_array,
    users: npt.NDArray[np.int64],
    items: npt.NDArray[np.int32],
    categories: list[list[str]],
) -> Population:
    """Measures the training population.

    `codes` is (items, intents); `users` and `items` name the user and item of every training interaction;
    `categories` holds the category values of every item, empty where there are none. Raises StageError when
    no item that users met carries an intent.
    """
    interactions = len(items)
    counts = np.bincount(items, minlength=codes.shape[0]).astype(np.float64)
    squares = codes.power(2)
    mass = np.asarray(counts @ codes, dtype=np.float64)  # (intents,)
    total = float(mass.sum())
    if total == 0:
        raise StageError("No item that users met carries an intent; train the dictionary again.")
    means = mass / interactions
    variances = np.asarray(counts @ squares) / interactions - means**2
    active = csr_array((np.ones_like(codes.data), codes.indices, codes.indptr), shape=codes.shape)
    matrix = csr_array(
        (np.ones(interactions, dtype=np.float32), (users, items)),
        shape=(int(users.max()) + 1, codes.shape[0]),
    )
    carried = (matrix @ active).tocsr()  # (users, intents)
    carried.eliminate_zeros()
    return Population(
        users=len(np.unique(users)),
        mean_item_mass=total / interactions,
        shares=(mass / total).astype(np.float32),
        means=means.astype(np.float32),
        deviations=np.sqrt(np.maximum(variances, 0)).astype(np.float32),
        activation_rates=(np.asarray(counts @ active) / interactions).astype(np.float32),
        user_counts=np.bincount(carried.indices, minlength=codes.shape[1]).astype(np.float32),
        evenness=_evenness(codes, counts, categories),
    )


def _evenness(codes: csr_array, counts: npt.NDArray[np.float64], categories: list[list[str]]) -> Floats:
    """H(category | f) / log C over interaction mass; 1 for all intents when there are no categories."""
    names = sorted({name for values in categories for name in values})
    if len(names) < 2:
        return np.ones(codes.shape[1], dtype=np.float32)
    column = {name: index for index, name in enumerate(names)}
    pairs = [(row, column[name]) for row, values in enumerate(categories) for name in values]
    rows, columns = np.array(pairs).T
    weights = counts[rows] / np.array([len(categories[row]) for row in rows])
    membership = csr_array((weights, (rows, columns)), shape=(codes.shape[0], len(names)))
    mass = np.asarray((codes.T @ membership).todense())  # (intents, categories)
    total = mass.sum(axis=1, keepdims=True)
    shares = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -(shares * logs).sum(axis=1)
    return np.asarray(entropy / math.log(len(names)), dtype=np.float32)


class Verdict(enum.Enum):
    """How an intent's share in a profile compares with the population."""

    TYPICAL = "typical"
    OVER = "over"
    UNDER = "under"


@dataclass(frozen=True)
class Representation:
    """One user against the population; every array is (intents,)."""

    shares: Floats  # the user's share of activation mass, shrunk towards the population's
    log_lifts: Floats  # ln(share / population share); 0 where the population never shows the intent
    z_scores: Floats
    verdicts: list[Verdict]


def activation_mass(codes: csr_array, items: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """A_f: how much of each intent some items carry together, (intents,)."""
    if len(items) == 0:
        return np.zeros(codes.shape[1])
    return np.asarray(codes[items].sum(axis=0), dtype=np.float64).ravel()


def shrunk_shares(mass: npt.NDArray[np.float64], population: Population) -> npt.NDArray[np.float64]:
    """Shares of an activation mass, drawn towards the population's as if 10 more of its items were met."""
    tau = SHRINKAGE_ITEMS * population.mean_item_mass
    return np.asarray((mass + tau * population.shares) / (mass.sum() + tau))


def compare_with_population(
    codes: csr_array, history: npt.NDArray[np.int64], population: Population
) -> Representation:
    """Which intents a history shows more or less than chance explains.

    With A_f the activation mass over the history's n items and tau = 10 mean item masses:
    share = (A_f + tau pi_f) / (sum A + tau), lift = ln(share / pi_f), Z = (A_f - n mu_f) / (sigma_f sqrt n).
    Over: lift > ln 1.5, Z > 2 and significant at a 5% false-discovery rate over all intents.
    Under: lift < -ln 1.5, Z < -2, significant, and at least 5 activations expected, so that a short
    history is never called lacking.
    Significance is that of the number of items that carry the intent, by the exact binomial test: Z is far
    from normal for intents that few items carry, and would call most short histories special.
    """
    count = len(history)
    mass = activation_mass(codes, history)
    shares = shrunk_shares(mass, population)
    known = population.shares > 0
    ratio = np.divide(shares, population.shares, out=np.ones_like(shares), where=known)
    lifts = np.log(ratio)
    spread = population.deviations * math.sqrt(count)
    z_scores = np.divide(mass - count * population.means, spread, out=np.zeros_like(mass), where=spread > 0)
    significant = _significant(codes, history, population)
    over = significant & (lifts > MIN_LIFT) & (z_scores > MIN_Z_SCORE)
    expected = count * population.activation_rates
    under = significant & (lifts < -MIN_LIFT) & (z_scores < -MIN_Z_SCORE) & (expected >= MIN_EXPECTED_COUNT)
    verdicts = [
        Verdict.OVER if o else Verdict.UNDER if u else Verdict.TYPICAL
        for o, u in zip(over, under, strict=True)
    ]
    return Representation(
        shares=shares.astype(np.float32),
        log_lifts=lifts.astype(np.float32),
        z_scores=z_scores.astype(np.float32),
        verdicts=verdicts,
    )


def _significant(
    codes: csr_array, history: npt.NDArray[np.int64], population: Population
) -> npt.NDArray[np.bool_]:
    """Whether more or fewer items of the history carry each intent than chance explains: (intents,)."""
    count = len(history)
    carriers = np.bincount(codes[history].indices, minlength=codes.shape[1]) if count else np.zeros(1)
    rates = population.activation_rates.astype(np.float64)
    more, fewer = binom.sf(carriers - 1, count, rates), binom.cdf(carriers, count, rates)
    p_values = np.minimum(1.0, 2 * np.minimum(more, fewer))  # two-sided
    return np.asarray(false_discovery_control(p_values) < FALSE_DISCOVERY_RATE)
