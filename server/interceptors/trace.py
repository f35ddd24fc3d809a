"""A trace id for every call: the caller's W3C traceparent, or a new one; sent back as x-trace-id."""

from __future__ import annotations

import contextvars
import re
import secrets
from collections.abc import Iterable
from typing import Any

import grpc

from saerec_server.interceptors import Continuation, replaced

TRACE_METADATA = "x-trace-id"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_UNSET = "0" * 32

trace_id: contextvars.ContextVar[str] = contextvars.ContextVar("trace_id", default=_UNSET)
"""The trace id of the call that is being answered."""
method: contextvars.ContextVar[str] = contextvars.ContextVar("method", default="")
"""Its method, such as /saerec_ray.v1.RecommenderService/Recommend."""


class TraceInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Sets `trace_id` and `method`, and returns the trace id in the initial metadata."""

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Wraps unary calls."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        found = _given(details.invocation_metadata or ()) or secrets.token_hex(16)

        async def traced(request: Any, context: grpc.aio.ServicerContext) -> Any:
            trace_id.set(found)
            method.set(details.method)
            await context.send_initial_metadata(((TRACE_METADATA, found),))
            return await handler.unary_unary(request, context)

        return replaced(handler, traced)


def _given(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    for key, value in metadata:
        if key == "traceparent" and isinstance(value, str):
            match = _TRACEPARENT.fullmatch(value)
            if match and match[1] != _UNSET:
                return match[1]
    return None
