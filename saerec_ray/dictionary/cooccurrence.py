"""The second dictionary: the same autoencoder on vectors of items that people take together.

Items are close in texts when they are described alike, and close here when the same people meet them. The
vectors come from training interactions alone: positive pointwise mutual information of items met together,
shifted, then its strongest eigenvectors; these are where a linear autoencoder of whole histories starts from.
Items that few people met have no vector, and so no code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary.linear_autoencoder import fit_to_histories
from saerec_ray.dictionary.sae import Floats
from saerec_ray.dictionary_settings import CooccurrenceConfig
from saerec_ray.errors import InputError, StageError

CONTEXT_SMOOTHING = 0.75
"""Power of the frequencies of partners: rare partners would look like strong evidence (Levy et al. 2015)."""
_SHORTEST = 1e-6
"""Of a vector; a shorter one belongs to an item without partners in the kept eigenvectors."""


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of the items that enough people met."""

    rows: npt.NDArray[np.int64]  # (known items,) ascending
    vectors: Floats  # unit rows: (known items, dimensions)


def cooccurrences(sequences: PreparedSequences, items: int, window: int | None) -> csr_array:
    """How often two items are met together in training: symmetric, (items, items), diagonal 0.

    With a window, each pair at most so many interactions apart counts by 1 / distance. Without one, all pairs
    of a history do, by 1 / (its length - 1), so that every interaction has the same weight.
    """
    users, met = sequences.train_interactions()
    if window is None:
        histories = csr_array((np.ones(len(met)), (users, met)), shape=(len(sequences), items))
        weights = 1.0 / np.maximum(sequences.train_lengths - 1.0, 1.0)
        both = csr_array(histories.T @ diags_array(weights) @ histories)
    else:
        total = csr_array((items, items), dtype=np.float64)
        for distance in range(1, min(window, len(met) - 1) + 1):
            together = users[distance:] == users[:-distance]
            pairs = met[:-distance][together], met[distance:][together]
            weights = np.full(len(pairs[0]), 1.0 / distance)
            total = csr_array(total + csr_array((weights, pairs), shape=(items, items)))
        both = csr_array(total + total.T)
    both.setdiag(0)
    both.eliminate_zeros()
    return both


def shifted_positive_pmi(counts: csr_array, shift: float) -> csr_array:
    """max(log(P(i, j) / (P(i) P(j))) - log(shift), 0) of every pair met together, made symmetric: (items, items).

    `counts`: symmetric, (items, items). P(j) is smoothed by the power CONTEXT_SMOOTHING.
    """
    pairs = counts.tocoo()
    frequencies = np.asarray(counts.sum(axis=1)).ravel()
    partners = frequencies**CONTEXT_SMOOTHING
    partners /= max(partners.sum(), np.finfo(np.float64).tiny)
    rows, columns = pairs.coords
    information = np.log(pairs.data / (frequencies[rows] * partners[columns])) - np.log(shift)
    kept = information > 0
    positive = csr_array((information[kept], (rows[kept], columns[kept])), shape=counts.shape)
    return csr_array((positive + positive.T) / 2)


def item_vectors(
    config: CooccurrenceConfig, sequences: PreparedSequences, items: int, seed: int
) -> ItemVectors:
    """The vectors of all items with at least `min_interactions` training interactions.

    The same interactions and seed give the same vectors: the search for eigenvectors starts from a fixed
    vector, and the largest entry of each is positive. Raises InputError when too few items are met together.
    """
    users, met = sequences.train_interactions()
    information = shifted_positive_pmi(cooccurrences(sequences, items, config.window), config.shift)
    paired = np.flatnonzero(np.diff(information.indptr))
    if len(paired) <= config.dimensions:
        raise InputError(
            f"Only {len(paired)} items are taken together with others much more often than by chance: too few for "
            f"co-occurrence vectors of {config.dimensions} numbers. Lower dictionary.cooccurrence.dimensions or shift, "
            "or leave dictionary.cooccurrence out."
        )
    among = csr_array(information[paired][:, paired])  # the others have vectors of length 0
    try:
        values, found = eigsh(among, k=config.dimensions, which="LA", v0=np.ones(len(paired)))
    except ArpackNoConvergence as error:
        raise StageError(
            "The vectors of co-occurrence did not settle; lower dictionary.cooccurrence.dimensions."
        ) from error
    order = np.argsort(-values, kind="stable")
    values = values[order]
    eigenvectors = np.zeros((items, config.dimensions))
    eigenvectors[paired] = found[:, order]
    largest = np.abs(eigenvectors).argmax(axis=0)
    eigenvectors *= np.where(eigenvectors[largest, np.arange(len(values))] < 0, -1.0, 1.0)
    vectors = eigenvectors * np.sqrt(np.maximum(values, 0))
    lengths = np.linalg.norm(vectors, axis=1)
    known = np.flatnonzero(
        (np.bincount(met, minlength=items) >= config.min_interactions) & (lengths > _SHORTEST)
    )
    if len(known) <= config.dimensions:
        raise InputError(
            f"Only {len(known)} items have {config.min_interactions} training interactions and partners: too few "
            f"for co-occurrence vectors of {config.dimensions} numbers. Lower dictionary.cooccurrence.dimensions "
            "or min_interactions, or leave dictionary.cooccurrence out."
        )
    unit = (vectors[known] / lengths[known, None]).astype(np.float32)
    histories = csr_array((np.ones(len(met), np.float32), (users, met)), shape=(len(sequences), items))
    histories.data[:] = 1  # an item met twice counts once
    return ItemVectors(
        known, fit_to_histories(unit, csr_array(histories[:, known]), config.history_epochs, seed)
    )
