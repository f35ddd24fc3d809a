"""One server process: from settings to a drained shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc
import torch
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from threadpoolctl import threadpool_limits

from saerec_ray.errors import InputError
from saerec_ray.v1 import (
    event_service_pb2,
    event_service_pb2_grpc,
    intent_service_pb2,
    intent_service_pb2_grpc,
    recommender_service_pb2,
    recommender_service_pb2_grpc,
)
from saerec_server import limits
from saerec_server.compute import Compute
from saerec_server.event_service import EventService
from saerec_server.health import MAX_WATCHES, HealthService
from saerec_server.intent_service import IntentService
from saerec_server.interceptors.admission import AdmissionInterceptor
from saerec_server.interceptors.faults import FaultInterceptor
from saerec_server.interceptors.trace import TraceInterceptor
from saerec_server.recommender_service import RecommenderService
from saerec_server.registry import ModelRegistry, load_model
from saerec_server.settings import ServerSettings
from saerec_server.store import Store, StoreError
from saerec_server.validation import now_microseconds

logger = logging.getLogger(__name__)

SERVICES = (
    recommender_service_pb2.DESCRIPTOR.services_by_name["RecommenderService"].full_name,
    intent_service_pb2.DESCRIPTOR.services_by_name["IntentService"].full_name,
    event_service_pb2.DESCRIPTOR.services_by_name["EventService"].full_name,
)
GRACE_SECONDS = 25.0
"""For calls under way to end, when the server is asked to stop."""
SWEEP_SECONDS = 3_600.0
SWEEP_PAUSE_SECONDS = 0.05
"""Between two parts of a long sweep: calls come first."""
_SERVING = health_pb2.HealthCheckResponse.SERVING
_OPTIONS = (
    ("grpc.max_receive_message_length", limits.MAX_REQUEST_BYTES),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a silent second server
    ("grpc.max_connection_age_ms", 300_000),  # lets round-robin clients find new replicas
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True)
class RunningServer:
    """A server that answers; end it with drain."""

    port: int
    health: HealthService
    server: grpc.aio.Server
    settings: ServerSettings

    async def drain(self) -> None:
        """Turns unhealthy, lets balancers notice, refuses new calls and lets the admitted ones end."""
        await self.health.enter_graceful_shutdown()
        await asyncio.sleep(self.settings.drain_seconds)
        self.health.end_watches()
        await self.server.stop(GRACE_SECONDS)


@contextlib.asynccontextmanager
async def started(settings: ServerSettings) -> AsyncIterator[RunningServer]:
    """A running server; resources are freed at the end, after `drain`.

    Raises BundleError when the bundle is refused and InputError when a folder of foreign items is, or when the
    state database or the port cannot be used.
    """
    registry = ModelRegistry(load_model(settings.bundle, cross_domain=settings.cross_domain))
    async with contextlib.AsyncExitStack() as stack:
        store = await Store.open(settings.state_path, settings.state_seconds)
        stack.push_async_callback(store.close)
        compute = Compute(settings.threads)
        stack.callback(compute.close)
        # Searches wait for one thread: they must not take the places of all other calls.
        searching = Compute(1, most=max(1, settings.max_calls // 8))
        stack.callback(searching.close)
        server = grpc.aio.server(
            interceptors=(TraceInterceptor(), FaultInterceptor(), AdmissionInterceptor(settings.max_calls)),
            options=_OPTIONS,
            # Room to refuse calls with a reason, whoever watches: gRPC's own refusal has none.
            maximum_concurrent_rpcs=4 * settings.max_calls + MAX_WATCHES,
        )
        recommender_service_pb2_grpc.add_RecommenderServiceServicer_to_server(
            RecommenderService(registry, store, compute), server
        )
        intent_service_pb2_grpc.add_IntentServiceServicer_to_server(
            IntentService(registry, compute, searching), server
        )
        event_service_pb2_grpc.add_EventServiceServicer_to_server(EventService(registry, store), server)
        status = HealthService()
        health_pb2_grpc.add_HealthServicer_to_server(status, server)
        if settings.reflection:
            reflection.enable_server_reflection(
                (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
            )
        port = _listen(server, settings)
        await server.start()
        stack.push_async_callback(server.stop, 0)
        for name in SERVICES:
            await status.set(name, _SERVING)
        ending = asyncio.Event()
        sweeper = asyncio.create_task(_sweep(store, ending))
        stack.push_async_callback(asyncio.wait, [sweeper])
        stack.callback(ending.set)
        yield RunningServer(port, status, server, settings)


def _listen(server: grpc.aio.Server, settings: ServerSettings) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.port}"
    try:
        port = int(server.add_insecure_port(address))
    except RuntimeError:
        port = 0
    if port == 0:
        raise InputError(f"Cannot listen on {address}: it is in use or not an address of this machine.")
    return port


async def _sweep(store: Store, ending: asyncio.Event) -> None:
    """Removes expired state now and then; nothing depends on when."""
    while not ending.is_set():
        more = False
        try:
            more = await store.sweep(now_microseconds())
        except StoreError:
            logger.exception("expired state could not be removed; trying again later")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), SWEEP_PAUSE_SECONDS if more else SWEEP_SECONDS)


async def serve(settings: ServerSettings, on_ready: Callable[[int], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains. `on_ready` is called with the port."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with started(settings) as running:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        logger.info("serving %s on port %d", settings.bundle, running.port)
        if on_ready is not None:
            on_ready(running.port)
        await stop.wait()
        logger.info("draining")
        await running.drain()


def run_server(settings: ServerSettings, on_ready: Callable[[int], None] | None = None) -> None:
    """Serves until told to stop and drained. Raises InputError when it cannot start.

    Uses one thread for each model call: more of them wait for each other on a busy machine.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a server never downloads a language model
    torch.set_num_threads(1)
    with threadpool_limits(1):
        asyncio.run(serve(settings, on_ready))
