"""The standard health service, with watches that end when the server does."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2


class HealthService(health.aio.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1. A client that watches would otherwise hold up every shutdown for the whole grace."""

    def __init__(self) -> None:
        super().__init__()
        self._ending = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> None:
        """Streams the status of a service until the caller leaves or the server ends."""
        tasks = [
            asyncio.ensure_future(super().Watch(request, context)),
            asyncio.ensure_future(self._ending.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def end_watches(self) -> None:
        """Ends all watches, present and future."""
        self._ending.set()
