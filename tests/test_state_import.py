"""`saerec state import` as a person types it: one sentence, progress, and signals that do no harm."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import Run
from tests.prepared_set import Histories, write_prepared
from tests.small_shop import write_shop

MANY: Histories = {
    f"u{user}": [(f"i{(user + step) % 50}", 1_000 + step) for step in range(20)] for user in range(1_500)
}


def test_what_a_stage_prepared_of_a_shop_is_written_and_told_in_one_sentence(
    saerec: Run, tmp_path: Path
) -> None:
    workdir, state = tmp_path / "out", tmp_path / "state.sqlite"
    saerec("prepare", "--config", write_shop(tmp_path / "shop"), "--workdir", workdir)
    only = saerec("state", "import", "--workdir", workdir, "--state", state, "--dry-run")
    assert only.out == f"72 events of 12 users would be written into {state}, which is new.\n"
    assert not state.exists()
    done = saerec("state", "import", "--workdir", workdir, "--state", state)
    assert (done.code, done.err) == (0, "import: started\n")
    assert done.out == f"72 events of 12 users are written into {state}, which is new.\n"
    with sqlite3.connect(state) as connection:
        found = connection.execute(
            "SELECT item_id, event_time FROM events WHERE user_id = 'u7' ORDER BY 2"
        ).fetchall()
    connection.close()
    assert found == [(f"i{(7 + step) % 10}", (7_000 + step) * 1_000_000) for step in range(6)]
    again = saerec("state", "import", "--workdir", workdir, "--state", state)
    assert (
        again.out == f"0 events of 0 users are written into {state}; left out: 72 that were there already.\n"
    )


def test_what_cannot_be_imported_ends_with_2_and_one_sentence(saerec: Run, tmp_path: Path) -> None:
    done = saerec("state", "import", "--workdir", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err
    assert "has no finished prepare stage; run `saerec run` or `saerec prepare` first." in done.complaint
    workdir = write_prepared(tmp_path / "out", {"u": [("a", 1)]})
    done = saerec("state", "import", "--workdir", workdir, "--state", tmp_path / "missing" / "state.sqlite")
    assert done.code == 2
    assert "state.sqlite cannot be used: unable to open database file." in done.complaint


def events(state: Path) -> list[tuple[str, str, int]]:
    with sqlite3.connect(f"file:{state}?mode=ro", uri=True) as connection:
        found = connection.execute(
            "SELECT user_id, item_id, event_time FROM events ORDER BY user_id, event_time, sequence"
        ).fetchall()
    connection.close()
    return found


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "Stopped. What was written stays; run the same command again to go on."),
        (signal.SIGTERM, 143, "Stopped. What was written stays; run the same command again to go on."),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_an_import_that_was_stopped_goes_on_where_it_was(
    saerec: Run, tmp_path: Path, number: int, code: int, said: str
) -> None:
    workdir, state = write_prepared(tmp_path / "out", MANY), tmp_path / "state.sqlite"
    arguments = ("state", "import", "--workdir", str(workdir), "--state", str(state))
    process = subprocess.Popen(
        # Processes in the background of a shell are started with Ctrl-C ignored.
        [
            sys.executable,
            "-c",
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
            f"sys.argv = ['saerec', *{arguments}]; from saerec_ray.__main__ import main; main()",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if events(state):
                    break
            except sqlite3.Error:
                pass  # the file or its tables are not there yet
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert out == ""
    assert "Traceback" not in err
    assert said in " ".join(err.split())
    half = len(events(state))
    assert 0 < half < 30_000
    assert half % 20 == 0, "users are written whole"
    done = saerec(*arguments)
    assert f"left out: {half:,} that were there already" in done.out
    whole = [(user, item, second) for user, met in MANY.items() for item, second in met]
    assert [(user, item, time // 1_000_000) for user, item, time in events(state)] == sorted(
        whole, key=lambda each: (each[0], each[2])
    )
