"""The monosemanticity score: are the items on which a feature is strongest alike in an independent space?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.evaluation.codings import Features
from saerec_ray.evaluation.independent_space import IndependentSpace

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

TOP_ITEMS = 30


def monosemanticity(features: Features, space: IndependentSpace, chosen: Indices) -> Doubles:
    """MS_f = sum a_i a_j S_ij / sum a_i a_j over pairs of the TOP_ITEMS strongest items: (chosen,).

    `features`: (items, features), of which `chosen` are measured; a: the activations of a feature, scaled so
    that its smallest over all items is 0 and its largest 1; S: similarity in the independent space. NaN for a
    feature that is not above its smallest on two items.
    """
    columns = features.tocsc() if isinstance(features, csr_array) else None
    scores = np.full(len(chosen), np.nan)
    for place, feature in enumerate(chosen):
        if columns is None:
            values = np.asarray(features[:, feature], dtype=np.float64)
            items = np.arange(len(values))
        else:
            start, end = columns.indptr[feature], columns.indptr[feature + 1]
            items = columns.indices[start:end].astype(np.int64)
            values = columns.data[start:end].astype(np.float64)
        if len(values) == 0:
            continue
        lowest = values.min() if len(values) == features.shape[0] else min(0.0, values.min())
        strongest = np.argsort(-values, kind="stable")[:TOP_ITEMS]
        raised = values[strongest] - lowest
        if np.count_nonzero(raised) < 2:
            continue
        weights = np.outer(raised, raised) / raised[0] ** 2
        np.fill_diagonal(weights, 0)
        similarity = space.similarity(items[strongest])
        scores[place] = float((weights * similarity).sum() / weights.sum())
    return scores


def monosemanticity_of(
    codings: dict[str, Features], space: IndependentSpace, count: int, seed: int
) -> dict[str, Any]:
    """The mean score over at most `count` features of each coding."""
    found = {}
    for name, features in codings.items():
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(features.shape[1])[:count]).astype(np.int64)
        scores = monosemanticity(features, space, chosen)
        measured = scores[~np.isnan(scores)]
        found[name] = {
            "features": len(measured),
            "score": float(measured.mean()) if len(measured) else None,
        }
    return found
