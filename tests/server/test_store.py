"""The state database: durable, once, and forgetful where it must be."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import text

from saerec_ray.scoring import Mode
from saerec_server import store as store_module
from saerec_server.limits import EVENT_ID_SECONDS, REQUEST_ID_SECONDS, REVISION_SECONDS
from saerec_server.records import Reply, Revision, SteeringWrite, StoredEvent
from saerec_server.steering import GENESIS, Change, Profile, StoredChange, WriteMode
from saerec_server.store import SWEEP_ROWS, RevisionConflictError, Store, StoreError
from tests.server.opened_store import with_store

T = TypeVar("T")
SECOND = 1_000_000
NOW = time.time_ns() // 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def event(number: int, user: str = "u", age: int = 0) -> StoredEvent:
    return StoredEvent(f"e{number}", user, f"i{number}", "view", NOW - age * SECOND, "", ("a", "b"), 1.5, "")


def next_write(profile: Profile, intent_id: str = "int-00000001", request_id: str = "") -> SteeringWrite:
    change = Change(intent_id, Mode.BOOST, 0.5)
    revision = Revision(
        profile.revision + 1,
        NOW,
        "somebody",
        WriteMode.MERGE,
        (change,),
        "why",
        request_id,
        profile.chain_hash,
    )
    stored = (StoredChange(change, NOW + 60 * SECOND, "somebody", "why"),)
    return SteeringWrite("u", revision, stored, Reply("body", b"answer"))


def test_commits_are_synced_to_disk_before_they_are_acknowledged(path: Path) -> None:
    async def pragmas(store: Store) -> tuple[object, object]:
        async with store._connection() as connection:
            mode = (await connection.execute(text("PRAGMA journal_mode"))).scalar_one()
            return mode, (await connection.execute(text("PRAGMA synchronous"))).scalar_one()

    full = 2
    assert with_store(path, pragmas) == ("wal", full)


def test_the_store_keeps_its_identity(path: Path) -> None:
    async def identity(store: Store) -> str:
        return store.store_id

    first, second = with_store(path, identity), with_store(path, identity)
    assert first == second
    assert first != with_store(path.with_name("other.sqlite"), identity)


def test_history_is_the_latest_oldest_first(path: Path) -> None:
    async def work(store: Store) -> list[str]:
        await store.write_events([event(number, age=number) for number in (1, 3, 2)], NOW)
        return [each.item_id for each in await store.history("u", 2)]

    assert with_store(path, work) == ["i2", "i1"]


def test_the_items_of_the_latest_interactions_are_named_once(path: Path) -> None:
    async def work(store: Store) -> set[str]:
        again = dataclasses.replace(event(5, age=1), item_id="i2")
        await store.write_events([*(event(number, age=number) for number in (2, 3, 4)), again], NOW)
        return await store.item_ids("u", 3)

    assert with_store(path, work) == {"i2", "i3"}


def test_events_of_the_same_time_keep_their_order(path: Path) -> None:
    async def work(store: Store) -> list[str]:
        await store.write_events([event(number) for number in (5, 4, 6)], NOW)
        return [each.item_id for each in await store.history("u", 10)]

    assert with_store(path, work) == ["i5", "i4", "i6"]


def test_an_event_id_counts_again_after_seven_days(path: Path) -> None:
    async def work(store: Store) -> list[int]:
        week = EVENT_ID_SECONDS * SECOND
        return [
            await store.write_events([event(1)], NOW),
            await store.write_events([event(1)], NOW + week - 1),
            await store.write_events([event(1)], NOW + week),
        ]

    assert with_store(path, work) == [1, 0, 1]


def test_a_write_based_on_an_old_revision_is_refused(path: Path) -> None:
    async def work(store: Store) -> None:
        empty = await store.profile("u")
        await store.write_steering(next_write(empty))
        with pytest.raises(RevisionConflictError):
            await store.write_steering(next_write(empty, "int-00000002"))
        profile = await store.profile("u")
        assert [each.change.intent_id for each in profile.stored] == ["int-00000001"]
        await store.write_steering(next_write(profile, "int-00000002"))

    with_store(path, work)


def test_a_write_is_read_back_whole(path: Path) -> None:
    async def work(store: Store) -> None:
        write = next_write(Profile(), request_id="r")
        await store.write_steering(write)
        state = await store.steering_state("u", "r", NOW + 1)
        assert state.profile == Profile(1, write.revision.chain_hash, NOW, write.stored)
        assert state.reply == write.reply
        assert state.recent_writes == (NOW,)
        assert await store.revisions("u", 10) == [write.revision]
        assert (await store.steering_state("u", "r", NOW + REQUEST_ID_SECONDS * SECOND)).reply is None

    with_store(path, work)


def test_every_part_of_a_revision_is_under_the_chain_hash() -> None:
    revision = next_write(Profile()).revision
    others = {
        "revision": 2,
        "create_time": NOW + 1,
        "actor": "x",
        "mode": WriteMode.CLEAR,
        "changes": (Change("int-00000001", Mode.BOOST, 0.6),),
        "reason": "x",
        "request_id": "x",
        "previous_hash": "1" * 64,
    }
    assert set(others) == {each.name for each in dataclasses.fields(Revision)}
    changed = {dataclasses.replace(revision, **{name: value}).chain_hash for name, value in others.items()}
    assert len(changed | {revision.chain_hash, GENESIS}) == len(others) + 2


def test_erasing_a_user_leaves_no_trace_of_the_id(path: Path) -> None:
    secret = "user-to-forget"

    async def work(store: Store) -> None:
        await store.write_events([event(1, secret), event(2, "other")], NOW)
        write = dataclasses.replace(next_write(Profile(), request_id="r"), user_id=secret)
        await store.write_steering(write)
        assert await store.erase(secret, NOW) == (1, True)
        assert await store.erase(secret, NOW) == (0, False)
        assert len(await store.history("other", 10)) == 1

    with_store(path, work)
    with sqlite3.connect(path) as connection:
        rows = [
            row
            for (table,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
            for row in connection.execute(f"SELECT * FROM {table}").fetchall()
        ]
        (tombstone,) = connection.execute("SELECT revision FROM erasures").fetchall()
    connection.close()
    assert secret not in repr(rows)
    assert tombstone == (1,)


def test_a_user_with_very_many_events_is_erased_lot_by_lot_and_others_keep_theirs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saerec_server.store.ERASE_ROWS", 10)

    async def work(store: Store) -> None:
        await store.write_events([event(number) for number in range(35)], NOW)
        await store.write_events([event(100, user="other")], NOW)
        assert await store.erase("u", NOW) == (35, False)
        assert await store.erase("u", NOW) == (0, False)
        assert await store.erase("other", NOW) == (1, False)

    with_store(path, work)


def test_an_erasure_that_failed_half_way_goes_on_from_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saerec_server.store.ERASE_ROWS", 10)

    async def work(store: Store) -> None:
        await store.write_events([event(number) for number in range(35)], NOW)
        counted = []
        whole = store_module._delete_some

        async def failing(*given: Any) -> int:
            if len(counted) == 6:
                raise TimeoutError
            counted.append(await whole(*given))
            return counted[-1]

        with monkeypatch.context() as broken:
            broken.setattr("saerec_server.store._delete_some", failing)
            with pytest.raises(StoreError):
                await store.erase("u", NOW)
        done = sum(counted[4:])  # four lots of ids, then events
        assert done == 20
        assert await store.erase("u", NOW) == (35 - done, False)

    with_store(path, work)


def test_a_sweep_removes_what_expired_and_nothing_else(path: Path) -> None:
    async def work(store: Store) -> None:
        await store.write_events([event(1)], NOW)
        await store.write_steering(next_write(Profile(), request_id="r"))

    with_store(path, work)

    def counts(later_seconds: int) -> list[int]:
        with_store(path, lambda store: store.sweep(NOW + later_seconds * SECOND))
        with sqlite3.connect(path) as connection:
            return [
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("adjustments", "replies", "event_ids", "revisions", "events", "profiles")
            ]

    assert counts(59) == [1, 1, 1, 1, 1, 1]
    assert counts(61) == [0, 1, 1, 1, 1, 1]
    assert counts(REQUEST_ID_SECONDS + 1) == [0, 0, 1, 1, 1, 1]
    assert counts(EVENT_ID_SECONDS + 1) == [0, 0, 0, 1, 1, 1]
    assert counts(REVISION_SECONDS + 1) == [0, 0, 0, 0, 1, 1]


def test_a_backlog_is_removed_in_parts_so_that_no_transaction_is_long(path: Path) -> None:
    backlog = 2 * SWEEP_ROWS + 1

    async def work(store: Store) -> list[int]:
        await store.write_events([event(number) for number in range(backlog)], NOW)
        left, more = [], True
        while more:
            more = await store.sweep(NOW + EVENT_ID_SECONDS * SECOND)
            async with store._connection() as connection:
                left.append((await connection.execute(text("SELECT count(*) FROM event_ids"))).scalar_one())
        return left

    assert with_store(path, work) == [backlog - SWEEP_ROWS, 1, 0]
