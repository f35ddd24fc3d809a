"""Likeness of items by attributes and by words, and none where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.data.prepared import PreparedItems
from saerec_ray.evaluation.independent_space import independent_spaces

ITEMS = PreparedItems(
    ids=["a", "b", "c", "d"],
    titles=[""] * 4,
    texts=["red nail polish", "red nail file", "beard foam", "beard foam"],
    attributes=[
        {"category": ["nails", "polish"], "brand": ["x"]},
        {"category": ["nails"], "brand": ["x"]},
        {"category": ["shaving"], "brand": ["nails"]},
        {},
    ],
)


def test_attributes_are_compared_as_sets_of_values() -> None:
    attributes, _ = independent_spaces(ITEMS)
    assert attributes.name == "attributes"
    found = attributes.similarity(np.array([0, 1, 2, 3]))
    assert found[0, 1] == pytest.approx(2 / 3)
    assert found[0, 2] == 0, "a brand called nails is not the category"
    assert found[0, 0] == 1
    assert found[3].tolist() == [0, 0, 0, 0], "an item without attributes is like none, itself included"


def test_texts_are_compared_by_the_words_they_share() -> None:
    _, texts = independent_spaces(ITEMS)
    assert texts.name == "texts"
    found = texts.similarity(np.array([0, 1, 2, 3]))
    assert found[2, 3] == pytest.approx(1)
    assert found[0, 2] == pytest.approx(0)
    assert 0.2 < found[0, 1] < 0.8
    np.testing.assert_allclose(found, found.T)


def test_a_space_that_describes_few_items_is_none() -> None:
    bare = replace(ITEMS, attributes=[{}, {}, {}, {"brand": ["x"]}])
    assert [space.name for space in independent_spaces(bare)] == ["texts"]
    assert [space.name for space in independent_spaces(replace(ITEMS, texts=["", "!", " ", ""]))] == [
        "attributes"
    ]
    empty = replace(ITEMS, texts=[""] * 4, attributes=[{"brand": []}] * 4)
    assert independent_spaces(empty) == []


@given(st.lists(st.sets(st.integers(0, 5), max_size=4), min_size=2, max_size=6))
def test_likeness_by_attributes_is_the_jaccard_index(sets: list[set[int]]) -> None:
    items = PreparedItems(
        ids=[""] * len(sets),
        titles=[""] * len(sets),
        texts=[""] * len(sets),
        attributes=[{"v": [str(value) for value in own]} for own in sets],
    )
    spaces = independent_spaces(items)
    if not spaces:
        return
    found = spaces[0].similarity(np.arange(len(sets)))
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            assert found[i, j] == pytest.approx(len(a & b) / len(a | b) if a | b else 0)
