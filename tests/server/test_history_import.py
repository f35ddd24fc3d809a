"""Histories of a run in a state database: once, whole, and with a sentence where it cannot be."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from saerec_ray.errors import InputError, StageError
from saerec_server import history_import, prepared_histories
from saerec_server.history_import import import_histories
from saerec_server.limits import MAX_HISTORY
from tests.prepared_set import Histories, write_prepared
from tests.unusable_states import no_database, of_another_program

HISTORIES: Histories = {
    f"u{user}": [(f"i{(user + step) % 9}", 1_000 * user + step) for step in range(6)] for user in range(20)
}
ALL = 20 * 6


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    return write_prepared(tmp_path / "out", HISTORIES)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture(autouse=True)
def _small_lots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared_histories, "LOT_EVENTS", 12)


def nothing_told(_done: int, _total: int, _note: str) -> None:
    """For those who do not look."""


def given(workdir: Path, state: Path | None, *, dry_run: bool = False) -> str:
    return import_histories(workdir, state, nothing_told, dry_run=dry_run)


def rows(state: Path) -> list[tuple[str, str, int]]:
    """User, item and time of every event, in the order of a history."""
    with sqlite3.connect(state) as connection:
        found = connection.execute(
            "SELECT user_id, item_id, event_time / 1000000 FROM events ORDER BY user_id, event_time, sequence"
        ).fetchall()
    connection.close()
    return found


def expected(histories: Histories) -> list[tuple[str, str, int | None]]:
    return [(user, item, time) for user in sorted(histories) for item, time in histories[user]]


def test_a_state_is_made_and_filled_and_a_second_time_changes_nothing(workdir: Path, state: Path) -> None:
    assert given(workdir, state) == f"120 events of 20 users are written into {state}, which is new."
    assert rows(state) == expected(HISTORIES)
    assert given(workdir, state) == (
        f"0 events of 0 users are written into {state}; left out: 120 that were there already."
    )
    assert rows(state) == expected(HISTORIES)


def test_without_a_path_it_is_where_a_server_of_the_bundle_looks(workdir: Path) -> None:
    given(workdir, None)
    assert len(rows(workdir / "state.sqlite")) == ALL


def test_progress_is_told_lot_by_lot(workdir: Path, state: Path) -> None:
    told: list[tuple[int, int, str]] = []
    import_histories(workdir, state, lambda *each: told.append(each), dry_run=False)
    assert told == [(users, 20, f"{6 * users} events") for users in range(2, 21, 2)]


def test_a_dry_run_counts_and_leaves_no_file(workdir: Path, state: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert given(workdir, state, dry_run=True) == (
        f"120 events of 20 users would be written into {state}, which is new."
    )
    assert set(tmp_path.iterdir()) == before
    given(write_prepared(tmp_path / "few", {"u3": HISTORIES["u3"]}), state)
    found = rows(state)
    assert given(workdir, state, dry_run=True) == (
        f"114 events of 19 users would be written into {state}; left out: 6 that were there already."
    )
    assert rows(state) == found


def test_later_data_add_what_is_new(workdir: Path, state: Path, tmp_path: Path) -> None:
    given(workdir, state)
    later = {"new": [("i1", 5)], **HISTORIES, "u3": [*HISTORIES["u3"], ("i8", 9_000), ("i1", 9_001)]}
    assert "3 events of 2 users are written" in given(write_prepared(tmp_path / "later", later), state)
    one_more = {**later, "new": [*later["new"], ("i2", 6)]}
    assert "1 event of 1 user is written" in given(write_prepared(tmp_path / "one-more", one_more), state)
    assert rows(state) == expected(one_more)


@pytest.mark.parametrize("lots", range(11))
def test_an_import_that_was_interrupted_goes_on_and_ends_whole(workdir: Path, state: Path, lots: int) -> None:
    def stop(done: int, _total: int, _note: str) -> None:
        if done > 2 * lots:
            raise KeyboardInterrupt

    if lots < 10:
        with pytest.raises(KeyboardInterrupt):
            import_histories(workdir, state, stop, dry_run=False)
        assert len(rows(state)) == 12 * (lots + 1)
    given(workdir, state)
    assert rows(state) == expected(HISTORIES)


def test_what_is_left_out_is_in_the_sentence_with_the_reason(tmp_path: Path, state: Path) -> None:
    long: list[tuple[str, int | None]] = [(f"i{place}", None) for place in range(MAX_HISTORY + 1)]
    odd = write_prepared(tmp_path / "odd", {"u": [*long, ("a\tb", None)], "v" * 257: [("i1", None)]})
    assert given(odd, state) == (
        f"200 events of 1 user are written into {state}, which is new, in their order from the first second of 1970 "
        "on, because the data have no times; left out: 1 older than the latest 200 of their user, 1 of 1 users whose "
        "ids the API refuses, 1 with items whose ids the API refuses."
    )
    ahead = write_prepared(tmp_path / "ahead", {"u": [("a", 2**40)]})
    assert given(ahead, state) == (
        f"0 events of 0 users are written into {state}; left out: 1 at times in the future or before the year 1."
    )


def lock(state: Path) -> sqlite3.Connection:
    other = sqlite3.connect(state, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_import, "STORE_SECONDS", 0.1)


@pytest.mark.usefixtures("_impatient")
def test_it_waits_for_another_writer_and_ends_whole(workdir: Path, state: Path, tmp_path: Path) -> None:
    given(write_prepared(tmp_path / "few", {"u3": HISTORIES["u3"]}), state)
    other = lock(state)

    def let_go() -> None:
        time.sleep(1.0)
        other.execute("ROLLBACK")
        other.close()

    waiting = threading.Thread(target=let_go)
    waiting.start()
    given(workdir, state)
    waiting.join()
    assert rows(state) == expected(HISTORIES)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("half_way", [False, True])
def test_a_database_that_stays_locked_is_one_sentence(
    workdir: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half_way: bool
) -> None:
    monkeypatch.setattr(history_import, "PATIENCE_SECONDS", 0.5)
    given(write_prepared(tmp_path / "few", {"u3": HISTORIES["u3"]}), state)
    held = [] if half_way else [lock(state)]

    def tell(_done: int, _total: int, _note: str) -> None:
        if not held:
            held.append(lock(state))

    with pytest.raises(
        StageError, match=r"state.sqlite is locked by another process for more than 0 seconds"
    ):
        import_histories(workdir, state, tell, dry_run=False)
    held[0].close()
    given(workdir, state)
    assert rows(state) == expected(HISTORIES)


def test_a_full_disk_is_one_sentence_and_what_was_written_stays(workdir: Path, state: Path) -> None:
    given(write_prepared(workdir.parent / "few", {"u3": HISTORIES["u3"]}), state)
    many = {f"m{user}": [("i" * 250 + str(place), place) for place in range(20)] for user in range(100)}
    write_prepared(workdir, many)
    connected = history_import.Store.open

    async def small(path: Path, seconds: float) -> history_import.Store:
        """A database that may not grow, which SQLite tells as it tells a full disk."""
        from sqlalchemy import event

        store = await connected(path, seconds)
        event.listen(
            store._engine.sync_engine,
            "begin",
            lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 60"),
        )
        return store

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(history_import.Store, "open", small)
        with pytest.raises(
            StageError, match=r"state.sqlite cannot be written, because the disk is full; what"
        ):
            given(workdir, state)
    assert 6 < len(rows(state)) < 6 + 2_000
    given(workdir, state)
    assert len(rows(state)) == 6 + 2_000


def other_layout(state: Path) -> None:
    with sqlite3.connect(state) as connection:
        connection.execute("UPDATE store_info SET schema_version = 2")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (other_layout, "has layout 2; this version reads layout 1"),
        (of_another_program, "is no state database of saerec serve"),
        (no_database, "cannot be used: file is not a database"),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_database_that_is_not_of_this_server_is_refused_and_left_as_it_is(
    workdir: Path, state: Path, spoil, complaint: str, dry_run: bool
) -> None:
    given(workdir, state)
    spoil(state)
    before = state.read_bytes()
    with pytest.raises(InputError, match=complaint):
        given(workdir, state, dry_run=dry_run)
    assert state.read_bytes() == before


def test_a_database_that_fails_otherwise_says_how(workdir: Path, state: Path) -> None:
    given(workdir, state)
    with sqlite3.connect(state) as connection:
        connection.execute("ALTER TABLE events RENAME COLUMN item_id TO product")
    connection.close()
    with pytest.raises(StageError, match=r"state.sqlite failed: no such column: events.item_id; what was"):
        given(workdir, state)
