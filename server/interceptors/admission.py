"""Sheds calls beyond what can be answered in time, so that the admitted ones stay fast."""

from __future__ import annotations

from typing import Any

import grpc

from saerec_server.errors import ApiError, Reason
from saerec_server.interceptors import Continuation, replaced

RETRY_SECONDS = 0.1
_ALWAYS_ADMITTED = "/grpc.health.v1.Health/"


class AdmissionInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Admits a number of calls at once and answers the others RESOURCE_EXHAUSTED; never health checks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Wraps unary calls."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or details.method.startswith(_ALWAYS_ADMITTED):
            return handler

        async def admitted(request: Any, context: grpc.aio.ServicerContext) -> Any:
            if self._running >= self._most:
                raise ApiError.exhausted(
                    Reason.OVERLOADED, "The server is answering as many calls as it can.", RETRY_SECONDS
                )
            self._running += 1
            try:
                return await handler.unary_unary(request, context)
            finally:
                self._running -= 1

        return replaced(handler, admitted)
