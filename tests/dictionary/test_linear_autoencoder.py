"""Vectors fitted to histories predict an item from what is met with it, and not from itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from saerec_ray.dictionary.linear_autoencoder import fit_to_histories, reconstruction_loss

ITEMS, GROUPS = 24, 3


def histories(users: int = 150, seed: int = 2) -> csr_array:
    """Every user met five items of one group."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((users, ITEMS), np.float32)
    for row in rows:
        group = int(rng.integers(GROUPS)) * (ITEMS // GROUPS)
        row[group + rng.permutation(ITEMS // GROUPS)[:5]] = 1
    return csr_array(rows)


def start(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ITEMS, 6)).astype(np.float32)


def loss_of(vectors: np.ndarray, met: csr_array) -> float:
    return float(reconstruction_loss(torch.from_numpy(vectors), met))


def test_the_loss_is_that_of_the_formula() -> None:
    vectors, met = start(), histories(7)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = met.toarray()
    predicted = np.maximum(rows @ unit @ unit.T - rows, 0)
    wanted = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    predicted /= np.linalg.norm(predicted, axis=1, keepdims=True)
    expected = np.square(wanted - predicted).sum(axis=1).mean()
    assert loss_of(vectors, met) == pytest.approx(expected, rel=1e-5)


def test_an_item_cannot_predict_itself() -> None:
    alone = csr_array(np.eye(4, dtype=np.float32))
    orthogonal = np.eye(4, dtype=np.float32)
    assert loss_of(orthogonal, alone) == pytest.approx(1.0), "nothing else predicts it: all is lost"


def test_fitted_vectors_bring_together_what_is_met_together() -> None:
    met = histories()
    fitted = fit_to_histories(start(), met, epochs=60, seed=0)
    assert loss_of(fitted, met) < 0.7 * loss_of(start(), met)
    cosines = fitted @ fitted.T
    group = np.arange(ITEMS) * GROUPS // ITEMS
    same = group[:, None] == group[None, :]
    assert cosines[same].mean() > cosines[~same].mean() + 0.5
    np.testing.assert_allclose(np.linalg.norm(fitted, axis=1), 1, atol=1e-5)


def test_without_passes_only_the_lengths_change() -> None:
    fitted = fit_to_histories(start(), histories(), epochs=0, seed=0)
    np.testing.assert_allclose(fitted, start() / np.linalg.norm(start(), axis=1, keepdims=True), atol=1e-6)


def test_users_with_one_item_say_nothing() -> None:
    met = histories()
    lonely = csr_array(np.eye(ITEMS, dtype=np.float32))
    both = csr_array(np.concatenate([met.toarray(), lonely.toarray()]))
    np.testing.assert_array_equal(
        fit_to_histories(start(), both, epochs=3, seed=0), fit_to_histories(start(), met, epochs=3, seed=0)
    )


def test_the_seed_decides_the_order_and_the_start_is_left_alone() -> None:
    begin = start()
    met = csr_array(np.tile(histories().toarray(), (10, 1)))  # more than one batch
    once, again, other = (fit_to_histories(begin, met, epochs=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    np.testing.assert_array_equal(begin, start())
