"""A foreign item is a cold item that nobody can be recommended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.backbone.encoder import UserEncoder, UserStates
from saerec_ray.backbone.history_space import history_space
from saerec_ray.bundle import Bundle
from saerec_ray.scoring import ItemSpace, companion_parts
from tests.synthetic import load_synthetic_bundle

COLD = 40
"""Items of the catalogue from here on are made cold."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose last items have codes alone."""
    loaded = load_synthetic_bundle(tmp_path_factory.mktemp("history") / "bundle")
    space = loaded.space
    assert space.companions is not None
    warm = np.arange(space.item_count) < COLD
    companions = csr_array(space.companions.toarray() * warm[:, None] * warm)
    return replace(
        loaded,
        space=replace(
            space,
            residuals=(space.residuals * warm[:, None]).astype(np.float32),
            biases=(space.biases * warm).astype(np.float32),
            companions=companions,
        ),
    )


def encoded(bundle: Bundle, space: ItemSpace, history: list[int]) -> UserStates:
    encoder = UserEncoder(bundle.config.train, bundle.backbone, space, bundle.prior)
    return encoder.encode([np.array(history)])


@given(st.data())
@settings(max_examples=25)
def test_a_copy_of_a_cold_item_counts_as_the_cold_item_does(bundle: Bundle, data: st.DataObject) -> None:
    home = bundle.space.item_count
    copies = data.draw(st.lists(st.integers(COLD, home - 1), min_size=1, max_size=4))
    history = data.draw(
        st.lists(st.one_of(st.integers(0, home - 1), st.sampled_from(copies)), min_size=1, max_size=25)
    )
    abroad = [home + copies.index(item) if item in copies else item for item in history]
    longer = history_space(bundle.space, [csr_array(bundle.space.codes[[each]]) for each in copies])
    here, there = encoded(bundle, bundle.space, history), encoded(bundle, longer, abroad)
    np.testing.assert_array_equal(there.profiles, here.profiles)
    np.testing.assert_array_equal(there.states, here.states)
    np.testing.assert_array_equal(there.history_weights[0], here.history_weights[0])
    np.testing.assert_array_equal(there.companions.toarray(), here.companions.toarray())
    for item in range(0, COLD, 7):
        np.testing.assert_array_equal(
            companion_parts(longer, np.array(abroad), item),
            companion_parts(bundle.space, np.array(history), item),
        )


def test_strengths_of_companions_are_of_the_catalogue_also_where_the_model_has_none(bundle: Bundle) -> None:
    without = replace(bundle.space, companions=None, companion_weight=0.0)
    home = bundle.space.item_count
    for space in (bundle.space, without):
        longer = history_space(space, [csr_array(space.codes[:3])])
        assert longer.item_count == home + 3
        assert encoded(bundle, longer, [home, 1, home + 2]).companions.shape == (1, home)


def test_codes_of_another_catalogue_of_intents_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="foreign items have 5 intents instead of 32"):
        history_space(bundle.space, [csr_array((2, 5), dtype=np.float32)])
