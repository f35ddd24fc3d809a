"""Typed clients of the server, blocking and asynchronous; needs only grpcio and protobuf.

    with Client("localhost:50051") as client:
        response = client.recommend("u42", explained=True, boost={"int-4f1c09ab": 0.5})

Methods take plain Python values and return the messages of `saerec_ray.v1`. Both clients have the same
methods with the same arguments; those of `AsyncClient` are awaited. Errors are `SaerecError`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from saerec_ray import _calls
from saerec_ray._calls import Call, ServingStatus
from saerec_ray._values import any_of, between, event, none_of

__all__ = [
    "AsyncClient",
    "Client",
    "FieldViolation",
    "SaerecError",
    "ServingStatus",
    "any_of",
    "between",
    "event",
    "none_of",
]

Options = Sequence[tuple[str, str | int]]
"""gRPC channel arguments."""

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # Only what the server surely did not do is tried again; a deadline that passed is the caller's answer.
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
_OPTIONS: Options = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.enable_retries", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that does not end pages early may give 5000 intents at once.
    ("grpc.max_receive_message_length", 64 << 20),
)
_DETAILS = "grpc-status-details-bin"
_TRACE = "x-trace-id"

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class FieldViolation:
    """A field of the request that broke its rule, e.g. "history[3].item_id"."""

    field: str
    description: str


class SaerecError(Exception):
    """A call that failed.

    `code` is the gRPC status, `reason` the name in ErrorReason without its prefix, e.g. "ETAG_MISMATCH", or
    empty. `field_violations` lists the fields that broke their rules, the first 20 of them. `retry_after` is in
    seconds, None when the server did not say. `trace_id` names the call in the server's logs.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: str = "",
        field_violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
        trace_id: str = "",
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.reason = reason
        self.field_violations = list(field_violations)
        self.retry_after = retry_after
        self.trace_id = trace_id

    def __str__(self) -> str:
        return f"{self.code.name}{f' ({self.reason})' if self.reason else ''}: {self.message}"


def _error(error: Any) -> SaerecError:
    """Reads google.rpc.Status from the trailing metadata; works for both kinds of gRPC errors."""
    found = SaerecError(error.code(), error.details() or "")
    trailers = _metadata(error.trailing_metadata())
    found.trace_id = str({**_metadata(error.initial_metadata()), **trailers}.get(_TRACE, ""))
    packed = trailers.get(_DETAILS)
    if not isinstance(packed, bytes):
        return found
    try:
        details = status_pb2.Status.FromString(packed).details
    except DecodeError:
        return found  # a proxy's own bytes: code and message are all there is
    for detail in details:
        info, request, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            found.reason = info.reason
        elif detail.Unpack(request):
            found.field_violations += [
                FieldViolation(each.field, each.description) for each in request.field_violations
            ]
        elif detail.Unpack(retry):
            found.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return found


def _metadata(pairs: Any) -> dict[str, str | bytes]:
    # Not dict(pairs): the asynchronous kind has keys(), which dict() would take for a mapping's.
    return {key: value for key, value in pairs or ()}  # noqa: C416


def _serialized(request: Any) -> bytes:
    content: bytes = request.SerializeToString()
    return content


def _channel_arguments(options: Options) -> list[tuple[str, str | int]]:
    # Later options win, so the caller can replace any of ours.
    merged: dict[str, str | int] = {**dict(_OPTIONS), **dict(options)}
    return list(merged.items())


def _documented(method: Callable[..., Any], builder: Callable[..., Any]) -> None:
    """Makes help() and editors show the builder's arguments and text."""
    method.__name__, method.__doc__ = builder.__name__, builder.__doc__
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(builder)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[own, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )


def _blocking(
    builder: Callable[Parameters, Call[Answer]],
) -> Callable[Concatenate[Client, Parameters], Answer]:
    def method(self: Client, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        return self.send(builder(*args, **kwargs))

    _documented(method, builder)
    return method


def _awaited(
    builder: Callable[Parameters, Call[Answer]],
) -> Callable[Concatenate[AsyncClient, Parameters], Coroutine[Any, Any, Answer]]:
    async def method(self: AsyncClient, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        return await self.send(builder(*args, **kwargs))

    _documented(method, builder)
    return method


class Client:
    """Blocking client; safe to share between threads. Use as a context manager, or call `close`."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options = (),
    ) -> None:
        """`target` is HOST:PORT or any gRPC name. Without `credentials` the connection is not encrypted."""
        arguments = _channel_arguments(options)
        self.channel = (
            grpc.insecure_channel(target, arguments)
            if credentials is None
            else grpc.secure_channel(target, credentials, arguments)
        )
        self._method = lru_cache(maxsize=None)(self._new_method)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        self.channel.close()

    def send(self, call: Call[Answer]) -> Answer:
        """Sends a call, with its further pages if it has any. Raises SaerecError."""
        pages = [self._once(call)]
        while call.following and (after := call.following(pages[-1])):
            pages.append(self._once(after))
        return call.joined(pages) if call.joined else pages[0]

    def _once(self, call: Call[Answer]) -> Answer:
        try:
            answer: Answer = self._method(call.method, call.decode)(call.request, timeout=call.timeout)
        except grpc.RpcError as error:
            raise _error(error) from error
        return answer

    def _new_method(self, method: str, decode: Callable[[bytes], Any]) -> Any:
        return self.channel.unary_unary(method, _serialized, decode)

    recommend = _blocking(_calls.recommend)
    explain_user = _blocking(_calls.explain_user)
    steer = _blocking(_calls.steer)
    get_steering_profile = _blocking(_calls.get_steering_profile)
    list_steering_revisions = _blocking(_calls.list_steering_revisions)
    list_intents = _blocking(_calls.list_intents)
    get_intent = _blocking(_calls.get_intent)
    search_intents = _blocking(_calls.search_intents)
    write_events = _blocking(_calls.write_events)
    delete_user_data = _blocking(_calls.delete_user_data)
    health = _blocking(_calls.health)


class AsyncClient:
    """Asynchronous client. Make it inside a running event loop; use as an async context manager."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options = (),
    ) -> None:
        """`target` is HOST:PORT or any gRPC name. Without `credentials` the connection is not encrypted."""
        arguments = _channel_arguments(options)
        self.channel = (
            grpc.aio.insecure_channel(target, arguments)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, arguments)
        )
        self._method = lru_cache(maxsize=None)(self._new_method)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        await self.channel.close()

    async def send(self, call: Call[Answer]) -> Answer:
        """Sends a call, with its further pages if it has any. Raises SaerecError."""
        pages = [await self._once(call)]
        while call.following and (after := call.following(pages[-1])):
            pages.append(await self._once(after))
        return call.joined(pages) if call.joined else pages[0]

    async def _once(self, call: Call[Answer]) -> Answer:
        try:
            answer: Answer = await self._method(call.method, call.decode)(call.request, timeout=call.timeout)
        except grpc.aio.AioRpcError as error:
            raise _error(error) from error
        return answer

    def _new_method(self, method: str, decode: Callable[[bytes], Any]) -> Any:
        return self.channel.unary_unary(method, _serialized, decode)

    recommend = _awaited(_calls.recommend)
    explain_user = _awaited(_calls.explain_user)
    steer = _awaited(_calls.steer)
    get_steering_profile = _awaited(_calls.get_steering_profile)
    list_steering_revisions = _awaited(_calls.list_steering_revisions)
    list_intents = _awaited(_calls.list_intents)
    get_intent = _awaited(_calls.get_intent)
    search_intents = _awaited(_calls.search_intents)
    write_events = _awaited(_calls.write_events)
    delete_user_data = _awaited(_calls.delete_user_data)
    health = _awaited(_calls.health)
