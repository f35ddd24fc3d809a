"""The line that a failure of the state database leaves: the cause, and nothing that a database says of rows."""

from __future__ import annotations

import pytest

from saerec_server.failure_log import log_failure
from saerec_server.interceptors.trace import method, trace_id
from saerec_server.store import StoreError


def caused(error: Exception, *causes: BaseException) -> Exception:
    """The error as it is raised from the first cause, which was raised from the second, and so on."""
    current: BaseException = error
    for cause in causes:
        current.__cause__ = cause
        current = cause
    return error


def test_the_line_names_the_first_cause_without_what_stands_below_its_first_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    method.set("/saerec_ray.v1.EventService/WriteEvents")
    trace_id.set("ab" * 16)
    deepest = ValueError("duplicate key value violates a constraint\nDETAIL:  Key (user_id)=(canary) exists.")
    log_failure("is refused", caused(StoreError("failed"), RuntimeError("[SQL: INSERT]"), deepest))
    assert caplog.messages == [
        f"call /saerec_ray.v1.EventService/WriteEvents is refused, trace {'ab' * 16}: "
        "ValueError: duplicate key value violates a constraint"
    ]


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([caused(StoreError("failed"), TimeoutError(), KeyboardInterrupt())], "did not answer in time"),
        ([TimeoutError()], "the state database did not answer in time"),
        ([StoreError("no more")], "StoreError: no more"),
        ([StoreError()], "StoreError"),
        ([StoreError("one"), StoreError("one")], ": StoreError: one"),
        ([StoreError("one"), StoreError("two")], "StoreError: one; StoreError: two"),
    ],
)
def test_a_cause_is_said_once_and_in_words(
    caplog: pytest.LogCaptureFixture, errors: list[Exception], said: str
) -> None:
    log_failure("is refused", *errors)
    (line,) = caplog.messages
    assert line.endswith(said)
