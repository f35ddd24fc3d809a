"""The part `dictionary`: what a dictionary keeps of the vectors it codes, beside controls of the same size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from saerec_ray.backbone.validation import Part, held_out
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary.metrics import PrincipalComponents
from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.dictionary.stability import STABLE
from saerec_ray.evaluation.coded_items import CodedItems
from saerec_ray.evaluation.codings import Coding
from saerec_ray.evaluation.content_recommender import ndcg_recovered
from saerec_ray.evaluation.reconstruction import (
    latent_densities,
    latent_directions,
    measure_codings,
    recalibrated,
    variance_curve,
)
from saerec_ray.evaluation.scored_users import sample_cases

OnProgress = Callable[[float, float], None]

SPLITS: tuple[Part, ...] = ("validation", "test")
DENSE_ACTIVE = 32
"""Active latents of the denser codings whose ranking is measured too."""


def measure_dictionary_part(
    coded: CodedItems, sequences: PreparedSequences, users: int, seed: int, on_progress: OnProgress
) -> dict[str, Any]:
    """Codings, sparsity curve, densities, directions, and the ranking recovered for at most `users` users a split.

    Codings, curve and directions are of items that the dictionary was neither trained on nor chosen by, beside controls
    fitted on training items. The ranking recovered is of the whole catalogue, most of which training saw, and once
    more of the held-out items alone, which compete with each other. With reviews, all is of the items' own texts.
    """
    on_progress(1, 10)
    found = coding_figures(coded) | {"recovered": {}, "recovered_held_out": {}}
    held = np.zeros(len(coded.vectors), dtype=bool)
    held[coded.held_out] = True
    vectors, mean = coded.vectors, unit_rows(coded.vectors[coded.train]).mean(axis=0)
    on_progress(2, 10)
    reconstructions = {
        name: partial(coding.reconstruct, vectors)
        for name, coding in (coded.codings | _denser(coded)).items()
    }
    for done, split in enumerate(SPLITS):
        every = held_out(sequences, split)
        cases = every.at(sample_cases(every, users, seed))
        if len(cases):
            unit = unit_rows(vectors)
            found["recovered"][split] = ndcg_recovered(unit, mean, reconstructions, cases, seed)
            unseen = every.with_targets_among(held)
            if len(unseen):
                chosen = unseen.at(sample_cases(unseen, users, seed))
                found["recovered_held_out"][split] = ndcg_recovered(
                    unit, mean, reconstructions, chosen, seed, held
                )
        on_progress(2 + 4 * (done + 1), 10)
    return found


def coding_figures(coded: CodedItems) -> dict[str, Any]:
    """Everything but the ranking, of the vectors that this dictionary reads."""
    vectors, mean = coded.vectors, unit_rows(coded.vectors[coded.train]).mean(axis=0)
    train, held = vectors[coded.train], vectors[coded.held_out]
    found: dict[str, Any] = {
        "latents": coded.dictionary.width,
        "train_items": len(train),
        "held_out_items": len(held),
        "trained_here": coded.trained_here,
        "codings": measure_codings(coded.codings, mean, train, held),
        "curve": variance_curve(coded.dictionary, coded.fitting, coded.calibrating, held, coded.seed),
        "densities": latent_densities(coded.text_codes[coded.train], coded.text_codes[coded.held_out]),
        "directions": latent_directions(coded.dictionary, coded.seed),
    }
    if coded.stability is not None:
        found["stability"] = {
            "mean": float(coded.stability.mean()),
            "stable_share": float((coded.stability >= STABLE).mean()),
        }
    return found


def _denser(coded: CodedItems) -> dict[str, Coding]:
    """The same dictionary and a PCA with DENSE_ACTIVE numbers an item, where the width allows it."""
    if coded.dictionary.width < 2 * DENSE_ACTIVE:
        return {}
    return {
        f"dictionary_{DENSE_ACTIVE}": recalibrated(coded.dictionary, coded.calibrating, DENSE_ACTIVE),
        f"pca_{DENSE_ACTIVE}": PrincipalComponents.fit(coded.fitting).first(DENSE_ACTIVE),
    }


def dictionary_headline(report: dict[str, Any]) -> dict[str, float]:
    """Plain figures for the manifest; none where the part was not measured."""
    if "dictionary" not in report:
        return {}
    found = report["dictionary"]
    figures = {"dictionary_fvu": found["codings"]["dictionary"]["fvu"]}
    if test := found["recovered"].get("test"):
        recovered = test["codings"]["dictionary"]["recovered"]["10"]
        figures |= {} if recovered is None else {"dictionary_ndcg_recovered": recovered}
    return figures
