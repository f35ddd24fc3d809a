"""Attributes as latents: an item carries one when it has the value, and nothing about them is learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.dictionary.attributes import (
    AttributeValue,
    add_attributes,
    attribute_codes,
    refuse_own_phrases,
)
from saerec_ray.dictionary.concatenated import Dictionaries, read_arrays, read_dictionaries
from saerec_ray.dictionary.followed_phrases import PHRASE
from saerec_ray.dictionary.sae import read_codes, write_codes, write_dictionary
from saerec_ray.dictionary.stability import read_stability, write_stability
from saerec_ray.dictionary_settings import AttributesConfig
from saerec_ray.errors import InputError
from tests.synthetic import plain_dictionary

ITEMS = [
    {"brand": ["acme"], "colour": ["red", "blue"]},
    {"brand": ["acme"], "colour": ["red"]},
    {"brand": ["other"]},
    {},
    {"colour": ["red"], "size": ["L"]},
]
EASY = AttributesConfig(min_items=1, max_share=1.0)


def test_an_item_carries_the_latents_of_its_values_and_no_others() -> None:
    values, codes = attribute_codes(EASY, ITEMS)
    assert values == sorted(
        AttributeValue(*each)
        for each in [
            ("brand", "acme"),
            ("brand", "other"),
            ("colour", "blue"),
            ("colour", "red"),
            ("size", "L"),
        ]
    )
    carried = [{(name, value) for name, own in item.items() for value in own} for item in ITEMS]
    assert [{tuple(values[place]) for place in np.flatnonzero(row)} for row in codes.toarray()] == carried


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["brand", "colour"]), st.lists(st.sampled_from("abcd"), max_size=4), max_size=2
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(0.1, 4),
)
def test_the_code_of_an_item_with_values_has_the_wanted_length(
    items: list[dict[str, list[str]]], weight: float
) -> None:
    if not any(values for item in items for values in item.values()):
        return
    _, codes = attribute_codes(EASY.model_copy(update={"weight": weight}), items)
    lengths = np.sqrt(codes.power(2).sum(axis=1))
    has = np.array([any(item.values()) for item in items])
    np.testing.assert_allclose(lengths[has], weight, rtol=1e-5)
    assert not lengths[~has].any()


def test_rare_and_common_values_are_left_out() -> None:
    values, _ = attribute_codes(AttributesConfig(min_items=2, max_share=0.5), ITEMS)
    assert values == [("brand", "acme")]


def test_items_that_training_must_not_know_count_for_no_value_but_have_codes() -> None:
    values, codes = attribute_codes(AttributesConfig(min_items=2, max_share=1.0), ITEMS, cold=[1])
    assert values == [("colour", "red")]
    assert codes.toarray().ravel().astype(bool).tolist() == [True, True, False, False, True]


def test_only_the_attributes_asked_for_are_taken() -> None:
    values, _ = attribute_codes(EASY.model_copy(update={"names": ["size"]}), ITEMS)
    assert values == [("size", "L")]


def test_found_phrases_are_taken_besides_the_attributes_asked_for() -> None:
    items = [{**item, PHRASE: ["Star Wars"]} for item in ITEMS]
    asked = {**EASY.model_dump(), "names": ["size"]}
    values, _ = attribute_codes(AttributesConfig.model_validate({**asked, "phrases": {}}), items)
    assert values == [(PHRASE, "Star Wars"), ("size", "L")]


@pytest.mark.parametrize("phrases", [None, {}], ids=["without phrases of texts", "with them"])
def test_a_field_called_phrase_is_refused_where_it_would_be_taken(phrases: dict[str, int] | None) -> None:
    items = [*ITEMS, {PHRASE: ["of the shop"]}]
    config = AttributesConfig.model_validate({"phrases": phrases})
    with pytest.raises(InputError, match=r"attribute called phrase.*rename it in the source"):
        refuse_own_phrases(config, items)
    refuse_own_phrases(config.model_copy(update={"names": ["brand"]}), items)
    refuse_own_phrases(config, ITEMS)


def test_an_attribute_that_no_item_has_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"attribute maker of dictionary.*brand, colour, size"):
        attribute_codes(EASY.model_copy(update={"names": ["brand", "maker"]}), ITEMS)


def test_where_no_value_is_left_it_says_what_to_change() -> None:
    with pytest.raises(InputError, match=r"at least 9 items.*change dictionary.attributes"):
        attribute_codes(AttributesConfig(names=["brand"], min_items=9), ITEMS)


@pytest.mark.parametrize("items", [[{}, {}], ITEMS], ids=["no attributes", "none on enough items"])
def test_where_none_was_asked_for_by_name_there_may_be_none(
    items: list[dict[str, list[str]]], tmp_path: Path
) -> None:
    text = csr_array(np.ones((len(items), 3), dtype=np.float32))
    write_codes(text, tmp_path)
    write_dictionary(plain_dictionary(np.eye(3, 4, dtype=np.float32)), tmp_path)
    metrics = add_attributes(AttributesConfig(min_items=9), items, tmp_path)
    assert metrics["latents"] == 0
    np.testing.assert_array_equal(read_codes(tmp_path).toarray(), text.toarray())
    assert read_dictionaries(tmp_path).width == 3


def test_a_value_has_the_same_id_on_every_catalogue_and_another_than_all_others() -> None:
    ids = {value.intent_id for value in attribute_codes(EASY, ITEMS)[0]}
    assert len(ids) == 5
    assert AttributeValue("brand", "acme").intent_id in ids
    assert AttributeValue("a", "b c").intent_id != AttributeValue("a b", "c").intent_id


def test_the_codes_follow_those_of_the_texts_and_the_folder_knows_what_they_mean(tmp_path: Path) -> None:
    text = csr_array(np.arange(15, dtype=np.float32).reshape(5, 3))
    write_codes(text, tmp_path)
    write_dictionary(plain_dictionary(np.eye(3, 4, dtype=np.float32)), tmp_path)
    write_stability(np.array([0.9, 0.8, 0.7], dtype=np.float32), tmp_path)
    metrics = add_attributes(EASY, ITEMS, tmp_path)
    assert metrics["latents"] == 5
    codes = read_codes(tmp_path)
    np.testing.assert_array_equal(codes[:, :3].toarray(), text.toarray())
    np.testing.assert_array_equal(codes[:, 3:].toarray(), attribute_codes(EASY, ITEMS)[1].toarray())
    np.testing.assert_array_equal(np.isnan(read_stability(tmp_path)), [False] * 3 + [True] * 5)
    loose, packed = read_dictionaries(tmp_path), Dictionaries.from_arrays(read_arrays(tmp_path))
    assert loose.attributes == packed.attributes == tuple(attribute_codes(EASY, ITEMS)[0])
    assert loose.width == 8
    assert [loose.origin(latent) for latent in (0, 2, 3, 7)] == ["text", "text", "attributes", "attributes"]
    assert loose.decoder.shape == (8, 4 + 5)
    np.testing.assert_array_equal(
        loose.decoder @ loose.decoder.T, np.eye(8), "no direction says anything of another"
    )
