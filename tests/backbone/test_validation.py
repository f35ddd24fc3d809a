"""Ranks of held-out items against ranks counted by hand, and the cases they come from."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.backbone.validation import (
    EncodedUsers,
    HeldOut,
    encode_users,
    held_out,
    model_ranks,
    ndcg,
    target_ranks,
    user_scores,
)
from saerec_ray.scoring import base_scores, intent_values, prior
from tests.backbone.small_sets import (
    ITEMS,
    Parts,
    any_users,
    frozen_of,
    grouped_users,
    sequences_of,
    small_encoder,
)

laws = settings(max_examples=80)
Floats = npt.NDArray[np.float32]


def cases_of(*cases: tuple[list[int], list[int]]) -> HeldOut:
    return HeldOut(
        np.arange(len(cases)),
        [np.array(history, dtype=np.int32) for history, _ in cases],
        [np.array(targets, dtype=np.int32) for _, targets in cases],
    )


def ranks(cases: HeldOut, scores: Floats, batch: int = 2) -> list[int]:
    def batches() -> Iterator[tuple[int, Floats]]:
        for start in range(0, len(scores), batch):
            yield start, scores[start : start + batch].copy()

    return target_ranks(cases, batches).tolist()


def counted_by_hand(history: list[int], targets: list[int], scores: list[float]) -> list[int]:
    """The place of each target in the order of the server: by score, then by index."""
    found = []
    for target in targets:
        rivals = set(range(len(scores))) - set(history) - set(targets)
        order = sorted([*rivals, target], key=lambda item: (-scores[item], item))
        found.append(order.index(target) + 1)
    return found


few_scores = st.sampled_from([-1.0, 0.0, 0.5, 0.5, 2.0, 3.0])  # few different ones: ties are common


@st.composite
def case_and_scores(draw: st.DrawFn) -> tuple[list[int], list[int], list[float]]:
    scores = draw(st.lists(few_scores, min_size=4, max_size=14))
    items = st.integers(0, len(scores) - 1)
    history = draw(st.lists(items, min_size=1, max_size=5))
    return history, draw(st.lists(items, min_size=1, max_size=4, unique=True)), scores


@laws
@given(drawn=st.lists(case_and_scores(), min_size=1, max_size=1))
def test_ranks_equal_those_counted_by_hand(drawn: list[tuple[list[int], list[int], list[float]]]) -> None:
    ((history, targets, scores),) = drawn
    found = ranks(cases_of((history, targets)), np.array([scores], dtype=np.float32))
    assert found == counted_by_hand(history, targets, scores)


def test_ranks_come_case_by_case_and_target_by_target() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(5, 20)).astype(np.float32)
    cases = [
        ([int(rng.integers(20))], rng.choice(20, 1 + row % 3, replace=False).tolist()) for row in range(5)
    ]
    expected = [
        rank
        for (history, targets), row in zip(cases, scores.tolist(), strict=True)
        for rank in counted_by_hand(history, targets, row)
    ]
    for batch in (1, 2, 5):
        assert ranks(cases_of(*cases), scores, batch) == expected


def test_a_score_that_is_not_a_number_counts_against_the_target() -> None:
    nan = math.nan
    alone, beside, all_of_them = ranks(
        cases_of(([0], [3]), ([0], [3]), ([0], [3])),
        np.array([[9, 8, 7, nan], [9, 8, nan, 6], [nan, nan, nan, nan]], dtype=np.float32),
    )
    assert alone > 2, "both others are ahead of it"
    assert beside == 3
    assert all_of_them > 2


def test_seen_items_are_no_competitors() -> None:
    scores = np.array([[9.0, 8.0, 7.0, 6.0]], dtype=np.float32)
    assert ranks(cases_of(([0, 1], [3])), scores) == [2]
    assert ranks(cases_of(([2], [3])), scores) == [3]


def test_targets_of_the_same_case_are_no_competitors_of_each_other() -> None:
    scores = np.array([[9.0, 8.0, 7.0, 6.0]], dtype=np.float32)
    assert ranks(cases_of(([2], [0, 1, 3])), scores) == [1, 1, 1]


def test_a_target_that_was_met_before_still_has_a_rank() -> None:
    scores = np.array([[9.0, 8.0, 7.0, 6.0]], dtype=np.float32)
    assert ranks(cases_of(([1, 0], [1])), scores) == [1]
    assert ranks(cases_of(([1], [1])), scores) == [2]


def test_of_equal_scores_the_lower_index_comes_first() -> None:
    scores = np.zeros((1, 5), dtype=np.float32)
    assert ranks(cases_of(([4], [2])), scores) == [3]


@laws
@given(users=any_users())
def test_cases_know_everything_before_their_targets_and_nothing_after(users: list[Parts]) -> None:
    sequences = sequences_of(users)
    for part in ("validation", "test"):
        cases = held_out(sequences, part)  # type: ignore[arg-type]
        expected = []
        for user, (train, validation, test) in enumerate(users):
            known, targets = (train, validation) if part == "validation" else ([*train, *validation], test)
            if known and targets:
                expected.append((user, known, targets))
        found = [
            (int(user), history.tolist(), targets.tolist())
            for user, history, targets in zip(cases.users, cases.histories, cases.targets, strict=True)
        ]
        assert found == expected


def test_a_part_of_another_name_is_refused_and_never_read_as_the_test_items() -> None:
    with pytest.raises(ValueError, match="'valid' is no part that is held out: validation, test"):
        held_out(sequences_of([([1], [2], [3])]), "valid")  # type: ignore[arg-type]


@laws
@given(count=st.integers(0, 12), workers=st.integers(1, 5))
def test_the_shares_of_the_workers_are_all_cases_once(count: int, workers: int) -> None:
    cases = cases_of(*(([case], [case, case + 1]) for case in range(count)))
    shares = [cases.share(rank, workers) for rank in range(workers)]
    assert sorted(int(user) for share in shares for user in share.users) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for share in shares:
        assert [history[0] for history in share.histories] == share.users.tolist()
        assert [targets[0] for targets in share.targets] == share.users.tolist()


def test_users_are_encoded_in_their_own_order_whatever_their_lengths() -> None:
    sequences = sequences_of(grouped_users(300))  # more than are encoded at once
    frozen = frozen_of(sequences)
    _, encoder = small_encoder(frozen)
    cases = held_out(sequences, "validation")
    users = encode_users(encoder, cases)
    assert len(cases) > 256
    for row in (0, 1, 100, 255, 256, len(cases) - 1):
        alone = encoder.encode([cases.histories[row]])
        np.testing.assert_allclose(users.states[row], alone.states[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(users.profiles[row], alone.profiles[0], rtol=1e-5, atol=1e-6)


def test_model_ranks_are_the_ranks_of_the_one_score() -> None:
    sequences = sequences_of(grouped_users(300))
    frozen = frozen_of(sequences)
    space, encoder = small_encoder(frozen, prior_weight=0.8)
    users = encode_users(encoder, held_out(sequences, "test"))
    priors = prior(users.profiles, frozen.prior)
    scores = base_scores(space, users.states, intent_values(space, users.states, priors), users.companions)
    batches = list(user_scores(space, frozen.prior, users))
    assert [start for start, _ in batches] == [0, 256]
    np.testing.assert_allclose(np.concatenate([each for _, each in batches]), scores, rtol=1e-5, atol=1e-5)
    expected = [
        rank
        for history, targets, row in zip(users.cases.histories, users.cases.targets, scores, strict=True)
        for rank in counted_by_hand(history.tolist(), targets.tolist(), row.tolist())
    ]
    assert model_ranks(space, frozen.prior, users).tolist() == expected
    assert max(expected) > ITEMS // 3, "an untrained model would not have them all on top"


def test_without_cases_there_are_no_ranks() -> None:
    sequences = sequences_of(grouped_users())
    space, _ = small_encoder(frozen_of(sequences))
    empty = EncodedUsers(
        cases_of(), np.empty((0, 16), np.float32), np.empty((0, 12), np.float32), csr_array((0, ITEMS))
    )
    assert len(model_ranks(space, frozen_of(sequences).prior, empty)) == 0
    assert ndcg(np.empty(0, dtype=np.int64), 10) == 0.0


@pytest.mark.parametrize(
    ("found", "cutoff", "expected"),
    [
        ([1], 10, 1.0),
        ([2], 10, 1 / math.log2(3)),
        ([10], 10, 1 / math.log2(11)),
        ([11], 10, 0.0),
        ([1, 3, 6, 7], 6, (1 + 0.5 + 1 / math.log2(7)) / 4),
    ],
)
def test_ndcg_is_the_mean_discount_of_targets_within_the_cutoff(
    found: list[int], cutoff: int, expected: float
) -> None:
    assert ndcg(np.array(found), cutoff) == pytest.approx(expected)
