"""Histories without the items that carry the cited intents, against histories without others."""

from __future__ import annotations

import itertools
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.validation import encode_users
from saerec_ray.evaluation.cited_intents import cited_intents
from saerec_ray.evaluation.history_ablation import (
    CITED,
    cuts,
    encoded_again,
    history_faithfulness,
    jaccard,
    stability,
)
from tests.evaluation.toy_models import AveragingEncoder, Toy, planted_toy, random_toy, served_reasons

seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=40)


def averaging(toy: Toy) -> tuple[Toy, UserEncoder]:
    """The same catalogue with users encoded by the sum of what they met."""
    encoder = cast(UserEncoder, AveragingEncoder(toy.space))
    return Toy(toy.space, toy.table, encode_users(encoder, toy.users.cases)), encoder


@laws
@given(seed=seeds, keep_last=st.booleans())
def test_a_cut_removes_all_carriers_or_equally_many_others(seed: int, keep_last: bool) -> None:
    toy = random_toy(seed)
    rng = np.random.default_rng(seed)
    dense = toy.space.codes.toarray()
    for user in toy.scored():
        for each in cuts(toy.space, user, rng, keep_last=keep_last, longest=50):
            reasons = cited_intents(toy.space, user, each.item, CITED)
            carries = dense[user.history][:, reasons].sum(axis=1) > 0
            if keep_last:
                assert each.without_chosen[-1] == each.without_random[-1] == user.history[-1]
                carries[-1] = False
            assert each.without_chosen.tolist() == user.history[~carries].tolist()
            assert 0 < len(each.without_random) == len(each.without_chosen) < len(user.history)
            gone = set(user.history.tolist()) - set(each.without_random.tolist())
            assert not dense[sorted(gone)][:, reasons].any(), "the random ones carry no cited intent"


def test_only_what_the_encoder_reads_is_cut() -> None:
    toy = random_toy(3, intents=40)
    compared = 0
    for user in toy.scored():
        for each in cuts(toy.space, user, np.random.default_rng(0), keep_last=False, longest=4):
            assert set(each.without_random.tolist()) < set(user.history[-4:].tolist())
            compared += len(user.history) > 4
    assert compared, "or all of a history was read"


def test_where_states_are_made_of_what_was_met_removing_carriers_makes_items_fall() -> None:
    rng = np.random.default_rng(5)
    base = planted_toy(5, intents=60)
    histories = [
        np.concatenate([history[:5], rng.choice(400, 12, replace=False)]).astype(np.int32)
        for history in base.users.cases.histories
    ]
    base.users.cases.histories[:] = histories
    toy, encoder = averaging(base)
    found = history_faithfulness(toy.space, toy.table, encoder, toy.users, 40, seed=1)
    for variant in ("any_item", "last_item_kept"):
        assert found[variant]["compared"] > 10
        assert found[variant]["win_rate"] > 0.9
        shares = [found[variant][name] for name in ("win_rate", "ties", "loss_rate")]
        assert sum(shares) == pytest.approx(1)
        assert found[variant]["median_drop_carriers"] > found[variant]["median_drop_random"]


def test_an_encoder_that_ignores_the_history_shows_no_effect() -> None:
    toy = random_toy(6, users=30, intents=40)

    class Deaf(AveragingEncoder):
        def encode(self, histories):  # type: ignore[no-untyped-def]
            return super().encode([np.array([0]) for _ in histories])

    encoder = cast(UserEncoder, Deaf(toy.space))
    deaf = Toy(toy.space, toy.table, encode_users(encoder, toy.users.cases))
    found = history_faithfulness(deaf.space, deaf.table, encoder, deaf.users, 30, seed=1)
    for variant in ("any_item", "last_item_kept"):
        assert found[variant]["compared"] > 10
        assert found[variant]["mean_drop_carriers"] == found[variant]["mean_drop_random"] == 0
        assert found[variant]["ties"] == 1
        assert found[variant]["win_rate"] == found[variant]["loss_rate"] == 0
    stable = stability(deaf.space, deaf.table, encoder, deaf.users, 30, seed=1)
    assert stable["top_3_jaccard_mean"] == 1 > stable["by_chance"] > 0


def test_histories_are_encoded_and_scored_as_any_user_is() -> None:
    toy, encoder = averaging(random_toy(7))
    histories = toy.users.cases.histories
    again = list(encoded_again(toy.space, toy.table, encoder, histories))
    for user, same in zip(toy.scored(), again, strict=True):
        np.testing.assert_allclose(same.scores, user.scores, atol=1e-4)
        np.testing.assert_allclose(same.usual, user.usual, atol=1e-4)
    assert list(encoded_again(toy.space, toy.table, encoder, [])) == []


def test_stability_is_the_mean_overlap_of_reasons_before_and_after_one_item_is_dropped() -> None:
    toy, encoder = averaging(random_toy(8, users=4))
    found = stability(toy.space, toy.table, encoder, toy.users, 4, seed=9)
    rng = np.random.default_rng(9)
    overlaps, by_chance = [], []
    users = toy.scored()
    shorter = [np.delete(user.history, rng.integers(len(user.history) - 1)) for user in users]
    for user, changed in zip(users, encoded_again(toy.space, toy.table, encoder, shorter), strict=True):
        for item in user.top(10).tolist():
            code = toy.space.codes[[item]].toarray()[0]
            top = [set(served_reasons(toy.space, each, item)) for each in (user, changed)]
            if top[0] | top[1]:
                overlaps.append(len(top[0] & top[1]) / len(top[0] | top[1]))
                draws = itertools.combinations(np.flatnonzero(code).tolist(), len(top[1]))
                by_chance.append(np.mean([len(top[0] & {*own}) / len(top[0] | {*own}) for own in draws]))
    assert found["users"] == 4
    assert found["items"] == len(overlaps)
    assert found["top_3_jaccard_mean"] == pytest.approx(np.mean(overlaps))
    assert found["by_chance"] == pytest.approx(np.mean(by_chance), abs=0.1), (
        "as over all draws, but for chance"
    )


def test_stability_and_cuts_are_of_what_is_cited() -> None:
    toy, encoder = averaging(random_toy(8, users=4))
    same = stability(
        toy.space,
        toy.table,
        encoder,
        toy.users,
        4,
        seed=9,
        cite=lambda space, user, item, count: np.arange(count),
    )
    assert same["top_3_jaccard_mean"] == 1
    assert same["items"] == 40
    nothing = history_faithfulness(
        toy.space, toy.table, encoder, toy.users, 4, 9, lambda space, user, item, count: np.arange(0)
    )
    assert nothing == {"users": 4}


def test_users_with_two_items_are_too_short_for_stability() -> None:
    toy, encoder = averaging(random_toy(9, users=3))
    toy.users.cases.histories[:] = [history[:2] for history in toy.users.cases.histories]
    found = stability(toy.space, toy.table, encoder, toy.users, 3, seed=1)
    assert found == {
        "users": 0,
        "items": 0,
        "top_3_jaccard_mean": None,
        "top_3_jaccard_p10": None,
        "by_chance": None,
    }


def test_jaccard_by_hand() -> None:
    assert jaccard(np.array([1, 2, 3]), np.array([3, 4])) == pytest.approx(1 / 4)
    assert jaccard(np.array([], dtype=np.int64), np.array([], dtype=np.int64)) is None
    assert jaccard(np.array([1]), np.array([2])) == 0
