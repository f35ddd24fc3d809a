"""New items are companions of the items with the closest texts: as much leads to them as to others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from saerec_ray.backbone import build, companions_by_text
from saerec_ray.backbone.build import read_model
from saerec_ray.backbone.companions_by_text import SHARPNESS, with_new_items
from saerec_ray.backbone.frozen import read_frozen
from saerec_ray.backbone.new_items import new_items
from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.scoring import ItemSpace, companion_strengths
from tests.backbone.small_sets import GROUPS, ITEMS, small_settings
from tests.backbone.test_build import USERS, built

MANY = 1000


def counted(items: int, new: np.ndarray, density: float, seed: int) -> csr_array:
    """Rates among the items that are not new."""
    rates = random_array((items, items), density=density, rng=np.random.default_rng(seed), format="csr")
    return csr_array(rates * ~new[:, None] * ~new[None]).astype(np.float32)


def texts(items: int, seed: int) -> np.ndarray:
    return unit_rows(np.random.default_rng([seed, 1]).normal(0.2, 1, size=(items, 6)).astype(np.float32))


@given(st.integers(0, 2**16), st.integers(3, 40), st.floats(0.02, 0.9), st.floats(0.05, 0.5))
@settings(max_examples=60)
def test_they_are_those_of_the_definition(seed: int, items: int, part: float, density: float) -> None:
    new = np.arange(items) < max(1, min(int(part * items), items - 1))
    before, vectors = counted(items, new, density, seed), texts(items, seed)
    taken = np.where(new, 0, 1)
    found = with_new_items(before, vectors, taken, MANY).toarray()
    np.testing.assert_array_equal(found[:, ~new], before.toarray()[:, ~new])
    assert not found[new].any(), "nothing is known of what people take after a new item"
    if not before.nnz:
        assert not found.any()
        return
    met = np.flatnonzero(~new)
    count = min(max(1, round(before.nnz / len(met))), len(met))
    moved = unit_rows(vectors - vectors[met].mean(axis=0))
    for item in np.flatnonzero(new):
        cosines = moved[met] @ moved[item]
        closest = np.argsort(-cosines, kind="stable")[:count]
        weights = np.exp(SHARPNESS * cosines[closest].astype(np.float64))
        expected = np.zeros(items)
        expected[met[closest]] = before.sum() / len(met) * weights / weights.sum()
        np.testing.assert_allclose(found[:, item], expected, rtol=1e-4, atol=1e-7)


def test_closer_texts_are_worth_more() -> None:
    vectors = unit_rows(np.array([[1, 0.1], [1, 0.4], [-1, 0.9], [-1, -0.9], [1, 0]], dtype=np.float32))
    new = np.array([False, False, False, False, True])
    before = counted(5, new, 1.0, 3)
    rates = with_new_items(before, vectors, (~new).astype(np.int64), MANY).toarray()[:, 4]
    assert rates[0] > rates[1] > rates[2] > 0
    assert rates.sum() == pytest.approx(before.sum() / 4, rel=1e-5)


@pytest.mark.parametrize(("density", "taken"), [(0.5, np.ones(6)), (0.0, np.zeros(6)), (0.0, np.arange(6))])
def test_where_no_item_is_new_and_where_nothing_was_counted_nothing_changes(
    density: float, taken: np.ndarray
) -> None:
    before = counted(6, np.zeros(6, dtype=bool), density, 1)
    assert with_new_items(before, texts(6, 1), taken.astype(np.int64), MANY) is before


def test_of_a_large_catalogue_the_items_taken_most_are_compared_and_new_ones_some_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = np.array([0, 3, 1, 5, 0, 2, 0])
    before, vectors = counted(7, taken == 0, 1.0, 2), texts(7, 4)
    whole = with_new_items(before, vectors, taken, MANY)
    monkeypatch.setattr(companions_by_text, "_NEW_AT_ONCE", 2)
    np.testing.assert_allclose(
        with_new_items(before, vectors, taken, MANY).toarray(), whole.toarray(), rtol=1e-6
    )
    monkeypatch.setattr(companions_by_text, "MOST_COMPARED", 3 * 2)
    few = with_new_items(before, vectors, taken, MANY).toarray()[:, taken == 0]
    assert set(np.flatnonzero(few.any(axis=1))) == {1, 3}
    np.testing.assert_allclose(few.sum(axis=0), before.sum() / 4, rtol=1e-5)


def test_an_item_leads_to_no_more_new_items_than_asked_the_closest_of_them() -> None:
    new = np.arange(20) >= 4
    before, vectors = counted(20, new, 1.0, 2), texts(20, 4)
    whole = with_new_items(before, vectors, (~new).astype(np.int64), MANY).toarray()
    few = with_new_items(before, vectors, (~new).astype(np.int64), 3).toarray()
    for item in range(4):
        largest = np.argsort(-whole[item, new])[:3]
        assert set(np.flatnonzero(few[item, new])) == set(largest)
        np.testing.assert_allclose(few[item, new][largest], whole[item, new][largest], rtol=1e-6)
    np.testing.assert_array_equal(few[:, ~new], whole[:, ~new])


def test_something_leads_to_a_text_that_is_the_mean_of_all_too() -> None:
    new = np.array([False, False, True])
    vectors = np.array([[1, 0], [0, 1], [0.5, 0.5]], dtype=np.float32)
    found = with_new_items(counted(3, new, 1.0, 1), vectors, (~new).astype(np.int64), MANY).toarray()
    assert found[:2, 2] == pytest.approx(found[:2, :2].sum() / 4)


def test_after_a_training_items_lead_to_cold_ones_of_their_group(tmp_path: Path) -> None:
    """The texts of the small set tell the group of an item and nothing else."""
    built(tmp_path, companions=5, cold_share=0.25)
    group = np.arange(ITEMS) * GROUPS // ITEMS
    space, _, _ = read_model(tmp_path / "train", small_settings(companions=5))
    assert space.companions is not None
    new = new_items(space.popularity)
    assert new.sum() == ITEMS // 4
    leading, cold = space.companions[:, new].nonzero()
    assert set(cold) == set(range(new.sum())), "something leads to every cold item"
    assert (group[leading] == group[new][cold]).all()
    history = np.flatnonzero(~new & (group == 0))
    strengths = companion_strengths(space, [history]).toarray()[0]
    assert (strengths[new & (group == 0)] > 0).all()
    assert (strengths[new & (group != 0)] == 0).all()


def test_their_weight_is_that_of_counted_companions_and_the_model_without_intents_has_none_by_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or many new items would outrank what people take before any bias holds them back."""
    changes = {"companions": 5, "cold_share": 0.6, "baseline": True, "epochs": 1}
    found = built(tmp_path / "by text", **changes)
    monkeypatch.setattr(build, "with_new_items", lambda companions, *_: companions)
    counted_alone = built(tmp_path / "counted", **changes)
    for name in ("companion_weight", "companion_weight_without_intents"):
        assert found[name] == counted_alone[name]
    assert found["companion_weight"] > 0
    for baseline in (False, True):
        space, _, _ = read_model(
            tmp_path / "by text" / "train", small_settings(companions=5), baseline=baseline
        )
        assert space.companions is not None
        assert (space.companions[:, new_items(space.popularity)].nnz == 0) is baseline


def test_they_keep_the_weight_that_is_best_where_counted_ones_give_way_to_intents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "choose_companion_weight", lambda *given: (0.5, 2.0, {}))
    read_bias = build.choose_new_item_bias
    biased: list[tuple[ItemSpace, EncodedUsers]] = []

    def noted(space, table, users, *limits):  # type: ignore[no-untyped-def]
        biased.append((space, users))
        return read_bias(space, table, users, *limits)

    monkeypatch.setattr(build, "choose_new_item_bias", noted)
    metrics = built(tmp_path, companions=5, cold_share=0.25, baseline=True, epochs=1)
    assert metrics["companion_weight"] == 0.5
    assert metrics["companion_weight_without_intents"] == 2.0
    counted_and_by_text = read_frozen(tmp_path / "train", intents=True).companions.toarray()
    space, encoder, _ = read_model(tmp_path / "train", small_settings(companions=5))
    assert space.companions is not None
    new = new_items(space.popularity)
    counts = space.companion_weight * space.companions.toarray()
    np.testing.assert_allclose(counts[:, new], 2.0 * counted_and_by_text[:, new], rtol=1e-6)
    np.testing.assert_allclose(counts[:, ~new], 0.5 * counted_and_by_text[:, ~new], rtol=1e-6)
    ((judged, users),) = biased
    again = encoder.encode(users.cases.histories)
    np.testing.assert_allclose(users.companions.toarray(), again.companions.toarray(), rtol=1e-5)
    assert judged.companion_weight == space.companion_weight


def test_with_the_codes_of_others_new_items_have_the_texts_of_others_too(tmp_path: Path) -> None:
    """Else the control would know of new items what it must not."""
    users = [([item for item in train if item], [], test) for train, _, test in USERS]  # nobody takes item 0
    built(tmp_path, users, companions=5, baseline=False, shuffle_codes=True)
    space, _, _ = read_model(tmp_path / "train", small_settings(companions=5))
    assert space.companions is not None
    assert new_items(space.popularity)[0]
    leading = np.flatnonzero(space.companions[:, [0]].toarray()[:, 0])
    read_as = np.random.default_rng(7).permutation(ITEMS)
    group = np.arange(ITEMS) * GROUPS // ITEMS
    assert (group[read_as[leading]] == group[read_as[0]]).all()
    assert not (group[leading] == group[0]).all()
