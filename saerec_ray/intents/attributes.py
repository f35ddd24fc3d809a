"""Which attribute values an intent coincides with: enrichment under a false-discovery rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array
from scipy.stats import hypergeom, rankdata

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
    both = (members.T @ active).tocsc()  # (values, latents): items with value and latent
    both.sort_indices()
    with_value = np.asarray(members.sum(axis=0)).ravel()
    with_latent = np.asarray(active.sum(axis=0)).ravel()
    latent_of = np.repeat(np.arange(latents), np.diff(both.indptr))
    p_values = hypergeom.sf(both.data - 1, len(items), with_value[both.indices], with_latent[latent_of])
    q_values = adjusted(p_values, len(values.names) * latents)
    f1 = 2 * both.data / np.maximum(with_value[both.indices] + with_latent[latent_of], 1)
    columns = part.tocsc()
    matches: list[AttributeMatch | None] = []
    for latent in range(latents):
        pairs = np.arange(both.indptr[latent], both.indptr[latent + 1])
        significant = pairs[q_values[pairs] < false_discovery_rate]
        best = significant[np.argsort(-f1[significant], kind="stable")][:_CANDIDATES]
        scores = np.zeros(len(items))
        start, end = columns.indptr[latent], columns.indptr[latent + 1]
        scores[columns.indices[start:end]] = columns.data[start:end]
        ranks = rankdata(scores) if len(best) else scores
        accepted = None
        for pair in best:
            value = both.indices[pair]
            positives = members.indices[members.indptr[value] : members.indptr[value + 1]]
            auc = auc_from_ranks(ranks, positives)
            if f1[pair] >= MIN_F1 or auc >= MIN_AUC:
                expected = len(positives) * (end - start) / len(items)
                accepted = AttributeMatch(
                    attribute=values.names[value][0],
                    value=values.names[value][1],
                    lift=float(both.data[pair] / expected),
                    f1=float(f1[pair]),
                    auc=auc,
                    q_value=float(q_values[pair]),
                )
                break
        matches.append(accepted)
    return matches


def adjusted(p_values: npt.NDArray[np.float64], tests: int) -> npt.NDArray[np.float64]:
    """Benjamini and Hochberg's q-values of some of `tests` tests, of which all others have a p-value of 1.

    Few pairs of a value and a latent share an item; scipy's false_discovery_control wants all of them.
    """
    order = np.argsort(p_values)
    raised = p_values[order] * (tests / np.arange(1, len(order) + 1))
    q_values = np.empty(len(order))
    q_values[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1)
    return q_values


def auc_from_ranks(ranks: npt.NDArray[np.float64], positives: npt.NDArray[np.integer]) -> float:
    """Chance that a positive outranks a negative, ties counting half; `ranks` are average ranks from 1."""
    count = len(positives)
    negatives = len(ranks) - count
    if count == 0 or negatives == 0:
        return 0.5
    return float((ranks[positives].sum() - count * (count + 1) / 2) / (count * negatives))
