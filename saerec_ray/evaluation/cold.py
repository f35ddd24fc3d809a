"""Items the model never met: are they found from their texts alone?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.build import read_model
from saerec_ray.backbone.cold import read_cold_items
from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.frozen import Frozen
from saerec_ray.backbone.validation import (
    HeldOut,
    encode_users,
    held_out,
    target_ranks,
    user_scores,
)
from saerec_ray.config import TrainConfig
from saerec_ray.data.prepared import PreparedSequences, read_sequences
from saerec_ray.evaluation.accuracy import accuracy
from saerec_ray.evaluation.text_neighbours import text_scores
from saerec_ray.manifest import write_json
from saerec_ray.scoring import ItemSpace
from saerec_ray.text.embed import load_embeddings

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

Batches = Iterator[tuple[int, Floats]]

CUTOFFS = (10,)
COLD_REPORT_FILE = "cold.json"


@dataclass(frozen=True)
class Scorer:
    """A model with everything that scores users."""

    space: ItemSpace
    encoder: UserEncoder
    frozen: Frozen


def cold_cases(sequences: PreparedSequences, cold: Mask) -> HeldOut:
    """Test cases with cold targets, and only those targets."""
    cases = held_out(sequences, "test")
    chosen = [case for case, targets in enumerate(cases.targets) if cold[targets].any()]
    return HeldOut(
        cases.users[chosen],
        [cases.histories[case] for case in chosen],
        [cases.targets[case][cold[cases.targets[case]]] for case in chosen],
    )


def measure_cold(scorer: Scorer, sequences: PreparedSequences, vectors: Floats, cold: Mask) -> dict[str, Any]:
    """HR, NDCG and MRR at 10 of cold targets, ranked among all items and among the cold items alone.

    Cold items have codes, but no residual and no bias. Baselines: popularity in training, which knows nothing
    of a cold item, and text nearest neighbours, the cosine with the mean of the history's texts.
    `vectors`: unit text embeddings, (items, d); `cold`: (items,).
    """
    cases = cold_cases(sequences, cold)
    result: dict[str, Any] = {"cold_items": int(cold.sum()), "targets": sum(map(len, cases.targets))}
    if len(cases) == 0:
        return result
    users = encode_users(scorer.encoder, cases)
    met = [vectors[history] for history in cases.histories]
    scores: dict[str, Callable[[], Batches]] = {
        "intents": lambda: user_scores(scorer.space, scorer.frozen.prior, users),
        "popularity": lambda: _same_for_all(scorer.space.popularity, len(cases)),
        "text neighbours": lambda: text_scores(vectors, met),
    }
    for name, batches in scores.items():
        result[name] = {
            "all": accuracy(target_ranks(cases, batches), CUTOFFS),
            "cold": accuracy(target_ranks(cases, partial(_only, batches, cold)), CUTOFFS),
        }
    return result


def build_cold_report(
    train: TrainConfig, prepared: Path, embedded: Path, trained: Path, folder: Path
) -> dict[str, Any]:
    """Measures the cold items of a train folder, writes COLD_REPORT_FILE, returns the headline metrics.

    Does nothing when the model met all items.
    """
    cold = read_cold_items(trained)
    if cold is None:
        return {}
    space, encoder, frozen = read_model(trained, train)
    found = measure_cold(
        Scorer(space, encoder, frozen), read_sequences(prepared), load_embeddings(embedded), cold
    )
    write_json(folder / COLD_REPORT_FILE, found)
    return {
        f"cold_{name}_HR@10_{among}": values[among]["HR@10"]
        for name, values in found.items()
        if isinstance(values, dict)
        for among in ("all", "cold")
    }


def _same_for_all(scores: Floats, users: int) -> Batches:
    for user in range(users):
        yield user, scores[None].copy()


def _only(batches: Callable[[], Batches], allowed: Mask) -> Batches:
    for start, scores in batches():
        scores[:, ~allowed] = -np.inf
        yield start, scores
