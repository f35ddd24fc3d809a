"""The judge without a language model: does the label's embedding find the items of the intent?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array
from scipy.stats import rankdata

from saerec_ray.intents.attributes import auc_from_ranks

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

POSITIVES = 50
NEGATIVES = 50
MIN_POSITIVES = 5
_DECILES = 10


@dataclass(frozen=True)
class Examples:
    """Items that carry an intent and items that do not, for judging a label."""

    positives: Indices
    negatives: Indices

    @property
    def judgeable(self) -> bool:
        """Whether there are enough positives for the AUC to mean something."""
        return len(self.positives) >= MIN_POSITIVES and len(self.negatives) >= MIN_POSITIVES


def split_halves(items: int, seed: int) -> tuple[Indices, Indices]:
    """Two disjoint halves of the items: labels are found on the first and judged on the second."""
    shuffled = np.random.default_rng(seed).permutation(items)
    return np.sort(shuffled[: items // 2]), np.sort(shuffled[items // 2 :])


def draw_examples(
    codes: csr_array,
    embeddings: Floats,
    items: Indices,
    seed: int,
    positives: int = POSITIVES,
    negatives: int = NEGATIVES,
) -> list[Examples]:
    """Up to so many examples of every latent among the given items; `positives` is a multiple of 10.

    Positives are spread over the deciles of activation; half of the negatives are the inactive items nearest
    to the positives' mean embedding, the other half are random.
    """
    columns = csc_array(codes[items])
    vectors = embeddings[items]  # (items, d)
    result = []
    for latent in range(codes.shape[1]):
        random = np.random.default_rng([seed, latent])
        start, end = columns.indptr[latent], columns.indptr[latent + 1]
        active, loadings = columns.indices[start:end].astype(np.int64), columns.data[start:end]
        if len(active) == 0:
            result.append(Examples(np.empty(0, np.int64), np.empty(0, np.int64)))
            continue
        ordered = active[np.argsort(-loadings, kind="stable")]
        chosen = np.concatenate(
            [
                part
                if len(part) <= positives // _DECILES
                else random.choice(part, positives // _DECILES, replace=False)
                for part in np.array_split(ordered, _DECILES)
            ]
        )
        inactive = np.setdiff1d(np.arange(len(items)), active, assume_unique=True)
        closeness = vectors[inactive] @ (loadings @ vectors[active] / loadings.sum())
        hard = inactive[np.argsort(-closeness, kind="stable")[: negatives // 2]]
        others = np.setdiff1d(inactive, hard, assume_unique=True)
        easy = random.choice(others, min(negatives - len(hard), len(others)), replace=False)
        result.append(Examples(items[chosen], items[np.concatenate([hard, easy])]))
    return result


def judge(label_vector: Floats, examples: Examples, embeddings: Floats) -> float:
    """AUC of cos(label, item) for telling positives from negatives; 0.5 is chance."""
    chosen = np.concatenate([examples.positives, examples.negatives])
    ranks = rankdata(embeddings[chosen] @ label_vector)
    return auc_from_ranks(ranks, np.arange(len(examples.positives)))
