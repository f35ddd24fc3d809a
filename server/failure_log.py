"""What the log says when the state database fails a call: one line, which names the call and never a user."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from saerec_server.interceptors.trace import method, trace_id

logger = logging.getLogger(__name__)


def log_failure(consequence: str, *errors: BaseException) -> None:
    """Logs why the call that is being answered `consequence`, such as "is refused"."""
    logger.warning("call %s %s, trace %s: %s", method.get(), consequence, trace_id.get(), _causes(errors))


def _causes(errors: Iterable[BaseException]) -> str:
    return "; ".join(dict.fromkeys(_cause(error) for error in errors))


def _cause(error: BaseException) -> str:
    """The first failure that led to the error, in one line: databases put values of rows into the lines after it."""
    while error.__cause__ is not None and not isinstance(error, TimeoutError):
        error = error.__cause__
    if isinstance(error, TimeoutError):
        return "the state database did not answer in time"
    said = str(error).splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
