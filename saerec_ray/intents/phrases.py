"""Key phrases of an intent: log-odds against hard negatives, then closeness to the latent's direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.text.phrases import PhraseCounts

Floats = npt.NDArray[np.float32]
Encode = Callable[[list[str]], Floats]

SHORTLIST = 15
MIN_Z_SCORE = 1.96
MIN_RELEVANCE_SHARE = 0.5
"""A phrase must be at least this close to the latent's direction, as a share of the closest phrase."""
_REDUNDANCY_WEIGHT = 0.4
_PRIOR_STRENGTH = 500.0
_CHUNK = 64


def log_odds(positive: Floats, negative: Floats, background: Floats) -> Floats:
    """z-scores of the log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008).

    Counts a phrase among positives and negatives, (latents, phrases), and over all texts, (phrases,).
    """
    prior = _PRIOR_STRENGTH * background / max(float(background.sum()), 1e-9) + 1e-3
    total = prior.sum()

    def odds(counts: Floats) -> Floats:
        size = counts.sum(axis=1, keepdims=True)
        return np.asarray(np.log((counts + prior) / (size + total - counts - prior)))

    spread = np.sqrt(1 / (positive + prior) + 1 / (negative + prior))
    return np.asarray((odds(positive) - odds(negative)) / spread, dtype=np.float32)


def shortlist_phrases(
    counts: PhraseCounts, positives: csr_array, negatives: csr_array, size: int = SHORTLIST
) -> list[list[int]]:
    """The phrases of every latent with the highest significant log-odds, best first.

    `positives` and `negatives` weigh items, (latents, items); each row of positives sums to its item count.
    """
    background = np.asarray(counts.counts.sum(axis=0), dtype=np.float32).ravel()
    carriers = csr_array((np.ones_like(positives.data), positives.indices, positives.indptr), positives.shape)
    result: list[list[int]] = []
    if not counts.phrases:
        return [[] for _ in range(positives.shape[0])]
    for start in range(0, positives.shape[0], _CHUNK):
        chosen = slice(start, start + _CHUNK)
        with_positive = np.asarray((positives[chosen] @ counts.counts).todense(), dtype=np.float32)
        with_negative = np.asarray((negatives[chosen] @ counts.counts).todense(), dtype=np.float32)
        scores = log_odds(with_positive, with_negative, background)
        holders = np.asarray((carriers[chosen] @ counts.counts).todense())
        scores[holders < 2] = -np.inf  # one item alone names nothing, however much it weighs
        best = np.argsort(-scores, axis=1, kind="stable")[:, :size]
        result += [
            [int(p) for p in row if scores[latent, p] >= MIN_Z_SCORE] for latent, row in enumerate(best)
        ]
    return result


def order_phrases(vectors: Floats, direction: Floats, mean: Floats, count: int) -> list[int]:
    """Picks up to `count` phrases close to the latent's direction and unlike each other (MMR).

    `vectors` are the phrases' embeddings, (phrases, d); returns their places, best first.
    """
    centred = vectors - mean
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    relevance = centred @ direction
    likeness = centred @ centred.T
    chosen: list[int] = []
    while len(chosen) < min(count, len(vectors)):
        penalty = likeness[:, chosen].max(axis=1) if chosen else np.zeros(len(vectors))
        gain = relevance - _REDUNDANCY_WEIGHT * np.maximum(penalty, 0)
        gain[chosen] = -np.inf
        gain[relevance < MIN_RELEVANCE_SHARE * relevance.max()] = -np.inf
        if not np.isfinite(gain.max()):
            break
        chosen.append(int(gain.argmax()))
    return chosen
