"""Whether a latent keeps to few categories, beside codes that belong to other items."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array

Doubles = npt.NDArray[np.float64]


def category_purity(codes: csr_array, members: csr_array) -> dict[str, float]:
    """How the activation of latents is spread over categories; means over latents, weighted by activation.

    `codes`: (items, latents), not negative; `members`: 1 where an item is in a category, (items, categories).
    Items without a category are left out.

    purity     the largest share of a latent's activation that lies on items of one category
    entropy    H(p_f) / log C, where p_f is the distribution over the C categories and an item in several gives
               each an equal part: 0 when all is in one category, 1 when all are alike
    divergence KL(p_f || p) in nats, from the distribution p over all items
    """
    sizes = np.asarray(members.sum(axis=1)).ravel()
    described = np.flatnonzero(sizes > 0)
    # In float64 before the sums: a sum of float32 can put a share above 1.
    part, inside = codes[described].astype(np.float64), members[described].astype(np.float64)
    mass = np.asarray(part.sum(axis=0)).ravel()
    used = np.flatnonzero(mass > 0)
    if len(used) == 0 or members.shape[1] < 2:
        return {"purity": 0.0, "entropy": 0.0, "divergence": 0.0}
    weights = part.T.tocsr()[used]
    shares = np.asarray((weights @ inside).todense()) / mass[used, None]
    parted = diags_array(1 / sizes[described]) @ inside
    distribution = np.asarray((weights @ parted).todense()) / mass[used, None]
    usual = np.asarray(parted.sum(axis=0)).ravel() / len(described)
    values = {
        "purity": shares.max(axis=1),
        "entropy": -_plogp(distribution, np.ones_like(usual)) / np.log(members.shape[1]),
        "divergence": _plogp(distribution, usual),
    }
    return {name: float(np.average(each, weights=mass[used])) for name, each in values.items()}


def _plogp(distribution: Doubles, reference: Doubles) -> Doubles:
    """sum p log(p / r) of every row, with 0 log 0 = 0."""
    ratio = np.divide(distribution, reference, out=np.ones_like(distribution), where=distribution > 0)
    return np.asarray((distribution * np.log(ratio)).sum(axis=1))


def purity_against_controls(codings: dict[str, csr_array], members: csr_array, seed: int) -> dict[str, Any]:
    """category_purity of every coding and of the same coding with the codes of other items.

    `base_purity` is the share of the largest category: the purity of a latent that all items have alike.
    """
    order = np.random.default_rng(seed).permutation(members.shape[0])
    described = np.asarray(members.sum(axis=1)).ravel() > 0
    count = max(1, int(described.sum()))
    return {
        "categories": members.shape[1],
        "base_purity": float(np.asarray(members.sum(axis=0)).max() / count),
        "codings": {
            name: {"own": category_purity(codes, members), "permuted": category_purity(codes[order], members)}
            for name, codes in codings.items()
        },
    }
