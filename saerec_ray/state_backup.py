"""A copy of a server's SQLite state while the server writes to it; needs nothing but SQLite.

The newest writes are in a file of their own beside the state, so a copy of the state alone would miss them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path
from urllib.parse import quote

from saerec_ray.errors import InputError, StageError

_KNOWN_TABLE = "store_info"
"""Every state database has it."""


def back_up(state: Path, target: Path) -> int:
    """Copies the state as it is at one moment into a new file, checks that, and returns its size in bytes.

    The target is there whole or not at all. Raises InputError when it exists already or the state cannot be read, and
    StageError when the copy cannot be written or is damaged.
    """
    if not state.is_file():
        raise InputError(f"There is no state database {state}.")
    _refuse_existing(target)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(
            f"The backup cannot be written into {target.parent}: {error.strerror or error}."
        ) from error
    os.close(handle)
    aside = Path(name)
    try:
        _copy(state, aside)
        _check(state, aside)
        _place(aside, target)
    finally:
        for each in (aside, *(Path(name + end) for end in ("-journal", "-wal", "-shm"))):
            each.unlink(missing_ok=True)
    return target.stat().st_size


def is_state(connection: sqlite3.Connection) -> bool:
    """Whether the database is the state of a server, and not one of another program or an empty one."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (_KNOWN_TABLE,)).fetchone() is not None


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise _exists_already(target)


def _exists_already(target: Path) -> InputError:
    return InputError(f"{target} exists already: give the backup another name.")


def _place(aside: Path, target: Path) -> None:
    try:
        os.link(aside, target)  # unlike a rename never in the place of a file that came meanwhile
    except FileExistsError:
        raise _exists_already(target) from None
    except OSError:  # no hard links there
        _refuse_existing(target)
        aside.rename(target)


def _copy(state: Path, aside: Path) -> None:
    address = f"file:{quote(str(state.resolve()))}?mode=rw"  # ro leaves files beside a state nobody serves
    try:
        with contextlib.closing(sqlite3.connect(address, uri=True)) as source:
            if not is_state(source):
                raise InputError(f"{state} is no state database of saerec serve.")
            with contextlib.closing(sqlite3.connect(aside)) as copy:
                source.backup(copy)  # in one step: writers go on, and the copy is of one moment
                copy.execute("PRAGMA journal_mode=DELETE")  # one file, that can be moved alone
    except sqlite3.Error as error:
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        kind = InputError if damaged else StageError
        raise kind(f"The state database {state} cannot be backed up: {error}.") from error


def _check(state: Path, aside: Path) -> None:
    with contextlib.closing(sqlite3.connect(aside)) as copy:
        try:
            found = [row[0] for row in copy.execute("PRAGMA integrity_check")]
        except sqlite3.Error as error:
            found = [str(error)]
    if found != ["ok"]:
        raise StageError(f"The copy of {state} is damaged, and so is the state itself: {found[0]}.")
