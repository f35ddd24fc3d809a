"""What a language model takes an intent for: two answers that agree decide, and nuisance is hidden."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from saerec_ray.intents.catalogue import Catalogue
from tests.intents.planted import Planted
from tests.intents.planted_questions import (
    TOPIC_COUNT,
    about_plain_group,
    asks_for_label,
    knows_all,
    label,
)
from tests.intents.scripted_endpoint import Endpoint, Reply, Request, question


def test_what_the_model_takes_for_nuisance_is_hidden_and_told(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    def first_is_nuisance(request: Request) -> Reply:
        if asks_for_label(request):
            return Reply("deluxe pocket travel")
        return Reply("nuisance" if statistical.intents[0].label in question(request) else "intent")

    endpoint.answer(first_is_nuisance)
    results = label(scattered, endpoint, tmp_path)
    intent = results.catalogue.intents[0]
    assert statistical.intents[0].published
    assert (intent.kind, intent.state, intent.steerable) == ("nuisance", "unpublished", False)
    assert intent.verdict == "nuisance: a language model takes it for an accident of the texts"
    assert results.summary["nuisance"] == 1
    assert any(intent.intent_id in sentence for sentence in results.sentences)
    others = [each for each in results.catalogue.intents if each.published]
    assert {each.kind for each in others} == {"intent"}
    assert len(others) == sum(each.published for each in statistical.intents) - 1


@pytest.mark.parametrize(
    "of_plain_groups",
    [["nuisance"], ["intent"] * 2 + ["nuisance"], ["property", "intent", "nuisance"], ["what?"]],
    ids=["always", "of one of three", "unsure", "no answer of use"],
)
def test_a_model_that_takes_plain_groups_for_nuisance_too_hides_nothing(
    scattered: Planted,
    endpoint: Endpoint,
    tmp_path: Path,
    statistical: Catalogue,
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
    results = label(scattered, endpoint, tmp_path)
    assert results.catalogue == statistical  # every kind is unknown there
    published = sum(intent.published for intent in statistical.intents)
    told = results.summary["language_model"]
    assert (told["disbelieved_nuisance"], told["kinds"]) == (published, {"unknown": published})
    assert f"It called {published} nuisance. That is not believed, and hides none" in results.sentences[0]
    assert 2 <= len(said) <= 9  # asked once, not for every intent


def test_a_model_is_asked_about_plain_groups_only_when_it_calls_an_intent_nuisance(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    label(scattered, endpoint, tmp_path)
    assert not any(about_plain_group(each) for each in endpoint.requests)


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
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, votes: list[str], kind: str, calls: int
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
    results = label(scattered, endpoint, tmp_path)
    assert {intent.kind for intent in results.catalogue.intents[:TOPIC_COUNT]} == {kind}
    assert set(asked.values()) == {calls}
    assert ("the kind of" in results.sentences[0]) == (kind == "unknown")
