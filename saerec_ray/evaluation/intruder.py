"""The intruder test: four items on which a latent is strong and one on which it is not; which one is odd?

It needs no label. The judge is no language model: it names the item that is least like the others in a space the
dictionary was not trained on. One in five is right by chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.evaluation.independent_space import IndependentSpace
from saerec_ray.evaluation.intervals import bootstrap_interval

Indices = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

MEMBERS = 4
CHANCE = 1 / (MEMBERS + 1)
STRONGEST = 20
"""Members are drawn among so many items with the largest activations."""
TRIALS = 5


def intruder_accuracy(codes: csr_array, space: IndependentSpace, latents: Indices, seed: int) -> Doubles:
    """Share of TRIALS in which the intruder is named, for each of the given latents: (latents,).

    `codes`: (items, latents). Where several items are equally odd the judge draws one, so it counts as the
    chance of being right. A latent that fewer than MEMBERS items have, or that all have, is NaN.
    """
    columns = codes.tocsc()
    found = np.full(len(latents), np.nan)
    for place, latent in enumerate(latents):
        start, end = columns.indptr[latent], columns.indptr[latent + 1]
        carriers, loadings = columns.indices[start:end].astype(np.int64), columns.data[start:end]
        if len(carriers) < MEMBERS or len(carriers) == codes.shape[0]:
            continue
        rng = np.random.default_rng([seed, int(latent)])
        strongest = carriers[np.argsort(-loadings, kind="stable")[:STRONGEST]]
        inactive = np.setdiff1d(np.arange(codes.shape[0]), carriers)
        trials = [
            np.append(rng.choice(strongest, MEMBERS, replace=False), rng.choice(inactive))
            for _ in range(TRIALS)
        ]
        found[place] = np.mean([_chance_of_naming_the_last(space.similarity(items)) for items in trials])
    return found


def _chance_of_naming_the_last(similarity: Doubles) -> float:
    to_others = similarity.sum(axis=1) - np.diag(similarity)
    odd = np.isclose(to_others, to_others.min(), rtol=1e-6, atol=1e-9)
    return 1 / int(odd.sum()) if odd[-1] else 0.0


def intruder_test(
    codes: csr_array, space: IndependentSpace, published: npt.NDArray[np.bool_], count: int, seed: int
) -> dict[str, Any]:
    """The mean accuracy over at most `count` latents, and over the published among them.

    `published`: (latents,). The control gives every item the codes of another. The interval is over latents.
    """
    carriers = np.bincount(codes.indices, minlength=codes.shape[1])
    usable = np.flatnonzero((carriers >= MEMBERS) & (carriers < codes.shape[0]))
    rng = np.random.default_rng(seed)
    latents = np.sort(rng.permutation(usable)[:count]).astype(np.int64)
    if len(latents) == 0:
        return {"latents": 0}
    accuracy = intruder_accuracy(codes, space, latents, seed)
    shuffled = intruder_accuracy(codes[rng.permutation(codes.shape[0])], space, latents, seed)
    named = accuracy[published[latents]]
    return {
        "latents": len(latents),
        "of_latents": len(usable),
        "trials": TRIALS,
        "accuracy": float(accuracy.mean()),
        "accuracy_interval": list(bootstrap_interval(accuracy, seed)),
        "accuracy_published": float(named.mean()) if len(named) else None,
        "shuffled": float(shuffled.mean()),
        "chance": CHANCE,
    }
