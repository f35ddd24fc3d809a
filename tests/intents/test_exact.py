"""Names by construction: every value has one, and phrases that say nothing of their items are told from the rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array

from saerec_ray.config import IntentsConfig
from saerec_ray.dictionary.attributes import AttributeValue
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.exact import accidental_phrases, exact_names
from saerec_ray.intents.overlay import Overlay
from tests.intents.planted import TOPICS, plant

ITEMS, DIMENSION, SUBJECTS = 400, 16, 8


def encode(texts: list[str]) -> npt.NDArray[np.float32]:
    """Words about subject 0 have its direction; all others have one that no item has."""
    directions = np.eye(DIMENSION, dtype=np.float32)
    return directions[[0 if "subject" in text.lower() or "SPF" in text else DIMENSION - 1 for text in texts]]


def embeddings() -> npt.NDArray[np.float32]:
    """Item i is about subject i modulo SUBJECTS: (items, d), unit rows."""
    random = np.random.default_rng(0)
    vectors = np.eye(DIMENSION)[np.arange(ITEMS) % SUBJECTS] + random.normal(0, 0.1, (ITEMS, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def reason(value: AttributeValue, carriers: npt.NDArray[np.int64], text: str = "a text") -> str | None:
    """What is said against a value that these items have."""
    codes = csr_array((np.ones(len(carriers)), (carriers, np.zeros_like(carriers))), shape=(ITEMS, 1))
    exact = {0: value}
    named = exact_names(exact, codes, encode)
    return accidental_phrases(exact, named, codes, embeddings(), [text] * ITEMS, seed=0).get(0)


ABOUT_SUBJECT_0 = np.arange(0, ITEMS, SUBJECTS)
ANYWHERE = np.arange(0, ITEMS, 7)


def test_a_value_is_named_after_itself() -> None:
    codes = csr_array(np.eye(ITEMS, 2))
    names = exact_names(
        {0: AttributeValue("brand", "Olay"), 1: AttributeValue("phrase", "Nail Art")}, codes, encode
    )
    assert [(name.label, name.source) for name in names.values()] == [
        ("Olay", "attribute"),
        ("Nail Art", "attribute"),
    ]
    assert exact_names({}, codes, encode) == {}


def test_a_phrase_that_finds_its_items_by_meaning_is_kept() -> None:
    assert reason(AttributeValue("phrase", "the subject"), ABOUT_SUBJECT_0) is None


def test_a_phrase_that_stands_on_any_item_is_an_accident() -> None:
    said = reason(AttributeValue("phrase", "guaranteed"), ANYWHERE)
    assert said is not None
    assert said.startswith("nuisance: by its meaning the phrase finds its items with AUC 0.")


def test_a_field_of_the_items_needs_no_meaning() -> None:
    assert reason(AttributeValue("brand", "guaranteed"), ANYWHERE) is None


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("subject 8 fl oz", "The subject, 8 fl. oz"),
        ("Subject 5-Ounce Bottle", "The subject, 5-Ounce Bottle"),
        ("Subject Spray 3", "The subject spray, 3.4 Ounce"),
        ("subject spray 3", "The Subject Spray 3.4-oz for women"),
    ],
)
def test_an_amount_is_an_accident_also_where_its_unit_was_cut_off(phrase: str, text: str) -> None:
    said = reason(AttributeValue("phrase", phrase), ABOUT_SUBJECT_0, text)
    assert said == "nuisance: an amount, and nothing that an item is"


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("SPF 30", "Lotion SPF 30, 6 Ounce"),
        ("subject 1000 Piece", "The subject, 1000 Piece Puzzle"),
        ("Subject Ounce", "Subject Ounce, a film"),
    ],
)
def test_other_numbers_may_say_something(phrase: str, text: str) -> None:
    assert reason(AttributeValue("phrase", phrase), ABOUT_SUBJECT_0, text) is None


def test_an_accidental_phrase_is_hidden_until_a_person_shows_it() -> None:
    """A brand and a phrase stand for the same latents of nothing in common; only the phrase is hidden."""
    planted = plant()
    noise = [len(TOPICS), len(TOPICS) + 1]
    exact = dict(
        zip(noise, (AttributeValue("brand", "Anything"), AttributeValue("phrase", "Guaranteed")), strict=True)
    )
    brand, phrase = (planted.build(exact=exact)[0].intents[latent] for latent in noise)
    assert (brand.label, brand.kind, brand.state, brand.steerable) == (
        "Anything",
        "item property",
        "active",
        True,
    )
    assert (phrase.label, phrase.kind, phrase.state, phrase.steerable) == (
        "Guaranteed",
        "nuisance",
        "unpublished",
        False,
    )
    assert "by its meaning" in phrase.verdict
    overlay = Overlay(intents={phrase.intent_id: Edit(kind="intent")})
    shown = planted.build(exact=exact, overlay=overlay)[0].intents[noise[1]]
    assert (shown.kind, shown.state, shown.steerable) == ("intent", "active", True)


def test_a_value_is_shown_on_fewer_items_than_a_latent_whose_name_is_judged() -> None:
    planted = plant()
    value = {0: AttributeValue("brand", "Anything")}

    def verdict(**settings: int) -> str:
        config = IntentsConfig.model_validate(settings)
        return planted.build(config, exact=value)[0].intents[0].verdict

    assert verdict(min_items=200, min_attribute_items=60) == "published: all gates passed"
    assert verdict(min_items=200, min_attribute_items=61) == "active on 60 items, fewer than 61"
    assert verdict(min_items=60, min_attribute_items=61) == "published: all gates passed"
