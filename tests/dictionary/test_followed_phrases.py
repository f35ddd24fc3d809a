"""Phrases that people follow: found in training interactions alone, and given to the items whose texts have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.dictionary.followed_phrases import (
    MAX_OVERLAP,
    PHRASE,
    Following,
    add_followed_phrases,
    different,
    follow,
    overlap,
    value_carriers,
    with_phrases,
)
from saerec_ray.dictionary_settings import FollowedPhrasesConfig
from tests.backbone.small_sets import Parts, sequences_of

SERIES, COLOURS, COPIES = (
    ("Star Wars", "Hello Kitty", "Hot Wheels", "My Little Pony"),
    ("blue", "green", "pink"),
    4,
)
TEXTS = [
    f"{series} {colour} figure{copy}" for series in SERIES for colour in COLOURS for copy in range(COPIES)
]
"""Twelve items a series, and four of each colour in it."""
A_SERIES = len(COLOURS) * COPIES
EASY = FollowedPhrasesConfig(min_items=3, max_share=0.4, min_lift=1.5)
NO_FIELDS: list[dict[str, list[str]]] = [{} for _ in TEXTS]


def fans(loyal: bool = True, users: int = 120) -> list[Parts]:
    """Users who stay with one series and do not mind the colour; others take anything."""
    rng = np.random.default_rng(5)
    taken = []
    for user in range(users):
        first = user % len(SERIES) * A_SERIES if loyal else 0
        own = first + rng.permutation(A_SERIES if loyal else len(TEXTS))
        taken.append(([int(item) for item in own[:6]], [int(own[6])], [int(own[7])]))
    return taken


def phrases(users: list[Parts], config: FollowedPhrasesConfig = EASY) -> list[list[str]]:
    found = add_followed_phrases(config, TEXTS, NO_FIELDS, sequences_of(users))
    return [values.get(PHRASE, []) for values in found]


def test_a_series_that_people_stay_with_is_found_as_written_on_the_items_that_have_it_and_on_no_others() -> (
    None
):
    found = phrases(fans())
    for item, names in enumerate(found):
        assert {name for name in names if name in SERIES} <= {SERIES[item // A_SERIES]}
        assert any(
            SERIES[item // A_SERIES].endswith(name) or name in SERIES[item // A_SERIES] for name in names
        )
    assert not {name for names in found for name in names} & set(COLOURS), "nobody stays with a colour"


def test_people_who_take_anything_follow_nothing() -> None:
    assert not any(phrases(fans(loyal=False)))


def test_what_is_held_out_decides_nothing() -> None:
    users = fans()
    held_out_moved = [(train, test, validation) for train, validation, test in users]
    others = [(train, [0], [1]) for train, _, _ in users]
    assert phrases(users) == phrases(held_out_moved) == phrases(others)


def test_phrases_are_found_without_the_items_that_training_must_not_know_which_have_them_all_the_same() -> (
    None
):
    assert all("Star" in names for names in phrases(fans())[:A_SERIES])

    def without(cold: range) -> list[list[str]]:
        found = add_followed_phrases(EASY, TEXTS, NO_FIELDS, sequences_of(fans()), cold)
        return [values.get(PHRASE, []) for values in found]

    assert all("Star" in names for names in without(range(1))[:A_SERIES])
    assert not any("Star" in names for names in without(range(2, A_SERIES))), "two items are too few"


def test_an_item_met_again_follows_nothing() -> None:
    """Or every phrase of items that people buy again and again would count."""
    again = [([item, item, item, item, item], [], []) for item in range(len(TEXTS)) for _ in range(5)]
    assert not any(phrases(again))


def test_an_item_keeps_the_surest_phrases() -> None:
    every, two = phrases(fans()), phrases(fans(), EASY.model_copy(update={"most_an_item": 1}))
    assert max(len(names) for names in every) > 1
    assert two == [names[:1] for names in every]


def test_one_of_several_phrases_with_the_same_items_is_kept() -> None:
    """'Hello', 'Kitty' and 'Hello Kitty' are on the same items: three intents for one thing would help nobody."""
    items = range(A_SERIES, 2 * A_SERIES)
    names = {name for item in items for name in phrases(fans())[item]} & {"Hello", "Kitty", "Hello Kitty"}
    assert len(names) == 1


def test_a_phrase_with_the_items_of_an_attribute_value_is_left_out_and_attributes_stay() -> None:
    brands = [{"brand": [SERIES[item // A_SERIES]]} if item < A_SERIES else {} for item in range(len(TEXTS))]
    found = add_followed_phrases(EASY, TEXTS, brands, sequences_of(fans()))
    assert [{name: own for name, own in each.items() if name != PHRASE} for each in found] == brands
    of_brand = {name for each in found[:A_SERIES] for name in each.get(PHRASE, [])}
    assert not of_brand & {"Star", "Wars", "Star Wars"}
    assert any(each.get(PHRASE) for each in found[A_SERIES:])


def test_a_field_that_is_called_phrase_gives_way_to_what_its_texts_have() -> None:
    own = [{PHRASE: ["Star Wars"], "brand": ["acme"]}] * 2
    read = with_phrases(["Star Wars", "Hello Kitty"], 2, ["Hello Kitty figure", "figure"], own)
    assert read == [{"brand": ["acme"], PHRASE: ["Hello Kitty"]}, {"brand": ["acme"]}]


@pytest.mark.parametrize("change", [{"min_items": 13}, {"max_share": 0.2}, {"min_lift": 100.0}])
def test_the_bounds_of_the_settings_hold(change: dict[str, float]) -> None:
    found = phrases(fans(), EASY.model_copy(update=change))
    assert not {name for names in found for name in names} & set(SERIES)


@pytest.mark.parametrize("texts", [[""] * 4, ["the of and", "12 34", "", "x"]])
def test_texts_without_phrases_and_people_without_a_second_item_are_no_error(texts: list[str]) -> None:
    alone: list[Parts] = [([0], [], []), ([1], [], [])]
    assert add_followed_phrases(EASY, texts, [{}] * 4, sequences_of(alone)) == [{}] * 4


def counted_one_by_one(has: csr_array, users: list[Parts], window: int) -> Following:
    """The definition, in plain loops."""
    dense = has.toarray().astype(bool)
    occasions, followed = np.zeros(has.shape[1]), np.zeros(has.shape[1])
    every = [item for train, _, _ in users for item in train]
    for train, _, _ in users:
        for place, item in enumerate(train):
            before = train[max(0, place - window) : place]
            if item not in before:
                seen = dense[before].any(axis=0) if before else np.zeros(has.shape[1], dtype=bool)
                occasions += seen
                followed += seen & dense[item]
    share = dense[every].mean(axis=0) if every else np.zeros(has.shape[1])
    return Following(occasions, followed, occasions * share)


HISTORIES = st.lists(st.lists(st.integers(0, 29), max_size=8), min_size=1, max_size=8)


@given(HISTORIES, st.integers(1, 4), st.integers(0, 2**16))
@settings(max_examples=60)
def test_the_counts_are_those_of_the_definition(histories: list[list[int]], window: int, seed: int) -> None:
    users: list[Parts] = [(history, [3], [4]) for history in histories]
    rng = np.random.default_rng(seed)
    has = csr_array((rng.random((30, 7)) < 0.3).astype(np.float32))
    found, expected = follow(has, sequences_of(users), window), counted_one_by_one(has, users, window)
    for name in ("occasions", "followed", "expected"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)


def test_counts_do_not_depend_on_how_many_interactions_are_taken_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has = csr_array((np.random.default_rng(1).random((len(TEXTS), 9)) < 0.3).astype(np.float32))
    met = sequences_of(fans())
    whole = follow(has, met, 3)
    monkeypatch.setattr("saerec_ray.dictionary.followed_phrases._INTERACTIONS_AT_ONCE", 7)
    parts = follow(has, met, 3)
    np.testing.assert_array_equal(whole.followed, parts.followed)
    np.testing.assert_array_equal(whole.occasions, parts.occasions)


@given(st.integers(0, 2**16))
@settings(max_examples=40)
def test_kept_phrases_are_unlike_each_other_and_every_other_one_is_like_a_surer_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    has = csr_array((rng.random((9, 8)) < 0.5).astype(np.float32))
    other = csr_array((rng.random((9, 3)) < 0.5).astype(np.float32))
    kept = different(has, other).tolist()
    alike = overlap(has, has).toarray() > MAX_OVERLAP
    taken = (overlap(has, other).toarray() > MAX_OVERLAP).any(axis=1)
    for place in range(8):
        surer = [before for before in kept if before < place]
        assert (place in kept) == (not taken[place] and not alike[place, surer].any())


def test_overlap_is_shared_items_over_all_items_of_both() -> None:
    one = csr_array(np.array([[1, 0], [1, 1], [1, 1], [0, 0]], dtype=np.float32))
    other = csr_array(np.array([[0], [1], [0], [1]], dtype=np.float32))
    np.testing.assert_allclose(overlap(one, other).toarray(), [[1 / 4], [1 / 3]])


def test_the_carriers_of_values_count_an_item_once_a_value() -> None:
    carriers = value_carriers([{"brand": ["a", "a"], "colour": ["a"]}, {}, {"brand": ["a"]}])
    assert carriers.shape == (3, 2)
    assert sorted(carriers.toarray().sum(axis=0)) == [1, 2]
    assert carriers.max() == 1
