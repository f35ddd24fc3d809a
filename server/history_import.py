"""`saerec state import`: the histories that a run was trained on, into the state database of a server.

A server may be running on it: transactions are short, and between two of them others have their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from saerec_ray.errors import InputError, StageError
from saerec_ray.state_backup import is_state
from saerec_server.limits import MAX_HISTORY
from saerec_server.prepared_histories import LeftOut, PreparedHistories
from saerec_server.records import StoredEvent
from saerec_server.settings import ServerSettings
from saerec_server.store import Store, StoreError
from saerec_server.validation import now_microseconds

T = TypeVar("T")
Tell = Callable[[int, int, str], None]
"""Is told how many users are done, of how many, and a note."""

PATIENCE_SECONDS = 60.0
"""How long the database may be locked by others before the import gives up."""
STORE_SECONDS = 10.0
"""Longest wait of one try; SQLite waits for its lock for half of that."""
RETRY_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 0.5
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@dataclass
class _Counts:
    """What was written, or would be."""

    events: int = 0
    users: int = 0
    stored_already: int = 0

    def add(self, given: list[StoredEvent], missing: list[StoredEvent]) -> None:
        self.events += len(missing)
        self.users += len({each.user_id for each in missing})
        self.stored_already += len(given) - len(missing)


def import_histories(workdir: Path, state: Path | None, tell: Tell, *, dry_run: bool) -> str:
    """Writes the histories of a finished prepare stage into a state database; says in one sentence what it did.

    `state` is by default where a server of the bundle in the work directory looks. It is made when it is not there.
    What the database has already is not written again, so the import may be stopped at any time and run again.
    With `dry_run` nothing is written.
    Raises InputError when either cannot be used, and StageError when the database fails on the way.
    """
    histories = PreparedHistories(workdir)
    path = state or ServerSettings(bundle=workdir / "bundle").state_path
    new = not (path.exists() and path.stat().st_size)
    if not new:
        _refuse_others(path)
    counts = _run(_import(histories, path, tell, opens=not (new and dry_run), dry_run=dry_run))
    return _sentence(histories, counts, f"{path}, which is new" if new else f"{path}", dry_run)


def _refuse_others(path: Path) -> None:
    """Tables of a server do not belong into the database of another program."""
    with contextlib.suppress(sqlite3.Error):  # whatever it is, opening the store tells it
        with contextlib.closing(sqlite3.connect(path)) as connection:
            known = is_state(connection)
        if not known:
            raise InputError(f"{path} is no state database of saerec serve.")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Runs it in a loop in which SIGTERM ends it as Ctrl-C does: the database is closed in order, then it is told."""

    async def ended_by_signals() -> T:
        task = asyncio.current_task()
        if task is not None and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(ended_by_signals())
    except asyncio.CancelledError as stop:
        raise KeyboardInterrupt(signal.SIGTERM) from stop


async def _import(
    histories: PreparedHistories, path: Path, tell: Tell, *, opens: bool, dry_run: bool
) -> _Counts:
    counts = _Counts()
    async with contextlib.AsyncExitStack() as stack:
        store = None
        if opens:
            store = await _patiently(path, lambda: Store.open(path, STORE_SECONDS))
            stack.push_async_callback(store.close)
        for lot in histories.lots(now_microseconds()):
            missing = lot.events
            if store is not None:
                work = store.missing_events if dry_run else store.add_missing_events
                began = time.monotonic()
                missing = await _patiently(path, partial(work, lot.events))
                # Half of the time is for others, who else would hardly find the database unlocked.
                await asyncio.sleep(0 if dry_run else min(time.monotonic() - began, LONGEST_PAUSE_SECONDS))
            counts.add(lot.events, missing)
            tell(lot.users_read, histories.users, f"{counts.events:,} events")
    return counts


async def _patiently(path: Path, work: Callable[[], Awaitable[T]]) -> T:
    """Tries again while others have the database locked. Raises StageError when they do so for too long."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await work()
        except (StoreError, InputError) as error:
            cause = _cause(error)
            code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the rest of it only says more
            busy = code in _BUSY or isinstance(cause, TimeoutError)
            if busy and time.monotonic() < end:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if busy:
                reason = f"is locked by another process for more than {PATIENCE_SECONDS:.0f} seconds"
            elif code == sqlite3.SQLITE_FULL:
                reason = "cannot be written, because the disk is full"
            elif isinstance(error, InputError):
                raise
            else:
                reason = f"failed: {cause}"
            raise StageError(
                f"The state database {path} {reason}; what was written stays, and the same command goes on from there."
            ) from error


def _cause(error: BaseException) -> BaseException:
    """What the database, or the clock, had said."""
    cause = error.__cause__ or error
    return getattr(cause, "orig", None) or cause


def _sentence(histories: PreparedHistories, counts: _Counts, where: str, dry_run: bool) -> str:
    done = f"{_counted(counts.events, 'event')} of {_counted(counts.users, 'user')}"
    if dry_run:
        done += f" would be written into {where}"
    else:
        done += f" {'is' if counts.events == 1 else 'are'} written into {where}"
    if not histories.timed:
        done += ", in their order from the first second of 1970 on, because the data have no times"
    parts = _left_out(counts, histories.left_out)
    return f"{done}; left out: {', '.join(parts)}." if parts else f"{done}."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _left_out(counts: _Counts, left_out: LeftOut) -> list[str]:
    told = {
        f"{counts.stored_already:,} that were there already": counts.stored_already,
        f"{left_out.older:,} older than the latest {MAX_HISTORY} of their user": left_out.older,
        f"{left_out.of_users:,} of {left_out.users:,} users whose ids the API refuses": left_out.users,
        f"{left_out.of_items:,} with items whose ids the API refuses": left_out.of_items,
        f"{left_out.of_times:,} at times in the future or before the year 1": left_out.of_times,
    }
    return [words for words, count in told.items() if count]
