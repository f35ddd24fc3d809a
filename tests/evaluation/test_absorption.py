"""Absorption is seen where one latent was made to take over another's items, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.evaluation.absorption import absorption, main_latents
from saerec_ray.evaluation.probing import Attributes, Split

ITEMS, D = 400, 8
SPLIT = Split(np.arange(200), np.arange(200, ITEMS))
HAS = np.arange(ITEMS) % 4 < 2
"""Half of the items have the one attribute."""
PROBE = np.eye(1, D)
ATTRIBUTES = Attributes([("brand", "x")], HAS[:, None], 1)


def setting(taken_over: float, direction: float) -> tuple[csr_array, np.ndarray]:
    """Latent 0 stands for the attribute; latent 1 replaces it on a share of its items.

    `direction`: how far latent 1 points along the attribute. Latent 2 is on all items and points elsewhere.
    """
    rng = np.random.default_rng(0)
    replaced = HAS & (rng.random(ITEMS) < taken_over)
    dense = np.zeros((ITEMS, 3), dtype=np.float32)
    dense[HAS & ~replaced, 0] = 1
    dense[replaced, 1] = 1
    dense[:, 2] = 1
    decoder = np.eye(3, D, dtype=np.float32)
    decoder[1, 0] = direction
    return csr_array(dense), unit_rows(decoder)


def test_the_main_latent_is_the_one_whose_activity_has_the_best_f1_in_training() -> None:
    codes, _ = setting(0.3, 1.0)
    assert main_latents(codes, ATTRIBUTES, SPLIT).tolist() == [0]
    dense = codes.toarray()
    dense[:200, 1] = HAS[:200]
    assert main_latents(csr_array(dense), ATTRIBUTES, SPLIT).tolist() == [1]


def test_items_taken_over_by_a_latent_that_points_the_same_way_are_absorbed() -> None:
    codes, decoder = setting(0.3, 2.0)
    found = absorption(codes, decoder, PROBE, ATTRIBUTES, SPLIT)
    tested = codes.toarray()[SPLIT.test][HAS[SPLIT.test]]
    assert found["silent"] == pytest.approx((tested[:, 0] == 0).mean())
    assert 0.2 < found["silent"] < 0.4
    assert found["absorbed"] == 1


def test_items_that_are_merely_missed_are_not() -> None:
    codes, decoder = setting(0.3, 0.0)
    assert absorption(codes, decoder, PROBE, ATTRIBUTES, SPLIT)["absorbed"] == 0
    codes, decoder = setting(0.3, -2.0)
    assert absorption(codes, decoder, PROBE, ATTRIBUTES, SPLIT)["absorbed"] == 0


def test_a_weak_contribution_is_no_absorption() -> None:
    codes, decoder = setting(0.3, 2.0)
    dense = codes.toarray()
    drowned = np.concatenate([dense, np.full((ITEMS, 1), 10, dtype=np.float32)], axis=1)
    lifted = np.concatenate([decoder, unit_rows(np.array([[0.4, *[1] * (D - 1)]], dtype=np.float32))])
    found = absorption(csr_array(drowned), lifted, PROBE, ATTRIBUTES, SPLIT)
    assert found["absorbed"] == 0


def test_a_latent_that_is_never_silent_absorbs_nothing() -> None:
    codes, decoder = setting(0.0, 1.0)
    found = absorption(codes, decoder, PROBE, ATTRIBUTES, SPLIT)
    assert found == {"silent": 0, "absorbed": None}
