"""A language model behind an HTTP endpoint of the OpenAI kind: answers within a budget, each asked for once."""

from __future__ import annotations

import email.utils
import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from saerec_ray.config import LanguageModelConfig, digest
from saerec_ray.errors import InputError
from saerec_ray.manifest import write_json

TRIES = 4
LONGEST_WAIT = 60.0
"""Seconds; an endpoint that asks for more is given up for this run."""
FAILURES_IN_A_ROW = 3
"""Questions without an answer after which the endpoint is given up for this run."""
_MOST_BYTES = 1 << 20
_AGAIN = {408, 429, 500, 502, 503, 504, 529}
_HOPELESS = {
    401: "it refuses the key",
    403: "it refuses the key",
    404: "it has no such path or model",
}
_LETTERS_A_TOKEN = 4  # where the endpoint does not count

logger = logging.getLogger(__name__)


class NoAnswerError(Exception):
    """A question has no answer; the message says why."""


@dataclass(frozen=True)
class Prompt:
    """A question with worked examples, for either mode."""

    instruction: str
    examples: tuple[tuple[str, str], ...]  # question and answer
    question: str
    answer_tokens: int

    def messages(self) -> list[dict[str, str]]:
        """As a conversation, for models that chat."""
        turns = [{"role": "system", "content": self.instruction}]
        for question, answer in self.examples:
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*turns, {"role": "user", "content": self.question}]

    def text(self) -> str:
        """As a text to go on with, for models that only do that."""
        parts = [self.instruction]
        parts += [f"{question}\nAnswer: {answer}" for question, answer in self.examples]
        return "\n\n".join([*parts, f"{self.question}\nAnswer:"])


@dataclass
class Usage:
    """What one run spent."""

    calls: int = 0  # requests sent
    cached: int = 0  # answers that an earlier run had received
    tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # why questions had no answer


class LanguageModel:
    """Asks questions one after the other. Not for use by several threads."""

    def __init__(
        self,
        config: LanguageModelConfig,
        cache: Path,
        environment: Mapping[str, str] = os.environ,
        first_wait: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keeps answers in the folder `cache`; `first_wait` seconds before the second try, doubled each time.

        Raises InputError when the environment variable with the key is not set.
        """
        self._config = config
        self._cache = cache
        self._first_wait, self._sleep = first_wait, sleep
        self._headers = {"Content-Type": "application/json", "User-Agent": "saerec-ray"}
        if config.api_key_env is not None:
            key = environment.get(config.api_key_env, "").strip()
            if not key:
                raise InputError(
                    f"intents.language_model.api_key_env names {config.api_key_env}, but this environment "
                    "variable is not set."
                )
            if not (key.isascii() and key.isprintable()):
                raise InputError(f"The key in {config.api_key_env} holds characters that no key has.")
            self._headers["Authorization"] = f"Bearer {key}"
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._failed_in_a_row = 0
        self._given_up = ""
        self.usage = Usage()

    @property
    def name(self) -> str:
        """Name of the model at the endpoint."""
        return self._config.model

    def ask(self, prompt: Prompt, number: int = 0) -> str:
        """The answer, as it came. Different numbers ask the same question again.

        Raises NoAnswerError when the endpoint gave none, or when it was given up, or the budget is used up.
        """
        body = self._body(prompt)
        key = digest({"base_url": self._config.base_url, "body": body, "number": number})
        path = self._cache / key[:2] / f"{key}.json"
        if (known := _read_answer(path)) is not None:
            self.usage.cached += 1
            return known
        try:
            answer, tokens = self._send(body)
        except NoAnswerError as error:
            self.usage.failures[str(error)] += 1
            self._failed_in_a_row += 1
            if not self._given_up and self._failed_in_a_row >= FAILURES_IN_A_ROW:
                self._given_up = f"given up after {FAILURES_IN_A_ROW} failures in a row; the last: {error}"
            raise
        self._failed_in_a_row = 0
        self.usage.tokens += tokens
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"answer": answer, "tokens": tokens})
        return answer

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._config.model,
            "temperature": self._config.temperature,
            "max_tokens": prompt.answer_tokens,
        }
        if self._config.mode == "chat":
            return body | {"messages": prompt.messages()}
        return body | {"prompt": prompt.text(), "stop": ["\n"]}

    def _send(self, body: dict[str, Any]) -> tuple[str, int]:
        """The answer and its tokens, after as many tries as it takes and TRIES allows."""
        wait, reason = self._first_wait, ""
        for attempt in range(TRIES):
            self._check_budget()
            self.usage.calls += 1
            try:
                return self._read_reply(self._post(body), body)
            except urllib.error.HTTPError as error:
                with error:
                    reason = f"the endpoint answered {error.code}"
                    if error.code in _HOPELESS:
                        self._given_up = f"{reason}: {_HOPELESS[error.code]}"
                        raise NoAnswerError(self._given_up) from error
                    if error.code not in _AGAIN:
                        raise NoAnswerError(reason) from error
                    pause = max(wait, _retry_after(error.headers.get("Retry-After"), time.time()))
                if pause > LONGEST_WAIT:
                    self._given_up = f"{reason} and asks to wait {pause:.0f} seconds"
                    raise NoAnswerError(self._given_up) from error
            except TimeoutError:
                reason, pause = f"no answer within {self._config.timeout_seconds:g} seconds", wait
            except (OSError, http.client.HTTPException) as error:
                reason, pause = _connection_reason(error, self._config.timeout_seconds), wait
            if attempt < TRIES - 1:
                self._sleep(pause)
                wait *= 2
        raise NoAnswerError(reason)

    def _check_budget(self) -> None:
        limit = self._config.max_total_tokens
        if self.usage.calls >= self._config.max_calls:
            self._given_up = self._given_up or f"the budget of {self._config.max_calls} calls is used up"
        elif limit is not None and self.usage.tokens >= limit:
            self._given_up = self._given_up or f"the budget of {limit} tokens is used up"
        if self._given_up:
            raise NoAnswerError(self._given_up)

    def _post(self, body: dict[str, Any]) -> bytes:
        """One request. The time limit holds for the whole of it, however slowly the bytes come."""
        path = "chat/completions" if self._config.mode == "chat" else "completions"
        request = urllib.request.Request(  # noqa: S310 (the configuration allows http and https alone)
            f"{self._config.base_url.rstrip('/')}/{path}",
            data=json.dumps(body).encode(),
            headers=self._headers,
            method="POST",
        )
        seconds = self._config.timeout_seconds
        deadline = time.monotonic() + seconds
        content = bytearray()
        with self._opener.open(request, timeout=seconds) as response:
            while chunk := response.read1(65536):
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise NoAnswerError("the answer is longer than a megabyte")
                if time.monotonic() > deadline:
                    raise TimeoutError
        return bytes(content)

    def _read_reply(self, content: bytes, body: dict[str, Any]) -> tuple[str, int]:
        try:
            reply = json.loads(content)
            choice = reply["choices"][0]
            answer = choice["message"]["content"] if self._config.mode == "chat" else choice["text"]
            answer = "" if answer is None else answer
            if not isinstance(answer, str):
                raise TypeError
            tokens = (reply.get("usage") or {}).get("total_tokens")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise NoAnswerError("the answer is not JSON of the OpenAI kind") from error
        if not isinstance(tokens, int) or tokens < 0:
            tokens = (len(json.dumps(body)) + len(answer)) // _LETTERS_A_TOKEN
        return answer.encode("utf-8", "replace").decode(), tokens  # half a surrogate pair cannot be stored


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are errors: the key must not travel to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Never follows."""
        del req, fp, code, msg, headers, newurl


def _read_answer(path: Path) -> str | None:
    try:
        answer = json.loads(path.read_text("utf-8"))["answer"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("Asking again, for the answer kept in %s is damaged: %s", path, error)
        return None
    return answer if isinstance(answer, str) else None


def _retry_after(value: str | None, now: float) -> float:
    """Seconds to wait after a Retry-After header: a number or a date; 0 when there is none that makes sense."""
    if value is None:
        return 0.0
    if value.isascii() and value.strip().isdigit():  # other scripts have digits that float refuses
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return 0.0


def _connection_reason(error: OSError | http.client.HTTPException, seconds: float) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {seconds:g} seconds"
    if isinstance(cause, ConnectionRefusedError):
        return "the endpoint refuses connections"
    return f"the connection failed ({type(cause).__name__})"
