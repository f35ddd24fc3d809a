"""What happens around every call; one file each, outermost first: trace, faults, admission."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

Handler = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Any]]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]


def replaced(handler: grpc.RpcMethodHandler, behaviour: Handler, **changes: Any) -> grpc.RpcMethodHandler:
    """The same unary handler with another behaviour."""
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=changes.get("request_deserializer", handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )
