"""Killed and stopped trainings on real data end with the bytes of one that nobody disturbed."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.faults.training_process import StageProcess, seconds_until_gone
from tests.small_run import SMALL_CONFIG

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

CONFIG = {
    **SMALL_CONFIG,
    "prepare": {**SMALL_CONFIG["prepare"], "item_core": 80},  # type: ignore[dict-item]
    "dictionary": {**SMALL_CONFIG["dictionary"], "width": 32, "epochs": 20, "workers": 2},  # type: ignore[dict-item]
    "train": {
        **SMALL_CONFIG["train"],  # type: ignore[dict-item]
        "max_length": 10,
        "batch_size": 128,
        "epochs": 2,
        "workers": 2,
        "baseline": False,
    },
    "cluster": {"engine": "ray", "checkpoint_samples": 2500},
}
RESULTS = {"train": "model.safetensors", "dictionary": "dictionary.safetensors"}
LOCAL = ("--set", "cluster.engine=local")
Copy = Callable[[str], Path]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory in which every stage up to the training has finished in peace."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    (workdir / "small.yaml").write_text(yaml.safe_dump(CONFIG), "utf-8")
    for stage in ("prepare", "embed", "dictionary", "intents", "train"):
        code, output = StageProcess(stage, workdir).finish()
        assert code == 0, output
    return workdir


@pytest.fixture
def copied(undisturbed: Path, tmp_path: Path) -> Copy:
    """Copies the work directory without the named stage's result, so that this stage alone runs again."""

    def copied(stage: str) -> Path:
        target = tmp_path / stage
        shutil.copytree(undisturbed, target)
        shutil.rmtree(target / stage)
        return target

    return copied


def sha256(workdir: Path, stage: str) -> str:
    return hashlib.sha256((workdir / stage / RESULTS[stage]).read_bytes()).hexdigest()


def progress(log: str) -> list[tuple[int, int]]:
    """Epoch and samples of every line of a training log."""
    return [(line["epoch"], line["samples"]) for line in map(json.loads, log.splitlines())]


def test_a_killed_worker_changes_nothing(undisturbed: Path, copied: Copy) -> None:
    workdir = copied("train")
    # Rarer than the lines of the log, so that the log tells from where it went on.
    training = StageProcess("train", workdir, "--set", "cluster.checkpoint_samples=7000")
    training.wait_for_checkpoints(1)
    workers = training.workers()
    assert len(workers) == 2
    with next(workdir.glob(".runs/*/*/*/attempt_0001/log.jsonl")).open(encoding="utf-8") as log:
        workers[1].kill()
        code, output = training.finish()
        steps = progress(log.read())
    assert code == 0, output
    assert sha256(workdir, "train") == sha256(undisturbed, "train")
    repeated = [(before, after) for before, after in itertools.pairwise(steps) if after <= before]
    assert len(repeated) <= 1, "it went back once at the most"
    assert steps.count(min(steps)) == 1, "it did not begin from the beginning"
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        pytest.param("train", (), id="train with ray"),
        pytest.param("train", LOCAL, id="train without ray"),
        pytest.param("dictionary", (), id="dictionary with ray"),
    ],
)
def test_after_a_killed_driver_the_same_command_at_once_changes_nothing(
    undisturbed: Path, copied: Copy, stage: str, settings: tuple[str, ...]
) -> None:
    """Its workers live on for a while and may go on writing while the next run is under way."""
    workdir = copied(stage)
    killed = StageProcess(stage, workdir, *settings)
    killed.wait_for_checkpoints(2)
    orphans = killed.workers()
    assert len(orphans) == 2
    killed.send(signal.SIGKILL)

    training = StageProcess(stage, workdir, *settings)
    lived = seconds_until_gone(orphans)
    reached = training.resumed_from()
    code, output = training.finish()

    assert code == 0, output
    assert sha256(workdir, stage) == sha256(undisturbed, stage)
    assert (reached["epoch"], reached.get("samples_done", 0)) > (0, 0), "it began from the beginning"
    print(f"the workers of the killed driver lived for {lived:.1f} s; it went on from {reached}")


@pytest.mark.parametrize(
    ("number", "code", "settings"),
    [
        pytest.param(signal.SIGINT, 130, (), id="Ctrl-C with ray"),
        pytest.param(signal.SIGTERM, 143, (), id="SIGTERM with ray"),
        pytest.param(signal.SIGTERM, 143, LOCAL, id="SIGTERM without ray"),
    ],
)
def test_a_stopped_run_says_one_sentence_and_goes_on_later(
    undisturbed: Path, copied: Copy, number: signal.Signals, code: int, settings: tuple[str, ...]
) -> None:
    workdir = copied("train")
    stopped = StageProcess("train", workdir, *settings)
    stopped.wait_for_checkpoints(2)
    workers = stopped.workers()
    stopped.send(number)
    found, output = stopped.finish()
    assert found == code, output
    said = [line for line in output.splitlines() if not line.startswith("train: ")]
    assert said == ["Stopped. Finished stages are kept; run the same command again to go on."]
    assert seconds_until_gone(workers) < 10
    assert not (workdir / "train").exists()

    training = StageProcess("train", workdir, *settings)
    reached = training.resumed_from()
    assert (reached["epoch"], reached["samples_done"]) > (0, 0), "it began from the beginning"
    found, output = training.finish()
    assert found == 0, output
    assert sha256(workdir, "train") == sha256(undisturbed, "train")
