"""Ctrl-C and SIGTERM end a long command alike, with a sentence that says how to go on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from saerec_ray.errors import StoppedError


@contextlib.contextmanager
def stoppable(kept: str = "Finished stages are kept") -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: everything that was started is taken down.

    Raises StoppedError, which says what is `kept`.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except KeyboardInterrupt as stop:
        (number,) = stop.args or (signal.SIGINT,)
        raise StoppedError(f"Stopped. {kept}; run the same command again to go on.", 128 + number) from stop


def _stop(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)
