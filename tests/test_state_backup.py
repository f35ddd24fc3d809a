"""A backup of the state of a running server: whole, of one moment, and never over another file."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from saerec_ray import state_backup
from saerec_ray.errors import InputError, StageError
from saerec_ray.state_backup import back_up
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_ray.v1.intent_service_pb2 import ListIntentsRequest
from tests.command_line import Run
from tests.contract.asking import adjust, answer, event, write
from tests.contract.running import PATIENCE, Api, running, settings_of
from tests.synthetic import write_synthetic_bundle
from tests.unusable_states import no_database, of_another_program


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_bundle(tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state of users.sqlite"


def events_in(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
    connection.close()
    return int(count)


def write_one(api: Api, number: int) -> None:
    api.events.WriteEvents(write(event("u", f"item-{number:04d}")))


def test_a_server_on_the_backup_answers_as_the_one_it_was_taken_of(
    bundle_folder: Path, state: Path, tmp_path: Path, saerec: Run
) -> None:
    restored = tmp_path / "elsewhere" / "state.sqlite"
    restored.parent.mkdir()
    request = messages.RecommendRequest(user_id="u")
    profile = messages.GetSteeringProfileRequest(user_id="u")
    with running(settings_of(bundle_folder, state=state)) as api:
        intent_id = api.intents.ListIntents(ListIntentsRequest(steerable_only=True)).intents[0].intent_id
        for number in (3, 1, 4):
            write_one(api, number)
        api.recommender.SteerIntents(
            messages.SteerIntentsRequest(user_id="u", adjustments=[adjust(intent_id)])
        )
        expected = api.recommender.Recommend(request), api.recommender.GetSteeringProfile(profile)
        done = saerec("state", "backup", "--state", state, "--to", restored)
        alone = shutil.copy(state, tmp_path / "alone.sqlite")
        write_one(api, 5)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{state} is backed up in {restored}: ")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        events_in(Path(alone))
    assert [path.name for path in restored.parent.iterdir()] == ["state.sqlite"], (
        "one file, which can be moved"
    )
    with running(settings_of(bundle_folder, state=restored)) as api:
        found = api.recommender.Recommend(request), api.recommender.GetSteeringProfile(profile)
    assert answer(found[0]) == answer(expected[0])
    assert found[1] == expected[1]


def test_writers_go_on_and_every_backup_holds_what_was_acknowledged_before_it(
    bundle_folder: Path, state: Path, tmp_path: Path
) -> None:
    acknowledged, stop = [0], threading.Event()

    def keep_writing() -> None:
        while not stop.is_set():
            write_one(api, acknowledged[0])
            acknowledged[0] += 1

    with running(settings_of(bundle_folder, state=state)) as api:
        writer = threading.Thread(target=keep_writing)
        writer.start()
        counts = []
        for number in range(5):
            before = acknowledged[0]
            back_up(state, tmp_path / f"{number}.sqlite")
            counts.append((before, acknowledged[0] + 1, events_in(tmp_path / f"{number}.sqlite")))
        stop.set()
        writer.join()
    assert acknowledged[0] > 0
    assert all(before <= found <= after for before, after, found in counts), counts


def test_a_state_that_nobody_serves_is_left_as_it_was(
    bundle_folder: Path, state: Path, tmp_path: Path
) -> None:
    with running(settings_of(bundle_folder, state=state)) as api:
        write_one(api, 1)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    back_up(state, tmp_path / "backup.sqlite")
    assert {
        path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "backup.sqlite"
    } == files


def test_a_file_that_is_there_is_never_overwritten(state: Path, tmp_path: Path, saerec: Run) -> None:
    sqlite3.connect(state).close()
    taken = tmp_path / "monday.sqlite"
    taken.write_text("precious")
    done = saerec("state", "backup", "--state", state, "--to", taken)
    assert (done.code, done.complaint) == (
        2,
        f"Error: {taken} exists already: give the backup another name. ",
    )
    assert taken.read_text() == "precious"
    with pytest.raises(InputError, match="exists already"):
        back_up(state, state)


@pytest.mark.parametrize("attempt", range(5))
def test_of_two_backups_of_one_name_at_the_same_time_one_is_refused(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    with sqlite3.connect(state) as connection:
        connection.execute("CREATE TABLE store_info (schema_version INTEGER)")
    connection.close()
    both, check = threading.Barrier(2), state_backup._check

    def check_and_wait(source: Path, aside: Path) -> None:
        check(source, aside)
        both.wait(PATIENCE)

    monkeypatch.setattr(state_backup, "_check", check_and_wait)
    target = tmp_path / "monday.sqlite"
    with ThreadPoolExecutor(2) as pool:
        failures = [each.exception() for each in [pool.submit(back_up, state, target) for _ in range(2)]]
    assert [type(each) for each in failures if each] == [InputError]
    assert {each.name for each in tmp_path.iterdir()} == {state.name, target.name}, "nothing is left beside"


def test_where_there_are_no_hard_links_a_backup_lands_and_overwrites_nothing(
    bundle_folder: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with running(settings_of(bundle_folder, state=state)) as api:
        write_one(api, 1)
    target = tmp_path / "monday.sqlite"
    assert back_up(state, target) == target.stat().st_size
    assert events_in(target) == 1

    def take_the_name(_state: Path, _aside: Path) -> None:
        target.write_text("precious")

    target.unlink()
    monkeypatch.setattr(state_backup, "_check", take_the_name)
    with pytest.raises(InputError, match="exists already"):
        back_up(state, target)
    assert target.read_text() == "precious"


def broken(state: Path) -> None:
    with sqlite3.connect(state) as connection:
        connection.execute("CREATE TABLE store_info (schema_version INTEGER)")
        connection.execute("CREATE TABLE events (user_id TEXT)")
        connection.execute("CREATE INDEX by_user ON events (user_id)")
        connection.executemany("INSERT INTO events VALUES (?)", [(f"{n:0100d}",) for n in range(2_000)])
    connection.close()
    content = bytearray(state.read_bytes())
    content[40_000:60_000] = b"\xab" * 20_000
    state.write_bytes(content)


def empty(state: Path) -> None:
    state.touch()


@pytest.mark.parametrize(
    ("prepare", "kind", "complaint"),
    [
        (lambda _: None, InputError, "There is no state database"),
        (empty, InputError, "is no state database of saerec serve"),
        (of_another_program, InputError, "is no state database of saerec serve"),
        (no_database, InputError, "cannot be backed up: file is not a database"),
        (broken, StageError, "The copy of .* is damaged, and so is the state itself"),
    ],
)
def test_what_cannot_be_backed_up_is_told_and_leaves_nothing(
    state: Path, tmp_path: Path, prepare, kind: type[Exception], complaint: str
) -> None:
    prepare(state)
    before = set(tmp_path.iterdir())
    with pytest.raises(kind, match=complaint):
        back_up(state, tmp_path / "backup.sqlite")
    assert set(tmp_path.iterdir()) == before


def test_a_folder_that_does_not_exist_is_told(state: Path, tmp_path: Path) -> None:
    sqlite3.connect(state).close()
    with pytest.raises(InputError, match=r"cannot be written into .*missing: No such file or directory"):
        back_up(state, tmp_path / "missing" / "backup.sqlite")
