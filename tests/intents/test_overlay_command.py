"""`saerec intents edit`: corrections by people, written to a file and taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saerec_ray.intents.catalogue import stable_ids, write_catalogue
from saerec_ray.intents.overlay import OVERLAY_FILE
from tests.command_line import Run
from tests.intents.planted import plant

GONE = "int-0000dead"


def stored(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_an_edit_is_written_to_the_work_directory_and_later_ones_add_to_it(
    saerec: Run, tmp_path: Path
) -> None:
    edit = ("intents", "edit", GONE, "--workdir", tmp_path)
    first = saerec(*edit, "--label", "Nails", "--notes", "asked marketing")
    assert first.code == 0
    assert str(tmp_path / OVERLAY_FILE) in first.err
    assert "saerec run" in first.err
    assert saerec(*edit, "--no-steerable", "--state", "active", "--description", "All for nails.").code == 0
    assert saerec(*edit, "--label", "Nail care").code == 0
    assert stored(tmp_path / OVERLAY_FILE) == {
        "format": 1,
        "intents": {
            GONE: {
                "label": "Nail care",
                "notes": "asked marketing",
                "steerable": False,
                "state": "active",
                "description": "All for nails.",
            }
        },
    }


def test_an_edit_can_go_to_another_file(saerec: Run, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mine.json"
    assert saerec("intents", "edit", GONE, "--label", "Nails", "--overlay", path, "-w", tmp_path).code == 0
    assert GONE in stored(path)["intents"]
    assert not (tmp_path / OVERLAY_FILE).exists()


def test_blocking_takes_back_that_it_was_steerable(saerec: Run, tmp_path: Path) -> None:
    edit = ("intents", "edit", GONE, "-w", tmp_path)
    saerec(*edit, "--steerable")
    assert saerec(*edit, "--state", "blocked").code == 0
    assert stored(tmp_path / OVERLAY_FILE)["intents"][GONE] == {"state": "blocked"}


def test_the_kind_can_be_told(saerec: Run, tmp_path: Path) -> None:
    edit = ("intents", "edit", GONE, "-w", tmp_path)
    assert saerec(*edit, "--kind", "item property").code == 0
    assert stored(tmp_path / OVERLAY_FILE)["intents"][GONE] == {"kind": "item property"}
    refused = saerec(*edit, "--kind", "nuisance", "--state", "active")
    assert refused.code == 2
    assert "state cannot be active" in refused.err


def test_an_edit_can_be_taken_back(saerec: Run, tmp_path: Path) -> None:
    edit = ("intents", "edit", GONE, "-w", tmp_path)
    saerec(*edit, "--label", "Nails")
    assert saerec(*edit, "--remove").code == 0
    assert stored(tmp_path / OVERLAY_FILE)["intents"] == {}
    again = saerec(*edit, "--remove")
    assert again.code == 2
    assert f"has no edit of {GONE}" in again.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([GONE], "Nothing to edit"),
        ([GONE, "--label", " "], "must not be empty"),
        ([GONE, "--label", "x" * 81], "at most 80"),
        ([GONE, "--state", "deprecated"], "deprecated"),
        ([GONE, "--state", "blocked", "--steerable"], "a blocked intent cannot be steerable"),
        ([GONE, "--remove", "--label", "Nails"], "--remove takes back all edits"),
        (["nails", "--label", "Nails"], "nails"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_writes_nothing(
    saerec: Run, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    refused = saerec("intents", "edit", *arguments, "-w", tmp_path)
    assert refused.code == 2
    assert problem in refused.err
    assert not (tmp_path / OVERLAY_FILE).exists()


def test_where_there_is_a_catalogue_the_intent_must_be_in_it_and_the_label_free(
    saerec: Run, tmp_path: Path
) -> None:
    planted = plant(attributes=False)
    ids = stable_ids(planted.decoder)
    (tmp_path / "intents").mkdir()
    write_catalogue(planted.build()[0], tmp_path / "intents")
    unknown = saerec("intents", "edit", GONE, "--label", "Nails", "-w", tmp_path)
    assert unknown.code == 2
    assert f"has no intent {GONE}" in unknown.err
    assert saerec("intents", "edit", ids[0], "--label", "Nails", "-w", tmp_path).code == 0
    double = saerec("intents", "edit", ids[1], "--label", "nails", "-w", tmp_path)
    assert double.code == 2
    assert f"to both {ids[0]} and {ids[1]}" in double.err
    assert list(stored(tmp_path / OVERLAY_FILE)["intents"]) == [ids[0]]


def test_a_damaged_overlay_is_not_overwritten(saerec: Run, tmp_path: Path) -> None:
    (tmp_path / OVERLAY_FILE).write_text("{", "utf-8")
    refused = saerec("intents", "edit", GONE, "--label", "Nails", "-w", tmp_path)
    assert refused.code == 2
    assert "not a valid overlay" in refused.err
    assert (tmp_path / OVERLAY_FILE).read_text("utf-8") == "{"
