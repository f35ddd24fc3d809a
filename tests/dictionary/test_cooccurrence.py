"""Item vectors from interactions: who is taken with whom, in training alone, and nothing of items few met."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary.cooccurrence import (
    CONTEXT_SMOOTHING,
    cooccurrences,
    item_vectors,
    shifted_positive_pmi,
)
from saerec_ray.dictionary_settings import CooccurrenceConfig
from saerec_ray.errors import InputError
from tests.backbone.small_sets import Parts, sequences_of

ITEMS, GROUPS = 40, 4

histories = st.lists(st.lists(st.integers(0, 7), max_size=6, unique=True), min_size=1, max_size=6)


def settings(**changes: object) -> CooccurrenceConfig:
    plain = {"dimensions": 6, "shift": 1.0, "window": None, "min_interactions": 3, "width": 16, "active": 2}
    return CooccurrenceConfig.model_validate({**plain, **changes})


def shoppers(count: int = 200, seed: int = 0) -> list[Parts]:
    """Users who take six items of one group, in any order; two of them are held out."""
    rng = np.random.default_rng(seed)
    users: list[Parts] = []
    for _ in range(count):
        group = rng.integers(GROUPS) * (ITEMS // GROUPS)
        taken = (group + rng.permutation(ITEMS // GROUPS)[:6]).tolist()
        users.append((taken[:4], taken[4:5], taken[5:]))
    return users


def trained_on(rows: list[list[int]]) -> PreparedSequences:
    return sequences_of([(row, [], []) for row in rows])


@given(histories, st.sampled_from([None, 1, 2, 3]))
def test_pairs_are_counted_as_a_plain_loop_counts_them(rows: list[list[int]], window: int | None) -> None:
    expected = np.zeros((8, 8))
    for row in rows:
        for (place, one), (other_place, other) in combinations(enumerate(row), 2):
            distance = other_place - place
            weight = (distance <= window) / distance if window else 1 / (len(row) - 1)
            expected[one, other] += weight
            expected[other, one] += weight
    found = cooccurrences(trained_on(rows), 8, window)
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-12)


def test_the_information_of_a_pair_is_that_of_the_formula() -> None:
    counts = np.array([[0, 4, 1], [4, 0, 0], [1, 0, 0]], dtype=float)
    totals = counts.sum(axis=1)
    smoothed = totals**CONTEXT_SMOOTHING / (totals**CONTEXT_SMOOTHING).sum()

    def information(one: int, other: int) -> float:
        return max(math.log(counts[one, other] / totals[one] / smoothed[other]) - math.log(1.1), 0)

    found = shifted_positive_pmi(csr_array(counts), 1.1).toarray()
    for one, other in ((0, 1), (0, 2)):
        expected = (information(one, other) + information(other, one)) / 2
        assert found[one, other] == found[other, one] == pytest.approx(expected)
    assert found[1, 2] == 0, "never met together"


def test_a_larger_shift_keeps_fewer_pairs() -> None:
    counts = cooccurrences(sequences_of(shoppers()), ITEMS, None)
    kept = [shifted_positive_pmi(counts, shift).nnz for shift in (1.0, 4.0, 6.0)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1]


def test_items_of_one_group_lie_together_and_groups_apart() -> None:
    found = item_vectors(settings(), sequences_of(shoppers()), ITEMS, 1)
    assert list(found.rows) == list(range(ITEMS))
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    cosines = found.vectors @ found.vectors.T
    group = np.arange(ITEMS) * GROUPS // ITEMS
    same = group[:, None] == group[None, :]
    assert cosines[same].mean() > cosines[~same].mean() + 0.5


def test_what_is_held_out_changes_nothing() -> None:
    users = shoppers()
    others = [(train, test, validation[:0]) for train, validation, test in users]
    shuffled = np.random.default_rng(1).integers(ITEMS, size=(len(users), 2)).tolist()
    strangers = [(train, [one], [other]) for (train, _, _), (one, other) in zip(users, shuffled, strict=True)]
    expected = item_vectors(settings(), sequences_of(users), ITEMS, 1)
    for changed in (others, strangers):
        found = item_vectors(settings(), sequences_of(changed), ITEMS, 1)
        np.testing.assert_array_equal(found.vectors, expected.vectors)
        np.testing.assert_array_equal(found.rows, expected.rows)


def test_items_that_few_met_have_no_vector() -> None:
    users = shoppers()
    rare = [
        ([*train[:-1], ITEMS] if place < 2 else train, [], []) for place, (train, _, _) in enumerate(users)
    ]
    found = item_vectors(settings(), sequences_of(rare), ITEMS + 2, 1)
    assert ITEMS not in found.rows, "two people met it, three are needed"
    assert ITEMS + 1 not in found.rows, "nobody met it"
    assert ITEMS in item_vectors(settings(min_interactions=2), sequences_of(rare), ITEMS + 2, 1).rows


def test_the_same_interactions_give_the_same_bits() -> None:
    once, again = (item_vectors(settings(), sequences_of(shoppers()), ITEMS, 1).vectors for _ in range(2))
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dimensions": ITEMS}, "dictionary.cooccurrence.dimensions"),
        ({"min_interactions": 10_000}, "min_interactions"),
        ({"shift": 1e9}, "Only 0 items are taken together .* dictionary.cooccurrence.dimensions or shift"),
    ],
)
def test_too_few_items_are_refused_with_what_to_change(changes: dict[str, int], named: str) -> None:
    with pytest.raises(InputError, match=named):
        item_vectors(settings(**changes), sequences_of(shoppers()), ITEMS, 1)
