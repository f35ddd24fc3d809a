"""The one place where errors become statuses: nothing of an unexpected error reaches the caller.

What the caller cannot mend is logged, with the trace id that the caller has.
"""

from __future__ import annotations

import logging
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from saerec_server.errors import ApiError, Reason, Violation
from saerec_server.failure_log import log_failure
from saerec_server.interceptors import Continuation, replaced
from saerec_server.interceptors.trace import trace_id

logger = logging.getLogger(__name__)


class FaultInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """ApiError becomes its status, undecodable bytes INVALID_ARGUMENT, everything else an opaque INTERNAL."""

    async def intercept_service(
        self, continuation: Continuation, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Wraps unary calls."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = details.method

        async def guarded(request: bytes, context: grpc.aio.ServicerContext) -> Any:
            try:
                return await handler.unary_unary(_decoded(handler, request), context)
            except grpc.aio.AbortError:
                raise
            except ApiError as error:
                if error.reason is Reason.NOT_READY:
                    log_failure("is refused", error)
                await context.abort(error.code, error.message, error.trailers())
            except Exception:
                logger.exception("call %s failed, trace %s", method, trace_id.get())
                await context.abort(grpc.StatusCode.INTERNAL, f"Internal error; trace id {trace_id.get()}.")

        return replaced(handler, guarded, request_deserializer=None)


def _decoded(handler: grpc.RpcMethodHandler, request: bytes) -> Any:
    # Left to gRPC, undecodable bytes would be answered INTERNAL.
    try:
        return handler.request_deserializer(request) if handler.request_deserializer else request
    except DecodeError as error:
        raise ApiError.invalid([Violation("", "the request is not a valid message of this call")]) from error
