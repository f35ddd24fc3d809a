"""Earlier results, as bundle or as work directory: their dictionary, the names it got, what it was read on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from scipy.sparse import csr_array

from saerec_ray.bundle import BUNDLE_MANIFEST, Bundle, load_bundle
from saerec_ray.config import Config, EmbedConfig, digest
from saerec_ray.data.prepared import read_items
from saerec_ray.dictionary.sae import Dictionary, Floats, read_codes, read_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError, StageError
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.intents.identity import NamedLatents, item_keys
from saerec_ray.manifest import file_sha256, read_manifest

_WORKDIR_STAGES = ("prepare", "embed", "dictionary", "intents")


@dataclass(frozen=True)
class EarlierRun:
    """What a later run may take over."""

    latents: NamedLatents
    dictionary: Dictionary
    settings: DictionaryConfig
    embed: EmbedConfig

    @property
    def stability(self) -> Floats | None:
        """How well other seeds found the latents of its dictionary again, (latents,), as far as it is known."""
        values = [intent.stability for intent in self.latents.catalogue.intents[: self.dictionary.width]]
        known = [value for value in values if value is not None]
        return np.array(known, dtype=np.float32) if len(known) == len(values) else None


def earlier_sha256(path: Path) -> str:
    """Changes when the earlier result does. Raises InputError when there is none at `path`."""
    if (path / BUNDLE_MANIFEST).is_file():
        return file_sha256(path / BUNDLE_MANIFEST)
    return digest([_manifest_hash(path, stage) for stage in _WORKDIR_STAGES])


def read_earlier(path: Path) -> EarlierRun:
    """Reads a bundle, or a work directory whose intents stage has finished.

    Raises InputError when there is neither, or when it is damaged.
    """
    if (path / BUNDLE_MANIFEST).is_file():
        return _from_bundle(load_bundle(path))
    for stage in _WORKDIR_STAGES:
        _manifest_hash(path, stage)
    try:
        settings = read_manifest(path / "dictionary").config["settings"][0]
        embed = read_manifest(path / "embed").config["settings"]
        dictionary = read_dictionary(path / "dictionary")
        return EarlierRun(
            latents=NamedLatents(
                catalogue=read_catalogue(path / "intents"),
                decoder=dictionary.decoder,
                codes=read_codes(path / "dictionary"),
                items=item_keys(read_items(path / "prepare")),
            ),
            dictionary=dictionary,
            settings=DictionaryConfig.model_validate(settings),
            embed=EmbedConfig.model_validate(embed),
        )
    except (StageError, ValidationError, KeyError, OSError, ValueError) as error:
        raise InputError(f"The work directory {path} cannot be used: {error}") from error


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
            f"The dictionary of {wanted.source} reads texts with {_named(*theirs)}, this run with "
            f"{_named(*ours)}; set embed.model and embed.max_tokens to the same."
        )
    width = source.dictionary.width
    if "width" in wanted.model_fields_set and wanted.width != width:
        raise InputError(
            f"dictionary.width is {wanted.width}, but the dictionary of {wanted.source} has {width} latents; "
            "leave dictionary.width out or set it to that."
        )
    taken = {name: getattr(source.settings, name) for name in ("kind", "active", "prefixes")}
    dictionary = wanted.model_copy(update={**taken, "width": width})
    return config.model_copy(update={"dictionary": dictionary})


def _named(model: str, max_tokens: int | None) -> str:
    return model if max_tokens is None else f"{model} cut at {max_tokens} tokens"


def _manifest_hash(path: Path, stage: str) -> str:
    try:
        return read_manifest(path / stage).content_hash
    except StageError as error:
        raise InputError(
            f"{path} is neither a bundle nor a work directory with a finished {stage} stage."
        ) from error


def _from_bundle(bundle: Bundle) -> EarlierRun:
    try:
        dictionary = Dictionary.from_arrays(bundle.dictionary)
    except (KeyError, IndexError) as error:
        raise InputError(f"Bundle {bundle.folder} has no complete dictionary: {error} is missing.") from error
    codes = bundle.space.codes
    return EarlierRun(
        latents=NamedLatents(
            catalogue=bundle.catalogue,
            decoder=dictionary.decoder,
            codes=csr_array((codes.data, codes.indices.astype(np.int64), codes.indptr), shape=codes.shape),
            items=item_keys(bundle.items),
        ),
        dictionary=dictionary,
        settings=bundle.config.dictionary,
        embed=bundle.config.embed,
    )
