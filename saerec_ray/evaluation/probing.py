"""k-sparse probing: how well one, two or five features tell a known attribute, on items the probe never saw.

The dictionary is never told an attribute. Items with the same vector are on one side of the split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from saerec_ray.evaluation.codings import Features
from saerec_ray.intents.attributes import AttributeValues, auc_from_ranks

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SPARSITIES = (1, 2, 5)
MIN_POSITIVES = 50
MIN_ON_A_SIDE = 10
_ITERATIONS = 200


@dataclass(frozen=True)
class Attributes:
    """The attribute values that are probed for."""

    names: list[tuple[str, str]]
    members: Mask  # (items, values)
    possible: int
    """How many values had enough items, of which these were drawn."""

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Split:
    """Items the probes learn from and items they are measured on."""

    train: Indices
    test: Indices


def probed_attributes(
    attributes: Sequence[dict[str, list[str]]], split: Split, count: int, seed: int
) -> Attributes:
    """At most `count` of the values that MIN_POSITIVES items have and as many lack, drawn by the seed.

    Values that fewer than MIN_ON_A_SIDE items have, or lack, on either side of the split are left out.
    """
    values = AttributeValues.collect(attributes)
    members = np.asarray(values.members.todense()).astype(bool)
    possible = [
        column
        for column in range(members.shape[1])
        if MIN_POSITIVES <= members[:, column].sum() <= len(members) - MIN_POSITIVES
        and all(
            MIN_ON_A_SIDE <= members[side, column].sum() <= len(side) - MIN_ON_A_SIDE
            for side in (split.train, split.test)
        )
    ]
    drawn = sorted(np.random.default_rng(seed).permutation(possible)[:count].astype(int).tolist())
    return Attributes([values.names[each] for each in drawn], members[:, drawn], len(possible))


def mean_differences(features: Features, members: Mask, train: Indices) -> Doubles:
    """|mean of a feature over items with the value - over items without|, in units of the feature's standard
    deviation, over the training side: (values, features). 0 for a constant feature.
    """
    part, inside = features[train], members[train].astype(np.float64)
    with_value = inside.sum(axis=0)[:, None]
    sums = np.asarray((part.T @ inside).T, dtype=np.float64)
    if isinstance(part, csr_array):
        total, squares = (np.asarray(each.sum(axis=0)).ravel() for each in (part, part.power(2)))
    else:
        total, squares = part.sum(axis=0, dtype=np.float64), np.square(part).sum(axis=0, dtype=np.float64)
    variance = squares / len(train) - np.square(total / len(train))
    deviation = np.sqrt(np.maximum(variance, 0))
    differences = np.abs(sums / with_value - (total - sums) / (len(train) - with_value))
    return np.asarray(
        np.divide(differences, deviation, out=np.zeros_like(differences), where=deviation > 1e-9)
    )


@dataclass(frozen=True)
class Probe:
    """How well a probe does on the test side, and its weights on the features it was given."""

    auc: float
    f1: float
    weights: Doubles


def fit_probe(columns: Floats, positive: Mask, split: Split) -> Probe:
    """Logistic regression on standardised columns, (items, k); its threshold has the best F1 in training."""
    mean, deviation = columns[split.train].mean(axis=0), columns[split.train].std(axis=0)
    scaled = (columns - mean) / np.where(deviation > 0, deviation, 1)
    model = LogisticRegression(max_iter=_ITERATIONS)
    model.fit(scaled[split.train], positive[split.train])
    scores = np.asarray(model.decision_function(scaled))
    threshold = f1_threshold(scores[split.train], positive[split.train])
    tested = positive[split.test]
    called = scores[split.test] >= threshold
    auc = auc_from_ranks(rankdata(scores[split.test]), np.flatnonzero(tested))
    weights = np.asarray(model.coef_[0] / np.where(deviation > 0, deviation, 1), dtype=np.float64)
    return Probe(auc, f1_score(called, tested), weights)


def f1_threshold(scores: Doubles, positive: Mask) -> float:
    """The score from which on calling an item positive has the highest F1."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + positive.sum())
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    return float(scores[order][int(np.argmax(np.where(last_of_ties, f1, -1.0)))])


def f1_score(called: Mask, positive: Mask) -> float:
    """2 TP / (called + positive); 0 when nothing is called."""
    return float(2 * (called & positive).sum() / max(1, called.sum() + positive.sum()))


def sparse_probes(
    features: Features, attributes: Attributes, split: Split, tick: Callable[[], None]
) -> dict[str, dict[str, float]]:
    """Mean AUC and F1 over the attributes for each of SPARSITIES, by the features of largest difference."""
    order = np.argsort(-mean_differences(features, attributes.members, split.train), axis=1, kind="stable")
    columns = csc_array(features) if isinstance(features, csr_array) else None
    probes: dict[int, list[Probe]] = {k: [] for k in SPARSITIES}
    for value in range(len(attributes)):
        best = order[value, : max(SPARSITIES)]
        dense = features[:, best] if columns is None else np.asarray(columns[:, best].todense())
        for k in SPARSITIES:
            probes[k].append(fit_probe(dense[:, :k], attributes.members[:, value], split))
        tick()
    return {
        str(k): {
            "auc": float(np.mean([probe.auc for probe in found])),
            "f1": float(np.mean([probe.f1 for probe in found])),
        }
        for k, found in probes.items()
    }


def dense_probes(
    vectors: Floats, attributes: Attributes, split: Split, tick: Callable[[], None]
) -> list[Probe]:
    """The upper bound: one probe an attribute on all dimensions of the vectors, (items, d)."""
    found = []
    for value in range(len(attributes)):
        found.append(fit_probe(vectors, attributes.members[:, value], split))
        tick()
    return found


def probing_report(
    codings: dict[str, Features],
    dense: Sequence[Probe],
    attributes: Attributes,
    split: Split,
    tick: Callable[[], None],
) -> dict[str, Any]:
    """All codings beside the dense bound. `gap` is how far the AUC of five features of the first coding is below."""
    found = {name: sparse_probes(features, attributes, split, tick) for name, features in codings.items()}
    bound = {
        "auc": float(np.mean([probe.auc for probe in dense])),
        "f1": float(np.mean([probe.f1 for probe in dense])),
    }
    first = next(iter(found.values()))
    return {
        "attributes": len(attributes),
        "of_attributes": attributes.possible,
        "train_items": len(split.train),
        "test_items": len(split.test),
        "codings": found,
        "dense": bound,
        "gap": bound["auc"] - first[str(SPARSITIES[-1])]["auc"],
    }
