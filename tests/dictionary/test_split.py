"""Items are trained on, chosen by or measured on, and those that look the same to a dictionary never differ."""

from __future__ import annotations

import numpy as np
import pytest

from saerec_ray.dictionary.sae import Floats
from saerec_ray.dictionary.split import split_for_training, split_items


def vectors(items: int = 60, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(items, 16)).astype(np.float32)


def test_items_with_the_same_vector_are_never_on_both_sides_of_the_split() -> None:
    items = np.repeat(vectors(), 3, axis=0)
    train, held_out = split_items(items, 0.2, seed=1)
    assert sorted([*train, *held_out]) == list(range(180))
    assert len(held_out) == 36
    assert not set(train // 3) & set(held_out // 3)
    np.testing.assert_array_equal(split_items(items, 0.2, seed=1)[1], held_out)
    assert not np.array_equal(split_items(items, 0.2, seed=2)[1], held_out)


def test_half_of_what_is_held_out_is_chosen_by_and_the_other_half_measured_on() -> None:
    items = np.repeat(vectors(), 3, axis=0)
    split = split_for_training(items, 0.2, seed=1)
    train, held_out = split_items(items, 0.2, seed=1)
    np.testing.assert_array_equal(split.train, train)
    assert sorted([*split.choosing, *split.held_out]) == held_out.tolist()
    assert len(split.choosing) == len(split.held_out) == 18
    assert not set(split.choosing // 3) & set(split.held_out // 3)


@pytest.mark.parametrize("items", [3, 4, 9])
def test_however_few_items_there_are_no_part_is_empty(items: int) -> None:
    split = split_for_training(vectors(items), 0.05, seed=1)
    assert [len(split.train), len(split.choosing), len(split.held_out)] == [items - 2, 1, 1]


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e6, 1e30])
def test_the_length_of_vectors_does_not_matter(factor: float) -> None:
    """A dictionary sees directions; rounding of short vectors must not make them one."""
    scaled = (vectors().astype(np.float64) * factor).astype(np.float32)
    for found, expected in zip(split_items(scaled, 0.2, 1), split_items(vectors(), 0.2, 1), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_vectors_of_one_direction_and_several_lengths_are_the_same() -> None:
    items = np.concatenate([vectors(), 3 * vectors(), 0.001 * vectors()])
    train, held_out = split_items(items, 0.2, seed=1)
    assert not set(train % 60) & set(held_out % 60)
