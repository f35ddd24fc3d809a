"""The sentence that sets a latent off is found by leaving it out, and true names are about it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from saerec_ray.dictionary.sae import Floats, unit_rows
from saerec_ray.evaluation.fuzzing import ITEMS_AN_INTENT, MOST_SENTENCES, fuzzing, sentences
from saerec_ray.evaluation.intents_tables import intents_lines
from saerec_ray.intents.catalogue import Catalogue
from tests.evaluation.named_planted import catalogue, intent
from tests.evaluation.planted_dictionary import TOPICS, plant
from tests.evaluation.test_intents_part import measure

PLANTED = plant()
CODES = PLANTED.dictionary.encode(PLANTED.vectors)
TEXTS = [
    " ".join(f"Here is topic{topic}." for topic in np.flatnonzero(row)) for row in PLANTED.present
]  # three sentences each


def encode(texts: list[str]) -> Floats:
    """A text means the sum of the topics that it names, and a little of itself."""
    rows = []
    for text in texts:
        named = [int(topic) for topic in re.findall(r"topic(\d+)", text)]
        noise = 0.01 * np.random.default_rng(len(text)).normal(size=PLANTED.directions.shape[1])
        rows.append(PLANTED.directions[named].sum(axis=0) + noise)
    return unit_rows(np.asarray(rows, dtype=np.float32))


def fuzzed(
    named: Catalogue | None = None, texts: list[str] | None = None, intents: int = 8
) -> dict[str, Any]:
    return fuzzing(
        named or catalogue(), PLANTED.dictionary, CODES, PLANTED.vectors, texts or TEXTS, encode, intents, 3
    )


def test_sentences_end_with_a_stop_or_a_line() -> None:
    assert sentences("One here. Two!  Three?\nFour \n\n 5.5 oz") == [
        "One here.",
        "Two!",
        "Three?",
        "Four",
        "5.5 oz",
    ]
    assert sentences(" \n ") == []


def test_a_true_name_is_about_the_sentence_and_not_about_any_span() -> None:
    found = fuzzed()
    assert found["auc"] > 0.95
    assert found["auc_random"] < 0.75
    assert found["closer_share"] > 0.9
    assert found["intents"] == 8
    assert found["carriers"] <= 8 * ITEMS_AN_INTENT
    assert found["one_sentence"] == found["long"] == 0


def test_a_false_name_is_about_neither() -> None:
    rotated = [intent(latent, label=f"topic{(latent + 1) % TOPICS}") for latent in range(TOPICS)]
    found = fuzzed(catalogue(rotated), intents=TOPICS)
    assert found["auc"] == pytest.approx(0.5, abs=0.15)
    assert found["closer_share"] == pytest.approx(0.5, abs=0.25)


def test_texts_of_one_sentence_or_very_many_are_left_out_and_counted() -> None:
    one = [text.replace(".", ",") for text in TEXTS]
    found = fuzzed(texts=one)
    assert found["carriers"] == 0
    assert found["one_sentence"] == 8 * ITEMS_AN_INTENT
    assert "auc" not in found
    many = [text + " So it is." * MOST_SENTENCES for text in TEXTS]
    assert fuzzed(texts=many)["long"] == 8 * ITEMS_AN_INTENT
    mixed = [text if place % 2 else one[place] for place, text in enumerate(TEXTS)]
    found = fuzzed(texts=mixed)
    assert found["one_sentence"] + found["carriers"] == 8 * ITEMS_AN_INTENT
    assert min(found["one_sentence"], found["carriers"]) > 20


def test_without_published_intents_there_is_nothing_to_do() -> None:
    none = catalogue([intent(latent, state="unpublished") for latent in range(TOPICS)])
    assert fuzzed(none) == {"published": 0, "intents": 0, "carriers": 0, "one_sentence": 0, "long": 0}


def test_the_report_says_both_and_what_was_left_out() -> None:
    text = "\n".join(intents_lines(measure() | {"fuzzing": fuzzed()}))
    assert "| sentence |" in text
    assert "| random, same text |" in text
    assert "No text could be taken apart: 240 with one sentence" in "\n".join(intents_lines(measure()))
