"""Events that the database has are known again by what happened, whatever their ids and however old."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy.exc import IntegrityError

from saerec_server.limits import EVENT_ID_SECONDS
from saerec_server.records import StoredEvent
from saerec_server.store import Store
from tests.server.opened_store import with_store

T = TypeVar("T")
SECOND = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def happened(event_id: str, user: str, item: str, time: int) -> StoredEvent:
    return StoredEvent(event_id, user, item, "view", time, "", (), None, "")


def test_an_event_is_the_same_when_user_item_and_second_are(path: Path) -> None:
    stored = [
        happened("1", "u", "a", 5 * SECOND + 700_000),
        happened("2", "u", "a", 5 * SECOND + 900_000),
        happened("3", "v", "a", 7 * SECOND),
    ]
    given = [
        happened("a", "u", "a", 4 * SECOND),
        happened("b", "u", "a", 5 * SECOND),
        happened("c", "u", "a", 5 * SECOND),
        happened("d", "u", "a", 5 * SECOND),  # two are stored, this is a third
        happened("e", "u", "b", 5 * SECOND),
        happened("f", "u", "a", 7 * SECOND),  # of another user
        happened("g", "v", "a", 7 * SECOND),
    ]

    async def work(store: Store) -> None:
        await store.write_events(stored, now=8 * SECOND)
        assert [each.event_id for each in await store.missing_events(given)] == ["a", "d", "e", "f"]
        assert [each.event_id for each in await store.add_missing_events(given)] == ["a", "d", "e", "f"]
        assert await store.missing_events(given) == await store.add_missing_events(given) == []
        assert [(each.item_id, each.event_time) for each in await store.history("u", 3)] == [
            ("a", 5 * SECOND + 700_000),
            ("a", 5 * SECOND + 900_000),
            ("a", 7 * SECOND),
        ]

    with_store(path, work)


def test_times_before_1970_are_compared_by_the_second_too(path: Path) -> None:
    async def work(store: Store) -> None:
        await store.write_events([happened("1", "u", "a", -SECOND // 2)], now=0)
        assert await store.missing_events([happened("x", "u", "a", -SECOND)]) == []
        assert len(await store.missing_events([happened("x", "u", "a", 0)])) == 1

    with_store(path, work)


def test_what_was_added_counts_once_however_long_ago_that_was_and_no_sweep_takes_it(path: Path) -> None:
    given = [happened("1", "u", "a", SECOND), happened("2", "u", "b", 2 * SECOND)]

    async def work(store: Store) -> None:
        await store.add_missing_events(given)
        assert not await store.sweep(now=1_000 * EVENT_ID_SECONDS * SECOND)
        assert await store.add_missing_events(given) == []
        assert [each.item_id for each in await store.history("u", 9)] == ["a", "b"]

    with_store(path, work)


def test_what_is_added_is_added_whole_or_not_at_all(path: Path) -> None:
    with_store(path, lambda store: store.missing_events([]))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER stop BEFORE INSERT ON events WHEN new.item_id = 'b' "
            "BEGIN SELECT RAISE(FAIL, 'not this one'); END"
        )
    connection.close()

    async def work(store: Store) -> None:
        with pytest.raises(IntegrityError, match="not this one"):
            await store.add_missing_events([happened("1", "u", "a", 0), happened("2", "u", "b", 0)])
        assert await store.history("u", 9) == []

    with_store(path, work)
