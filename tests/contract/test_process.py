"""What survives the end of a server process, sudden or asked for."""

from __future__ import annotations

import concurrent.futures
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.contract.asking import adjust, event, write
from tests.contract.process import server_process
from tests.contract.running import PATIENCE, Refusal, connected, decoded


def test_every_acknowledged_steering_write_survives_kill_9(
    bundle_folder: Path, tmp_path: Path, steerable: list[str]
) -> None:
    state = tmp_path / "state.sqlite"
    acknowledged: dict[str, str] = {}
    for life in range(2):
        with server_process(bundle_folder, state) as process:
            enough = threading.Event()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                writer = pool.submit(
                    _steer_until_it_breaks, process.port, life, steerable, acknowledged, enough
                )
                assert enough.wait(2 * PATIENCE), "the writes are too slow"
                process.kill()
                assert writer.result(2 * PATIENCE) == grpc.StatusCode.UNAVAILABLE
    assert len(acknowledged) >= 40
    with server_process(bundle_folder, state) as process, connected(process.port) as api:
        for user, etag in acknowledged.items():
            request = messages.GetSteeringProfileRequest(user_id=user)
            profile = api.recommender.GetSteeringProfile(request).profile
            assert (profile.revision, profile.etag) == (1, etag)
            assert len(profile.adjustments) == 1


def _steer_until_it_breaks(
    port: int, life: int, steerable: list[str], acknowledged: dict[str, str], enough: threading.Event
) -> grpc.StatusCode:
    with connected(port) as api:
        number = 0
        while True:
            user = f"life {life} user {number}"
            request = messages.SteerIntentsRequest(
                user_id=user, adjustments=[adjust(steerable[number % len(steerable)])]
            )
            try:
                acknowledged[user] = api.recommender.SteerIntents(request, timeout=PATIENCE).profile.etag
            except grpc.RpcError as error:
                return error.code()
            number += 1
            if number == 25:
                enough.set()


def test_sigterm_under_load_loses_no_admitted_call(bundle_folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.sqlite"
    with server_process(bundle_folder, state, drain_seconds=0.3) as process:
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            health = pool.submit(_watched_health, process.port)
            enough = threading.Event()
            writers = [pool.submit(_write_until_refused, process.port, number, enough) for number in range(8)]
            assert enough.wait(2 * PATIENCE), "the writes are too slow"
            process.terminate()
            asked = time.monotonic()
            results = [writer.result(60) for writer in writers]
        assert process.exit_code() == 0
        assert time.monotonic() - asked < 20, "a watched health status held up the end"
        assert health.result(60)[:2] == [
            health_pb2.HealthCheckResponse.SERVING,
            health_pb2.HealthCheckResponse.NOT_SERVING,
        ]
    acknowledged = {user for users, _ in results for user in users}
    # The transport refused the others, before any of this server's code saw them, or the server did because it is
    # draining; gRPC cancels those that reached the socket in the very moment it closed.
    refusals = {(refused.code, refused.reason) for _, refused in results}
    unavailable = {(grpc.StatusCode.UNAVAILABLE, reason) for reason in ("", "NOT_READY")}
    assert refusals <= {*unavailable, (grpc.StatusCode.CANCELLED, "")}
    with sqlite3.connect(state) as connection:
        stored = {user for (user,) in connection.execute("SELECT user_id FROM events")}
    connection.close()
    assert len(acknowledged) >= 10
    assert stored == acknowledged


def _write_until_refused(port: int, writer: int, enough: threading.Event) -> tuple[list[str], Refusal]:
    written: list[str] = []
    with connected(port) as api:
        while True:
            user = f"writer {writer} user {len(written)}"
            try:
                api.events.WriteEvents(write(event(user, "item-0001")), timeout=PATIENCE)
                written.append(user)
                api.recommender.Recommend(messages.RecommendRequest(user_id=user), timeout=PATIENCE)
                if len(written) == 10:
                    enough.set()
            except grpc.RpcError as error:
                return written, decoded(error)


def _watched_health(port: int) -> list[int]:
    with connected(port) as api:
        stub = health_pb2_grpc.HealthStub(api.channel)
        seen: list[int] = []
        try:
            for response in stub.Watch(health_pb2.HealthCheckRequest()):
                seen.append(response.status)
        except grpc.RpcError:
            pass
        return seen


@pytest.mark.parametrize("asked", ["saerec_server.serve", "saerec_ray.text.encoder"])
def test_the_server_never_imports_ray(asked: str) -> None:
    program = f"import sys, {asked}; sys.exit('ray' in sys.modules)"
    path = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    assert subprocess.run([sys.executable, "-c", program], env=path, check=False).returncode == 0
