"""Vectors around a centre: unit rows, and none where nothing is left."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.text.centred import centred


@given(st.integers(0, 2**16))
def test_rows_are_what_leads_from_the_centre_to_the_vector_with_length_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, centre = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    moved = vectors.astype(np.float64) - centre
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(centred(vectors, centre), expected, atol=1e-5)


def test_a_vector_at_the_centre_has_no_direction() -> None:
    vectors = np.array([[0.5, 1.0], [1.0, 0.0]], dtype=np.float32)
    found = centred(vectors, vectors[0])
    assert not found[0].any()
    assert found.dtype == np.float32
