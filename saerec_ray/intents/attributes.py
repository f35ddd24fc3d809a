"""Which attribute values an intent coincides with: enrichment under a false-discovery rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array
from scipy.stats import false_discovery_control, hypergeom, rankdata

from saerec_ray.intents.catalogue import AttributeMatch

MIN_VALUE_ITEMS = 5
MIN_F1 = 0.5
MIN_AUC = 0.8
_CANDIDATES = 5


@dataclass(frozen=True)
class AttributeValues:
    """Which items have which attribute values."""

    names: list[tuple[str, str]]  # (attribute, value) of every column
    members: csc_array  # (items, values), 1 where the item has the value

    @staticmethod
    def collect(attributes: Sequence[dict[str, list[str]]]) -> AttributeValues:
        """Gathers the values that at least MIN_VALUE_ITEMS items have and at least one item lacks."""
        items_of: dict[tuple[str, str], list[int]] = {}
        for item, values in enumerate(attributes):
            for attribute, entries in values.items():
                for value in set(entries):
                    items_of.setdefault((attribute, value), []).append(item)
        names = sorted(
            name for name, items in items_of.items() if MIN_VALUE_ITEMS <= len(items) < len(attributes)
        )
        lengths = [len(items_of[name]) for name in names]
        rows = np.concatenate([items_of[name] for name in names]) if names else np.empty(0, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shape = (len(attributes), len(names))
        return AttributeValues(
            names, csc_array((np.ones(len(rows), dtype=np.float32), rows, offsets), shape=shape)
        )


def match_attributes(
    values: AttributeValues, codes: csr_array, items: npt.NDArray[np.int64], false_discovery_rate: float
) -> list[AttributeMatch | None]:
    """The best accepted attribute value of every latent, or None; only the given items are looked at.

    Tests {z_f > 0} against every value with the hypergeometric upper tail, corrected over all tests after
    Benjamini and Hochberg. Accepted: q below the rate and (F1 >= 0.5 or AUC >= 0.8). Best: highest F1.
    """
    latents = codes.shape[1]
    if not values.names:
        return [None] * latents
    members = csr_array(values.members)[items].tocsc()
    part = codes[items]
    active = csr_array((np.ones_like(part.data), part.indices, part.indptr), shape=part.shape)
    both = np.asarray((members.T @ active).todense())  # (values, latents): items with value and latent
    with_value = np.asarray(members.sum(axis=0)).ravel()[:, None]
    with_latent = np.asarray(active.sum(axis=0)).ravel()[None, :]
    q_values = _q_values(both, with_value, with_latent, len(items))
    f1 = 2 * both / np.maximum(with_value + with_latent, 1)
    columns = part.tocsc()
    matches: list[AttributeMatch | None] = []
    for latent in range(latents):
        significant = np.flatnonzero(q_values[:, latent] < false_discovery_rate)
        best = significant[np.argsort(-f1[significant, latent], kind="stable")][:_CANDIDATES]
        scores = np.zeros(len(items))
        start, end = columns.indptr[latent], columns.indptr[latent + 1]
        scores[columns.indices[start:end]] = columns.data[start:end]
        ranks = rankdata(scores) if len(best) else scores
        accepted = None
        for row in best:
            positives = members.indices[members.indptr[row] : members.indptr[row + 1]]
            auc = auc_from_ranks(ranks, positives)
            if f1[row, latent] >= MIN_F1 or auc >= MIN_AUC:
                expected = len(positives) * (end - start) / len(items)
                accepted = AttributeMatch(
                    attribute=values.names[row][0],
                    value=values.names[row][1],
                    lift=float(both[row, latent] / expected),
                    f1=float(f1[row, latent]),
                    auc=auc,
                    q_value=float(q_values[row, latent]),
                )
                break
        matches.append(accepted)
    return matches


def _q_values(
    both: npt.NDArray[np.float32],
    with_value: npt.NDArray[np.float32],
    with_latent: npt.NDArray[np.float32],
    items: int,
) -> npt.NDArray[np.float64]:
    p_values = np.ones(both.shape)
    rows, columns = np.nonzero(both)
    p_values[rows, columns] = hypergeom.sf(
        both[rows, columns] - 1, items, with_value[rows, 0], with_latent[0, columns]
    )
    return np.asarray(false_discovery_control(p_values.ravel()).reshape(both.shape))


def auc_from_ranks(ranks: npt.NDArray[np.float64], positives: npt.NDArray[np.integer]) -> float:
    """Chance that a positive outranks a negative, ties counting half; `ranks` are average ranks from 1."""
    count = len(positives)
    negatives = len(ranks) - count
    if count == 0 or negatives == 0:
        return 0.5
    return float((ranks[positives].sum() - count * (count + 1) / 2) / (count * negatives))
