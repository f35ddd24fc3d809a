"""The shift of densities between two dictionaries: nothing for the same kind of codes, an alert for another kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.spatial.distance import jensenshannon

from saerec_ray.intents.density_shift import ALERT, BINS, density_shift


def codes(density: float, items: int = 2000, latents: int = 300, seed: int = 0) -> csr_array:
    """Latents of about this density."""
    rng = np.random.default_rng(seed)
    shares = np.clip(density * rng.lognormal(0, 0.5, size=latents), 0, 1)
    return csr_array((rng.random((items, latents)) < shares).astype(np.float32))


def test_the_divergence_is_that_of_the_histograms() -> None:
    one, other = codes(0.02), codes(0.06, seed=1)
    histograms = []
    for each in (one, other):
        density = np.diff(each.tocsc().indptr) / each.shape[0]
        counts, _ = np.histogram(np.log10(density[density > 0]), bins=BINS, range=(-4, 0))
        histograms.append([np.count_nonzero(density == 0), *counts])
    found = density_shift(one, other)
    assert found.divergence == pytest.approx(jensenshannon(*histograms, base=2) ** 2)
    assert found.divergence > ALERT
    assert found.alert
    assert "above 0.1" in found.sentence()


def test_the_same_codes_do_not_differ_and_other_items_and_widths_hardly() -> None:
    same = density_shift(codes(0.02), codes(0.02))
    assert same.divergence == 0
    assert not same.alert
    near = density_shift(codes(0.02), codes(0.02, items=3000, latents=400, seed=3))
    assert 0 < near.divergence < ALERT
    assert "about as often" in near.sentence()


def test_latents_that_fell_silent_are_a_shift() -> None:
    dense = codes(0.02).toarray()
    dense[:, :150] = 0
    assert density_shift(codes(0.02), csr_array(dense)).alert


def test_a_handful_of_latents_differs_by_chance_and_raises_no_alert() -> None:
    found = density_shift(codes(0.02, latents=8), codes(0.02, latents=8, seed=5))
    assert found.divergence > ALERT
    assert found.by_chance > found.divergence
    assert not found.alert


@given(st.integers(0, 30), st.integers(0, 30))
def test_it_is_between_zero_and_one_and_the_same_both_ways(seed: int, other: int) -> None:
    one, two = codes(0.05, 40, 12, seed), codes(0.2, 60, 9, other)
    there, back = density_shift(one, two).divergence, density_shift(two, one).divergence
    assert 0 <= there <= 1
    assert there == pytest.approx(back)


def test_without_any_active_latent_there_is_no_shift() -> None:
    silent = csr_array((5, 3), dtype=np.float32)
    assert density_shift(silent, silent).divergence == 0
    assert density_shift(silent, codes(0.5, 10, 3)).divergence == 1
