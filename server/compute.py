"""Work that would hold up the event loop runs here, and only while somebody still waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import grpc

from saerec_server.errors import ApiError, Reason

T = TypeVar("T")

_RETRY_SECONDS = 0.1


class Deadline(Protocol):
    """The part of a gRPC context that knows how long the caller waits."""

    def time_remaining(self) -> float | None:
        """Seconds left; None without a deadline."""


class Compute:
    """A small pool of threads. Queued work of a cancelled call is dropped, not run."""

    def __init__(self, threads: int, most: int | None = None) -> None:
        """`most`: how many calls may wait or be worked on at once; any number where it is None."""
        self._most = most
        self._taken = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compute")

    async def run(self, context: Deadline, work: Callable[[], T]) -> T:
        """Runs one stage of a call.

        Raises ApiError: DEADLINE_EXCEEDED when no time is left for it, OVERLOADED when too many are here already.
        """
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline passed before the work was done.")
        if self._most is not None and self._taken >= self._most:
            raise ApiError.exhausted(
                Reason.OVERLOADED, "Too many calls of this kind at once.", _RETRY_SECONDS
            )
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Waits for running work and ends the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
