"""Laws of the k-core, of order, of repeats and of the two splits, against oracles written out in plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.data.filtering import in_order, k_core, leave_one_out, split_by_time, without_repeats
from saerec_ray.errors import InputError

laws = settings(max_examples=150)
pairs = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=60)
times = st.integers(-5, 40) | st.sampled_from([-(2**62), 2**62])
rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), times), min_size=1, max_size=50)


def column(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def core_one_row_at_a_time(interactions: list[tuple[int, int]], user_core: int, item_core: int) -> set[int]:
    """Places that survive when unfit rows are struck one by one."""
    left = set(range(len(interactions)))
    while True:
        users = Counter(interactions[place][0] for place in left)
        items = Counter(interactions[place][1] for place in left)
        unfit = [
            place
            for place in sorted(left)
            if users[interactions[place][0]] < user_core or items[interactions[place][1]] < item_core
        ]
        if not unfit:
            return left
        left.remove(unfit[0])


@laws
@given(pairs, st.integers(1, 4), st.integers(1, 4))
def test_the_core_is_what_striking_unfit_rows_one_by_one_leaves(
    interactions: list[tuple[int, int]], user_core: int, item_core: int
) -> None:
    users, items = column([user for user, _ in interactions]), column([item for _, item in interactions])
    core = k_core(users, items, user_core, item_core)
    assert set(np.flatnonzero(core.kept)) == core_one_row_at_a_time(interactions, user_core, item_core)


def test_the_core_needs_several_rounds_when_one_loss_brings_the_next() -> None:
    users, items = column([0, 0, 1, 1, 2, 2, 2, 3, 3, 3]), column([0, 1, 1, 2, 2, 3, 4, 3, 4, 4])
    core = k_core(users, items, 2, 2)
    assert core.rounds == 5
    assert np.flatnonzero(core.kept).tolist() == [5, 6, 7, 8, 9]


def test_a_core_of_one_keeps_everything_without_a_round() -> None:
    core = k_core(column([0, 1]), column([0, 0]), 1, 1)
    assert core.kept.all()
    assert core.rounds == 0


@laws
@given(rows)
def test_order_is_by_user_then_time_then_row(table: list[tuple[int, int, int]]) -> None:
    users, moments = column([row[0] for row in table]), column([row[2] for row in table])
    expected = sorted(range(len(table)), key=lambda place: (table[place][0], table[place][2], place))
    assert in_order(users, moments).tolist() == expected


@laws
@given(rows)
def test_without_times_order_is_by_user_then_row(table: list[tuple[int, int, int]]) -> None:
    expected = sorted(range(len(table)), key=lambda place: (table[place][0], place))
    assert in_order(column([row[0] for row in table]), None).tolist() == expected


@laws
@given(pairs)
def test_the_first_or_the_last_of_repeats_is_kept_in_place(table: list[tuple[int, int]]) -> None:
    users, items = column([user for user, _ in table]), column([item for _, item in table])
    first = [place for place, pair in enumerate(table) if pair not in table[:place]]
    last = [place for place, pair in enumerate(table) if pair not in table[place + 1 :]]
    assert without_repeats(users, items, "first").tolist() == first
    assert without_repeats(users, items, "last").tolist() == last


@laws
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_leave_one_out_tests_the_last_and_validates_the_one_before(lengths: list[int]) -> None:
    if max(lengths) < 3:
        with pytest.raises(InputError, match="No user has 3 interactions"):
            leave_one_out(column(lengths))
        return
    split = leave_one_out(column(lengths))
    for length, train, validation in zip(lengths, split.train_lengths, split.validation_lengths, strict=True):
        expected = (length - 2, length - 1) if length >= 3 else (length, length)
        assert (train, validation) == expected


def cut(table: list[tuple[int, int]], validation_share: float, test_share: float) -> tuple[list[int], ...]:
    """Times of training, validation and test after a time split of (user, time) rows."""
    table = sorted(table)
    users, moments = column([user for user, _ in table]), column([time for _, time in table])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=6))])
    split = split_by_time(moments, offsets, validation_share, test_share)
    parts: tuple[list[int], ...] = ([], [], [])
    for user in range(6):
        own = moments[offsets[user] : offsets[user + 1]].tolist()
        train, validation = int(split.train_lengths[user]), int(split.validation_lengths[user])
        assert 0 <= train <= validation <= len(own)
        for part, values in zip(parts, (own[:train], own[train:validation], own[validation:]), strict=True):
            part.extend(values)
    return parts


shares = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.45])


@laws
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1000)), min_size=20, max_size=80), shares, shares)
def test_a_time_split_never_learns_from_what_is_later_than_its_targets(
    table: list[tuple[int, int]], validation_share: float, test_share: float
) -> None:
    try:
        train, validation, test = cut(table, validation_share, test_share)
    except InputError:
        assert len({time for _, time in table}) < len(table)  # only ties stand in the way
        return
    assert train
    assert validation
    assert test
    assert max(train) < min(validation)
    assert max(validation) < min(test)
    assert len(train) + len(validation) + len(test) == len(table)


def test_a_time_split_takes_the_shares_asked_for() -> None:
    train, validation, test = cut([(time % 6, time) for time in range(1000)], 0.2, 0.1)
    assert (len(train), len(validation), len(test)) == (700, 200, 100)


def test_a_time_split_of_equal_times_is_refused() -> None:
    with pytest.raises(InputError, match="the same time"):
        cut([(user % 6, 5) for user in range(30)], 0.1, 0.1)


def test_a_time_split_without_times_is_refused() -> None:
    with pytest.raises(InputError, match="Use leave-one-out"):
        split_by_time(None, column([0, 3]), 0.1, 0.1)
