"""User state in a database: histories, steering profiles and their audit. SQLite by default.

A write that returned is on disk: SQLite runs with a write-ahead log and synchronous=FULL.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, event, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from saerec_ray.errors import InputError
from saerec_ray.scoring import Mode
from saerec_server import tables
from saerec_server.event_rows import insert_events, known_event_ids, missing_events
from saerec_server.limits import EVENT_ID_SECONDS, REQUEST_ID_SECONDS, REVISION_SECONDS
from saerec_server.records import (
    Reply,
    Revision,
    SteeringState,
    SteeringWrite,
    StoredEvent,
    StoredInteraction,
    decode_changes,
    encode_changes,
)
from saerec_server.steering import Change, Profile, StoredChange, WriteMode
from saerec_server.validation import MICROSECONDS

SWEEP_TIMEOUT_SECONDS = 5.0
"""Nobody waits for a sweep, so it may stand in line behind calls for longer."""
SWEEP_ROWS = 250
"""Few enough that a write of a call, which waits for the transaction of a sweep, is hardly slower."""
ERASE_ROWS = 5_000
"""Few enough to go within the time that a call has for the database."""
_DAY = 86_400 * MICROSECONDS


class StoreError(Exception):
    """The database did not answer, or not in time; a write may be repeated with the same request id."""


class RevisionConflictError(Exception):
    """Another write to the same profile came first."""


class Store:
    """The state database. Every method raises StoreError when the database fails, or does not answer in time."""

    def __init__(self, engine: AsyncEngine, store_id: str, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        # SQLite has one writer at a time: waiting in line here is fair, its own polling is not.
        self._writing = asyncio.Lock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()
        self.store_id = store_id

    @classmethod
    async def open(cls, path: Path, seconds: float) -> Store:
        """Opens or creates a SQLite file; no operation but a sweep waits for longer than `seconds`.

        Raises InputError when it cannot be used.
        """
        # Errors are logged, and the parameters of a statement hold user ids.
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", hide_parameters=True)
        _configure_sqlite(engine, seconds / 2)
        try:
            _check_file(path, seconds / 2)
            async with engine.execution_options(writes=True).begin() as connection:
                await connection.run_sync(tables.metadata.create_all)
                store_id = await _identify(connection, path)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            await engine.dispose()
            reason = getattr(error, "orig", None) or error
            raise InputError(
                f"The state database {path} cannot be used: {reason}. "
                "Give a path that can be written, or move the damaged file away."
            ) from error
        except InputError:
            await engine.dispose()
            raise
        return cls(engine, store_id, seconds)

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    async def history(self, user_id: str, limit: int) -> list[StoredInteraction]:
        """The user's latest interactions, oldest first."""
        query = (
            select(tables.events.c.item_id, tables.events.c.event_time)
            .where(tables.events.c.user_id == user_id)
            .order_by(tables.events.c.event_time.desc(), tables.events.c.sequence.desc())
            .limit(limit)
        )
        async with self._connection() as connection:
            rows = (await connection.execute(query)).all()
        return [StoredInteraction(row.item_id, row.event_time) for row in reversed(rows)]

    async def item_ids(self, user_id: str, limit: int) -> set[str]:
        """The items of the user's latest `limit` interactions."""
        latest = (
            select(tables.events.c.item_id)
            .where(tables.events.c.user_id == user_id)
            .order_by(tables.events.c.event_time.desc(), tables.events.c.sequence.desc())
            .limit(limit)
            .subquery()
        )
        async with self._connection() as connection:
            return set((await connection.execute(select(latest.c.item_id).distinct())).scalars())

    async def profile(self, user_id: str) -> Profile:
        """The user's steering profile; an empty one when the user never steered."""
        async with self._connection() as connection:
            return await _profile(connection, user_id)

    async def steering_state(self, user_id: str, request_id: str, now: int) -> SteeringState:
        """What a steering write must know of the user."""
        written = select(tables.revisions.c.create_time).where(
            tables.revisions.c.user_id == user_id, tables.revisions.c.create_time > now - _DAY
        )
        async with self._connection() as connection:
            profile = await _profile(connection, user_id)
            times = (await connection.execute(written)).scalars().all()
            reply = await _reply(connection, user_id, request_id, now) if request_id else None
        return SteeringState(profile, reply, tuple(sorted(times)))

    async def write_steering(self, write: SteeringWrite) -> None:
        """Stores a revision with its profile. Raises RevisionConflictError when it is not the next one."""
        revision, user_id = write.revision, write.user_id
        try:
            async with self._transaction() as connection:
                current = await _profile(connection, user_id)
                if (current.revision, current.chain_hash) != (
                    revision.revision - 1,
                    revision.previous_hash,
                ):
                    raise RevisionConflictError
                await _replace_profile(connection, write)
                await connection.execute(insert(tables.revisions).values(_revision_row(user_id, revision)))
                if revision.request_id:
                    await _keep_reply(connection, write)
        except IntegrityError as error:  # two first writes at once, on a database with parallel writers
            raise RevisionConflictError from error

    async def revisions(self, user_id: str, limit: int, before: int | None = None) -> list[Revision]:
        """The latest steering writes, newest first; with `before` the latest of those before that revision."""
        query = (
            select(tables.revisions)
            .where(tables.revisions.c.user_id == user_id)
            .order_by(tables.revisions.c.revision.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(tables.revisions.c.revision < before)
        async with self._connection() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Revision(
                revision=row.revision,
                create_time=row.create_time,
                actor=row.actor,
                mode=WriteMode(row.mode),
                changes=decode_changes(row.changes),
                reason=row.reason,
                request_id=row.request_id,
                previous_hash=row.previous_hash,
            )
            for row in rows
        ]

    async def known_event_ids(self, event_ids: Sequence[str], now: int) -> set[str]:
        """Which of the ids were written within the time in which an id counts once."""
        async with self._connection() as connection:
            return await known_event_ids(connection, event_ids, now)

    async def write_events(self, new: Sequence[StoredEvent], now: int) -> int:
        """Writes the events whose ids are not known yet, all or nothing; returns how many."""
        async with self._transaction() as connection:
            known = await known_event_ids(connection, [each.event_id for each in new], now)
            first = {each.event_id: each for each in reversed(new) if each.event_id not in known}
            fresh = [each for each in new if first.get(each.event_id) is each]
            if fresh:
                await connection.execute(
                    delete(tables.event_ids).where(tables.event_ids.c.event_id.in_(list(first)))
                )
                await connection.execute(
                    insert(tables.event_ids),
                    [
                        {"event_id": each.event_id, "user_id": each.user_id, "write_time": now}
                        for each in fresh
                    ],
                )
                await insert_events(connection, fresh)
        return len(fresh)

    async def missing_events(self, given: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Those that the database does not have; see event_rows."""
        async with self._connection() as connection:
            return await missing_events(connection, given)

    async def add_missing_events(self, given: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Writes the events that the database does not have, all or nothing, and returns them.

        Their ids are not kept apart: what happened is known again by itself, for as long as it is stored.
        """
        async with self._transaction() as connection:
            missing = await missing_events(connection, given)
            await insert_events(connection, missing)
        return missing

    async def erase(self, user_id: str, now: int) -> tuple[int, bool]:
        """Erases all that is stored of a user: how many events, and whether there was a profile.

        Events go ERASE_ROWS at a time, each lot for good: however many there are, every try gets further.
        """
        count = 0
        for table in (tables.event_ids, tables.events):
            removed = ERASE_ROWS
            while removed == ERASE_ROWS:
                async with self._transaction() as connection:
                    removed = await _delete_some(connection, table, table.c.user_id == user_id, ERASE_ROWS)
                count += removed if table is tables.events else 0
        async with self._transaction() as connection:
            profile = await _profile(connection, user_id)
            for table in (
                tables.events,  # written since
                tables.event_ids,
                tables.adjustments,
                tables.profiles,
                tables.revisions,
                tables.replies,
            ):
                erased = await connection.execute(delete(table).where(table.c.user_id == user_id))
                count += erased.rowcount if table is tables.events else 0
            if profile.revision:
                await connection.execute(
                    insert(tables.erasures).values(
                        chain_hash=profile.chain_hash, revision=profile.revision, erase_time=now
                    )
                )
        return count, profile.revision > 0

    async def sweep(self, now: int) -> bool:
        """Removes some of what expired, which nothing reads any more; returns whether more of it may be left.

        At most SWEEP_ROWS of a table, each table in a transaction of its own.
        """
        expired = (
            (tables.adjustments.c.expire_time, now),
            (tables.event_ids.c.write_time, now - EVENT_ID_SECONDS * MICROSECONDS),
            (tables.replies.c.create_time, now - REQUEST_ID_SECONDS * MICROSECONDS),
            (tables.revisions.c.create_time, now - REVISION_SECONDS * MICROSECONDS),
        )
        more = False
        for column, end in expired:
            async with self._transaction(SWEEP_TIMEOUT_SECONDS) as connection:
                removed = await _delete_some(connection, column.table, column <= end, SWEEP_ROWS)
            more = more or removed == SWEEP_ROWS
        return more

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading."""
        with _failures():
            async with asyncio.timeout(self._seconds), self._engine.connect() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def _transaction(self, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
        """A connection that commits at the end, or changes nothing."""
        with _failures():
            writer = self._engine.execution_options(writes=True)
            async with asyncio.timeout(seconds or self._seconds), self._writing, writer.begin() as connection:
                yield connection


@contextlib.contextmanager
def _failures() -> Any:
    try:
        yield
    except IntegrityError:
        raise
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:  # TimeoutError is an OSError
        raise StoreError("the state database failed") from error


def _check_file(path: Path, lock_seconds: float) -> None:
    """Raises sqlite3.Error when the file is damaged or no database at all."""
    with contextlib.closing(sqlite3.connect(path, timeout=lock_seconds)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _configure_sqlite(engine: AsyncEngine, lock_seconds: float) -> None:
    """Durable commits, and transactions that take the write lock at once instead of failing half-way."""

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would come too late
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={round(lock_seconds * 1000)}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    def begun(connection: Any) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)


async def _identify(connection: AsyncConnection, path: Path) -> str:
    row = (await connection.execute(select(tables.store_info))).one_or_none()
    if row is None:
        store_id = secrets.token_hex(16)
        await connection.execute(
            insert(tables.store_info).values(schema_version=tables.SCHEMA_VERSION, store_id=store_id)
        )
        return store_id
    if row.schema_version != tables.SCHEMA_VERSION:
        raise InputError(
            f"The state database {path} has layout {row.schema_version}; "
            f"this version reads layout {tables.SCHEMA_VERSION}."
        )
    return str(row.store_id)


async def _delete_some(
    connection: AsyncConnection, table: Table, which: ColumnElement[bool], most: int
) -> int:
    """Deletes rows of which `which` is true, no more than `most`; returns how many."""
    key = table.primary_key
    some = select(*key).where(which).limit(most)
    return int((await connection.execute(delete(table).where(tuple_(*key).in_(some)))).rowcount)


async def _profile(connection: AsyncConnection, user_id: str) -> Profile:
    profiles, adjustments = tables.profiles, tables.adjustments
    head = (await connection.execute(select(profiles).where(profiles.c.user_id == user_id))).one_or_none()
    if head is None:
        return Profile()
    rows = await connection.execute(
        select(adjustments).where(adjustments.c.user_id == user_id).order_by(adjustments.c.intent_id)
    )
    stored = tuple(
        StoredChange(
            Change(row.intent_id, Mode(row.mode), row.strength), row.expire_time, row.actor, row.reason
        )
        for row in rows
    )
    return Profile(head.revision, head.chain_hash, head.update_time, stored)


async def _replace_profile(connection: AsyncConnection, write: SteeringWrite) -> None:
    profiles, adjustments = tables.profiles, tables.adjustments
    head = {
        "revision": write.revision.revision,
        "chain_hash": write.revision.chain_hash,
        "update_time": write.revision.create_time,
    }
    if write.revision.revision == 1:
        await connection.execute(insert(profiles).values(user_id=write.user_id, **head))
    else:
        # The condition makes a second writer with the same revision fail on databases without one lock.
        changed = await connection.execute(
            update(profiles)
            .where(profiles.c.user_id == write.user_id, profiles.c.revision == write.revision.revision - 1)
            .values(**head)
        )
        if changed.rowcount != 1:
            raise RevisionConflictError
    await connection.execute(delete(adjustments).where(adjustments.c.user_id == write.user_id))
    if write.stored:
        await connection.execute(
            insert(adjustments),
            [
                {
                    "user_id": write.user_id,
                    "intent_id": each.change.intent_id,
                    "mode": each.change.mode.value,
                    "strength": each.change.strength,
                    "expire_time": each.expire_time,
                    "actor": each.actor,
                    "reason": each.reason,
                }
                for each in write.stored
            ],
        )


async def _reply(connection: AsyncConnection, user_id: str, request_id: str, now: int) -> Reply | None:
    replies = tables.replies
    row = (
        await connection.execute(
            select(replies).where(
                replies.c.user_id == user_id,
                replies.c.request_id == request_id,
                replies.c.create_time > now - REQUEST_ID_SECONDS * MICROSECONDS,
            )
        )
    ).one_or_none()
    return None if row is None else Reply(row.body_hash, row.reply)


async def _keep_reply(connection: AsyncConnection, write: SteeringWrite) -> None:
    replies, revision = tables.replies, write.revision
    await connection.execute(
        delete(replies).where(replies.c.user_id == write.user_id, replies.c.request_id == revision.request_id)
    )
    await connection.execute(
        insert(replies).values(
            user_id=write.user_id,
            request_id=revision.request_id,
            body_hash=write.reply.body_hash,
            reply=write.reply.content,
            create_time=revision.create_time,
        )
    )


def _revision_row(user_id: str, revision: Revision) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "revision": revision.revision,
        "create_time": revision.create_time,
        "actor": revision.actor,
        "mode": revision.mode.value,
        "changes": encode_changes(revision.changes),
        "reason": revision.reason,
        "request_id": revision.request_id,
        "previous_hash": revision.previous_hash,
        "chain_hash": revision.chain_hash,
    }
