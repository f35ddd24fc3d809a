"""A folder with items of another domain, read with the dictionary of one bundle: ids, titles, codes, hashes.

The codes mean something beside that dictionary alone, so the folder says which one it was and is refused beside
any other. A model that was trained anew on the same dictionary may go on using it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.sparse import csr_array

from saerec_ray.bundle import Bundle, ids_sha256
from saerec_ray.bundle_tensors import is_sparse
from saerec_ray.config import digest, named_model
from saerec_ray.dictionary.sae import CODES_FILE, write_codes
from saerec_ray.errors import InputError
from saerec_ray.evaluation_settings import DOMAIN_NAME
from saerec_ray.hashed_files import FileRecord, ManifestFormat, fault_of_files, records
from saerec_ray.manifest import hash_files, recorded_versions, replaced_folder, timestamp, write_json

FORMAT_VERSION = 1
FOREIGN_MANIFEST = "foreign.json"
TITLES_FILE = "titles.parquet"
TITLES_SCHEMA = pa.schema([("item_id", pa.string()), ("title", pa.string())])
FILES = (TITLES_FILE, CODES_FILE)


class HomeRecord(BaseModel):
    """The bundle that the items were read for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_version: str
    dictionary_sha256: str
    language_model: str
    max_tokens: int | None


class SourceRecord(BaseModel):
    """Where the items come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    data_sha256: str


class ForeignManifest(BaseModel):
    """What a folder of foreign items holds and where it comes from; written last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int
    name: str
    created: str
    items: int
    recentred: bool
    home: HomeRecord
    source: SourceRecord
    item_ids_sha256: str
    versions: dict[str, str]
    files: dict[str, FileRecord]
    manifest_sha256: str
    """Hash of all the fields above."""

    def content_sha256(self) -> str:
        """What manifest_sha256 has to be."""
        return digest(self.model_dump(mode="json", exclude={"manifest_sha256"}))


@dataclass(frozen=True)
class ForeignItems:
    """Items of another domain that a history may hold."""

    name: str
    ids: list[str]  # each NAME/ and the id in the other catalogue
    titles: list[str]  # empty where the other catalogue has none
    codes: csr_array  # (items, intents)


@dataclass(frozen=True)
class LoadedForeignItems(ForeignItems):
    """The same, from a verified folder."""

    folder: Path
    manifest: ForeignManifest


def check_name(name: str) -> None:
    """Raises InputError when items cannot be called NAME/..."""
    if not re.fullmatch(DOMAIN_NAME, name):
        raise InputError(
            f"The name of a domain has 1 to 64 letters, digits, dots, dashes and underscores, and {name!r} does not."
        )


def foreign_id(name: str, item_id: str) -> str:
    """The id of a foreign item, which no item of the home catalogue has."""
    return f"{name}/{item_id}"


def write_foreign_items(
    items: ForeignItems, home: Bundle, source: SourceRecord, recentred: bool, target: Path
) -> ForeignManifest:
    """Writes the folder aside and moves it into place whole, over an older one of its kind.

    Raises InputError when the target holds something else, or when an id is one of the home catalogue.
    """
    check_name(items.name)
    _check_ids(items, home)
    if target.exists() and not (target / FOREIGN_MANIFEST).is_file():
        raise InputError(f"{target} exists and is no folder of foreign items; give another folder to write.")
    try:
        with replaced_folder(target) as folder:
            table = pa.table({"item_id": items.ids, "title": items.titles}, schema=TITLES_SCHEMA)
            pq.write_table(table, folder / TITLES_FILE)
            write_codes(items.codes, folder)
            manifest = ForeignManifest(
                format_version=FORMAT_VERSION,
                name=items.name,
                created=timestamp(),
                items=len(items.ids),
                recentred=recentred,
                home=_home_record(home),
                source=source,
                item_ids_sha256=ids_sha256(items.ids),
                versions=recorded_versions(),
                files=records(folder, hash_files(folder, FILES)),
                manifest_sha256="",
            )
            manifest = manifest.model_copy(update={"manifest_sha256": manifest.content_sha256()})
            write_json(folder / FOREIGN_MANIFEST, manifest.model_dump(mode="json"))
    except OSError as error:
        raise InputError(f"The folder {target} cannot be written: {error.strerror or error}.") from error
    return manifest


def load_foreign_items(folder: Path, home: Bundle) -> LoadedForeignItems:
    """Loads a folder after checking every hash and that it was made for the dictionary of the bundle `home`.

    Raises InputError with the reason when it cannot be used.
    """
    manifest = _read_manifest(folder)
    _check_home(folder, manifest.home, _home_record(home))
    if set(manifest.files) != set(FILES):
        raise _refused(folder, f"{FOREIGN_MANIFEST} does not list exactly the files of foreign items")
    if fault := fault_of_files(folder, manifest.files, {FOREIGN_MANIFEST}):
        raise _refused(folder, fault)
    try:
        table = pq.read_table(folder / TITLES_FILE)
        arrays = load_file(folder / CODES_FILE)
    except (ValueError, OSError, pa.ArrowException, SafetensorError) as error:
        raise _refused(folder, f"a file cannot be read: {' '.join(str(error).split())}") from error
    if not table.schema.equals(TITLES_SCHEMA):
        raise _refused(folder, f"{TITLES_FILE} has other columns than expected")
    found = LoadedForeignItems(
        name=manifest.name,
        ids=table["item_id"].to_pylist(),
        titles=table["title"].to_pylist(),
        codes=_codes(folder, arrays, len(table), home.space.intent_count),
        folder=folder,
        manifest=manifest,
    )
    if manifest.item_ids_sha256 != ids_sha256(found.ids):
        raise _refused(folder, "the order of its items is not the one they were read in")
    _check_ids(found, home)
    return found


def _codes(folder: Path, arrays: dict[str, Any], items: int, intents: int) -> csr_array:
    try:
        offsets, latents, values = arrays["offsets"], arrays["latents"], arrays["values"]
        fits = (
            arrays["width"].tolist() == [intents]
            and offsets.shape == (items + 1,)
            and latents.shape == values.shape == (values.size,)
            and (offsets.dtype, latents.dtype, values.dtype) == (np.int64, np.int32, np.float32)
            and is_sparse(offsets, latents, intents)
        )
    except KeyError as error:
        raise _refused(folder, f"{CODES_FILE} lacks the array {error}") from error
    if not fits:
        raise _refused(folder, f"{CODES_FILE} does not hold codes of {items} items and {intents} intents")
    if not np.isfinite(values).all() or (values < 0).any():
        raise _refused(folder, f"{CODES_FILE} holds negative numbers or numbers that are not finite")
    return csr_array((values, latents, offsets), shape=(items, intents))


def _home_record(home: Bundle) -> HomeRecord:
    return HomeRecord(
        model_version=home.manifest.model_version,
        dictionary_sha256=home.manifest.dictionary_sha256,
        language_model=home.config.embed.model,
        max_tokens=home.config.embed.max_tokens,
    )


def _check_home(folder: Path, made_for: HomeRecord, home: HomeRecord) -> None:
    ours, theirs = ((each.language_model, each.max_tokens) for each in (home, made_for))
    if ours != theirs:
        raise _refused(
            folder,
            f"its texts were read with the language model {named_model(*theirs)}, the bundle reads texts with "
            f"{named_model(*ours)}; run `saerec cross-domain` with this bundle",
        )
    if made_for.dictionary_sha256 != home.dictionary_sha256:
        raise _refused(
            folder,
            f"it was made for the dictionary of model version {made_for.model_version}, and the bundle "
            f"{home.model_version} has another; run `saerec cross-domain` with this bundle",
        )


def _check_ids(items: ForeignItems, home: Bundle) -> None:
    """Raises InputError unless every id is one of this domain, once, and none of the home catalogue."""
    lead = foreign_id(items.name, "")
    if strangers := [item_id for item_id in items.ids if not item_id.startswith(lead) or item_id == lead]:
        raise InputError(f"The item {strangers[0]!r} does not belong to the domain {items.name}.")
    if len(set(items.ids)) != len(items.ids):
        raise InputError(f"The domain {items.name} has two items with one id.")
    if shared := sorted(set(items.ids).intersection(home.items.ids)):
        raise InputError(
            f"The catalogue of the bundle has an item {shared[0]} of its own; give the domain another name."
        )


def _read_manifest(folder: Path) -> ForeignManifest:
    path = folder / FOREIGN_MANIFEST
    if not folder.is_dir():
        raise InputError(f"There is no folder of foreign items at {folder}.")
    try:
        text = path.read_text("utf-8")
        written = ManifestFormat.model_validate_json(text).format_version
        if written != FORMAT_VERSION:
            raise _refused(
                folder,
                f"{FOREIGN_MANIFEST} says format {written}; this version reads format {FORMAT_VERSION}",
            )
        manifest = ForeignManifest.model_validate_json(text)
    except FileNotFoundError as error:
        raise _refused(
            folder, f"it has no {FOREIGN_MANIFEST}; write it with `saerec cross-domain`"
        ) from error
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        raise _refused(folder, f"{FOREIGN_MANIFEST} is damaged") from error
    if manifest.content_sha256() != manifest.manifest_sha256:
        raise _refused(folder, f"the content of {FOREIGN_MANIFEST} does not match its hash")
    return manifest


def _refused(folder: Path, reason: str) -> InputError:
    return InputError(f"The foreign items in {folder} are refused: {reason}.")
