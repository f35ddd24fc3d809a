"""Phrases of texts: which runs of words could be a name, which are counted, and how they are written."""

from __future__ import annotations

import numpy as np
import pytest

from saerec_ray.text import phrases
from saerec_ray.text.phrases import count_phrases, phrases_of, surface_forms


def test_phrases_are_runs_of_one_to_three_words_as_written() -> None:
    assert set(phrases_of("Red Nail Polish Set")) == {
        *("Red", "Nail", "Polish", "Set"),
        *("Red Nail", "Nail Polish", "Polish Set"),
        *("Red Nail Polish", "Nail Polish Set"),
    }


@pytest.mark.parametrize(
    "text", ["Nail. Polish", "Nail, Polish", "Nail (Polish)", "Nail\nPolish", "Nail - Polish"]
)
def test_phrases_do_not_cross_the_ends_of_fields_and_sentences(text: str) -> None:
    assert set(phrases_of(text)) == {"Nail", "Polish"}


def test_a_hyphen_or_apostrophe_inside_a_word_does_not_end_it() -> None:
    assert set(phrases_of("L'Oreal anti-frizz")) == {"L'Oreal", "anti-frizz", "L'Oreal anti-frizz"}


def test_stop_words_may_stand_within_a_phrase_but_not_at_its_ends() -> None:
    assert set(phrases_of("brush for men")) == {"brush", "men", "brush for men"}


def test_a_phrase_needs_three_letters() -> None:
    assert set(phrases_of("12 oz, 3 x")) == set()


def test_a_word_said_twice_makes_no_phrase_however_it_is_spelled() -> None:
    assert set(phrases_of("Lip lip")) == {"Lip", "lip"}


def test_a_phrase_counts_once_a_text_and_must_be_in_three_texts_and_in_at_most_half() -> None:
    texts = ["polish polish"] * 3 + ["razor"] * 2 + ["item"] * 95
    counts = count_phrases(texts, max_phrases=100)
    assert counts.phrases == ["polish"]
    assert counts.counts.toarray().ravel().tolist() == [1.0] * 3 + [0.0] * 97


def test_of_too_many_phrases_the_most_frequent_are_kept() -> None:
    texts = ["polish"] * 40 + ["razor"] * 30 + ["brush"] * 20 + [f"filler{place % 5}" for place in range(10)]
    counts = count_phrases(texts, max_phrases=2)
    assert counts.phrases == ["polish", "razor"]
    assert np.asarray(counts.counts.sum(axis=0)).ravel().tolist() == [40.0, 30.0]


@pytest.mark.parametrize("counters", [3, 1 << 16], ids=["that many phrases share", "of one phrase each"])
def test_of_more_texts_than_fit_into_memory_the_same_phrases_are_counted(
    monkeypatch: pytest.MonkeyPatch, counters: int
) -> None:
    words = [f"word{letter}" for letter in "abcdefghijklmnopqrst"]
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.permutation(words)[: rng.integers(0, 4)]) for _ in range(300)]
    whole = count_phrases(texts, max_phrases=1000)
    monkeypatch.setattr(phrases, "_TEXTS_AT_ONCE", 100)
    monkeypatch.setattr(phrases, "_COUNTERS", counters)
    found = count_phrases(texts, max_phrases=1000)
    assert found.phrases == whole.phrases
    assert (found.counts != whole.counts).nnz == 0
    assert len(whole.phrases) > 20


def test_phrases_of_too_few_texts_are_not_even_looked_at_where_counters_are_their_own() -> None:
    texts = ["polish"] * 3 + ["razor"] * 2
    assert phrases._without_rare(texts, minimum=3)("polish razor") == {"polish"}


@pytest.mark.parametrize("texts", [[], ["", "12 34"], ["the of and"]])
def test_texts_without_a_usable_word_have_no_phrases(texts: list[str]) -> None:
    counts = count_phrases(texts, max_phrases=100)
    assert counts.phrases == []
    assert counts.counts.shape == (len(texts), 0)


def test_a_phrase_is_shown_in_its_most_frequent_spelling() -> None:
    texts = ["OPI polish", "OPI Polish", "opi Polish", "OPI Polish"]
    assert surface_forms(["opi polish", "not there"], texts) == {
        "opi polish": "OPI Polish",
        "not there": "not there",
    }
