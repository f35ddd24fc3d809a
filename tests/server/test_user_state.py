"""What is known of a user, from a database that answers in time and from one that does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server.records import StoredInteraction
from saerec_server.registry import LoadedModel
from saerec_server.requests import Interaction, Who
from saerec_server.steering import Profile
from saerec_server.store import Store
from saerec_server.user_state import KnownUser, known_user


def model_with(repeats: str, *item_ids: str) -> LoadedModel:
    config = SimpleNamespace(prepare=SimpleNamespace(repeats=repeats))
    return cast(
        LoadedModel,
        SimpleNamespace(
            history=SimpleNamespace(index={item_id: place for place, item_id in enumerate(item_ids)}),
            bundle=SimpleNamespace(config=config),
        ),
    )


MODEL = model_with("first", "a")


class StallingStore:
    """A database on a disk that hangs for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def history(self, user_id: str, most: int) -> Sequence[StoredInteraction]:
        await asyncio.sleep(self._seconds)
        return [StoredInteraction("a", 1)]

    async def profile(self, user_id: str) -> Profile:
        await asyncio.sleep(self._seconds)
        return Profile(revision=3)


def known(stalls: float, remaining: float | None) -> KnownUser:
    store: Any = StallingStore(stalls)
    who = Who("u", [], reads_store=True)
    return asyncio.run(known_user(cast(Store, store), MODEL, who, remaining, reads_profile=True))


def test_a_database_that_takes_more_than_half_of_the_time_left_costs_the_state_and_not_the_answer() -> None:
    started = time.monotonic()
    found = known(stalls=60.0, remaining=0.3)
    assert time.monotonic() - started < 0.3
    assert found.degradations == sorted(
        [messages.DEGRADATION_HISTORY_UNAVAILABLE, messages.DEGRADATION_STEERING_UNAVAILABLE]
    )
    assert (found.interactions, found.profile.revision) == ([], 0)


@pytest.mark.parametrize("remaining", [None, 10.0])
def test_a_database_that_answers_in_time_is_waited_for(remaining: float | None) -> None:
    found = known(stalls=0.05, remaining=remaining)
    assert found.degradations == []
    assert [each.item_id for each in found.interactions] == ["a"]
    assert found.profile.revision == 3


class Remembering:
    """A database with a few interactions, each at the time of its place."""

    def __init__(self, *item_ids: str) -> None:
        self._stored = [StoredInteraction(item_id, time) for time, item_id in enumerate(item_ids)]

    async def history(self, user_id: str, most: int) -> Sequence[StoredInteraction]:
        return self._stored


@pytest.mark.parametrize(
    ("repeats", "read"),
    [
        ("first", [("a", 0), ("mugs/1", 1), ("b", 3), ("c", None)]),
        ("last", [("b", 3), ("c", None), ("mugs/1", None), ("a", None)]),
        (
            "keep",
            [("a", 0), ("mugs/1", 1), ("a", 2), ("b", 3), ("c", None), ("mugs/1", None), ("a", None)],
        ),
    ],
)
def test_of_repeats_that_is_read_which_training_kept_of_stored_given_and_foreign_items_alike(
    repeats: str, read: list[tuple[str, int | None]]
) -> None:
    store: Any = Remembering("a", "mugs/1", "a", "b", "gone")
    given = [Interaction(item_id, None) for item_id in ("c", "mugs/1", "gone", "a")]
    model = model_with(repeats, "a", "b", "c", "mugs/1")
    who = Who("u", given, reads_store=True)
    found = asyncio.run(known_user(cast(Store, store), model, who, None, reads_profile=False))
    assert [(each.item_id, each.event_time) for each in found.interactions] == read
    assert found.unknown_item_ids == ["gone"]


def test_a_history_of_nothing_that_the_model_can_read_is_empty() -> None:
    found = asyncio.run(
        known_user(cast(Store, Remembering("gone")), MODEL, Who("u", [], True), None, reads_profile=False)
    )
    assert found.interactions == []
