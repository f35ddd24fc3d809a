"""Latents that follow the form of texts are found and hidden; latents with a subject never are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.data.prepared import PreparedItems
from saerec_ray.intents.attributes import AttributeValues
from saerec_ray.intents.catalogue import stable_ids
from saerec_ray.intents.detection import split_halves
from saerec_ray.intents.nuisance import Probe, find_nuisance
from saerec_ray.intents.overlay import Overlay
from saerec_ray.intents.population import measure_population
from saerec_ray.intents.text_properties import guess_language, measure_texts
from tests.intents.planted import FILLER, TOPICS, Planted, encode, plant

TEMPLATE = "this product cannot be shipped to alaska"
NOTICE = f"{TEMPLATE}, please allow five to seven business days for delivery of your order"
"""Longer than one run of words: all of it is left out when the likeness of items is measured."""
GERMAN = "der die das und mit von für ist"
MORE = [f"{first}{second}" for first in FILLER for second in FILLER]
"""Words that say nothing."""
FORMS = {
    "length": lambda text, rng: f"{text}, {', '.join(rng.choice(MORE, 6))}",
    "HTML": lambda text, rng: f"{text}<br> &amp; <b>",
    "digits": lambda text, rng: f"{text} {rng.integers(10**8, 10**9)}",
    "upper-case": lambda text, rng: text.upper(),
    "German": lambda text, rng: f"{' '.join(rng.choice(GERMAN.split(), 6))} {text}",
    "repeated phrase": lambda text, rng: f"{text}, {NOTICE}",
}


def with_texts(planted: Planted, texts: list[str], last: np.ndarray) -> Planted:
    """The same catalogue with other texts; `last` are the items on which the last latent is active."""
    codes = planted.codes.toarray()
    codes[:, -1] = last * np.random.default_rng(1).gamma(4.0, 0.25, size=len(texts))
    codes_ = csr_array(codes.astype(np.float32))
    embeddings = encode(texts)
    met = np.arange(len(texts), dtype=np.int32)
    population = measure_population(
        codes_, np.repeat(0, len(texts)), met, [each.get("category", []) for each in planted.items.attributes]
    )
    items = PreparedItems(planted.items.ids, texts, texts, planted.items.attributes)
    return replace(
        planted,
        items=items,
        codes=codes_,
        embeddings=embeddings,
        mean=embeddings.mean(axis=0),
        population=population,
    )


def with_form(planted: Planted, form: str, seed: int = 0, noise: float = 0.02) -> Planted:
    """A quarter of the items, whatever their topic, has the form; the last latent is active on nearly just these."""
    rng = np.random.default_rng(seed)
    chosen = rng.random(len(planted.items)) < 0.25
    texts = [
        FORMS[form](text, rng) if has else text for text, has in zip(planted.items.texts, chosen, strict=True)
    ]
    if form == "German":  # the others must be in a language too
        texts = [
            text if has else f"the {text} for you and your" for text, has in zip(texts, chosen, strict=True)
        ]
    return with_texts(planted, texts, chosen ^ (rng.random(len(texts)) < noise))


def found(planted: Planted, min_auc: float = 0.9, *, attributes: bool = True) -> list[Probe]:
    items = planted.items
    labels = [encode([name])[0] for name in TOPICS]
    unlabelled = [None] * (planted.codes.shape[1] - len(labels))
    return find_nuisance(
        items.texts,
        planted.codes,
        planted.embeddings,
        split_halves(len(items), 5),
        [*labels, *unlabelled] if attributes else [None] * planted.codes.shape[1],
        AttributeValues.collect(items.attributes if attributes else [{} for _ in items.ids]),
        min_auc,
    )


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant()


@pytest.mark.parametrize("form", list(FORMS))
def test_a_latent_that_follows_the_form_of_texts_is_found_with_its_evidence(
    planted: Planted, form: str
) -> None:
    probes = found(with_form(planted, form))
    assert [probe.latent for probe in probes] == [planted.codes.shape[1] - 1]
    (probe,) = probes
    assert form in probe.name
    assert probe.more
    assert probe.auc >= 0.9
    assert f"AUC {probe.auc:.2f}" in str(probe)
    assert max(probe.label_auc, probe.attribute_auc) < 0.7


def test_a_latent_of_short_texts_is_told_from_one_of_long_texts(planted: Planted) -> None:
    long = with_form(planted, "length")
    others = ~(long.codes[:, [long.codes.shape[1] - 1]].toarray().ravel() > 0)
    (probe,) = found(with_texts(planted, long.items.texts, others))
    assert not probe.more
    assert str(probe).startswith("nuisance: little length in ")


def test_topics_and_noise_are_no_nuisance(planted: Planted) -> None:
    assert found(planted) == []
    assert found(planted, 0.7, attributes=False) == []


def with_topic_form(planted: Planted, form: str) -> Planted:
    """All texts of the first topic, and no other, have the form; the last latent is never active."""
    rng = np.random.default_rng(2)
    topic = planted.codes[:, [0]].toarray().ravel() > 0
    texts = [
        FORMS[form](text, rng) if has else text for text, has in zip(planted.items.texts, topic, strict=True)
    ]
    if form == "German":
        texts = [
            text if has else f"the {text} for you and your" for text, has in zip(texts, topic, strict=True)
        ]
    return with_texts(planted, texts, np.zeros(len(texts), dtype=bool))


@pytest.mark.parametrize("form", list(FORMS))
def test_a_topic_whose_texts_all_have_one_form_keeps_its_name(planted: Planted, form: str) -> None:
    """Category, brand and product line often decide the length, the spelling or a phrase of texts."""
    assert found(with_topic_form(planted, form)) == []


@pytest.mark.parametrize("form", ["HTML", "digits", "upper-case", "repeated phrase"])
def test_items_that_share_a_subject_are_no_nuisance_even_without_a_name(planted: Planted, form: str) -> None:
    assert found(with_topic_form(planted, form), attributes=False) == []


def test_a_property_that_an_attribute_tells_as_well_is_no_nuisance(planted: Planted) -> None:
    """Where people know the language of items, to want one is an intent."""
    formed = with_form(planted, "German", noise=0)
    language = formed.codes[:, [-1]].toarray().ravel() > 0
    attributes = [{"language": ["German" if has else "English"]} for has in language]
    known = replace(formed, items=replace(formed.items, attributes=attributes))
    assert [probe.latent for probe in found(formed)] == [planted.codes.shape[1] - 1]
    assert found(known) == []


def test_the_evidence_is_from_items_the_property_was_not_chosen_on(planted: Planted) -> None:
    """In the first half the latent follows the length, in the second nothing."""
    formed = with_form(planted, "length")
    first, second = split_halves(len(planted.items), 5)
    last = formed.codes[:, [formed.codes.shape[1] - 1]].toarray().ravel() > 0
    assert found(formed)
    last[second] = np.random.default_rng(3).permutation(last[second])
    assert found(with_texts(planted, formed.items.texts, last)) == []
    last = formed.codes[:, [formed.codes.shape[1] - 1]].toarray().ravel() > 0
    last[first] = np.random.default_rng(3).permutation(last[first])
    assert found(with_texts(planted, formed.items.texts, last)) == []


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.5))
def test_latents_that_follow_nothing_are_never_nuisance(seed: int, share: float) -> None:
    planted = plant(items_a_topic=40)
    rng = np.random.default_rng([seed, 1])
    texts = with_form(planted, "length", seed % 100).items.texts
    random = rng.random(len(texts)) < share
    assert found(with_texts(planted, texts, random), 0.7, attributes=False) == []


# In the catalogue


@pytest.fixture(scope="module")
def long_texts(planted: Planted) -> Planted:
    return with_form(planted, "length")


def test_nuisance_keeps_its_score_but_is_neither_shown_nor_steerable(long_texts: Planted) -> None:
    results = long_texts.results()
    intent = results.catalogue.intents[-1]
    assert (intent.kind, intent.state, intent.steerable) == ("nuisance", "unpublished", False)
    assert intent.verdict.startswith("nuisance: length in ")
    assert results.summary["nuisance"] == 1
    assert any(f"Kept out of profiles as nuisance: {intent.intent_id}" in each for each in results.sentences)
    published = [each for each in results.catalogue.intents if each.published]
    assert len(published) >= len(TOPICS)
    assert {each.kind for each in published} == {"unknown"}


def test_the_probe_can_be_made_stricter(long_texts: Planted) -> None:
    from saerec_ray.config import IntentsConfig

    catalogue, _, summary = long_texts.build(IntentsConfig(min_nuisance_auc=1.0))
    assert summary["nuisance"] == 0
    assert catalogue.intents[-1].kind == "unknown"


def edited(planted: Planted, latent: int, **edit: object):
    ids = stable_ids(planted.decoder)
    overlay = Overlay.model_validate({"intents": {ids[latent]: edit}})
    return planted.build(overlay=overlay)[0].intents[latent]


def test_people_have_the_last_word_on_what_is_nuisance(long_texts: Planted) -> None:
    last = long_texts.codes.shape[1] - 1
    shown = edited(long_texts, last, state="active", label="Long story")
    assert (shown.kind, shown.published, shown.steerable) == ("nuisance", True, True)
    lifted = edited(long_texts, last, kind="intent")
    assert lifted.kind == "intent"
    assert "nuisance" not in lifted.verdict
    hidden = edited(long_texts, 0, kind="nuisance")
    assert (hidden.kind, hidden.state, hidden.steerable) == ("nuisance", "unpublished", False)
    assert hidden.verdict == "nuisance, as a person says"
    assert edited(long_texts, 0, kind="nuisance", state="blocked").state == "blocked"
    named = edited(long_texts, 0, kind="item property")
    assert (named.kind, named.published) == ("item property", True)


# The properties


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The brush is soft and made for your face", "English"),
        ("Das Shampoo ist mild und pflegt die Haare", "German"),
        ("Une crème pour les mains et le visage", "French"),
        ("El champú para el cabello y los rizos", "Spanish"),
        ("Шампунь для волос", "Cyrillic script"),
        ("シャンプー 300ml", "Katakana script"),
        ("OPI Nail Lacquer 15 ml", None),
        ("Eau de Toilette", None),
        ("", None),
    ],
)
def test_languages_are_guessed_from_scripts_and_function_words(text: str, language: str | None) -> None:
    assert guess_language(text) == language


def test_a_language_is_a_property_only_where_there_are_two(planted: Planted) -> None:
    english = [f"the {text} for you" for text in planted.items.texts]
    assert not [name for name in measure_texts(english).names if "language" in name]


def test_a_phrase_is_a_template_only_in_one_clause_of_many_texts() -> None:
    texts = [f"item {place}, {TEMPLATE}" for place in range(30)] + [f"item {place}" for place in range(30)]
    properties = measure_texts(texts)
    (column,) = properties.templates
    assert properties.templates[column] == set(TEMPLATE.split())  # of both runs, for they are one template
    np.testing.assert_array_equal(properties.values[:, column], [1.0] * 30 + [0.0] * 30)
    broken = [text.replace("cannot be", "cannot, be") for text in texts]
    assert measure_texts(broken).templates == {}
    assert measure_texts(texts[15:]).templates == {}  # fewer than 20 texts


def test_texts_that_share_no_word_cannot_show_that_they_have_no_subject(planted: Planted) -> None:
    """Nothing is called nuisance on no evidence."""
    long = np.arange(len(planted.items)) % 4 == 0
    texts = [f"w{place}" * (9 if has else 1) for place, has in enumerate(long)]
    assert found(with_texts(planted, texts, long), attributes=False) == []


def test_texts_without_differences_have_no_properties() -> None:
    assert measure_texts(["same"] * 50).names == []
    assert measure_texts([]).names == []
