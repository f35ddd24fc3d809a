"""Files that are no state database of a server."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def of_another_program(state: Path) -> None:
    """Makes it a database with a table that no server has."""
    state.unlink(missing_ok=True)
    with sqlite3.connect(state) as connection:
        connection.execute("CREATE TABLE bookmarks (address TEXT)")
    connection.close()


def no_database(state: Path) -> None:
    """Makes it something else."""
    state.write_bytes(b"this is not a database" * 100)
