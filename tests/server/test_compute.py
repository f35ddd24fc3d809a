"""Work runs only while somebody waits for it."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest

from saerec_server.compute import Compute
from saerec_server.errors import ApiError


class Waiting:
    """A caller with some time left."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds


def test_no_work_starts_after_the_deadline() -> None:
    compute = Compute(1)
    done: list[int] = []
    with pytest.raises(ApiError) as refused:
        asyncio.run(compute.run(Waiting(0.0), lambda: done.append(1)))
    assert refused.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert asyncio.run(compute.run(Waiting(None), lambda: 17)) == 17
    assert done == []
    compute.close()


def test_queued_work_of_a_cancelled_call_is_dropped() -> None:
    compute = Compute(1)
    release, done = threading.Event(), []

    async def main() -> None:
        running = asyncio.create_task(compute.run(Waiting(None), lambda: release.wait(60)))
        queued = asyncio.create_task(compute.run(Waiting(None), lambda: done.append("queued")))
        await asyncio.sleep(0)  # both have been handed over
        queued.cancel()
        await asyncio.gather(queued, return_exceptions=True)
        release.set()
        assert await running
        await compute.run(Waiting(None), lambda: None)  # behind both of them in the line

    asyncio.run(main())
    compute.close()
    assert done == []


def test_the_event_loop_stays_responsive_while_work_runs() -> None:
    compute = Compute(1)

    async def main() -> None:
        release = threading.Event()
        work = asyncio.create_task(compute.run(Waiting(None), lambda: release.wait(60)))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not work.done()
        release.set()
        assert await work, "the work held up the loop until nobody was left to release it"

    asyncio.run(main())
    compute.close()


def test_more_calls_than_may_wait_are_refused_and_room_comes_back() -> None:
    compute = Compute(1, most=2)

    async def main() -> None:
        release = threading.Event()
        taken = [asyncio.create_task(compute.run(Waiting(None), lambda: release.wait(60))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await compute.run(Waiting(None), lambda: None)
        assert refused.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED
        release.set()
        assert all(await asyncio.gather(*taken))
        assert await compute.run(Waiting(None), lambda: 5) == 5

    asyncio.run(main())
    compute.close()
