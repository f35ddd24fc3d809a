"""A group of intents kept in a file, to be steered by name; plain JSON, read without numpy or pydantic."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saerec_ray.errors import InputError
from saerec_ray.intents import INTENT_ID

MAX_MEMBERS = 10
"""Intents of a group at most."""


@dataclass(frozen=True)
class GroupMember:
    """One intent of a group."""

    intent_id: str
    label: str
    weight: float  # relative to the strongest, in (0, 1]


@dataclass(frozen=True)
class IntentGroup:
    """Intents that stand for a concept together."""

    name: str
    intents_version: str  # of the catalogue it was found in
    supervised: bool  # fitted to an outcome, because no intent of the dictionary stands for it
    held_out_auc: float
    members: tuple[GroupMember, ...]  # strongest first

    def as_dict(self) -> dict[str, Any]:
        """What a group file holds."""
        return {"format": 1, **asdict(self), "members": [asdict(member) for member in self.members]}

    def strongest(self, count: int) -> Sequence[GroupMember]:
        """At most so many members."""
        return self.members[:count]


def read_group(path: Path) -> IntentGroup:
    """Reads a group file. Raises InputError that names what is wrong with it."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The group file {path} cannot be read: {error}.") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"The group file {path} is not JSON: {error}.") from error
    if not isinstance(values, dict) or values.get("format") != 1:
        raise InputError(f"{path} is not a group file of format 1; make one with `saerec intents outcome`.")
    name, version = values.get("name"), values.get("intents_version")
    supervised, auc = values.get("supervised"), _share(values.get("held_out_auc"))
    members = values.get("members")
    if not (isinstance(name, str) and name and isinstance(version, str)):
        raise InputError(f"{path} is not a group file: name and intents_version must be texts.")
    if not isinstance(supervised, bool) or auc is None:
        raise InputError(
            f"{path} is not a group file: supervised must be true or false, held_out_auc a share."
        )
    if not isinstance(members, list) or not 1 <= len(members) <= MAX_MEMBERS:
        raise InputError(f"{path} is not a group file: members must be a list of 1 to {MAX_MEMBERS} intents.")
    checked = [_member(path, place, each) for place, each in enumerate(members)]
    if len({member.intent_id for member in checked}) < len(checked):
        raise InputError(f"{path} names an intent twice.")
    checked.sort(key=lambda member: (-member.weight, member.intent_id))
    return IntentGroup(name, version, supervised, auc, tuple(checked))


def _member(path: Path, place: int, values: Any) -> GroupMember:
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a group file: members[{place}] must be a mapping.")
    intent_id, label = values.get("intent_id"), values.get("label", "")
    weight = _share(values.get("weight"))
    if not (isinstance(intent_id, str) and re.fullmatch(INTENT_ID, intent_id) and isinstance(label, str)):
        raise InputError(
            f"{path} is not a group file: members[{place}].intent_id is not the id of an intent."
        )
    if not weight:
        raise InputError(
            f"{path} is not a group file: members[{place}].weight must be above 0 and at most 1."
        )
    return GroupMember(intent_id, label, weight)


def _share(value: Any) -> float | None:
    """The number if it is a share, which is all that a group file holds; JSON has ints too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
