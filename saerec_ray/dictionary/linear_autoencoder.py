"""ELSA (Vancura et al., RecSys 2022): item vectors from which a history predicts itself, linearly.

    x' = relu(x A A^T - x)      x: the items a user met, one row a user; A: unit rows, (items, d)

The diagonal is taken away, so an item cannot predict itself and has to be predicted by what is met with it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor, nn

from saerec_ray.dictionary.sae import Floats
from saerec_ray.torch_threads import one_torch_thread

LEARNING_RATE = 0.01
_BATCH = 1024
_MOST_SCORES = 1 << 24
"""Scores of users x items held at a time."""


@one_torch_thread()
def fit_to_histories(vectors: Floats, histories: csr_array, epochs: int, seed: int) -> Floats:
    """The vectors after `epochs` passes over the users, unit rows, (items, d).

    `vectors`: where to start, (items, d), no row of length 0; `histories`: 1 where a user met an item,
    (users, items). Users who met fewer than two of the items have nothing to say.
    """
    histories = csr_array(histories[np.flatnonzero(np.diff(histories.indptr) > 1)])
    users, items = histories.shape
    factors = nn.Parameter(torch.from_numpy(vectors.astype(np.float32)))
    optimiser = torch.optim.Adam([factors], lr=LEARNING_RATE)
    batch = max(1, min(_BATCH, _MOST_SCORES // items))
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(users)
        for start in range(0, users, batch):
            loss = reconstruction_loss(factors, csr_array(histories[order[start : start + batch]]))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return np.asarray(F.normalize(factors.detach(), dim=1).numpy(), dtype=np.float32)


def reconstruction_loss(factors: Tensor, histories: csr_array) -> Tensor:
    """The mean of |x / |x| - x' / |x'||^2 over users; `factors`: (items, d), `histories`: (users, items)."""
    unit = F.normalize(factors, dim=1)
    met = torch.from_numpy(histories.toarray().astype(np.float32))
    places = torch.from_numpy(histories.indices.astype(np.int64))
    users = F.embedding_bag(
        places, unit, torch.from_numpy(histories.indptr[:-1].astype(np.int64)), mode="sum"
    )
    predicted = F.relu(users @ unit.T - met)
    return (F.normalize(met, dim=1) - F.normalize(predicted, dim=1)).square().sum(dim=1).mean()
