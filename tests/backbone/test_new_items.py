"""Items that nobody took in training are listed as often as the average item, in the order of their intents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.backbone.build import read_model
from saerec_ray.backbone.new_items import LIST, choose_new_item_bias, new_items
from saerec_ray.backbone.validation import EncodedUsers, HeldOut, user_scores
from saerec_ray.scoring import ItemSpace, PriorTable
from tests.backbone.small_sets import small_settings
from tests.backbone.test_build import built

INTENTS, D = 5, 3
NOTHING = np.zeros(INTENTS, dtype=np.float32)
TABLE = PriorTable(NOTHING, NOTHING, 0.0)


def space_of(items: int, new: int, seed: int) -> ItemSpace:
    """Items with random vectors, of which the first `new` have nothing but their codes."""
    rng = np.random.default_rng(seed)
    met = np.arange(items) >= new
    return ItemSpace(
        codes=csr_array(rng.random((items, INTENTS)).astype(np.float32)),
        intent_vectors=rng.normal(size=(INTENTS, D)).astype(np.float32),
        residuals=(rng.normal(size=(items, D)) * met[:, None]).astype(np.float32),
        biases=(rng.normal(1, 1, size=items) * met).astype(np.float32),
        popularity=met.astype(np.float32),
        prior_weight=0.0,
    )


def users_of(count: int, items: int, seed: int) -> EncodedUsers:
    rng = np.random.default_rng([seed, 1])
    histories = [rng.permutation(items)[: rng.integers(0, 3)].astype(np.int32) for _ in range(count)]
    return EncodedUsers(
        HeldOut(np.arange(count), histories, [np.array([0], dtype=np.int32)] * count),
        rng.normal(size=(count, D)).astype(np.float32),
        np.zeros((count, INTENTS), dtype=np.float32),
        csr_array((count, items), dtype=np.float32),
    )


def with_bias(space: ItemSpace, bias: float) -> ItemSpace:
    return replace(
        space, biases=np.where(new_items(space.popularity), np.float32(bias), space.biases).astype(np.float32)
    )


def lists(space: ItemSpace, users: EncodedUsers) -> list[npt.NDArray[np.int64]]:
    """What each user is shown, by sorting all scores."""
    found = []
    for start, scores in user_scores(space, TABLE, users):
        for row, own in enumerate(scores):
            history = users.cases.histories[start + row]
            own[history] = -np.inf
            found.append(np.argsort(-own, kind="stable")[: min(LIST, len(own) - len(history))])
    return found


def share(space: ItemSpace, users: EncodedUsers) -> float:
    """The share of all places that new items have."""
    new = new_items(space.popularity)
    return sum(int(new[shown].sum()) for shown in lists(space, users)) / (LIST * len(users.cases))


@given(st.integers(0, 2**16), st.integers(12, 40), st.floats(0.05, 0.9), st.floats(0, 3))
@settings(max_examples=60)
def test_the_bias_is_the_smallest_that_lists_new_items_as_often_as_asked(
    seed: int, items: int, part: float, exposure: float
) -> None:
    new = max(1, int(part * items))
    space, users = space_of(items, new, seed), users_of(30, items, seed)
    bias, without = choose_new_item_bias(space, TABLE, users, exposure, most=1.0)
    assert without == pytest.approx(share(space, users))
    possible = share(with_bias(space, 1e6), users)
    wanted = min(round(exposure * new / items * 30 * LIST) / (30 * LIST), possible)
    assert bias >= 0
    assert share(with_bias(space, bias + 1e-4), users) >= wanted - 1e-9
    if bias > 0:
        assert share(with_bias(space, bias - 1e-4), users) < wanted


def test_new_items_keep_the_order_of_their_intents() -> None:
    space, users = space_of(40, 20, 3), users_of(30, 40, 3)
    raised = with_bias(space, choose_new_item_bias(space, TABLE, users, 1.5, most=1.0)[0])
    longer = 0
    for before, after in zip(lists(space, users), lists(raised, users), strict=True):
        shown_before, shown_after = before[before < 20].tolist(), after[after < 20].tolist()
        assert shown_after[: len(shown_before)] == shown_before
        longer += len(shown_after) > len(shown_before) > 1
    assert longer > 5, "or there was no order to keep"


def test_however_many_new_items_there_are_the_bias_gives_them_no_more_places_than_allowed() -> None:
    space, users = space_of(40, 35, 7), users_of(30, 40, 7)
    space = replace(space, biases=np.where(new_items(space.popularity), 0, 50).astype(np.float32))
    bias, without = choose_new_item_bias(space, TABLE, users, 1.0, most=0.6)
    assert without < 0.6
    assert share(with_bias(space, bias + 1e-4), users) == pytest.approx(0.6, abs=0.01)


def test_items_that_already_are_listed_often_are_not_lowered() -> None:
    space = space_of(40, 20, 4)
    users = users_of(30, 40, 4)
    poor = replace(space, biases=np.where(new_items(space.popularity), 0, -100).astype(np.float32))
    assert choose_new_item_bias(poor, TABLE, users, 1.0, most=1.0) == (0.0, pytest.approx(1.0, abs=0.05))


def test_new_items_that_would_push_out_the_others_are_lowered() -> None:
    space, users = space_of(60, 40, 8), users_of(30, 60, 8)
    space = replace(space, biases=np.where(new_items(space.popularity), 0, -3).astype(np.float32))
    bias, without = choose_new_item_bias(space, TABLE, users, 1.0, most=0.3)
    assert without > 0.5
    assert bias < 0
    assert share(with_bias(space, bias + 1e-4), users) == pytest.approx(0.3, abs=0.01)


def test_where_there_is_not_enough_else_to_list_new_items_keep_a_bias_that_is_a_number() -> None:
    space, users = space_of(40, 38, 8), users_of(30, 40, 8)
    bias, without = choose_new_item_bias(space, TABLE, users, 1.0, most=0.3)
    assert without > 0.7
    assert -100 < bias < 0
    assert share(with_bias(space, bias), users) == pytest.approx(0.8, abs=0.05), (
        "two others fill two of ten places"
    )


@pytest.mark.parametrize("new", [0, 40], ids=["no item is new", "all items are new"])
def test_without_two_kinds_of_items_there_is_nothing_to_balance(new: int) -> None:
    assert choose_new_item_bias(space_of(40, new, 5), TABLE, users_of(30, 40, 5), 1.0, most=1.0) == (0.0, 0.0)


def test_without_users_there_is_nothing_to_measure() -> None:
    assert choose_new_item_bias(space_of(40, 20, 6), TABLE, users_of(0, 40, 6), 1.0, most=1.0) == (0.0, 0.0)


def test_a_trained_model_is_read_back_with_the_bias_and_only_new_items_have_it(tmp_path: Path) -> None:
    metrics = built(tmp_path, cold_share=0.25, new_item_exposure=2.0, new_item_places=0.8)
    read_with = small_settings(cold_share=0.25)
    space, _, frozen = read_model(tmp_path / "train", read_with)
    new = new_items(frozen.popularity)
    assert metrics["new_items"] == new.sum() > 0
    assert metrics["new_item_bias"] > 0
    assert set(space.biases[new].tolist()) == {np.float32(metrics["new_item_bias"])}
    assert not space.residuals[new].any()


@pytest.mark.parametrize(
    "off", [{"new_item_exposure": 0.0}, {"new_item_places": 0.0}], ids=["no exposure", "no places"]
)
def test_either_setting_at_0_leaves_new_items_to_their_intents(tmp_path: Path, off: dict[str, float]) -> None:
    asked = {"new_item_exposure": 2.0, "new_item_places": 0.8}
    metrics = built(tmp_path, cold_share=0.25, **(asked | off))
    assert metrics["new_item_bias"] == 0
    space, _, frozen = read_model(tmp_path / "train", small_settings(cold_share=0.25))
    assert not space.biases[new_items(frozen.popularity)].any()
