"""Every training prefix once an epoch, right-aligned, in an order that can be taken up in the middle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.backbone.batches import PrefixSamples
from tests.backbone.small_sets import Parts, any_users, sequences_of

laws = settings(max_examples=60)
Pair = tuple[tuple[int, ...], int]


def pairs(
    samples: PrefixSamples, batch_size: int, seed: int = 0, epoch: int = 0, skip: int = 0
) -> list[Pair]:
    """Histories and targets in the order in which an epoch shows them."""
    found = []
    for numbers in samples.epoch(batch_size, seed, epoch, skip):
        batch = samples.batch(numbers)
        for items, present, target in zip(batch.items, batch.present, batch.targets, strict=True):
            found.append((tuple(items[present].tolist()), int(target)))
    return found


def expected_pairs(users: list[Parts], max_length: int) -> list[Pair]:
    """Every item after the first of a training part, with the latest items before it."""
    return [
        (tuple(train[max(0, place - max_length) : place]), train[place])
        for train, _, _ in users
        for place in range(1, len(train))
    ]


@laws
@given(users=any_users(), batch_size=st.integers(1, 9), max_length=st.integers(2, 6), epoch=st.integers(0, 3))
def test_an_epoch_shows_every_prefix_of_every_training_part_exactly_once(
    users: list[Parts], batch_size: int, max_length: int, epoch: int
) -> None:
    samples = PrefixSamples(sequences_of(users), max_length)
    expected = expected_pairs(users, max_length)
    assert sorted(pairs(samples, batch_size, epoch=epoch)) == sorted(expected)
    assert len(samples) == len(expected)


@laws
@given(users=any_users(), max_length=st.integers(2, 6))
def test_no_validation_or_test_item_is_ever_a_target_or_in_a_history(
    users: list[Parts], max_length: int
) -> None:
    held_out = {item for _, validation, test in users for item in (*validation, *test)}
    for history, target in pairs(PrefixSamples(sequences_of(users), max_length), batch_size=4):
        assert not held_out & {*history, target}


@laws
@given(users=any_users())
def test_histories_end_at_the_right_edge_and_padding_is_before_them(users: list[Parts]) -> None:
    samples = PrefixSamples(sequences_of(users), max_length=5)
    for numbers in samples.epoch(batch_size=4, seed=1, epoch=0):
        batch = samples.batch(numbers)
        lengths = samples.lengths(numbers)
        assert batch.items.shape == batch.present.shape == (len(numbers), lengths.max())
        assert batch.present.sum(axis=1).tolist() == lengths.tolist()
        assert (np.diff(batch.present.astype(int), axis=1) >= 0).all(), "an item stands before padding"
        assert (batch.items[~batch.present] == 0).all()


def many_samples(users: int = 900, seed: int = 4) -> PrefixSamples:
    """Enough samples for several pools of sorted batches."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(rng.geometric(0.12, size=users) + 1, 60)
    return PrefixSamples(sequences_of([(list(range(length)), [], []) for length in lengths]), max_length=50)


def order(samples: PrefixSamples, seed: int, epoch: int) -> list[int]:
    return np.concatenate(list(samples.epoch(8, seed, epoch))).tolist()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    samples = many_samples()
    first = order(samples, seed=1, epoch=0)
    np.random.seed(99)  # what others draw does not matter
    assert order(many_samples(), seed=1, epoch=0) == first
    others = [order(samples, seed=1, epoch=1), order(samples, seed=2, epoch=0), order(samples, 0, 1)]
    assert all(other != first for other in others)
    assert all(left != right for left, right in itertools.combinations(others, 2))


@pytest.mark.parametrize("begun", [0, 1, 5, 63, 64, 65, 200])
def test_an_epoch_taken_up_again_goes_on_with_the_next_batch(begun: int) -> None:
    samples = many_samples()
    batches = [numbers.tolist() for numbers in samples.epoch(8, 3, 2)]
    done = sum(map(len, batches[:begun]))
    assert [numbers.tolist() for numbers in samples.epoch(8, 3, 2, skip=done)] == batches[begun:]


def test_a_finished_epoch_has_nothing_left() -> None:
    samples = many_samples()
    assert list(samples.epoch(8, 3, 2, skip=len(samples))) == []


def test_lengths_come_in_random_order_although_batches_are_of_nearly_equal_length() -> None:
    samples = many_samples()
    first = [samples.lengths(numbers) for numbers in itertools.islice(samples.epoch(32, 1, 0), 64)]
    longest = [int(lengths.max()) for lengths in first]
    assert abs(np.corrcoef(range(64), longest)[0, 1]) < 0.4
    assert np.median([lengths.max() - lengths.min() for lengths in first]) <= 1 < np.std(longest)


def test_batches_hold_little_padding() -> None:
    samples = many_samples()
    batches = [samples.batch(numbers) for numbers in samples.epoch(32, 7, 0)]
    padding = sum(int((~batch.present).sum()) for batch in batches)
    share = padding / sum(batch.present.size for batch in batches)
    assert share < 0.08
    drawn_at_random = np.random.default_rng(0).permutation(len(samples))[: 32 * 20]
    plain = [samples.batch(drawn_at_random[start : start + 32]) for start in range(0, 32 * 20, 32)]
    assert sum((~b.present).sum() for b in plain) / sum(b.present.size for b in plain) > 4 * share


@pytest.mark.parametrize("users", [[([], [1], [2])], [([4], [], [])]])
def test_a_user_with_fewer_than_two_training_items_gives_no_sample(users: list[Parts]) -> None:
    samples = PrefixSamples(sequences_of(users), max_length=5)
    assert len(samples) == 0
    assert list(samples.epoch(4, 0, 0)) == []
