"""Companions: counted over training interactions as defined, and given the weight that validation asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.backbone.build import read_model
from saerec_ray.backbone.companions import (
    DECAY,
    REACH,
    SHRINKAGE,
    count_companions,
    typical_strength,
    without_items,
)
from saerec_ray.scoring import companion_strengths
from tests.backbone.small_sets import (
    ITEMS,
    Parts,
    frozen_of,
    grouped_users,
    sequences_of,
    small_encoder,
    small_settings,
)
from tests.backbone.test_build import built

HISTORIES = st.lists(st.lists(st.integers(0, 11), max_size=12), min_size=1, max_size=6)


@given(HISTORIES)
@settings(max_examples=60)
def test_rates_are_those_of_the_definition(histories: list[list[int]]) -> None:
    users: list[Parts] = [(history, [3], [4]) for history in histories]
    expected = np.zeros((12, 12))
    times = np.bincount([item for history in histories for item in history], minlength=12)
    for history in histories:
        for place, first in enumerate(history):
            for apart, later in enumerate(history[place + 1 : place + 1 + REACH], start=1):
                if later != first:
                    weight = DECAY ** (apart - 1)
                    expected[first, later] += weight / np.sqrt(
                        (times[first] + SHRINKAGE) * (times[later] + SHRINKAGE)
                    )
    np.testing.assert_allclose(count_companions(sequences_of(users), 12, 12).toarray(), expected, rtol=1e-6)


def test_what_is_held_out_counts_for_nothing() -> None:
    users = grouped_users()
    swapped = [(train, test, [0]) for train, _, test in users]
    before, after = (count_companions(sequences_of(each), ITEMS, 50) for each in (users, swapped))
    assert (before != after).nnz == 0
    assert before.nnz


def test_of_items_left_out_not_even_zeros_stay() -> None:
    counted = count_companions(sequences_of(grouped_users()), ITEMS, 5)
    left_out = np.arange(ITEMS) % 3 == 0
    found = without_items(counted, left_out)
    np.testing.assert_array_equal(found.toarray(), counted.toarray() * ~left_out)
    assert found.nnz == np.count_nonzero(found.toarray()) < counted.nnz


def test_with_no_companions_asked_for_there_are_none() -> None:
    assert count_companions(sequences_of(grouped_users()), ITEMS, 0).nnz == 0
    assert typical_strength(csr_array((3, ITEMS), dtype=np.float32)) == 0.0


def test_both_models_get_a_weight_of_their_own_and_are_read_back_with_it(tmp_path: Path) -> None:
    metrics = built(tmp_path, companions=5, baseline=True)
    settings = small_settings(companions=5)
    for baseline, name in ((False, "companion_weight"), (True, "companion_weight_without_intents")):
        space, _, _ = read_model(tmp_path / "train", settings, baseline=baseline)
        assert space.companions is not None
        assert space.companion_weight == pytest.approx(metrics[name])
        assert np.diff(space.companions.indptr).max() <= 5
    assert metrics["companion_weight"] > 0
    assert next(iter(metrics["companion_weights_tried"])) == "0"


def test_companions_give_way_to_intents_as_far_as_is_tolerated_and_not_where_there_are_none(
    tmp_path: Path,
) -> None:
    metrics = built(tmp_path, companions=5, baseline=True, companion_tolerance=0.99)
    assert metrics["companion_weights_tried"]["0"] > 0
    assert metrics["companion_weight"] == 0 < metrics["companion_weight_without_intents"]


def test_without_companions_asked_for_the_score_has_none(tmp_path: Path) -> None:
    metrics = built(tmp_path, epochs=1)
    assert not any("companion" in name for name in metrics)
    space, encoder, _ = read_model(tmp_path / "train", small_settings())
    assert (space.companions, space.companion_weight) == (None, 0.0)
    assert encoder.encode([np.array([1, 2])]).companions.nnz == 0


@pytest.mark.parametrize("length", [0, 1, 30])
def test_an_encoder_gives_the_companions_of_what_it_read(length: int) -> None:
    frozen = frozen_of(sequences_of(grouped_users()))
    space, encoder = small_encoder(frozen)
    if length == 0:
        assert companion_strengths(space, []).shape == (0, ITEMS)
        return
    history = np.random.default_rng(2).integers(ITEMS, size=length)
    found = encoder.encode([history]).companions
    read = history[-encoder.max_length :]
    np.testing.assert_allclose(found.toarray(), companion_strengths(space, [read]).toarray())
    assert found.nnz
