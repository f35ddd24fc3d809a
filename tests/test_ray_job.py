"""A checkout handed to `ray job submit` trains on the cluster; a run that fails makes the job fail."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from saerec_ray.bundle import load_bundle
from saerec_ray.manifest import read_manifest
from tests.small_run import SMALL_CONFIG

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
SECONDS_TO_START = 120
SECONDS_TO_STOP = 3
CONFIG = {
    **SMALL_CONFIG,
    "prepare": {**SMALL_CONFIG["prepare"], "item_core": 60},  # type: ignore[dict-item]
    "dictionary": {**SMALL_CONFIG["dictionary"], "width": 32, "epochs": 20},  # type: ignore[dict-item]
    "train": {**SMALL_CONFIG["train"], "epochs": 1, "baseline": False},  # type: ignore[dict-item]
    "evaluate": {"completeness_users": 20},
    "cluster": {"engine": "auto"},
}


def free_ports(number: int) -> list[int]:
    """Ports that nobody has now; held together, so that all differ."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def environment() -> dict[str, str]:
    """Without PYTHONPATH: the job must find the library in the directory that was handed in."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "RAY_ADDRESS"}}
    return {**kept, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of the job server of a cluster of one node, in a process group of its own."""
    ports = free_ports(6)
    folder = Path(tempfile.mkdtemp(prefix="job-", dir="/tmp"))  # short, because socket paths are limited
    command = [
        *(str(RAY), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus", "2"),
        *("--node-ip-address", "127.0.0.1", "--temp-dir", str(folder)),
        *("--object-store-memory", str(128 << 20), "--include-dashboard", "true"),
        *("--dashboard-host", "127.0.0.1"),
    ]
    names = (
        "--port",
        "--dashboard-port",
        "--ray-client-server-port",
        "--dashboard-agent-listen-port",
        "--dashboard-agent-grpc-port",
        "--metrics-export-port",
    )
    for name, port in zip(names, ports, strict=True):
        command += [name, str(port)]
    with (folder / "start.log").open("w+") as log:
        head = subprocess.Popen(
            command, env=environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        address = f"http://127.0.0.1:{ports[1]}"
        try:
            wait_for_job_server(address, head, folder / "start.log")
            yield address
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            try:
                head.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)
                head.wait()
    shutil.rmtree(folder, ignore_errors=True)


def wait_for_job_server(address: str, head: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        assert head.poll() is None, log.read_text("utf-8")
        try:
            with urllib.request.urlopen(f"{address}/api/jobs/", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"no job server after {SECONDS_TO_START} s: {log.read_text('utf-8')}")


def submit(cluster: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Submits the checkout as it is, with everything in it that git ignores."""
    return subprocess.run(
        [
            *(str(RAY), "job", "submit", "--address", cluster, "--working-dir", ".", "--"),
            *(sys.executable, "-m", "saerec_ray", "run", *arguments),
        ],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1100,
        check=False,
    )


def test_a_submitted_run_trains_with_two_workers_and_leaves_a_bundle(cluster: str, tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(CONFIG), "utf-8")
    job = submit(cluster, "--config", str(config), "--workdir", str(tmp_path / "out"))
    assert job.returncode == 0, job.stdout
    assert "Traceback" not in job.stdout
    trained = read_manifest(tmp_path / "out" / "train")
    assert trained.config["settings"][0]["workers"] == 2
    assert trained.metrics["with_intents"]["epochs"] == [1]
    assert load_bundle(tmp_path / "out" / "bundle").manifest.files


def test_a_run_that_cannot_start_fails_the_job_and_says_why(cluster: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    job = submit(cluster, "--config", str(missing), "--workdir", str(tmp_path / "out"))
    assert job.returncode != 0
    last = job.stdout.splitlines()[-12:]
    assert any(f"The configuration file {missing} does not exist." in line for line in last), job.stdout
    assert "Traceback" not in job.stdout
