"""Corrections by people in a run: what they make again, and what is said of those that have no intent."""

from __future__ import annotations

from pathlib import Path

import pytest

from saerec_ray import pipeline
from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import read_catalogue, stable_ids
from saerec_ray.intents.overlay import OVERLAY_FILE, edit_overlay
from saerec_ray.manifest import read_manifest
from saerec_ray.stage_inputs import stage_hash
from tests.command_line import Run
from tests.intents.planted import plant
from tests.intents.stage_folders import Workdir, planted_workdir

GONE = "int-0000dead"


@pytest.fixture(scope="module")
def ids() -> list[str]:
    return stable_ids(plant(attributes=False).decoder)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    return planted_workdir(plant(attributes=False), tmp_path / "out", monkeypatch)


def test_an_edit_runs_the_stage_again_and_nothing_else_does(
    workdir: Workdir, saerec: Run, ids: list[str]
) -> None:
    machine = workdir.run()
    assert workdir.run() == machine
    assert workdir.said.endswith("intents: unchanged, skipped\n")
    assert saerec("intents", "edit", ids[0], "--label", "Nails", "-w", workdir.path).code == 0
    assert workdir.run().intents[0].label == "Nails"
    assert saerec("intents", "edit", ids[0], "--label", "Nail care", "-w", workdir.path).code == 0
    assert workdir.run().intents[0].label == "Nail care"
    workdir.run()
    assert workdir.said.endswith("intents: unchanged, skipped\n")
    assert saerec("intents", "edit", ids[0], "--remove", "-w", workdir.path).code == 0
    assert workdir.run() == machine


def test_another_label_trains_nothing_again(workdir: Workdir, saerec: Run, ids: list[str]) -> None:
    """Training reads the population; the bundle reads all of the stage."""

    def inputs(stage: str) -> list[str]:
        (reads,) = [each.reads for each in pipeline.STAGES if each.name == stage]
        return [stage_hash(workdir.path, name) for name in reads if name.startswith("intents")]

    workdir.run()
    train, bundle = inputs("train"), inputs("bundle")
    saerec("intents", "edit", ids[0], "--label", "Nails", "-w", workdir.path)
    workdir.run()
    assert inputs("train") == train
    assert len(train) == 1
    assert inputs("bundle") != bundle


def test_the_configured_overlay_is_read_and_recorded(
    workdir: Workdir, ids: list[str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.json"
    edit_overlay(mine, ids[0], {"label": "Nails"}, remove=False, intents_folder=tmp_path)
    workdir.intents = {"overlay": str(mine)}
    assert workdir.run().intents[0].label == "Nails"
    manifest = read_manifest(workdir.path / "intents")
    assert "overlay" in manifest.inputs
    assert manifest.metrics["overlay"] == {"edits": 1, "applied": 1, "unmatched": []}


def test_the_run_says_which_edits_have_no_intent_any_more(workdir: Workdir) -> None:
    edit_overlay(
        workdir.path / OVERLAY_FILE, GONE, {"label": "Nails"}, remove=False, intents_folder=workdir.path
    )
    workdir.run()
    assert (
        "intents: 1 of 1 edits in the overlay are of intents that this dictionary does not have"
        in workdir.said
    )
    assert f"{GONE} (Nails)" in workdir.said
    assert read_manifest(workdir.path / "intents").metrics["overlay"]["unmatched"] == [GONE]


def test_a_damaged_overlay_stops_the_stage_and_keeps_the_old_catalogue(workdir: Workdir) -> None:
    machine = workdir.run()
    (workdir.path / OVERLAY_FILE).write_text("{", "utf-8")
    with pytest.raises(InputError, match="not a valid overlay"):
        workdir.run()
    assert read_catalogue(workdir.path / "intents") == machine
