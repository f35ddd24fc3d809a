"""Expired state leaves the database of a running server."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from saerec_server import store
from saerec_server.limits import EVENT_ID_SECONDS
from tests.contract.asking import event, write
from tests.contract.running import PATIENCE, running, settings_of


def test_a_server_removes_a_backlog_while_it_takes_writes(
    bundle_folder: Path, tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SWEEP_TIMEOUT_SECONDS", PATIENCE)  # a sweep that fails waits for an hour
    settings = settings_of(bundle_folder, state=tmp_path / "state.sqlite")
    with running(settings):
        pass
    long_ago = time.time_ns() // 1000 - EVENT_ID_SECONDS * 1_000_000
    rows = [(f"old {number}", user, long_ago) for number in range(4 * store.SWEEP_ROWS)]
    connection = sqlite3.connect(settings.state_path)
    with connection:
        connection.executemany("INSERT INTO event_ids (event_id, user_id, write_time) VALUES (?, ?, ?)", rows)
    with running(settings) as api:
        written, left = 0, len(rows)
        end = time.monotonic() + 2 * PATIENCE
        while left and time.monotonic() < end:
            written += api.events.WriteEvents(write(event(user, "item-0001"))).accepted_count
            query = "SELECT count(*) FROM event_ids WHERE write_time <= ?"
            (left,) = connection.execute(query, [long_ago]).fetchone()
        assert (left, written > 0) == (0, True)
    connection.close()
