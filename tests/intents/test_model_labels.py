"""Labels by a language model: taken where they find held-out items better than the statistical ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.detection import split_halves
from saerec_ray.intents.language_model import LanguageModel
from tests.intents.planted import Planted, topic_words
from tests.intents.planted_questions import (
    LATENTS,
    SEED,
    TOPIC_COUNT,
    asks_for_label,
    inside,
    knows_all,
    label,
    outside,
    settings_of,
    topic_of,
)
from tests.intents.scripted_endpoint import Endpoint, Reply, Request, question


def test_labels_that_find_held_out_items_better_are_taken(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    endpoint.answer(knows_all)
    results = label(scattered, endpoint, tmp_path)
    for topic in range(TOPIC_COUNT):
        intent, before = results.catalogue.intents[topic], statistical.intents[topic]
        assert (intent.label, intent.label_source, intent.kind) == (topic_words(topic), "model", "intent")
        assert intent.detection_auc is not None
        assert before.detection_auc is not None
        assert intent.detection_auc > max(before.detection_auc, 0.9)
        assert intent.published
        assert intent.terms == before.terms
        assert topic_words(topic) in intent.description
    told = results.summary["language_model"]
    assert (told["asked"], told["accepted"], told["failed"]) == (LATENTS, TOPIC_COUNT, 0)
    assert results.sentences[0].startswith(
        f"Labels by small: {LATENTS} intents asked, {TOPIC_COUNT} accepted"
    )
    assert results.catalogue.intents_version != statistical.intents_version


def test_text_search_and_the_control_go_by_the_new_labels(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    from tests.intents.planted import encode

    endpoint.answer(knows_all)
    results = label(scattered, endpoint, tmp_path)
    first = results.catalogue.intents[0]
    np.testing.assert_allclose(
        results.label_vectors[0], encode([". ".join([first.label, *first.terms])])[0], atol=1e-6
    )
    assert results.summary["detection_auc_shuffled"] < 0.7
    assert results.summary["detection_auc_mean_published"] > 0.9


def test_without_a_language_model_nothing_is_asked_and_no_kind_is_known(statistical: Catalogue) -> None:
    assert {intent.label_source for intent in statistical.intents} == {"terms"}
    assert {intent.kind for intent in statistical.intents} == {"unknown"}


def test_the_question_shows_ten_items_over_the_tenths_and_ten_others_half_of_them_near(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    label(scattered, endpoint, tmp_path)
    texts, half = scattered.items.texts, split_halves(len(scattered.items), SEED)[0]
    seen = set(half.tolist())
    items_of: dict[str, list[int]] = {}
    for item, text in enumerate(texts):
        items_of.setdefault(text, []).append(item)
    for request in filter(asks_for_label, endpoint.requests):
        assert len(inside(request)) == len(outside(request)) == 10
        for text in inside(request) + outside(request):
            assert seen & set(
                items_of[text]
            )  # from the naming half: the judging half is kept for the verdict
    first = next(r for r in endpoint.requests if asks_for_label(r) and topic_of(inside(r)) == 0)
    dense = scattered.codes.toarray()[:, 0]
    active = half[dense[half] > 0]
    tenths = np.array_split(active[np.argsort(-dense[active], kind="stable")], 10)
    assert all({texts[item] for item in tenth} & set(inside(first)) for tenth in tenths)
    rest = half[dense[half] == 0]
    centre = dense[active] @ scattered.embeddings[active]
    near = rest[np.argsort(-(scattered.embeddings[rest] @ centre), kind="stable")[:5]]
    assert {texts[item] for item in near} <= set(outside(first))


def test_of_three_candidates_the_one_that_finds_items_best_is_taken_however_sure_the_others_sound(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    asked: Counter[str] = Counter()

    def three(request: Request) -> Reply:
        if not asks_for_label(request):
            return Reply("property")
        topic, number = topic_of(inside(request)), asked[question(request)]
        asked[question(request)] += 1
        return Reply(["daily deluxe 100% sure", topic_words(topic), topic_words(topic).split()[0]][number])

    endpoint.answer(three)
    results = label(scattered, endpoint, tmp_path)
    assert set(asked.values()) == {3}
    for topic, intent in enumerate(results.catalogue.intents[:TOPIC_COUNT]):
        assert (intent.label, intent.kind) == (topic_words(topic), "item property")


def test_as_many_candidates_are_asked_as_configured_and_at_that_temperature(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    label(scattered, endpoint, tmp_path, candidates=5, temperature=0.9)
    counts = Counter(question(each) for each in endpoint.requests if asks_for_label(each))
    assert set(counts.values()) == {5}
    assert {each["temperature"] for each in endpoint.requests} == {0.9}


def without_kinds(catalogue: Catalogue) -> list[dict[str, Any]]:
    return [intent.model_dump(exclude={"kind"}) for intent in catalogue.intents]


def test_labels_that_are_no_better_leave_the_statistical_ones(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    endpoint.answer(lambda request: Reply("deluxe pocket travel" if asks_for_label(request) else "property"))
    results = label(scattered, endpoint, tmp_path)
    assert without_kinds(results.catalogue) == without_kinds(statistical)
    told = results.summary["language_model"]
    assert (told["accepted"], told["no_better"]) == (0, LATENTS)
    published = [intent for intent in results.catalogue.intents if intent.published]
    assert {intent.kind for intent in published} == {"item property"}
    assert told["kinds"] == {"item property": len(published)}


def test_a_label_better_than_a_bad_one_but_below_the_gate_is_not_taken(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    config = settings_of(endpoint).model_copy(update={"min_detection_auc": 1.0})
    assert config.language_model is not None
    model = LanguageModel(config.language_model, tmp_path, {})
    results = scattered.results(config, seed=SEED, language_model=model)
    for intent in results.catalogue.intents:
        assert intent.label_source == "terms" or intent.detection_auc == 1.0
        assert intent.published == (intent.detection_auc == 1.0)


def test_latents_that_fail_other_gates_are_not_asked_about(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    config = settings_of(endpoint).model_copy(update={"max_density": 0.105})  # each topic is active on 11%
    assert config.language_model is not None
    model = LanguageModel(config.language_model, tmp_path, {})
    scattered.results(config, seed=SEED, language_model=model)
    asked = {question(each) for each in endpoint.requests if asks_for_label(each)}
    carriers = np.diff(scattered.codes.tocsc().indptr)
    assert (
        len(asked)
        == sum(carriers / len(scattered.items) * (carriers / len(scattered.items) <= 0.105) > 0)
        == 1
    )
    assert all(
        len({topic_of([text]) for text in inside(each)}) > 1 for each in endpoint.requests
    )  # the noise


def test_latents_that_other_seeds_do_not_find_again_are_not_asked_about(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    config = settings_of(endpoint)
    assert config.language_model is not None
    values = np.zeros(scattered.codes.shape[1], dtype=np.float32)
    values[2] = 0.8
    model = LanguageModel(config.language_model, tmp_path, {})
    scattered.results(config, seed=SEED, language_model=model, stability=values)
    assert len({question(each) for each in endpoint.requests if asks_for_label(each)}) == 1


def test_completions_mode_labels_as_well(scattered: Planted, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.answer(
        lambda request: Reply(
            f" {topic_words(topic_of(inside(request)))}" if asks_for_label(request) else " intent"
        )
    )
    results = label(scattered, endpoint, tmp_path, mode="completions")
    assert results.summary["language_model"]["accepted"] == TOPIC_COUNT
    assert set(endpoint.paths) == {"/v1/completions"}
