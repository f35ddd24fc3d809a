"""A family member is active where its broader relative is, points its way, and was trained in a later prefix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.intents.families import find_parents, relative_phi, with_parents
from tests.intents.named_latents import named, sparse_codes

ITEMS = 400


def family_codes() -> np.ndarray:
    """Latent 0 is broad; 2 and 3 fire only where it does; 1 and 4 have items of their own: (items, 5)."""
    codes = np.zeros((ITEMS, 5))
    codes[:120, 0] = 1
    codes[150:250, 1] = 1
    codes[:30, 2] = 1
    codes[60:80, 3] = 2
    codes[300:330, 4] = 1
    return codes


def family_decoder() -> np.ndarray:
    decoder = np.eye(5, 8)
    decoder[2, 0] = decoder[3, 0] = 0.7  # towards latent 0
    return (decoder / np.linalg.norm(decoder, axis=1, keepdims=True)).astype(np.float32)


def parents_of(codes: np.ndarray, decoder: np.ndarray, prefixes: list[int]) -> list[int | None]:
    allowed = np.ones(codes.shape[1], dtype=bool)
    return find_parents(csr_array(codes.astype(np.float32)), decoder, prefixes, allowed)


def test_members_find_their_broader_relative() -> None:
    assert parents_of(family_codes(), family_decoder(), [2, 5]) == [None, None, 0, 0, None]


def test_without_nested_prefixes_nobody_has_a_parent() -> None:
    assert parents_of(family_codes(), family_decoder(), [5]) == [None] * 5
    assert parents_of(family_codes(), family_decoder(), []) == [None] * 5


def test_a_parent_lies_in_an_earlier_prefix() -> None:
    order = [2, 0, 1, 3, 4]  # the broad latent no longer comes before latent 2's place
    codes, decoder = family_codes()[:, order], family_decoder()[order]
    assert parents_of(codes, decoder, [1, 5]) == [None] * 5
    assert parents_of(codes, decoder, [3, 5]) == [None, None, None, 1, None]


def test_a_parent_is_broader_than_its_child() -> None:
    codes = family_codes()
    codes[:, 0] = 0
    codes[:25, 0] = 1  # narrower than latent 2 now
    assert parents_of(codes, family_decoder(), [2, 5])[2] is None


def test_latents_that_only_point_the_same_way_are_no_family() -> None:
    codes = family_codes()
    codes[:, 2] = 0
    codes[350:380, 2] = 1
    assert parents_of(codes, family_decoder(), [2, 5])[2] is None


def test_only_allowed_latents_are_parents() -> None:
    codes = csr_array(family_codes().astype(np.float32))
    allowed = np.array([False, True, True, True, True])
    assert find_parents(codes, family_decoder(), [2, 5], allowed) == [None] * 5


def test_the_catalogue_names_published_parents_of_published_children() -> None:
    latents = named(family_decoder(), family_codes())
    intents = list(latents.catalogue.intents)
    intents[3] = intents[3].model_copy(update={"state": "unpublished"})
    catalogue = latents.catalogue.model_copy(update={"intents": intents})
    found = with_parents(catalogue, latents.codes, latents.decoder, [2, 5])
    assert [each.parent_id for each in found.intents] == [None, None, intents[0].intent_id, None, None]
    intents[0] = intents[0].model_copy(update={"state": "unpublished"})
    catalogue = latents.catalogue.model_copy(update={"intents": intents})
    found = with_parents(catalogue, latents.codes, latents.decoder, [2, 5])
    assert all(each.parent_id is None for each in found.intents)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), density=st.floats(0.05, 0.9))
def test_relative_phi_is_containment_beyond_chance(seed: int, density: float) -> None:
    codes = sparse_codes(np.random.default_rng(seed), 60, 5, density)
    active = codes > 0
    phi = relative_phi(csr_array(codes.astype(np.float32)))
    np.testing.assert_allclose(phi, phi.T, atol=1e-5)
    assert phi.max() <= 1 + 1e-4
    for one in range(5):
        for other in range(5):
            rare, frequent = sorted((one, other), key=lambda latent: active[:, latent].sum())
            base = active[:, frequent].mean()
            if active[:, rare].sum() == 0 or base == 1:
                assert phi[one, other] == 0
                continue
            within = active[active[:, rare], frequent].mean()
            assert phi[one, other] == pytest.approx((within - base) / (1 - base), abs=1e-4)
