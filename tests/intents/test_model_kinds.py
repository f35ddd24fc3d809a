"""What a language model takes an intent for: two answers that agree decide, and nuisance is hidden."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.label_prompts import ACCIDENTAL_GROUPS, PLAIN_GROUPS
from saerec_ray.intents.model_labels import VOTES
from tests.intents.planted import Planted
from tests.intents.planted_questions import (
    TOPIC_COUNT,
    about_known_group,
    asks_for_label,
    kind_of_known_group,
    knows_all,
    label,
    names_one_of,
)
from tests.intents.scripted_endpoint import Endpoint, Reply, Request, question


def test_what_the_model_takes_for_nuisance_is_hidden_and_told(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    def first_is_nuisance(request: Request) -> Reply:
        if asks_for_label(request):
            return Reply("deluxe pocket travel")
        if about_known_group(request):
            return kind_of_known_group(request)
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
    ("plain", "accidental"),
    [
        (["nuisance"], ["nuisance"]),
        (["intent"] * 10 + ["nuisance"], ["nuisance"]),
        (["intent"] * 2 + ["property", "intent", "nuisance"] + ["intent"] * 20, ["nuisance"]),
        (["what?"], ["nuisance"]),
        (["intent"], ["property"]),
        (["intent"], ["nuisance"] * 2 + ["property"]),
        (["property"], ["what?"]),
    ],
    ids=[
        "all nuisance",
        "one plain group nuisance",
        "unsure of one plain group",
        "no answer of use",
        "no nuisance found",
        "one of three found",
        "no answer of use on nuisance",
    ],
)
def test_a_model_that_cannot_tell_nuisance_hides_nothing(
    scattered: Planted,
    endpoint: Endpoint,
    tmp_path: Path,
    statistical: Catalogue,
    plain: list[str],
    accidental: list[str],
) -> None:
    """The answers on either side in turn; the last one is repeated."""
    said: dict[bool, int] = {True: 0, False: 0}

    def cries_nuisance(request: Request) -> Reply:
        if asks_for_label(request):
            return Reply("deluxe pocket travel")
        if not about_known_group(request):
            return Reply("nuisance")
        known = names_one_of(PLAIN_GROUPS, request)
        answers = plain if known else accidental
        said[known] += 1
        return Reply(answers[min(said[known], len(answers)) - 1])

    endpoint.answer(cries_nuisance)
    results = label(scattered, endpoint, tmp_path)
    assert results.catalogue == statistical  # every kind is unknown there
    published = sum(intent.published for intent in statistical.intents)
    told = results.summary["language_model"]
    assert (told["disbelieved_nuisance"], told["kinds"]) == (published, {"unknown": published})
    assert f"It called {published} nuisance. That is not believed, and hides none" in results.sentences[0]
    # Once for the whole catalogue, not for every intent.
    assert 2 <= sum(said.values()) <= VOTES * len(PLAIN_GROUPS + ACCIDENTAL_GROUPS)


def test_a_model_that_finds_two_of_three_accidental_groups_is_believed(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    missed = ACCIDENTAL_GROUPS[1:2]

    def finds_two(request: Request) -> Reply:
        if asks_for_label(request):
            return Reply("deluxe pocket travel")
        if about_known_group(request):
            return Reply("property") if names_one_of(missed, request) else kind_of_known_group(request)
        return Reply("nuisance")

    endpoint.answer(finds_two)
    told = label(scattered, endpoint, tmp_path).summary["language_model"]
    published = sum(intent.published for intent in statistical.intents)
    assert (told["disbelieved_nuisance"], told["kinds"]) == (0, {"nuisance": published})


def calls_all_nuisance(request: Request) -> Reply:
    """Every intent of the catalogue, and of the known groups those that are."""
    if asks_for_label(request):
        return Reply("deluxe pocket travel")
    return kind_of_known_group(request) if about_known_group(request) else Reply("nuisance")


def test_a_model_that_dies_while_it_is_checked_is_not_called_unable_to_tell_nuisance(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    """Silence says nothing about a model: nothing is hidden, the reason is told, and another run asks again."""

    def dies(request: Request) -> Reply:
        return Reply(status=401) if about_known_group(request) else calls_all_nuisance(request)

    endpoint.answer(dies)
    results = label(scattered, endpoint, tmp_path)
    assert [each.state for each in results.catalogue.intents] == [each.state for each in statistical.intents]
    assert {each.kind for each in results.catalogue.intents} == {"unknown"}
    told = results.summary["language_model"]
    assert told["disbelieved_nuisance"] == 0
    assert told["unchecked_nuisance"] == {"the endpoint answered 401: it refuses the key": 1}
    (sentence,) = results.sentences
    assert "That is not believed" not in sentence
    assert (
        "It called 1 nuisance, which hides none so far: whether it can tell nuisance is not known" in sentence
    )
    assert "(1: the endpoint answered 401: it refuses the key)" in sentence
    assert "Run the stage with --force to ask again" in sentence
    endpoint.answer(calls_all_nuisance)
    told = label(scattered, endpoint, tmp_path).summary["language_model"]
    published = sum(intent.published for intent in statistical.intents)
    assert (told["kinds"], told["unchecked_nuisance"]) == ({"nuisance": published}, {})


def test_a_check_with_too_few_answers_is_made_once_a_run_and_counts_for_all(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    asked: Counter[str] = Counter()

    def refuses_two_of_three(request: Request) -> Reply:
        asked[question(request)] += 1
        silent = names_one_of(PLAIN_GROUPS[:1], request) and asked[question(request)] > 1
        return Reply(status=400) if silent else calls_all_nuisance(request)

    endpoint.answer(refuses_two_of_three)
    told = label(scattered, endpoint, tmp_path).summary["language_model"]
    published = sum(intent.published for intent in statistical.intents)
    assert told["unchecked_nuisance"] == {"the endpoint answered 400": published}
    assert (told["disbelieved_nuisance"], told["kinds"]) == (0, {"unknown": published})
    assert sum(count for text, count in asked.items() if PLAIN_GROUPS[0][0] in text) == VOTES


def test_a_missing_answer_does_not_matter_where_the_others_agree_and_is_told_where_it_does(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path, statistical: Catalogue
) -> None:
    first, second = (intent.label for intent in statistical.intents[:2])
    asked: Counter[str] = Counter()

    def stutters(request: Request) -> Reply:
        if asks_for_label(request):
            return Reply("deluxe pocket travel")
        asked[question(request)] += 1
        number = asked[question(request)]
        if f"Name of the group: {first}\n" in question(request) and number == 1:
            return Reply(status=400)
        if f"Name of the group: {second}\n" in question(request) and number > 1:
            return Reply(status=400)
        return Reply("property")

    endpoint.answer(stutters)
    results = label(scattered, endpoint, tmp_path)
    assert [each.kind for each in results.catalogue.intents[:2]] == ["item property", "unknown"]
    assert results.summary["language_model"]["unanswered_kinds"] == {"the endpoint answered 400": 1}
    assert (
        "; the kind of 1 is unknown, 1 for want of an answer (1: the endpoint answered 400). Run the stage with "
        "--force to ask again"
    ) in results.sentences[0]


def test_a_model_is_asked_about_other_groups_only_when_it_calls_an_intent_nuisance(
    scattered: Planted, endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(knows_all)
    label(scattered, endpoint, tmp_path)
    assert not any(about_known_group(each) for each in endpoint.requests)


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
        if about_known_group(request):
            return kind_of_known_group(request)
        asked[question(request)] += 1
        return Reply(votes[asked[question(request)] - 1])

    endpoint.answer(votes_in_turn)
    results = label(scattered, endpoint, tmp_path)
    assert {intent.kind for intent in results.catalogue.intents[:TOPIC_COUNT]} == {kind}
    assert set(asked.values()) == {calls}
    assert ("the kind of" in results.sentences[0]) == (kind == "unknown")
