"""From two runs to foreign items: the catalogue of one, read with the dictionary of the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import ValidationError
from safetensors import SafetensorError
from scipy.sparse import csr_array

from saerec_ray.backbone.cold import cold_items, met_in_training
from saerec_ray.bundle import BUNDLE_MANIFEST, Bundle, load_bundle
from saerec_ray.config import Config, EmbedConfig, named_model
from saerec_ray.data.prepared import PreparedItems, PreparedSequences, read_items, read_sequences
from saerec_ray.dictionary.attributes import attribute_codes
from saerec_ray.dictionary.concatenated import Dictionaries, read_dictionaries
from saerec_ray.dictionary.followed_phrases import followed_phrases, with_phrases
from saerec_ray.dictionary.foreign import ForeignReader
from saerec_ray.dictionary.sae import Floats, read_codes
from saerec_ray.dictionary_settings import AttributesConfig
from saerec_ray.errors import InputError, StageError
from saerec_ray.foreign_items import (
    ForeignItems,
    SourceRecord,
    check_name,
    foreign_id,
    write_foreign_items,
)
from saerec_ray.manifest import Manifest, hash_files, read_manifest
from saerec_ray.text.embed import load_embeddings
from saerec_ray.text.encoder import TextEncoder

BUNDLE_FOLDER = "bundle"


@dataclass(frozen=True)
class Home:
    """The run whose model is to read the items."""

    bundle: Bundle
    reader: ForeignReader


@dataclass(frozen=True)
class OtherCatalogue:
    """The items of another domain, as far as a home can read them."""

    items: PreparedItems
    vectors: Floats  # text embeddings by the language model of the home: (items, d)
    record: SourceRecord


@dataclass(frozen=True)
class CrossDomainSummary:
    """What reading another catalogue gave."""

    items: int
    learnt: float
    """Latents of texts that are active on an item, on average."""
    exact: float
    """The same of attribute values and phrases."""
    with_exact: float
    """Share of the items that have any of these."""
    recentred: bool
    """Whether the texts were centred on their own mean."""


def read_across(home: Path, other: Path, name: str, target: Path, *, recentre: bool) -> CrossDomainSummary:
    """Reads all items of `other` with the dictionary of `home` and writes them to the folder `target`.

    `home`: a work directory with a finished bundle, or that bundle; `other`: a work directory whose stages prepare
    and embed have finished, or a bundle, whose texts are then encoded. Ids become NAME/ID. `recentre`: see
    ForeignReader.codes. Raises InputError when either cannot be used or both do not fit together.
    """
    check_name(name)
    run = read_home(home)
    found = read_other(other, run.bundle.config.embed)
    codes = run.reader.codes(found.vectors, found.items.texts, found.items.attributes, recentre=recentre)
    items = ForeignItems(
        name, [foreign_id(name, each) for each in found.items.ids], list(found.items.titles), codes
    )
    dictionaries = run.reader.dictionaries
    moved = recentre and bool(dictionaries.text.scaling.mean.any())  # else nothing is centred; see recentred
    write_foreign_items(items, run.bundle, found.record, moved, target)
    return _summary(codes, dictionaries, moved)


def read_home(path: Path) -> Home:
    """The bundle of a work directory, or the bundle at `path`, with what reads foreign items.

    A bundle does not tell which of its phrases is the surest, so a run with followed phrases is read again where
    its interactions are: in the work directory, which may be the folder that the bundle lies in.
    Raises InputError when that is needed and not there, or does not belong to the bundle.
    """
    itself = (path / BUNDLE_MANIFEST).is_file()
    folder = path if itself else path / BUNDLE_FOLDER
    if not itself and not folder.is_dir():
        raise InputError(
            f"{path} is neither a bundle nor a work directory with a finished bundle stage; run `saerec run` first."
        )
    bundle = load_bundle(folder)
    try:
        dictionaries = Dictionaries.from_arrays(bundle.dictionary)
    except (KeyError, IndexError) as error:
        raise InputError(f"Bundle {folder} has no complete dictionary: {error} is missing.") from error
    wanted = bundle.config.dictionary.attributes
    if wanted is None or not dictionaries.attributes:
        return Home(bundle, ForeignReader(dictionaries))
    if wanted.phrases is None:
        return Home(bundle, ForeignReader(dictionaries, wanted.weight))
    return Home(bundle, _read_again(bundle, wanted, dictionaries, folder.resolve().parent))


def _read_again(
    bundle: Bundle, wanted: AttributesConfig, dictionaries: Dictionaries, workdir: Path
) -> ForeignReader:
    """The reader of a bundle with phrases, from the work directory with its interactions."""
    for stage, expected in (
        ("prepare", bundle.manifest.data_sha256),
        ("dictionary", bundle.manifest.dictionary_sha256),
    ):
        found = finished(workdir, stage)
        if found is None or found.content_hash != expected:
            raise InputError(
                f"Bundle {bundle.folder} has intents of phrases that people follow, and to find them again the work "
                f"directory that it was made in is needed; {workdir} does not hold its {stage} stage. "
                "Give a work directory with the finished stages prepare, dictionary and bundle of one run."
            )
        check_files(workdir, found)
    met = met_in_training(bundle.config, read_sequences(workdir / "prepare"), len(bundle.items))
    cold = cold_items(bundle.config, len(bundle.items))
    reader = _checked_reader(wanted, dictionaries, bundle.items, met, cold, bundle.space.codes)
    if reader is None:
        raise InputError(
            f"The phrases of bundle {bundle.folder} come out differently than when it was made, so another version "
            f"of this library made it; run the stages of {workdir} again with `saerec run --force`."
        )
    return reader


def stage_reader(config: Config, workdir: Path) -> ForeignReader:
    """What reads foreign items for a run that has finished its dictionary stage, and perhaps no bundle yet.

    Raises InputError when the attributes or phrases of its own items come out differently than they did then.
    """
    dictionaries = read_dictionaries(workdir / "dictionary")
    wanted = config.dictionary.attributes
    if wanted is None or not dictionaries.attributes:
        return ForeignReader(dictionaries)
    items = read_items(workdir / "prepare")
    met = met_in_training(config, read_sequences(workdir / "prepare"), len(items))
    cold = cold_items(config, len(items))
    reader = _checked_reader(wanted, dictionaries, items, met, cold, read_codes(workdir / "dictionary"))
    if reader is None:
        raise InputError(
            f"The attributes and phrases of the items in {workdir} come out differently than in its dictionary stage: "
            "it had other settings or is of another version of this library. Run that stage and those after it again."
        )
    return reader


def _checked_reader(
    wanted: AttributesConfig,
    dictionaries: Dictionaries,
    items: PreparedItems,
    met: PreparedSequences,
    cold: list[int],
    codes: csr_array,
) -> ForeignReader | None:
    """A reader with all phrases that the run found followed, the surest first.

    `met`: what training met of the run's `items`, of which it must not know `cold`; `codes`: theirs, (items, latents).
    None when the attributes and phrases of the items do not come out as in these.
    """
    phrases: list[str] = []
    if wanted.phrases is not None:
        phrases = followed_phrases(wanted.phrases, items.texts, items.attributes, met, cold)
    most = 0 if wanted.phrases is None else wanted.phrases.most_an_item
    values, again = attribute_codes(wanted, with_phrases(phrases, most, items.texts, items.attributes), cold)
    own = csr_array(codes[:, dictionaries.learnt :])
    if tuple(values) != dictionaries.attributes or abs(again - own).max() > 0:
        return None
    return ForeignReader(dictionaries, wanted.weight, phrases, most)


def read_other(path: Path, embed: EmbedConfig) -> OtherCatalogue:
    """The catalogue of another domain with the vectors that the language model of `embed` gives its texts.

    Raises InputError when `path` has none, is damaged, or was embedded with another language model.
    """
    if (path / BUNDLE_MANIFEST).is_file():
        bundle = load_bundle(path)
        encoder = TextEncoder(embed.model, embed.precision, embed.max_tokens)
        vectors = encoder.encode(bundle.items.texts, embed.batch_size)
        return OtherCatalogue(
            bundle.items, vectors, SourceRecord(folder=str(path), data_sha256=bundle.manifest.data_sha256)
        )
    stages = {stage: finished(path, stage) for stage in ("prepare", "embed")}
    prepared, embedded = stages["prepare"], stages["embed"]
    if prepared is None or embedded is None:
        missing = next(stage for stage, manifest in stages.items() if manifest is None)
        raise InputError(f"{path} is neither a bundle nor a work directory with a finished {missing} stage.")
    for manifest in (prepared, embedded):
        check_files(path, manifest)
    check_language_model(path, embedded, embed)
    try:
        items, vectors = read_items(path / "prepare"), load_embeddings(path / "embed")
    except (KeyError, OSError, ValueError, pa.ArrowException, SafetensorError) as error:
        raise InputError(f"The work directory {path} cannot be used: {error}") from error
    if embedded.inputs.get("prepare") != prepared.content_hash or len(vectors) != len(items):
        raise InputError(
            f"The embed stage of {path} is of another catalogue than its prepare stage; run it again."
        )
    return OtherCatalogue(items, vectors, SourceRecord(folder=str(path), data_sha256=prepared.content_hash))


def check_language_model(path: Path, embedded: Manifest, embed: EmbedConfig) -> None:
    """Raises InputError when the embed stage of the work directory `path` used another language model than `embed`."""
    try:
        theirs = EmbedConfig.model_validate(embedded.config["settings"])
    except (ValidationError, KeyError) as error:
        raise InputError(f"The work directory {path} cannot be used: {error}") from error
    if (theirs.model, theirs.max_tokens) != (embed.model, embed.max_tokens):
        raise InputError(
            f"The texts of {path} were read with {named_model(theirs.model, theirs.max_tokens)}, the home reads texts "
            f"with {named_model(embed.model, embed.max_tokens)}; set embed.model and embed.max_tokens to the same "
            "there and run its embed stage again."
        )


def finished(workdir: Path, stage: str) -> Manifest | None:
    """The manifest of a stage; None when there is none. Raises InputError when it is damaged."""
    folder = workdir / stage
    if not folder.is_dir():
        return None
    try:
        return read_manifest(folder)
    except StageError as error:
        raise InputError(str(error)) from error


def check_files(workdir: Path, manifest: Manifest) -> None:
    """Raises InputError when a file of a finished stage is gone or damaged."""
    folder = workdir / manifest.stage
    try:
        damaged = [
            name
            for name, found in hash_files(folder, manifest.files).items()
            if found != manifest.files[name]
        ]
    except OSError as error:
        raise InputError(f"The {manifest.stage} stage of {workdir} cannot be read: {error}") from error
    if damaged:
        raise InputError(f"{folder / damaged[0]} is damaged; run the {manifest.stage} stage again.")


def _summary(codes: csr_array, dictionaries: Dictionaries, recentred: bool) -> CrossDomainSummary:
    rows = np.repeat(np.arange(codes.shape[0]), np.diff(codes.indptr))
    exact = np.bincount(rows[codes.indices >= dictionaries.learnt], minlength=codes.shape[0])
    return CrossDomainSummary(
        items=int(codes.shape[0]),
        learnt=float((codes.nnz - exact.sum()) / codes.shape[0]),
        exact=float(exact.mean()),
        with_exact=float((exact > 0).mean()),
        recentred=recentred,
    )
