"""Ids of attribute values: the same value has the same id everywhere, and nothing else ever has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array, hstack

from saerec_ray.dictionary.attributes import AttributeValue, attribute_codes
from saerec_ray.dictionary_settings import AttributesConfig
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.identity import NamedLatents, carry_over, inherited_edits, match_latents
from tests.intents.named_latents import intent, named, sparse_codes

ITEMS, TEXTS = 200, 8
TEXT = named(
    np.random.default_rng(0).normal(size=(TEXTS, 16)), sparse_codes(np.random.default_rng(1), ITEMS, TEXTS)
)


def shop(brands: list[str | None], first_item: int = 0) -> NamedLatents:
    """A catalogue whose items have these brands, beside the same eight latents of texts."""
    config = AttributesConfig(min_items=3, max_share=1)
    values, codes = attribute_codes(config, [{"brand": [brand]} if brand else {} for brand in brands])
    exact = [
        intent(each.intent_id, TEXTS + place, label=each.value, dictionary="attributes")
        for place, each in enumerate(values)
    ]
    catalogue = TEXT.catalogue.model_copy(update={"intents": [*TEXT.catalogue.intents, *exact]})
    return replace(
        TEXT,
        codes=csr_array(hstack([TEXT.codes, codes], format="csr")),
        items=[f"item {number}" for number in range(first_item, first_item + ITEMS)],
        values=tuple(values),
        catalogue=catalogue,
    )


def carried(old: NamedLatents, new: NamedLatents) -> Catalogue:
    return carry_over(old, new, match_latents(old, new))


def brand_id(value: str) -> str:
    return AttributeValue("brand", value).intent_id


def ids_of_brands(catalogue: Catalogue) -> dict[str, str]:
    return {each.label: each.intent_id for each in catalogue.intents[TEXTS:]}


BRANDS: list[str | None] = (["OPI"] * 20 + ["Essie"] * 20 + [None] * 60) * 2


@pytest.mark.parametrize(
    ("brands", "first_item"),
    [
        (BRANDS, 0),
        (BRANDS, ITEMS),  # no item in common
        ([None] * 100 + BRANDS[100:], 100),  # items in common, and none of them has a brand
        (["Essie" if brand == "OPI" else "OPI" if brand == "Essie" else None for brand in BRANDS], 0),
        (["Gelish"] * 5 + BRANDS[5:], 0),  # another value, and so another number for every later one
    ],
    ids=["same", "other items", "half of the items", "swapped", "one more"],
)
def test_a_value_keeps_its_id_whatever_items_have_it(brands: list[str | None], first_item: int) -> None:
    found = carried(shop(BRANDS), shop(brands, first_item))
    assert {"OPI": brand_id("OPI"), "Essie": brand_id("Essie")}.items() <= ids_of_brands(found).items()
    assert not {brand_id("OPI"), brand_id("Essie")} & {each.intent_id for each in found.deprecated}


def test_a_value_that_is_gone_names_the_one_that_its_items_have_now() -> None:
    found = carried(shop(BRANDS), shop(["O.P.I" if brand == "OPI" else brand for brand in BRANDS]))
    assert ids_of_brands(found) == {"Essie": brand_id("Essie"), "O.P.I": brand_id("O.P.I")}
    (entry,) = found.deprecated
    assert (entry.intent_id, entry.successors) == (brand_id("OPI"), [brand_id("O.P.I")])


def test_a_value_that_comes_back_has_its_id_again() -> None:
    first, without = shop(BRANDS), shop([brand if brand == "Essie" else None for brand in BRANDS])
    gone = carried(first, without)
    assert [each.intent_id for each in gone.deprecated] == [brand_id("OPI")]
    back = carried(replace(without, catalogue=gone), first)
    assert ids_of_brands(back)["OPI"] == brand_id("OPI")
    assert back.deprecated == []


def test_a_learnt_latent_never_takes_over_the_id_of_a_value() -> None:
    """A latent of co-occurrence fires on just the items of a brand."""
    old = shop(BRANDS)
    second = replace(
        old,
        values=(),
        catalogue=old.catalogue.model_copy(
            update={
                "intents": [
                    *TEXT.catalogue.intents,
                    intent("int-c0000000", TEXTS, dictionary="cooccurrence"),
                    intent("int-c0000001", TEXTS + 1, dictionary="cooccurrence"),
                ]
            }
        ),
    )
    learnt = carried(old, second)
    assert [each.intent_id for each in learnt.intents[TEXTS:]] == ["int-c0000000", "int-c0000001"]
    assert {each.intent_id for each in learnt.deprecated} == {brand_id("OPI"), brand_id("Essie")}
    exact = carried(second, old)
    assert ids_of_brands(exact) == {"OPI": brand_id("OPI"), "Essie": brand_id("Essie")}
    assert {each.intent_id for each in exact.deprecated} == {"int-c0000000", "int-c0000001"}


def test_where_a_learnt_latent_has_the_id_of_a_value_the_value_gets_it_back() -> None:
    new = shop(BRANDS)
    wrong = TEXT.catalogue.intents[0].model_copy(update={"intent_id": brand_id("OPI")})
    old = replace(
        TEXT, catalogue=TEXT.catalogue.model_copy(update={"intents": [wrong, *TEXT.catalogue.intents[1:]]})
    )
    ids = [each.intent_id for each in carried(old, new).intents]
    assert len(set(ids)) == len(ids)
    assert ids[TEXTS:] == [brand_id("Essie"), brand_id("OPI")]


def test_what_people_decided_of_a_value_goes_on_with_it() -> None:
    old, new = shop(BRANDS), shop(["Gelish"] * 5 + BRANDS[5:], first_item=ITEMS)
    edit = Edit(label="O.P.I lacquers")
    intents = [
        each.model_copy(update={"inherited_edit": edit}) if each.label == "OPI" else each
        for each in old.catalogue.intents
    ]
    before = old.catalogue.model_copy(update={"intents": intents})
    ids = [each.intent_id for each in new.catalogue.intents]
    assert inherited_edits(before, ids, match_latents(old, new)) == {brand_id("OPI"): edit}


def test_values_change_nothing_for_learnt_latents() -> None:
    alone, together = match_latents(TEXT, TEXT), match_latents(shop(BRANDS), shop(BRANDS))
    np.testing.assert_array_equal(together.similarity[:TEXTS, :TEXTS], alone.similarity)
    assert not together.similarity[:TEXTS, TEXTS:].any()
    assert not together.similarity[TEXTS:, :TEXTS].any()
