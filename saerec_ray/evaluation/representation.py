"""Whether over- and under-representation is found where it was planted, and only there: simulated users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.intents.population import (
    FALSE_DISCOVERY_RATE,
    MIN_EXPECTED_COUNT,
    Population,
    Verdict,
    compare_with_population,
)
from saerec_ray.scoring import Indices, ItemSpace

LENGTHS = (5, 10, 20, 50, 100)
PLANTED_SHARES = (0.3, 0.6)
MIN_CARRIERS = 5

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Simulator:
    """Draws histories from the training population, with or without a planted preference."""

    space: ItemSpace
    weights: Doubles  # chance of each item in the population's interactions: (items,), sums to 1

    def history(self, length: int, rng: np.random.Generator) -> Indices:
        """A user like the population: items drawn by how often the population met them."""
        return self._draw(self.weights, length, rng)

    def with_preference(self, intent: int, share: float, length: int, rng: np.random.Generator) -> Indices:
        """The same, but each item is with chance `share` drawn among the carriers of one intent."""
        liked = self._carriers_only(intent)
        planted = int(rng.binomial(length, share))
        return np.concatenate(
            [self._draw(liked, planted, rng), self._draw(self.weights, length - planted, rng)]
        )

    def with_aversion(self, intent: int, length: int, rng: np.random.Generator) -> Indices:
        """A user who never meets a carrier of one intent, which is one of avoidable_intents."""
        weights = self.weights.copy()
        weights[self.space.carriers(intent)[0]] = 0
        return self._draw(weights / weights.sum(), length, rng)

    def expected_activation(self, intent: int, share: float) -> Doubles:
        """Mean activation an interaction of every intent under with_preference: (intents,)."""
        mixed = (1 - share) * self.weights + share * self._carriers_only(intent)
        return np.asarray(mixed @ self.space.codes, dtype=np.float64)

    def _carriers_only(self, intent: int) -> Doubles:
        carriers = self.space.carriers(intent)[0]
        weights = np.zeros_like(self.weights)
        weights[carriers] = self.weights[carriers]
        return np.asarray(weights / weights.sum())

    @staticmethod
    def _draw(weights: Doubles, count: int, rng: np.random.Generator) -> Indices:
        return rng.choice(len(weights), size=count, p=weights).astype(np.int64)


def plantable_intents(space: ItemSpace, weights: Doubles) -> Indices:
    """Intents that a simulated user can like: carried by at least 5 items the population met."""
    return np.flatnonzero(_met_carriers(space, weights) >= MIN_CARRIERS).astype(np.int64)


def avoidable_intents(space: ItemSpace, weights: Doubles) -> Indices:
    """Plantable intents that a simulated user can avoid: not every item the population met carries them."""
    intents = plantable_intents(space, weights)
    return intents[_met_carriers(space, weights)[intents] < np.count_nonzero(weights)]


def _met_carriers(space: ItemSpace, weights: Doubles) -> Indices:
    """Items the population met that carry each intent: (intents,)."""
    met = space.codes[np.flatnonzero(weights)] > 0
    return np.asarray(met.sum(axis=0), dtype=np.int64).ravel()


def representation(
    space: ItemSpace,
    population: Population,
    interactions: npt.NDArray[np.float64],
    count: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Verdicts on `count` simulated users of each kind and history length.

    `interactions` counts the training interactions of each item, (items,). For each length:
    chance_users   no preference planted, so every verdict is false: the share of users with any, and the
                   mean number of verdicts
    preference     30% and 60% of the items come from carriers of one random intent: `power` is the share of
                   users whose intent is called over, `false_discovery_rate` the mean share of wrong verdicts
                   among all of a user's. "Over" is wrong where the planted mixture shows the intent no more
                   than the population does, "under" where it shows it no less: other intents of the same
                   items really are more frequent, and count as found.
    aversion       no carrier is met of one intent, random among the `intents` that are expected often enough for
                   the verdict to be possible: `power` is the share of users who are called short of it
    under_possible the share of all intents that a history of the length can be called short of: those with 5
                   carriers expected. Rare intents never are, so this is small on any large catalogue
    """
    weights = interactions / interactions.sum()
    simulator = Simulator(space, weights)
    plantable, avoidable = plantable_intents(space, weights), avoidable_intents(space, weights)
    lengths: dict[str, Any] = {}
    for done, length in enumerate(LENGTHS):
        rng = np.random.default_rng([seed, length])
        lengths[str(length)] = {
            "chance_users": _chance_users(simulator, population, length, count, rng),
            "preference": {
                f"{share:g}": _preference(simulator, population, plantable, share, length, count, rng)
                for share in PLANTED_SHARES
            },
            "aversion": _aversion(simulator, population, avoidable, length, count, rng),
            "under_possible": float((length * population.activation_rates >= MIN_EXPECTED_COUNT).mean()),
        }
        if on_progress:
            on_progress(done + 1, len(LENGTHS))
    return {
        "users_of_each_kind": count,
        "promised_false_discovery_rate": FALSE_DISCOVERY_RATE,
        "lengths": lengths,
    }


def _verdicts(
    simulator: Simulator, population: Population, history: Indices
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    verdicts = compare_with_population(simulator.space.codes, history, population).verdicts
    return (
        np.array([verdict is Verdict.OVER for verdict in verdicts]),
        np.array([verdict is Verdict.UNDER for verdict in verdicts]),
    )


def _chance_users(
    simulator: Simulator, population: Population, length: int, count: int, rng: np.random.Generator
) -> dict[str, float]:
    found = []
    for _ in range(count):
        over, under = _verdicts(simulator, population, simulator.history(length, rng))
        found.append((over.sum(), under.sum()))
    overs, unders = np.asarray(found, dtype=np.float64).T
    return {
        "share_with_any_verdict": float((overs + unders > 0).mean()),
        "mean_over": float(overs.mean()),
        "mean_under": float(unders.mean()),
    }


def _preference(
    simulator: Simulator,
    population: Population,
    intents: Indices,
    share: float,
    length: int,
    count: int,
    rng: np.random.Generator,
) -> dict[str, float | None]:
    if len(intents) == 0:
        return {"power": None, "false_discovery_rate": None}
    usual = population.means.astype(np.float64)
    hits, false_shares = [], []
    for _ in range(count):
        intent = int(rng.choice(intents))
        over, under = _verdicts(simulator, population, simulator.with_preference(intent, share, length, rng))
        expected = simulator.expected_activation(intent, share)
        false = (over & (expected <= usual * (1 + 1e-4))) | (under & (expected >= usual * (1 - 1e-4)))
        hits.append(bool(over[intent]))
        false_shares.append(float(false.sum()) / max(1, int(over.sum() + under.sum())))
    return {"power": float(np.mean(hits)), "false_discovery_rate": float(np.mean(false_shares))}


def _aversion(
    simulator: Simulator,
    population: Population,
    intents: Indices,
    length: int,
    count: int,
    rng: np.random.Generator,
) -> dict[str, float | None]:
    able = intents[length * population.activation_rates[intents] >= MIN_EXPECTED_COUNT]
    if len(able) == 0:
        return {"power": None, "intents": 0}
    hits = []
    for _ in range(count):
        intent = int(rng.choice(able))
        _, under = _verdicts(simulator, population, simulator.with_aversion(intent, length, rng))
        hits.append(bool(under[intent]))
    return {"power": float(np.mean(hits)), "intents": len(able)}
