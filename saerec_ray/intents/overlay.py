"""What people correct: a file of edits by intent id that wins over what machines decided."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import CATALOGUE_FILE, ID_PATTERN, Catalogue, Intent, read_catalogue
from saerec_ray.intents.edit import Edit, contradiction
from saerec_ray.intents.listing import MOST_TOLD, listed
from saerec_ray.manifest import write_json

OVERLAY_FILE = "intents-overlay.json"


class Overlay(BaseModel):
    """All edits of a file, by intent id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    intents: dict[Annotated[str, Field(pattern=ID_PATTERN)], Edit] = {}

    def unmatched(self, ids: list[str]) -> list[str]:
        """The edits whose intent is not among the ids, in order."""
        return sorted(set(self.intents) - set(ids))

    def figures(self, ids: list[str]) -> dict[str, Any]:
        """For the manifest: how many edits there are, and which of them have an intent among the ids."""
        missing = self.unmatched(ids)
        return {
            "edits": len(self.intents),
            "applied": len(self.intents) - len(missing),
            "unmatched": missing,
        }

    def sentences(self, ids: list[str]) -> list[str]:
        """What people have to know: the edits that change nothing."""
        missing = self.unmatched(ids)
        if not missing:
            return []
        named = [f"{each} ({label})" if (label := self.intents[each].label) else each for each in missing]
        return [
            f"{len(missing)} of {len(self.intents)} edits in the overlay are of intents that this dictionary does "
            f"not have, and change nothing: {listed(named)}. They stay in the file."
        ]

    def heirs_sentence(self, catalogue: Catalogue) -> list[str]:
        """Of the edits that change nothing, what is closest to their intents now: people may edit that."""
        missing = set(self.unmatched(list(catalogue.by_id())))
        heirs = [
            f"{entry.intent_id}: {', '.join(entry.successors)}"
            for entry in catalogue.deprecated
            if entry.intent_id in missing and entry.successors
        ]
        if not heirs:
            return []
        rest = f"; and of {len(heirs) - MOST_TOLD} more" if len(heirs) > MOST_TOLD else ""
        return [
            f"Closest now to intents that were edited and are gone: {'; '.join(heirs[:MOST_TOLD])}{rest}."
        ]

    def over(self, inherited: Mapping[str, Edit], ids: list[str]) -> Overlay:
        """These edits over those that came with some of the ids, field by field.

        Where the two of one intent cannot hold together, the one of this file holds alone. A label that this file
        gives to another intent, or that came with two ids, is not inherited. Raises InputError as `labels` does.
        """
        intents = dict(self.intents)
        taken = {label.casefold() for label in self.labels(ids).values()}
        for intent_id, before in sorted(inherited.items()):
            here = self.intents.get(intent_id)
            decided = here.model_dump(exclude_none=True) if here else {}
            fields = before.decisions
            label = fields.get("label")
            if label and "label" not in decided:
                if label.casefold() in taken:
                    del fields["label"]
                taken.add(label.casefold())
            if fields and not contradiction(fields | decided):
                intents[intent_id] = Edit.model_validate(fields | decided)
        return Overlay(intents=intents)

    def labels(self, ids: list[str]) -> dict[str, str]:
        """Labels that people gave to these intents. Raises InputError when two of them have the same."""
        given = {each: edit.label for each in ids if (edit := self.intents.get(each)) and edit.label}
        holder: dict[str, str] = {}
        for intent_id, label in given.items():
            if (other := holder.setdefault(label.casefold(), intent_id)) != intent_id:
                raise InputError(
                    f"The overlay gives the label '{label}' to both {other} and {intent_id}; change one of them."
                )
        return given


def overlay_file(configured: Path | None, workdir: Path) -> Path | None:
    """The overlay a run reads: the configured one, else the one in the work directory if it is there.

    Raises InputError when a configured file does not exist.
    """
    if configured is not None:
        if not configured.is_file():
            raise InputError(f"intents.overlay: there is no file {configured}.")
        return configured
    default = workdir / OVERLAY_FILE
    return default if default.exists() else None


def read_overlay(path: Path) -> Overlay:
    """Reads an overlay. Raises InputError that names what is wrong with the file."""
    try:
        return Overlay.model_validate_json(path.read_text("utf-8"))
    except ValidationError as error:
        raise InputError(f"{path} is not a valid overlay of intents: {problems(error)}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The overlay of intents {path} cannot be read: {error}.") from error


def edit_overlay(
    path: Path, intent_id: str, given: Mapping[str, object], *, remove: bool, intents_folder: Path
) -> None:
    """Adds what is given (None: not given) to the edit of an intent, or removes that edit.

    A reader sees the old file or the new one, and of edits at the same time none is lost. Where `intents_folder`
    holds a finished catalogue, the intent must be in it, and no other edit may have given the same label.
    Raises InputError when the id, the edit or the file is not valid, or the file cannot be written.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    if remove and changes:
        raise InputError("--remove takes back all edits of the intent: give nothing else with it.")
    if not remove and not changes:
        raise InputError(
            "Nothing to edit: give --label, --description, --state, --steerable, --kind or --notes."
        )
    ids = _known_ids(intents_folder)
    if ids is not None and not remove and intent_id not in ids:
        raise InputError(
            f"The catalogue in {intents_folder} has no intent {intent_id}: see `saerec intents list`."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            overlay = read_overlay(path) if path.exists() else Overlay()
            changed = _without(overlay, intent_id, path) if remove else _with(overlay, intent_id, changes)
            changed.labels(list(changed.intents) if ids is None else ids)
            write_json(path, changed.model_dump(mode="json", exclude_none=True))
    except OSError as error:
        raise InputError(f"The overlay of intents {path} cannot be written: {error.strerror}.") from error


def _known_ids(intents_folder: Path) -> list[str] | None:
    if not (intents_folder / CATALOGUE_FILE).is_file():
        return None
    return [intent.intent_id for intent in read_catalogue(intents_folder).intents]


def _with(overlay: Overlay, intent_id: str, changes: Mapping[str, object]) -> Overlay:
    before = overlay.intents.get(intent_id)
    edit = (before.model_dump(exclude_none=True) if before else {}) | dict(changes)
    if changes.get("state") == "blocked" and "steerable" not in changes:
        edit.pop("steerable", None)
    values = {"intents": {**overlay.intents, intent_id: edit}}
    try:
        return Overlay.model_validate(values)
    except ValidationError as error:
        raise InputError(f"The edit is not valid: {problems(error)}.") from error


def _without(overlay: Overlay, intent_id: str, path: Path) -> Overlay:
    if intent_id not in overlay.intents:
        raise InputError(f"{path} has no edit of {intent_id}.")
    return Overlay(intents={each: edit for each, edit in overlay.intents.items() if each != intent_id})


def corrected(intent: Intent, edit: Edit, detection_auc: float | None) -> Intent:
    """The intent as people want it; `detection_auc` is that of the label they gave."""
    changes: dict[str, object] = {"edit": Edit(**edit.decisions) if edit.decisions else None}
    if edit.kind is not None:
        changes["kind"] = edit.kind
    if edit.label is not None:
        changes |= {"label": edit.label, "label_source": "human", "detection_auc": detection_auc}
    if edit.description is not None:
        changes["description"] = edit.description
    state = edit.state or ("unpublished" if edit.kind == "nuisance" else intent.state)
    if state == "unpublished" and edit.kind == "nuisance":
        changes |= {"state": state, "verdict": "nuisance, as a person says", "steerable": False}
    if edit.state == "active":
        changes |= {"state": state, "verdict": "published by a person", "steerable": True}
    elif edit.state == "blocked":
        changes |= {"state": state, "verdict": "blocked by a person", "steerable": False}
    if edit.steerable is not None:
        changes["steerable"] = edit.steerable and state == "active"
    return intent.model_copy(update=changes)


def problems(error: ValidationError) -> str:
    """What is wrong with a file, one part after the other, without the words of the library."""
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))} {each['msg'].removeprefix('Value error, ')}".strip()
        for each in error.errors()
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time change files of a folder; the lock goes with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
