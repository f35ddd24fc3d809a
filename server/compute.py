"""Work that would hold up the event loop runs here, and only while somebody still waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import grpc

from saerec_server.errors import ApiError

T = TypeVar("T")


class Deadline(Protocol):
    """The part of a gRPC context that knows how long the caller waits."""

    def time_remaining(self) -> float | None:
        """Seconds left; None without a deadline."""


class Compute:
    """A small pool of threads. Queued work of a cancelled call is dropped, not run."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compute")

    async def run(self, context: Deadline, work: Callable[[], T]) -> T:
        """Runs one stage of a call. Raises ApiError, DEADLINE_EXCEEDED, when no time is left for it."""
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise ApiError(grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline passed before the work was done.")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Waits for running work and ends the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
