"""What an explanation cites: history items behind intents that speak for the item, by how much they carry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.evidence import (
    LISTED_INTENTS,
    Evidence,
    by_places_moved,
    history_evidence,
    listed_intents,
    setting_apart,
)
from saerec_ray.scoring import Parts

SOAP, OIL, LOTION, CREAM = range(4)
CODES = csr_array(np.array([[2, 0, 0], [0, 5, 0], [1, 0, 1], [0, 0, 0]], dtype=np.float32))
EVEN = np.full(3, 1 / 3, dtype=np.float32)


def cited(history: list[int], contributions: list[float], count: int = 3) -> list[tuple[int, float]]:
    """Place and share of what is cited for three intents with these contributions; all places count alike."""
    weights = np.full(len(history), 1 / max(len(history), 1), dtype=np.float32)
    worth = np.array(contributions, dtype=np.float32)
    found = history_evidence(CODES, np.array(history, dtype=np.int64), weights, np.arange(3), worth, count)
    return [(each.place, pytest.approx(each.share)) for each in found]


def test_what_carries_an_intent_against_the_item_is_not_cited() -> None:
    assert cited([SOAP, OIL, LOTION], [0.6, -5.0, 0.0]) == [(0, 2 / 3), (2, 1 / 3)]
    assert cited([OIL], [0.6, -5.0, 0.0]) == []
    assert cited([SOAP, OIL, LOTION], [-0.6, -5.0, -1.0]) == [], "nothing speaks for the item"


def test_an_intent_weighs_what_it_contributes_and_not_how_loud_its_codes_are() -> None:
    assert cited([SOAP, OIL], [0.9, 0.1, 0.0]) == [(0, 0.9), (1, 0.1)]


def test_of_an_intent_that_no_history_item_carries_none_has_a_share() -> None:
    assert cited([SOAP], [0.5, 0.5, 0.0]) == [(0, 0.5)]
    assert cited([CREAM], [0.5, 0.5, 0.0]) == []


def test_later_items_count_by_their_weight_and_equal_ones_in_their_order() -> None:
    weights = np.array([0.2, 0.8], dtype=np.float32)
    found = history_evidence(CODES, np.array([SOAP, SOAP]), weights, np.array([0]), np.ones(1, np.float32))
    assert [(each.place, pytest.approx(each.share)) for each in found] == [(1, 0.8), (0, 0.2)]
    assert cited([SOAP, SOAP, SOAP], [1, 0, 0], count=2) == [(0, 1 / 3), (1, 1 / 3)]


def test_no_history_no_evidence() -> None:
    assert cited([], [1.0, 1.0, 1.0]) == []
    assert isinstance(
        history_evidence(CODES, np.array([SOAP]), EVEN[:1], np.array([0]), EVEN[:1])[0], Evidence
    )


def parts_of(contributions: list[float]) -> Parts:
    """The parts of an item that carries the intents from 10 on."""
    added = np.array(contributions, dtype=np.float32)
    return Parts(np.arange(10, 10 + len(added)), added, added, 0.0, 0.0, 0.0)


def test_the_largest_published_contributions_are_listed_whatever_their_sign() -> None:
    parts = parts_of([0.1, -0.9, 0.0, 0.5, 2.0, -0.2, 0.3, 0.4])
    published, usual = np.ones(20, dtype=bool), np.zeros(20, dtype=np.float32)
    published[14] = False
    listed = listed_intents(parts, usual, published)
    assert parts.intents[listed].tolist() == [11, 13, 17, 16, 15]
    assert len(listed) == LISTED_INTENTS
    published[:] = False
    published[12] = True
    assert len(listed_intents(parts, usual, published)) == 0, "one that contributes nothing is not listed"


def test_what_the_best_items_have_in_common_is_listed_behind_what_sets_the_item_apart() -> None:
    parts = parts_of([0.9, 0.5, -0.4, -0.6, 0.2])
    usual = np.zeros(20, dtype=np.float32)
    usual[[10, 11, 13]] = [0.8, 0.6, -0.5]  # so 10 adds 0.1 beyond them, 11 less than they have, 13 takes 0.1
    listed = listed_intents(parts, usual, np.ones(20, dtype=bool))
    assert parts.intents[listed].tolist() == [12, 14, 13, 10, 11]


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_where_items_do_not_differ_the_larger_contribution_comes_first(
    contributions: list[float], seed: int
) -> None:
    added = np.array(contributions, dtype=np.float32)
    assert np.abs(added[setting_apart(added, added)]).tolist() == sorted(np.abs(added).tolist(), reverse=True)
    order = setting_apart(added, np.random.default_rng(seed).normal(size=len(added)).astype(np.float32))
    assert sorted(order.tolist()) == list(range(len(added)))


def test_the_intent_without_which_the_item_moves_furthest_comes_first_up_or_down() -> None:
    assert by_places_moved(4, [5, 1, 4, 30, 7, 3]).tolist() == [3, 1, 4, 0, 5, 2], (
        "equal ones keep their order"
    )
    assert by_places_moved(1, [1, 1, 1]).tolist() == [0, 1, 2]
    assert by_places_moved(1, []).tolist() == []
