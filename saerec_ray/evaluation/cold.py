"""Items the model never met: are they found from their texts alone?

With `train.cold_share` they have codes and one bias for all of them, but no residual; where the model has companions,
they are companions of others by their texts (backbone/companions_by_text.py). Popularity knows nothing of them: it
ranks every item that training met above them, so what it finds among all items is 0 by definition, and among the cold
items alone it keeps the order of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import HeldOut, affordable, held_out, target_ranks
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.evaluation.accuracy import Ranks, accuracy, target_cases
from saerec_ray.evaluation.cold_exposure import NO_COMPANIONS, Scorer, measure_exposure
from saerec_ray.evaluation.intervals import target_interval
from saerec_ray.evaluation.text_neighbours import CLOSENESS, text_scores

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

Batches = Iterator[tuple[int, Floats]]

CUTOFFS = (10,)
CUTOFF = 10
MODEL, POPULARITY = "intents", "popularity"
ALONE = f"{MODEL}, {NO_COMPANIONS}"
READINGS = ("text", "centred text")
TEXTS = tuple(f"{reading} {closeness}" for reading in READINGS for closeness in CLOSENESS)
SCORERS = (MODEL, ALONE, *TEXTS, POPULARITY)
AMONG = ("all", "cold")


def cold_cases(sequences: PreparedSequences, cold: Mask) -> HeldOut:
    """Test cases with cold targets, and only those targets."""
    return held_out(sequences, "test").with_targets_among(cold)


def measure_cold(
    scorer: Scorer, sequences: PreparedSequences, vectors: Floats, cold: Mask, seed: int
) -> dict[str, Any]:
    """HR, NDCG and MRR at 10 of cold targets, ranked among all items and among the cold items alone.

    `vectors`: unit text embeddings, (items, d); `cold`: (items,). Where new items are companions of others by their
    texts, the model is measured without that, too, with the same bias. Baselines in `models` are popularity in
    training and text neighbours, in three readings of what is close to a history: see text_scores. Each is of the
    embeddings as they are, and of those centred on the mean of the items that training met. Where the catalogue makes
    all users too many scores, a random sample is measured; `users` says how many of `all_users`. `against_best`
    compares the model with the baseline of the largest HR@10, chosen on these very targets, which favours the
    baseline: the difference of HR@10 and its 95% interval over users. `exposure`: what cold items gain and others
    lose the more often they are listed; see measure_exposure.
    """
    every = cold_cases(sequences, cold)
    result: dict[str, Any] = {"cold_items": int(cold.sum()), "all_users": len(every)}
    cases = affordable(every, scorer.space.item_count, seed)
    result |= {"users": len(cases), "targets": sum(map(len, cases.targets))}
    if len(cases) == 0:
        return result
    readings = {
        "text": vectors,
        "centred text": unit_rows(vectors - vectors[scorer.space.popularity > 0].mean(axis=0)),
    }
    batches = _scorers(scorer, cases, readings)
    ranks = {
        among: {
            name: target_ranks(cases, own if among == "all" else partial(_only, own, cold))
            for name, own in batches.items()
        }
        for among in AMONG
    }
    result["models"] = {
        name: {among: accuracy(ranks[among][name], CUTOFFS) for among in AMONG} for name in batches
    }
    result["against_best"] = {among: _against_best(ranks[among], cases, seed) for among in AMONG}
    best = result["against_best"]["all"]["best"]
    result["exposure"] = measure_exposure(
        scorer,
        sequences,
        cold,
        cases,
        lambda chosen: _scorers(scorer, chosen, readings)[best],
        ranks["all"][best],
        seed,
    )
    return result


def _scorers(scorer: Scorer, cases: HeldOut, readings: dict[str, Floats]) -> dict[str, Callable[[], Batches]]:
    """What ranks the items, by name; `readings`: unit vectors of all items in each of READINGS."""
    found: dict[str, Callable[[], Batches]] = {
        MODEL: partial(scorer.scores, cases),
        POPULARITY: lambda: _same_for_all(scorer.space.popularity, len(cases)),
    }
    if scorer.has_companions_by_text:
        found[ALONE] = partial(replace(scorer, by_text=False).scores, cases)
    for reading, vectors in readings.items():
        met = [vectors[history] for history in cases.histories]
        for closeness in CLOSENESS:
            found[f"{reading} {closeness}"] = partial(text_scores, vectors, met, closeness)
    return found


def _against_best(ranks: dict[str, Ranks], cases: HeldOut, seed: int) -> dict[str, Any]:
    hits = {name: (own <= CUTOFF).astype(np.float64) for name, own in ranks.items()}
    best = max((*TEXTS, POPULARITY), key=lambda name: hits[name].mean())
    gains = hits[MODEL] - hits[best]
    return {
        "best": best,
        "HR@10_difference": float(gains.mean()),
        "HR@10_difference_interval": list(target_interval(gains, target_cases(cases), seed)),
    }


def cold_headline(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of the manifest."""
    found = report.get("cold", {})
    return {
        f"cold_{name}_HR@10_{among}": values[among]["HR@10"]
        for name, values in found.get("models", {}).items()
        for among in AMONG
    }


def _same_for_all(scores: Floats, users: int) -> Batches:
    for user in range(users):
        yield user, scores[None].copy()


def _only(batches: Callable[[], Batches], allowed: Mask) -> Batches:
    for start, scores in batches():
        scores[:, ~allowed] = -np.inf
        yield start, scores
