"""Limits on time that hold where everything stalls now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_ATTEMPTS = 5


def in_time(seconds: float, attempt: Callable[[], object]) -> int:
    """Attempts until one takes less than `seconds` and returns how many it were: a stall passes, a wait does not."""
    taken: list[float] = []
    while len(taken) < MOST_ATTEMPTS:
        started = time.monotonic()
        attempt()
        taken.append(time.monotonic() - started)
        if taken[-1] < seconds:
            return len(taken)
    raise AssertionError(f"never took less than {seconds} seconds: {taken}")
