"""A real server on a real socket, in a thread; and errors taken apart."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from saerec_ray.v1 import (
    event_service_pb2_grpc,
    intent_service_pb2_grpc,
    recommender_service_pb2_grpc,
)
from saerec_server.serve import started
from saerec_server.settings import ServerSettings

PATIENCE = 30.0
"""Seconds for the state database, of which other tests leave the disk little time."""


def settings_of(bundle: Path, state: Path | None = None, **others: Any) -> ServerSettings:
    """Settings of a server that waits for its state database for as long as tests beside it may take."""
    given = {"port": 0, "drain_seconds": 0, "state_seconds": PATIENCE, **others}
    return ServerSettings(bundle=bundle, state=state, **given)


@dataclass(frozen=True)
class Api:
    """Stubs of one running server."""

    port: int
    channel: grpc.Channel
    recommender: recommender_service_pb2_grpc.RecommenderServiceStub
    intents: intent_service_pb2_grpc.IntentServiceStub
    events: event_service_pb2_grpc.EventServiceStub


@contextlib.contextmanager
def connected(port: int) -> Iterator[Api]:
    options = (("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield Api(
            port,
            channel,
            recommender_service_pb2_grpc.RecommenderServiceStub(channel),
            intent_service_pb2_grpc.IntentServiceStub(channel),
            event_service_pb2_grpc.EventServiceStub(channel),
        )


@contextlib.contextmanager
def running(settings: ServerSettings) -> Iterator[Api]:
    """Starts a server, yields stubs, drains it."""
    ready: threading.Event = threading.Event()
    port, failure = 0, None
    stop: Callable[[], object] = lambda: None  # noqa: E731

    async def main() -> None:
        nonlocal port, stop
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with started(settings) as server:
            port = server.port
            stop = lambda: loop.call_soon_threadsafe(asked.set)  # noqa: E731
            ready.set()
            await asked.wait()
            await server.drain()

    def run() -> None:
        nonlocal failure
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 (raised again in the test's thread)
            failure = error
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60), "the server did not start"
    if failure is not None:
        raise failure
    try:
        with connected(port) as api:
            yield api
    finally:
        stop()
        thread.join(60)
    if failure is not None:
        raise failure


@dataclass(frozen=True)
class Refusal:
    """An error answer, decoded."""

    code: grpc.StatusCode
    reason: str
    domain: str
    fields: dict[str, str]  # violated field to description
    retry_seconds: float | None
    pushback: str | None
    message: str


def refusal(call: Callable[[], object]) -> Refusal:
    """The error that a call is answered with; fails when it is answered otherwise."""
    try:
        call()
    except grpc.RpcError as error:
        return decoded(error)
    raise AssertionError("the call was not refused")


def decoded(error: grpc.RpcError) -> Refusal:
    trailers = dict(error.trailing_metadata() or ())
    reason, domain, fields, retry = "", "", {}, None
    for packed in status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
        info, bad, wait = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if packed.Unpack(info):
            reason, domain = info.reason, info.domain
        elif packed.Unpack(bad):
            fields = {each.field: each.description for each in bad.field_violations}
        elif packed.Unpack(wait):
            retry = wait.retry_delay.ToNanoseconds() / 1e9
    return Refusal(
        error.code(), reason, domain, fields, retry, trailers.get("grpc-retry-pushback-ms"), error.details()
    )
