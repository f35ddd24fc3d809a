"""What stays fixed while the backbone trains: the prior's formulas, and files that bring it all back."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.backbone.frozen import Frozen, prior_table, read_frozen, without_intents, write_frozen
from saerec_ray.intents.population import Population
from tests.backbone.small_sets import INTENTS, ITEMS, frozen_of, grouped_users, sequences_of


def population(
    shares: list[float], evenness: list[float], user_counts: list[float], users: int
) -> Population:
    numbers = np.zeros(len(shares), dtype=np.float32)
    return Population(
        users=users,
        mean_item_mass=1.0,
        shares=np.array(shares, dtype=np.float32),
        means=numbers,
        deviations=numbers,
        activation_rates=numbers,
        user_counts=np.array(user_counts, dtype=np.float32),
        evenness=np.array(evenness, dtype=np.float32),
    )


def test_rarity_is_the_log_of_users_over_users_who_have_the_intent() -> None:
    table = prior_table(population([0.5, 0.3, 0.2], [1, 1, 1], [99, 9, 0], users=99), 0.2)
    expected = [0.0, math.log(100 / 10), math.log(100)]
    np.testing.assert_allclose(table.inverse_document_frequency, expected, rtol=1e-6)
    assert table.public_share == 0.2


def test_the_public_part_wants_intents_frequent_and_spread_over_categories() -> None:
    table = prior_table(population([0.5, 0.3, 0.2], [0.1, 1.0, 0.5], [9, 9, 9], users=10), 0.2)
    raw = np.array([0.05, 0.3, 0.1])
    np.testing.assert_allclose(table.public, raw / np.linalg.norm(raw), rtol=1e-6)
    assert np.linalg.norm(table.public) == pytest.approx(1)


def test_where_no_intent_is_spread_over_categories_the_public_part_is_nothing() -> None:
    table = prior_table(population([0.5, 0.5], [0.0, 0.0], [9, 9], users=10), 0.2)
    assert table.public.tolist() == [0.0, 0.0]


@pytest.fixture
def frozen() -> Frozen:
    return frozen_of(sequences_of(grouped_users()))


def test_what_is_written_is_read_back_bit_for_bit(frozen: Frozen, tmp_path: Path) -> None:
    write_frozen(frozen, tmp_path)
    again = read_frozen(tmp_path, intents=True)
    assert again.codes.shape == frozen.codes.shape == (ITEMS, INTENTS)
    assert (again.codes != frozen.codes).nnz == 0
    assert (again.companions != frozen.companions).nnz == 0
    assert again.companions.nnz
    assert again.codes.dtype == np.float32
    for name in ("decoder", "popularity"):
        np.testing.assert_array_equal(getattr(again, name), getattr(frozen, name))
        assert getattr(again, name).dtype == np.float32
    np.testing.assert_array_equal(
        again.prior.inverse_document_frequency, frozen.prior.inverse_document_frequency
    )
    np.testing.assert_array_equal(again.prior.public, frozen.prior.public)
    assert again.prior.public_share == frozen.prior.public_share


def test_an_intent_that_no_item_carries_keeps_its_place(frozen: Frozen, tmp_path: Path) -> None:
    dense = np.asarray(frozen.codes.todense())
    dense[:, -1] = 0
    write_frozen(replace(frozen, codes=type(frozen.codes)(dense)), tmp_path)
    assert read_frozen(tmp_path, intents=True).codes.shape == (ITEMS, INTENTS)


def test_without_intents_only_the_popularity_remains(frozen: Frozen, tmp_path: Path) -> None:
    write_frozen(frozen, tmp_path)
    for plain in (without_intents(frozen), read_frozen(tmp_path, intents=False)):
        np.testing.assert_array_equal(plain.popularity, frozen.popularity)
        assert plain.codes.shape == (ITEMS, 1)
        assert plain.codes.nnz == 0
        assert plain.prior.public_share == 0
        assert plain.prior.public.tolist() == plain.prior.inverse_document_frequency.tolist() == [0.0]
