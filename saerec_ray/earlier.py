"""Earlier results, as bundle or as work directory: their dictionary, the names it got, what it was read on.

Those of another run, and the catalogue that this run's own work directory had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from scipy.sparse import csr_array

from saerec_ray.bundle import BUNDLE_MANIFEST, Bundle, load_bundle
from saerec_ray.config import Config, EmbedConfig, digest, named_model
from saerec_ray.data.prepared import read_items
from saerec_ray.dictionary.concatenated import Dictionaries, read_dictionaries
from saerec_ray.dictionary.sae import Dictionary, Floats, read_codes, read_dictionary
from saerec_ray.dictionary.stability import read_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError, StageError
from saerec_ray.intents.catalogue import CATALOGUE_FILE, Catalogue, read_catalogue
from saerec_ray.intents.identity import NamedLatents, item_keys
from saerec_ray.intents.lineage import (
    BEFORE_FOLDER,
    LINEAGE_FILES,
    from_elsewhere,
    lineage_files,
    read_named_latents,
)
from saerec_ray.manifest import MANIFEST_NAME, file_sha256, hash_files, read_manifest

_WORKDIR_STAGES = ("prepare", "embed", "dictionary", "intents")
_AFRESH = (
    "Restore the folder, or start afresh with new ids: delete it, or run with --set intents.carry_ids=false."
)


@dataclass(frozen=True)
class EarlierRun:
    """What a later run may take over."""

    latents: NamedLatents
    """Those that the catalogue names; what people decided of them is marked as inherited."""
    dictionary: Dictionary
    settings: DictionaryConfig
    embed: EmbedConfig
    stability: Floats | None
    """How well other seeds found the latents of its dictionary again, (latents,), as far as it is known."""


def earlier_sha256(path: Path) -> str:
    """Changes when the earlier result does. Raises InputError when there is none at `path`."""
    if (path / BUNDLE_MANIFEST).is_file():
        return file_sha256(path / BUNDLE_MANIFEST)
    return digest([_manifest_hash(path, stage) for stage in _WORKDIR_STAGES])


def read_earlier(path: Path) -> EarlierRun:
    """Reads a bundle, or a work directory whose intents stage has finished.

    Raises InputError when there is neither, or when it is damaged, or when the latents that a catalogue names are
    not known any more.
    """
    if (path / BUNDLE_MANIFEST).is_file():
        return _from_bundle(load_bundle(path))
    for stage in _WORKDIR_STAGES:
        _manifest_hash(path, stage)
    try:
        dictionary = read_dictionary(path / "dictionary")
        stability = read_stability(path / "dictionary")
        return EarlierRun(
            latents=from_elsewhere(_named_in_workdir(path)),
            dictionary=dictionary,
            settings=DictionaryConfig.model_validate(
                read_manifest(path / "dictionary").config["settings"][0]
            ),
            embed=EmbedConfig.model_validate(read_manifest(path / "embed").config["settings"]),
            stability=None if stability is None else stability[: dictionary.width],
        )
    except (StageError, ValidationError, KeyError, IndexError, OSError, ValueError, SafetensorError) as error:
        raise InputError(f"The work directory {path} cannot be used: {error}") from error


def _named_in_workdir(path: Path) -> NamedLatents:
    """The catalogue of a work directory with the latents it was made of, which the dictionary there may not be."""
    manifest = read_manifest(path / "intents")
    if lineage_files(manifest.files) is not None:
        return read_named_latents(path / "intents")
    if any(manifest.inputs.get(stage) != _manifest_hash(path, stage) for stage in ("prepare", "dictionary")):
        raise InputError(
            f"The catalogue in {path / 'intents'} was not made of the dictionary and items that are there now, so "
            "nobody knows what its ids stood for. Name a bundle of that time instead, or run the stage 'intents' "
            "there again: its ids are new then."
        )
    dictionaries = read_dictionaries(path / "dictionary")
    return NamedLatents(
        catalogue=read_catalogue(path / "intents"),
        decoder=dictionaries.text.decoder,
        codes=read_codes(path / "dictionary"),
        items=item_keys(read_items(path / "prepare")),
        values=dictionaries.attributes,
    )


@dataclass(frozen=True)
class Predecessor:
    """The catalogue whose ids the next one of the same work directory carries on."""

    folder: Path
    files: dict[str, str]
    """Hashes of what is read of it, by path below the folder of intents."""

    @property
    def sha256(self) -> str:
        """Changes when the catalogue or its latents do, and not with where they lie."""
        return digest([self.files[name] for name in sorted(self.files)])

    def read(self) -> NamedLatents:
        """The catalogue with its latents. Raises InputError when it is damaged: its ids would be lost silently."""
        try:
            latents = read_named_latents(self.folder)
            sound = list(hash_files(self.folder, LINEAGE_FILES).values()) == [
                self.files[name] for name in self.files
            ]
        except StageError as error:
            raise InputError(f"Ids cannot be carried over: {error} {_AFRESH}") from error
        if not sound:
            raise InputError(f"Ids cannot be carried over: {self.folder} was changed. {_AFRESH}")
        return latents


def predecessor(
    config: Config, workdir: Path, say: Callable[[str], None] | None = None
) -> Predecessor | None:
    """What the ids of the next catalogue of this work directory are carried over from, unless a path says it.

    The catalogue that is there, if it was made of another dictionary than the one there now, and else what that
    one continues. So the next run with the same settings finds the same. None when there is no such catalogue,
    or when ids are not to be carried. `say` is told when there is one, and not what it was made of.
    Raises InputError when the catalogue that is there has no readable manifest.
    """
    folder = workdir / "intents"
    if config.intents.previous is not None or not config.intents.carry_ids:
        return None
    if not (folder / CATALOGUE_FILE).exists():
        return None
    try:
        manifest = read_manifest(folder)
    except StageError as error:
        raise InputError(
            f"Ids cannot be carried over from the catalogue in {folder}: its {MANIFEST_NAME} is missing or damaged. "
            f"{_AFRESH}"
        ) from error
    below = (
        BEFORE_FOLDER if manifest.inputs.get("dictionary") == _manifest_hash(workdir, "dictionary") else ""
    )
    files = lineage_files(manifest.files, below)
    if files is None and not below and say:
        say(
            f"No ids are carried over: the catalogue that was in {folder} does not hold the latents it names, and the "
            "dictionary it was made of is gone."
        )
    return None if files is None else Predecessor(folder / below, files)


def refuse_own(config: Config, workdir: Path) -> None:
    """Raises InputError when intents.previous names what this run is about to replace."""
    previous = config.intents.previous
    if previous is not None and previous.resolve() in {workdir.resolve(), (workdir / "bundle").resolve()}:
        raise InputError(
            f"intents.previous names {previous}, which this run writes itself. Leave it out: ids are carried over from "
            "the catalogue that the work directory had."
        )


def settled(config: Config) -> Config:
    """The configuration with the settings of the dictionary that dictionary.source names, if it names one.

    Raises InputError when that dictionary does not fit: another language model, or another width than the
    one asked for.
    """
    wanted = config.dictionary
    if wanted.source is None:
        return config
    source = read_earlier(wanted.source)
    ours, theirs = ((each.model, each.max_tokens) for each in (config.embed, source.embed))
    if ours != theirs:
        raise InputError(
            f"The dictionary of {wanted.source} reads texts with {named_model(*theirs)}, this run with "
            f"{named_model(*ours)}; set embed.model and embed.max_tokens to the same."
        )
    width = source.dictionary.width
    if "width" in wanted.model_fields_set and wanted.width != width:
        raise InputError(
            f"dictionary.width is {wanted.width}, but the dictionary of {wanted.source} has {width} latents; "
            "leave dictionary.width out or set it to that."
        )
    taken = {name: getattr(source.settings, name) for name in ("kind", "centre", "active", "prefixes")}
    dictionary = wanted.model_copy(update={**taken, "width": width})
    return config.model_copy(update={"dictionary": dictionary})


def _manifest_hash(path: Path, stage: str) -> str:
    try:
        return read_manifest(path / stage).content_hash
    except StageError as error:
        raise InputError(
            f"{path} is neither a bundle nor a work directory with a finished {stage} stage."
        ) from error


def _from_bundle(bundle: Bundle) -> EarlierRun:
    codes = bundle.space.codes
    try:
        dictionaries = Dictionaries.from_arrays(bundle.dictionary)
        latents = NamedLatents(
            catalogue=bundle.catalogue,
            decoder=dictionaries.text.decoder,
            codes=csr_array((codes.data, codes.indices.astype(np.int64), codes.indptr), shape=codes.shape),
            items=item_keys(bundle.items),
            values=dictionaries.attributes,
        )
        return EarlierRun(
            latents=from_elsewhere(latents),
            dictionary=dictionaries.text,
            settings=bundle.config.dictionary,
            embed=bundle.config.embed,
            stability=_stability(bundle.catalogue, dictionaries.text.width),
        )
    except (KeyError, IndexError) as error:
        raise InputError(f"Bundle {bundle.folder} has no complete dictionary: {error} is missing.") from error


def _stability(catalogue: Catalogue, width: int) -> Floats | None:
    values = [intent.stability for intent in catalogue.intents[:width]]
    known = [value for value in values if value is not None]
    return np.array(known, dtype=np.float32) if len(known) == len(values) else None
