"""Groups kept in files: read as written, and refused with what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saerec_ray.errors import InputError
from saerec_ray.group_file import GroupMember, IntentGroup, read_group
from saerec_ray.intent_choice import MOST_LIMITED
from saerec_ray.scoring import MAX_LIMITED_ADJUSTMENTS

GROUP = IntentGroup(
    "high quality",
    "v1",
    False,
    0.71,
    (GroupMember("int-00000001", "silk", 1.0), GroupMember("int-00000002", "hand made", 0.4)),
)


def write(folder: Path, values: Any) -> Path:
    path = folder / "group.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values), "utf-8")
    return path


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    assert read_group(write(tmp_path, GROUP.as_dict())) == GROUP
    assert GROUP.strongest(1) == (GROUP.members[0],)


def test_members_are_read_strongest_first(tmp_path: Path) -> None:
    values = GROUP.as_dict()
    assert read_group(write(tmp_path, values | {"members": values["members"][::-1]})) == GROUP


def test_the_light_command_knows_how_many_act_at_once() -> None:
    assert MOST_LIMITED == MAX_LIMITED_ADJUSTMENTS


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "not a group file of format 1"),
        ({"format": 2}, "not a group file of format 1"),
        ({"name": ""}, "name and intents_version must be texts"),
        ({"supervised": 1}, "supervised must be true or false"),
        ({"held_out_auc": True}, "supervised must be true or false"),
        ({"members": []}, "a list of 1 to 10"),
        ({"members": ["int-00000001"]}, r"members\[0\] must be a mapping"),
        ({"members": [{"intent_id": "silk", "weight": 1}]}, r"members\[0\].intent_id is not the id"),
        ({"members": [{"intent_id": "int-00000001", "weight": 0}]}, r"members\[0\].weight must be above 0"),
        ({"held_out_auc": 10**400}, "supervised must be true or false"),
        ({"held_out_auc": float("nan")}, "held_out_auc a share"),
        ({"members": [{"intent_id": "int-00000001", "weight": 1.01}]}, r"members\[0\].weight"),
        ({"members": [{"intent_id": "int-00000001", "weight": "1"}]}, r"members\[0\].weight"),
        ({"members": [{"intent_id": "int-00000001", "weight": 1}] * 2}, "names an intent twice"),
    ],
)
def test_a_file_that_is_not_valid_is_refused(tmp_path: Path, change: Any, problem: str) -> None:
    values = GROUP.as_dict() | change if isinstance(change, dict) else change
    path = write(tmp_path, values)
    with pytest.raises(InputError, match=problem) as refused:
        read_group(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_group(tmp_path / "nothing.json")
