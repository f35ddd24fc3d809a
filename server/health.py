"""The standard health service, with watches that end when the server does."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2

MAX_WATCHES = 1_000


class HealthService(health.aio.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1. A client that watches would otherwise hold up every shutdown for the whole grace.

    Watches last, and gRPC counts them among the calls it lets in: so that they never take the place of others, no
    more than `most_watches` are open at once.
    """

    def __init__(self, most_watches: int = MAX_WATCHES) -> None:
        super().__init__()
        self._ending = asyncio.Event()
        self._free = most_watches

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> None:
        """Streams the status of a service until the caller leaves or the server ends."""
        if self._free == 0:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many callers watch the health of this server."
            )
        self._free -= 1
        tasks = [
            asyncio.ensure_future(super().Watch(request, context)),
            asyncio.ensure_future(self._ending.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._free += 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def end_watches(self) -> None:
        """Ends all watches, present and future."""
        self._ending.set()
