"""What a stage reads: the hashes of it, and whether the stages before were made of each other with these settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from saerec_ray.config import Config
from saerec_ray.errors import InputError, StageError
from saerec_ray.manifest import read_manifest

_READ_WITH_SETTINGS = ("train",)
"""The weights of an encoder say nothing of its heads: its settings decide what they compute."""
_READ_AS_THEY_ARE = ("evaluate",)
"""A bundle takes the report there is: names may be edited after it, without measuring again."""


def stage_hash(workdir: Path, name: str) -> str:
    """The hash of a finished stage, or of one file of it, `stage/file`. Raises StageError where there is none."""
    stage, _, file = name.partition("/")
    manifest = read_manifest(workdir / stage)
    if file and file not in manifest.files:
        raise StageError(
            f"The {stage} stage in {workdir} was written by another version: it has no {file}; run it again."
        )
    return manifest.files[file] if file else manifest.content_hash


def plain(settings: Any) -> Any:
    """Settings as JSON has them."""
    if isinstance(settings, list):
        return [plain(part) for part in settings]
    return settings.model_dump(mode="json") if hasattr(settings, "model_dump") else settings


def refuse_mixture(
    reads: tuple[str, ...],
    settings: Mapping[str, Callable[[Config], Any]],
    config: Config,
    workdir: Path,
) -> None:
    """Refuses stages that do not belong together: codes of one numbering of items and sequences of another.

    `reads`: what a stage is about to read; `settings`: what decides each stage. A stage must have been made of the
    very files that are there now, and with the settings that are given now where these decide how its files are read.
    Raises InputError.
    """
    for name in dict.fromkeys(read.partition("/")[0] for read in reads):
        if name in _READ_AS_THEY_ARE:
            continue
        found = read_manifest(workdir / name)
        if name in _READ_WITH_SETTINGS:
            other = _difference(found.config.get("settings"), plain(settings[name](config)), name)
            if other:
                raise InputError(
                    f"The {name} stage in {workdir} was made with other settings ({other}): run saerec {name} again, "
                    "or give the settings it was made with."
                )
        if name == "prepare":  # its inputs are files of the source, whatever they are called
            continue
        for read, recorded in found.inputs.items():
            if read.partition("/")[0] in settings and stage_hash(workdir, read) != recorded:
                raise InputError(
                    f"The {name} stage in {workdir} was made of another {read.partition('/')[0]} stage than the one "
                    f"that is there now: run saerec {name} again."
                )


def _difference(made: Any, given: Any, name: str) -> str:
    """The first setting in which two differ, in words; empty where they agree.

    A setting that only one has, or that is not recorded, is of another version, and says nothing.
    """
    if isinstance(made, dict) and isinstance(given, dict):
        both = [(made[key], given[key], f"{name}.{key}") for key in made if key in given]
    elif isinstance(made, list) and isinstance(given, list) and len(made) == len(given):
        both = [(one, other, name) for one, other in zip(made, given, strict=True)]
    else:
        return "" if made is None or made == given else f"{name} {made}, now {given}"
    return next((found for one, other, path in both if (found := _difference(one, other, path))), "")
