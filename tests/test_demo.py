"""The demo on a bundle that is there already: nothing it started outlives it, and failures are sentences."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saerec_ray.data.prepared import SEQUENCES_FILE, SEQUENCES_SCHEMA
from tests.synthetic import write_synthetic_bundle

PROGRAM = """
import sys
from saerec_ray import cli, pipeline
pipeline.STAGES = ()  # all that training would make lies in the work directory
sys.argv = ["saerec", "demo", "--workdir", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """What the demo reads of a finished run."""
    write_synthetic_bundle(tmp_path / "bundle")
    rng = np.random.default_rng(3)
    items = [rng.integers(300, size=12).tolist() for _ in range(20)]
    columns = {
        "user_id": [f"u{number}" for number in range(20)],
        "items": items,
        "times": [[None] * 12] * 20,
        "train_length": [10] * 20,
        "validation_length": [11] * 20,
    }
    (tmp_path / "prepare").mkdir()
    pq.write_table(pa.table(columns, schema=SEQUENCES_SCHEMA), tmp_path / "prepare" / SEQUENCES_FILE)
    return tmp_path


def demo(workdir: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(workdir), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_sigterm_ends_a_demo_that_keeps_serving_and_its_server(workdir: Path) -> None:
    process = demo(workdir, "--keep-serving")
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if "Stop with Ctrl-C" in line:
            break
    found = re.search(r"Serving on 127\.0\.0\.1:(\d+)", shown)
    assert found, shown
    port = int(found[1])
    assert answers(port)
    process.send_signal(signal.SIGTERM)
    _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (0, "")
    assert not answers(port)


def test_a_call_that_fails_ends_the_demo_with_1_and_a_sentence(workdir: Path) -> None:
    with sqlite3.connect(workdir / "state.sqlite") as connection:
        connection.execute("CREATE TABLE events (broken INTEGER)")
    connection.close()
    process = demo(workdir)
    _, complaint = process.communicate()
    assert (process.returncode, "Traceback" in complaint) == (1, False)
    assert "Error: The server of the demo did not answer a call as it should: UNAVAILABLE" in complaint
    assert str(workdir / "server.log") in complaint
