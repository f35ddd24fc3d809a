"""Families: which broader intent an intent belongs to, from nested prefixes and co-activation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.intents.catalogue import Catalogue

Floats = npt.NDArray[np.float32]

MIN_KINSHIP = 0.3
"""Kinship at which a broader latent counts as the parent."""
MIN_CONTAINMENT = 0.25
"""phi as a share of the largest phi that the two densities allow, below which there is no parent."""


def relative_phi(codes: csr_array) -> Floats:
    """How strongly latents are active on the same items: (latents, latents), at most 1.

    The phi coefficient of every pair, over the largest phi their densities allow. For a rare latent c and a
    frequent one p that is (P(p | c) - P(p)) / (1 - P(p)): 1 when c fires only where p does, 0 for chance.
    Plain phi would call a small family member unrelated because its parent is large. Pairs with a latent
    that is never or always active have 0.
    """
    items = codes.shape[0]
    active = csr_array((np.ones_like(codes.data), codes.indices, codes.indptr), shape=codes.shape)
    density = np.asarray(active.sum(axis=0)).ravel() / items
    together = np.asarray((active.T @ active).todense()) / items
    deviation = np.sqrt(density * (1 - density))
    scale = np.outer(deviation, deviation)
    phi = np.divide(together - np.outer(density, density), scale, out=np.zeros_like(scale), where=scale > 0)
    rare, frequent = np.minimum.outer(density, density), np.maximum.outer(density, density)
    odds = np.divide(
        rare * (1 - frequent),
        frequent * (1 - rare),
        out=np.zeros_like(rare),
        where=(frequent > 0) & (rare < 1),
    )
    largest = np.sqrt(odds)
    return np.asarray(np.divide(phi, largest, out=np.zeros_like(phi), where=largest > 0), dtype=np.float32)


def find_parents(
    codes: csr_array, decoder: Floats, prefixes: Sequence[int], allowed: npt.NDArray[np.bool_]
) -> list[int | None]:
    """The parent of every latent, or None.

    `codes`: (items, latents); `decoder`: unit rows (latents, d); `prefixes`: lengths of the nested prefixes,
    ascending, the last is the width; `allowed`: which latents may be parents, (latents,).
    A parent lies in an earlier prefix and is active on more items. Kinship is the mean of relative phi and
    the cosine of the decoder directions; the closest of kin above MIN_KINSHIP is the parent, the earlier
    latent when two are equally close. Without nested prefixes nobody has a parent.
    """
    width = codes.shape[1]
    level = np.searchsorted(np.asarray(prefixes), np.arange(width), side="right")
    counts = np.bincount(codes.indices, minlength=width)
    phi = relative_phi(codes)
    kinship = (phi + decoder @ decoder.T) / 2
    possible = (
        (level[None, :] < level[:, None])
        & (counts[None, :] > counts[:, None])
        & (counts[:, None] > 0)
        & allowed[None, :]
        & (phi >= MIN_CONTAINMENT)
    )
    kinship = np.where(possible, kinship, -np.inf)
    best = kinship.argmax(axis=1)
    return [
        int(parent) if kinship[latent, parent] >= MIN_KINSHIP else None for latent, parent in enumerate(best)
    ]


def with_parents(
    catalogue: Catalogue, codes: csr_array, decoder: Floats, prefixes: Sequence[int], first: int = 0
) -> Catalogue:
    """The catalogue with the parents of one dictionary's published intents; only published intents are parents.

    `decoder` and `prefixes` are those of the dictionary whose latents begin at `first`; `codes` those of all,
    (items, all latents). Parent and child are always of one dictionary.
    """
    last = first + len(decoder)
    own = catalogue.intents[first:last]
    published = np.array([intent.published for intent in own])
    parents = find_parents(csr_array(codes[:, first:last]), decoder, prefixes, published)
    intents = [
        intent.model_copy(update={"parent_id": own[parent].intent_id})
        if intent.published and parent is not None
        else intent
        for intent, parent in zip(own, parents, strict=True)
    ]
    return catalogue.model_copy(
        update={"intents": [*catalogue.intents[:first], *intents, *catalogue.intents[last:]]}
    )
