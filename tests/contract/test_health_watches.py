"""Callers that watch the health of a server for long take nothing from those that ask it something."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from saerec_ray.bundle import Bundle
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server.health import HealthService
from tests.contract.asking import met
from tests.contract.running import PATIENCE, running, settings_of

EVERYTHING = health_pb2.HealthCheckRequest()


def test_calls_are_answered_however_many_watch(bundle_folder: Path, bundle: Bundle, tmp_path: Path) -> None:
    settings = settings_of(bundle_folder, state=tmp_path / "state.sqlite", max_calls=1)
    with running(settings) as api:
        watches = [health_pb2_grpc.HealthStub(api.channel).Watch(EVERYTHING) for _ in range(20)]
        assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.SERVING}
        request = messages.RecommendRequest(history=met(bundle, 1, 2), page_size=3)
        assert len(api.recommender.Recommend(request).items) == 3


def test_watches_beyond_the_limit_are_refused_until_others_end() -> None:
    async def main() -> None:
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(HealthService(most_watches=2), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            first, second = stub.Watch(EVERYTHING), stub.Watch(EVERYTHING)
            for watch in (first, second):
                await watch.read()
            with pytest.raises(grpc.aio.AioRpcError, match="Too many callers watch the health") as refused:
                await stub.Watch(EVERYTHING).read()
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            first.cancel()
            async with asyncio.timeout(PATIENCE):
                while not await _answered(stub):
                    await asyncio.sleep(0.05)
        await server.stop(0)

    asyncio.run(main())


async def _answered(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        await stub.Watch(EVERYTHING).read()
    except grpc.aio.AioRpcError:
        return False
    return True
