"""Endpoints that fail, budgets that end, runs that are killed: never in the way of a catalogue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.intents.catalogue import Catalogue
from tests.intents.planted import Planted, topic_words
from tests.intents.planted_questions import (
    LATENTS,
    TOPIC_COUNT,
    asks_for_label,
    inside,
    knows_all,
    label,
    topic_of,
)
from tests.intents.scripted_endpoint import Endpoint, Reply, Request, question


def test_a_rate_limit_that_passes_costs_nothing_but_time(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(Reply(status=429, headers=(("Retry-After", "0"),)), Reply(status=429), knows_all)
    results = label(scattered, endpoint, tmp_path)
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
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue, answer: Reply, reason: str
) -> None:
    endpoint.answer(answer)
    # What is answered at all may take its time: only of silence is no more to be had.
    limit = {"timeout_seconds": 0.1} if reason.endswith("0.1 seconds") else {}
    results = label(scattered, endpoint, tmp_path, **limit)
    assert results.catalogue == statistical
    told = results.summary["language_model"]
    assert (told["asked"], told["accepted"], told["failed"]) == (LATENTS, 0, LATENTS)
    assert sum(told["reasons"].values()) == LATENTS
    assert all(reason in each for each in told["reasons"])
    (sentence,) = results.sentences
    assert f"{LATENTS} without an answer" in sentence
    assert reason in sentence
    assert "Intents without an answer keep their statistical labels. Run the stage with --force" in sentence


def test_an_endpoint_that_is_down_does_too(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    endpoint.stop()
    results = label(scattered, endpoint, tmp_path)
    assert results.catalogue == statistical
    assert "refuses connections" in results.sentences[0]
    assert results.summary["language_model"]["calls"] == 12  # three questions, four tries each


def test_an_endpoint_that_talks_nonsense_does_too(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    endpoint.answer(
        lambda request: Reply(
            ["", "I cannot help with that.", inside(request)[0]][len(endpoint.requests) % 3]
        )
    )
    results = label(scattered, endpoint, tmp_path)
    assert results.catalogue == statistical
    told = results.summary["language_model"]
    assert (told["nonsense"], told["dropped_answers"], told["failed"]) == (LATENTS, 3 * LATENTS, 0)
    assert f"{LATENTS} without a usable answer" in results.sentences[0]


def test_one_good_answer_among_failures_and_nonsense_is_enough(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    def moody(request: Request) -> Reply:
        if not asks_for_label(request):
            return Reply("intent")
        return [Reply(status=400), Reply("As an AI, I cannot"), knows_all(request)][
            len(endpoint.requests) % 3
        ]

    endpoint.answer(moody)
    results = label(scattered, endpoint, tmp_path)
    assert results.summary["language_model"]["accepted"] >= TOPIC_COUNT - 1
    assert results.summary["language_model"]["failed"] == 0
    assert results.summary["language_model"]["failed_questions"]["the endpoint answered 400"] > 0
    assert results.summary["language_model"]["fewer_candidates"] == {"the endpoint answered 400": LATENTS}
    assert f", {LATENTS} with fewer candidates than asked for" in results.sentences[0]


def test_a_label_chosen_among_fewer_candidates_than_asked_for_is_told_and_another_run_asks_the_rest(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    """The best answer may be the one that is missing."""
    asked: Counter[str] = Counter()

    def only_the_first(request: Request) -> Reply:
        if not asks_for_label(request):
            return Reply("intent")
        asked[question(request)] += 1
        if asked[question(request)] > 1:
            return Reply(status=400)
        return Reply(topic_words(topic_of(inside(request))).split()[0])

    endpoint.answer(only_the_first)
    first = label(scattered, endpoint, tmp_path)
    told = first.summary["language_model"]
    assert (told["failed"], told["reasons"]) == (0, {})
    assert told["fewer_candidates"] == {"the endpoint answered 400": LATENTS}
    assert (
        f", {LATENTS} with fewer candidates than asked for ({LATENTS}: the endpoint answered 400). Run the stage with "
        "--force to ask again: answers are kept, so only what is missing is asked."
    ) in first.sentences[0]
    sent = len(endpoint.requests)
    endpoint.answer(knows_all)
    second = label(scattered, endpoint, tmp_path)
    told = second.summary["language_model"]
    assert told["fewer_candidates"] == {}
    assert "--force" not in second.sentences[0]
    missing = [each for each in endpoint.requests[sent:] if asks_for_label(each)]
    assert len(missing) == 2 * LATENTS
    for topic in range(TOPIC_COUNT):
        assert second.catalogue.intents[topic].label == topic_words(topic)


def test_a_used_up_budget_has_gone_to_the_most_active_intents(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    endpoint.answer(knows_all)
    results = label(scattered, endpoint, tmp_path, max_calls=11)  # five a topic: two topics and a candidate
    assert len(endpoint.requests) == 11
    mass = np.asarray(scattered.codes.sum(axis=0)).ravel()
    noise = set(range(TOPIC_COUNT, LATENTS))
    asked = [int(latent) for latent in np.argsort(-mass)[:LATENTS]]
    by_model = [intent.latent for intent in results.catalogue.intents if intent.label_source == "model"]
    assert 1 <= len(by_model) <= 3
    assert set(by_model) <= set(asked[:4]) - noise
    for intent, before in zip(results.catalogue.intents, statistical.intents, strict=True):
        assert intent.latent in by_model or intent.model_copy(update={"kind": "unknown"}) == before
    assert "the budget of 11 calls is used up" in results.sentences[0]


def test_a_second_run_asks_nothing_and_gives_the_same_catalogue(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    first = label(scattered, endpoint, tmp_path)
    sent = len(endpoint.requests)
    endpoint.answer(Reply(status=500))
    second = label(scattered, endpoint, tmp_path)
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
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
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
    resumed = label(scattered, endpoint, tmp_path)
    assert resumed.summary["language_model"]["cached_answers"] == 7
    with Endpoint() as untouched:
        untouched.answer(knows_all)
        at_once = label(scattered, untouched, tmp_path / "other")
        assert resumed.catalogue == at_once.catalogue
        # The one question whose answer the kill cut off is asked again, no other.
        assert len(endpoint.requests) == len(untouched.requests) + 1
