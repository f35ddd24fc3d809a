"""Labels by a language model: taken where they find held-out items better, and never in the way of a catalogue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.config import IntentsConfig
from saerec_ray.intents.build import Results
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.detection import split_halves
from saerec_ray.intents.label_prompts import PLAIN_GROUPS
from saerec_ray.intents.language_model import LanguageModel
from tests.intents.planted import TOPICS, Planted, plant, topic_words
from tests.intents.scripted_endpoint import Endpoint, Reply, Request, question

TOPIC_COUNT = len(TOPICS)
LATENTS = TOPIC_COUNT + 2
"""The topics, and the two of noise; the latent that is never active is not worth asking about."""
SEED = 5


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(attributes=False, scattered=True)


@pytest.fixture(scope="module")
def by_statistics(planted: Planted) -> Catalogue:
    return planted.build(seed=SEED)[0]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running


def asks_for_label(request: Request) -> bool:
    return question(request).startswith("Inside the group:")


def inside(request: Request) -> list[str]:
    part = question(request).partition("Outside the group:")[0]
    return [line.removeprefix("- ") for line in part.splitlines() if line.startswith("- ")]


def outside(request: Request) -> list[str]:
    return [
        line.removeprefix("- ")
        for line in question(request).partition("Outside the group:")[2].split("\n")
        if line
    ]


def topic_of(texts: list[str]) -> int:
    """The topic that most of the words belong to."""
    said = Counter(word for text in texts for word in text.replace(",", " ").split())
    return int(
        np.argmax([sum(said[word] for word in topic_words(topic).split()) for topic in range(TOPIC_COUNT)])
    )


def knows_all(request: Request) -> Reply:
    """A model that names every topic as well as can be, and takes all for intents."""
    return Reply(topic_words(topic_of(inside(request))) if asks_for_label(request) else "intent")


def about_plain_group(request: Request) -> bool:
    return any(f"Name of the group: {label}\n" in question(request) for label, _ in PLAIN_GROUPS)


def settings_of(endpoint: Endpoint, **settings: Any) -> IntentsConfig:
    section = {"base_url": endpoint.base_url, "model": "small", "timeout_seconds": 5.0} | settings
    return IntentsConfig.model_validate({"language_model": section})


def label(planted: Planted, endpoint: Endpoint, folder: Path, **settings: Any) -> Results:
    config = settings_of(endpoint, **settings)
    assert config.language_model is not None
    model = LanguageModel(config.language_model, folder, {}, first_wait=0.001)
    return planted.results(config, seed=SEED, language_model=model)


def test_labels_that_find_held_out_items_better_are_taken(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, by_statistics: Catalogue
) -> None:
    endpoint.answer(knows_all)
    results = label(planted, endpoint, tmp_path)
    for topic in range(TOPIC_COUNT):
        intent, before = results.catalogue.intents[topic], by_statistics.intents[topic]
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
    assert results.catalogue.intents_version != by_statistics.intents_version


def test_text_search_and_the_control_go_by_the_new_labels(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, by_statistics: Catalogue
) -> None:
    from tests.intents.planted import encode

    endpoint.answer(knows_all)
    results = label(planted, endpoint, tmp_path)
    first = results.catalogue.intents[0]
    np.testing.assert_allclose(
        results.label_vectors[0], encode([". ".join([first.label, *first.terms])])[0], atol=1e-6
    )
    assert results.summary["detection_auc_shuffled"] < 0.7
    assert results.summary["detection_auc_mean_published"] > 0.9


def test_without_a_language_model_nothing_is_asked_and_no_kind_is_known(by_statistics: Catalogue) -> None:
    assert {intent.label_source for intent in by_statistics.intents} == {"terms"}
    assert {intent.kind for intent in by_statistics.intents} == {"unknown"}


def test_the_question_shows_ten_items_over_the_tenths_and_ten_others_half_of_them_near(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    label(planted, endpoint, tmp_path)
    texts, half = planted.items.texts, split_halves(len(planted.items), SEED)[0]
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
    dense = planted.codes.toarray()[:, 0]
    active = half[dense[half] > 0]
    tenths = np.array_split(active[np.argsort(-dense[active], kind="stable")], 10)
    assert all({texts[item] for item in tenth} & set(inside(first)) for tenth in tenths)
    rest = half[dense[half] == 0]
    centre = dense[active] @ planted.embeddings[active]
    near = rest[np.argsort(-(planted.embeddings[rest] @ centre), kind="stable")[:5]]
    assert {texts[item] for item in near} <= set(outside(first))


def test_of_three_candidates_the_one_that_finds_items_best_is_taken_however_sure_the_others_sound(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    asked: Counter[str] = Counter()

    def three(request: Request) -> Reply:
        if not asks_for_label(request):
            return Reply("property")
        topic, number = topic_of(inside(request)), asked[question(request)]
        asked[question(request)] += 1
        return Reply(["daily deluxe 100% sure", topic_words(topic), topic_words(topic).split()[0]][number])

    endpoint.answer(three)
    results = label(planted, endpoint, tmp_path)
    assert set(asked.values()) == {3}
    for topic, intent in enumerate(results.catalogue.intents[:TOPIC_COUNT]):
        assert (intent.label, intent.kind) == (topic_words(topic), "item property")


def test_as_many_candidates_are_asked_as_configured_and_at_that_temperature(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    label(planted, endpoint, tmp_path, candidates=5, temperature=0.9)
    counts = Counter(question(each) for each in endpoint.requests if asks_for_label(each))
    assert set(counts.values()) == {5}
    assert {each["temperature"] for each in endpoint.requests} == {0.9}


def without_kinds(catalogue: Catalogue) -> list[dict[str, Any]]:
    return [intent.model_dump(exclude={"kind"}) for intent in catalogue.intents]


def test_labels_that_are_no_better_leave_the_statistical_ones(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, by_statistics: Catalogue
) -> None:
    endpoint.answer(lambda request: Reply("deluxe pocket travel" if asks_for_label(request) else "property"))
    results = label(planted, endpoint, tmp_path)
    assert without_kinds(results.catalogue) == without_kinds(by_statistics)
    told = results.summary["language_model"]
    assert (told["accepted"], told["no_better"]) == (0, LATENTS)
    published = [intent for intent in results.catalogue.intents if intent.published]
    assert {intent.kind for intent in published} == {"item property"}
    assert told["kinds"] == {"item property": len(published)}


def test_what_the_model_takes_for_nuisance_is_hidden_and_told(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, by_statistics: Catalogue
) -> None:
    def first_is_nuisance(request: Request) -> Reply:
        if asks_for_label(request):
            return Reply("deluxe pocket travel")
        return Reply("nuisance" if by_statistics.intents[0].label in question(request) else "intent")

    endpoint.answer(first_is_nuisance)
    results = label(planted, endpoint, tmp_path)
    intent = results.catalogue.intents[0]
    assert by_statistics.intents[0].published
    assert (intent.kind, intent.state, intent.steerable) == ("nuisance", "unpublished", False)
    assert intent.verdict == "nuisance: a language model takes it for an accident of the texts"
    assert results.summary["nuisance"] == 1
    assert any(intent.intent_id in sentence for sentence in results.sentences)
    others = [each for each in results.catalogue.intents if each.published]
    assert {each.kind for each in others} == {"intent"}
    assert len(others) == sum(each.published for each in by_statistics.intents) - 1


@pytest.mark.parametrize(
    "of_plain_groups",
    [["nuisance"], ["intent"] * 2 + ["nuisance"], ["property", "intent", "nuisance"], ["what?"]],
    ids=["always", "of one of three", "unsure", "no answer of use"],
)
def test_a_model_that_takes_plain_groups_for_nuisance_too_hides_nothing(
    planted: Planted,
    endpoint: Endpoint,
    tmp_path: Path,
    by_statistics: Catalogue,
    of_plain_groups: list[str],
) -> None:
    said: list[str] = []

    def cries_nuisance(request: Request) -> Reply:
        if asks_for_label(request):
            return Reply("deluxe pocket travel")
        if not about_plain_group(request):
            return Reply("nuisance")
        said.append(of_plain_groups[min(len(said), len(of_plain_groups) - 1)])
        return Reply(said[-1])

    endpoint.answer(cries_nuisance)
    results = label(planted, endpoint, tmp_path)
    assert results.catalogue == by_statistics  # every kind is unknown there
    published = sum(intent.published for intent in by_statistics.intents)
    told = results.summary["language_model"]
    assert (told["disbelieved_nuisance"], told["kinds"]) == (published, {"unknown": published})
    assert f"It called {published} nuisance. That is not believed, and hides none" in results.sentences[0]
    assert 2 <= len(said) <= 9  # asked once, not for every intent


def test_a_model_is_asked_about_plain_groups_only_when_it_calls_an_intent_nuisance(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    label(planted, endpoint, tmp_path)
    assert not any(about_plain_group(each) for each in endpoint.requests)


def test_a_label_better_than_a_bad_one_but_below_the_gate_is_not_taken(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    config = settings_of(endpoint).model_copy(update={"min_detection_auc": 1.0})
    assert config.language_model is not None
    model = LanguageModel(config.language_model, tmp_path, {})
    results = planted.results(config, seed=SEED, language_model=model)
    for intent in results.catalogue.intents:
        assert intent.label_source == "terms" or intent.detection_auc == 1.0
        assert intent.published == (intent.detection_auc == 1.0)


def test_latents_that_fail_other_gates_are_not_asked_about(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    config = settings_of(endpoint).model_copy(update={"max_density": 0.105})  # each topic is active on 11%
    assert config.language_model is not None
    model = LanguageModel(config.language_model, tmp_path, {})
    planted.results(config, seed=SEED, language_model=model)
    asked = {question(each) for each in endpoint.requests if asks_for_label(each)}
    carriers = np.diff(planted.codes.tocsc().indptr)
    assert (
        len(asked) == sum(carriers / len(planted.items) * (carriers / len(planted.items) <= 0.105) > 0) == 1
    )
    assert all(
        len({topic_of([text]) for text in inside(each)}) > 1 for each in endpoint.requests
    )  # the noise


def test_latents_that_other_seeds_do_not_find_again_are_not_asked_about(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    config = settings_of(endpoint)
    assert config.language_model is not None
    values = np.zeros(planted.codes.shape[1], dtype=np.float32)
    values[2] = 0.8
    model = LanguageModel(config.language_model, tmp_path, {})
    planted.results(config, seed=SEED, language_model=model, stability=values)
    assert len({question(each) for each in endpoint.requests if asks_for_label(each)}) == 1


def test_completions_mode_labels_as_well(planted: Planted, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.answer(
        lambda request: Reply(
            f" {topic_words(topic_of(inside(request)))}" if asks_for_label(request) else " intent"
        )
    )
    results = label(planted, endpoint, tmp_path, mode="completions")
    assert results.summary["language_model"]["accepted"] == TOPIC_COUNT
    assert set(endpoint.paths) == {"/v1/completions"}


def test_a_rate_limit_that_passes_costs_nothing_but_time(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(Reply(status=429, headers=(("Retry-After", "0"),)), Reply(status=429), knows_all)
    results = label(planted, endpoint, tmp_path)
    assert results.summary["language_model"]["accepted"] == TOPIC_COUNT
    assert results.summary["language_model"]["failed"] == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Reply(status=500), "the endpoint answered 500"),
        (
            Reply(status=429, headers=(("Retry-After", "900"),)),
            "the endpoint answered 429 and asks to wait 900 seconds",
        ),
        (Reply("late", seconds=20), "no answer within 0.1 seconds"),
        (Reply(status=401), "the endpoint answered 401: it refuses the key"),
        (Reply(body=b"<html>"), "the answer is not JSON of the OpenAI kind"),
    ],
    ids=["errors", "rate limit", "silence", "wrong key", "no model"],
)
def test_an_endpoint_that_fails_leaves_the_statistical_catalogue_and_says_what_is_missing(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, by_statistics: Catalogue, answer: Reply, reason: str
) -> None:
    endpoint.answer(answer)
    results = label(planted, endpoint, tmp_path, timeout_seconds=0.1)
    assert results.catalogue == by_statistics
    told = results.summary["language_model"]
    assert (told["asked"], told["accepted"], told["failed"]) == (LATENTS, 0, LATENTS)
    assert sum(told["reasons"].values()) == LATENTS
    assert all(reason in each for each in told["reasons"])
    (sentence,) = results.sentences
    assert f"{LATENTS} without an answer" in sentence
    assert reason in sentence
    assert "They keep their statistical labels; run the stage with --force to ask again." in sentence


def test_an_endpoint_that_is_down_does_too(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, by_statistics: Catalogue
) -> None:
    endpoint.stop()
    results = label(planted, endpoint, tmp_path)
    assert results.catalogue == by_statistics
    assert "refuses connections" in results.sentences[0]
    assert results.summary["language_model"]["calls"] == 12  # three questions, four tries each


def test_an_endpoint_that_talks_nonsense_does_too(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, by_statistics: Catalogue
) -> None:
    endpoint.answer(
        lambda request: Reply(
            ["", "I cannot help with that.", inside(request)[0]][len(endpoint.requests) % 3]
        )
    )
    results = label(planted, endpoint, tmp_path)
    assert results.catalogue == by_statistics
    told = results.summary["language_model"]
    assert (told["nonsense"], told["dropped_answers"], told["failed"]) == (LATENTS, 3 * LATENTS, 0)
    assert f"{LATENTS} without a usable answer" in results.sentences[0]


def test_one_good_answer_among_failures_and_nonsense_is_enough(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    def moody(request: Request) -> Reply:
        if not asks_for_label(request):
            return Reply("intent")
        return [Reply(status=400), Reply("As an AI, I cannot"), knows_all(request)][
            len(endpoint.requests) % 3
        ]

    endpoint.answer(moody)
    results = label(planted, endpoint, tmp_path)
    assert results.summary["language_model"]["accepted"] >= TOPIC_COUNT - 1
    assert results.summary["language_model"]["failed"] == 0
    assert results.summary["language_model"]["failed_questions"]["the endpoint answered 400"] > 0


def test_a_used_up_budget_has_gone_to_the_most_active_intents(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, by_statistics: Catalogue
) -> None:
    endpoint.answer(knows_all)
    results = label(planted, endpoint, tmp_path, max_calls=11)  # five a topic: two topics and a candidate
    assert len(endpoint.requests) == 11
    mass = np.asarray(planted.codes.sum(axis=0)).ravel()
    noise = set(range(TOPIC_COUNT, LATENTS))
    asked = [int(latent) for latent in np.argsort(-mass)[:LATENTS]]
    by_model = [intent.latent for intent in results.catalogue.intents if intent.label_source == "model"]
    assert 1 <= len(by_model) <= 3
    assert set(by_model) <= set(asked[:4]) - noise
    for intent, before in zip(results.catalogue.intents, by_statistics.intents, strict=True):
        assert intent.latent in by_model or intent.model_copy(update={"kind": "unknown"}) == before
    assert "the budget of 11 calls is used up" in results.sentences[0]


@pytest.mark.parametrize(
    ("votes", "kind", "calls"),
    [
        (["intent", "intent", "nuisance"], "intent", 2),
        (["intent", "nuisance", "nuisance"], "nuisance", 3),
        (["intent", "nuisance", "property"], "unknown", 3),
        (["what?", "property", "property"], "item property", 3),
        (["what?", "intent", "or property?"], "unknown", 3),
    ],
)
def test_the_kind_is_what_two_of_three_answers_say(
    planted: Planted, endpoint: Endpoint, tmp_path: Path, votes: list[str], kind: str, calls: int
) -> None:
    asked: Counter[str] = Counter()

    def votes_in_turn(request: Request) -> Reply:
        if asks_for_label(request):
            return knows_all(request)
        if about_plain_group(request):
            return Reply("intent")
        asked[question(request)] += 1
        return Reply(votes[asked[question(request)] - 1])

    endpoint.answer(votes_in_turn)
    results = label(planted, endpoint, tmp_path)
    assert {intent.kind for intent in results.catalogue.intents[:TOPIC_COUNT]} == {kind}
    assert set(asked.values()) == {calls}
    assert ("the kind of" in results.sentences[0]) == (kind == "unknown")


def test_a_second_run_asks_nothing_and_gives_the_same_catalogue(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    first = label(planted, endpoint, tmp_path)
    sent = len(endpoint.requests)
    endpoint.answer(Reply(status=500))
    second = label(planted, endpoint, tmp_path)
    assert second.catalogue == first.catalogue
    assert len(endpoint.requests) == sent
    assert second.summary["language_model"]["calls"] == 0


PROCESS = """
import sys
from pathlib import Path
from saerec_ray.config import IntentsConfig
from saerec_ray.intents.language_model import LanguageModel
from tests.intents.planted import plant

config = IntentsConfig.model_validate({"language_model": {"base_url": sys.argv[1], "model": "small"}})
model = LanguageModel(config.language_model, Path(sys.argv[2]), {})
plant(attributes=False, scattered=True).results(config, seed=5, language_model=model)
"""


def test_a_killed_run_goes_on_where_it_was_and_asks_no_question_twice(
    planted: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    process: list[subprocess.Popen[bytes]] = []

    def kills_at_the_eighth(request: Request) -> Reply:
        if len(endpoint.requests) == 8:
            process[0].send_signal(signal.SIGKILL)
            process[0].wait()
        return knows_all(request)

    endpoint.answer(kills_at_the_eighth)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROCESS, endpoint.base_url, str(tmp_path)]
    process.append(subprocess.Popen(command, env=environment))
    assert process[0].wait(timeout=120) == -signal.SIGKILL
    assert len(endpoint.requests) == 8
    endpoint.answer(knows_all)
    resumed = label(planted, endpoint, tmp_path)
    assert resumed.summary["language_model"]["cached_answers"] == 7
    with Endpoint() as untouched:
        untouched.answer(knows_all)
        at_once = label(planted, untouched, tmp_path / "other")
        assert resumed.catalogue == at_once.catalogue
        # The one question whose answer the kill cut off is asked again, no other.
        assert len(endpoint.requests) == len(untouched.requests) + 1
