"""The only reader and writer of bundles: one hashed directory with everything needed to serve."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from saerec_ray.bundle_tensors import (
    BACKBONE_TENSORS,
    DICTIONARY_TENSORS,
    INTENT_TENSORS,
    ITEM_TENSORS,
    POPULATION_ARRAYS,
    TENSOR_FILES,
    Tensors,
    check_tensors,
    companion_tensors,
    read_companions,
    read_tensors,
)
from saerec_ray.config import Config, digest
from saerec_ray.data.prepared import ITEMS_FILE, ITEMS_SCHEMA, PreparedItems, items_table, read_items
from saerec_ray.errors import BundleError
from saerec_ray.hashed_files import FileRecord, ManifestFormat, fault_of_files, records
from saerec_ray.intents.catalogue import CATALOGUE_FILE, Catalogue, write_catalogue
from saerec_ray.intents.population import Population
from saerec_ray.manifest import MANIFEST_NAME, hash_files, replaced_folder, timestamp, write_json
from saerec_ray.scoring import ItemSpace, PriorTable, SteeringTable

FORMAT_VERSION = 1
BUNDLE_MANIFEST = "manifest.json"
CONFIG_FILE = "config.json"
EVALUATION_FILE = "evaluation.json"
FILES = (
    CONFIG_FILE,
    ITEMS_FILE,
    CATALOGUE_FILE,
    *TENSOR_FILES,
    EVALUATION_FILE,
)


class BundleManifest(BaseModel):
    """What a bundle holds and where it comes from; written last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int
    model_version: str
    intents_version: str
    catalog_version: str
    created: str
    seed: int
    config_sha256: str
    data_sha256: str
    dictionary_sha256: str
    item_ids_sha256: str
    versions: dict[str, str]
    scalars: dict[str, float]
    files: dict[str, FileRecord]
    manifest_sha256: str
    """Hash of all the fields above, so that damage to the manifest itself is seen too."""

    def content_sha256(self) -> str:
        """What manifest_sha256 has to be."""
        return digest(self.model_dump(mode="json", exclude={"manifest_sha256"}))


@dataclass(frozen=True)
class BundleContent:
    """Everything that is needed to serve."""

    config: Config
    items: PreparedItems
    catalogue: Catalogue
    space: ItemSpace
    prior: PriorTable
    steering: SteeringTable
    population: Population
    value_quantiles: npt.NDArray[np.float32]  # (quantiles, intents): q_uf over training users, evenly spaced
    label_vectors: npt.NDArray[
        np.float32
    ]  # (intents, d_text): embeddings of label and terms, for text search
    backbone: Tensors
    dictionary: Tensors
    evaluation: dict[str, Any]


@dataclass(frozen=True)
class Bundle(BundleContent):
    """A loaded and verified bundle; never changes."""

    folder: Path
    manifest: BundleManifest


@dataclass(frozen=True)
class BundleOrigin:
    """Where the content of a bundle comes from, for its manifest."""

    data_sha256: str
    dictionary_sha256: str
    versions: dict[str, str]
    seed: int


def ids_sha256(ids: list[str]) -> str:
    """Hash of the item order, which codes, residuals and biases all rely on."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def write_bundle(content: BundleContent, origin: BundleOrigin, target: Path) -> BundleManifest:
    """Writes a bundle aside and moves it into place whole.

    Raises BundleError when the content does not fit together, so that a broken bundle is never written.
    """
    tensors = _tensors(content)
    check_tensors(tensors, len(content.items), len(content.catalogue.intents))
    with replaced_folder(target) as folder:
        write_json(folder / CONFIG_FILE, content.config.model_dump(mode="json"))
        write_json(folder / EVALUATION_FILE, content.evaluation)
        write_catalogue(content.catalogue, folder)
        pq.write_table(items_table(content.items), folder / ITEMS_FILE)
        for name, arrays in tensors.items():
            save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, folder / name)
        hashes = hash_files(folder, FILES)
        created = timestamp()
        content_hash = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
        manifest = BundleManifest(
            format_version=FORMAT_VERSION,
            model_version=f"{created[:16].replace(':', '-')}Z-{content_hash[:7]}",
            intents_version=content.catalogue.intents_version,
            catalog_version=hashes[ITEMS_FILE][:12],
            created=created,
            seed=origin.seed,
            config_sha256=hashes[CONFIG_FILE],
            data_sha256=origin.data_sha256,
            dictionary_sha256=origin.dictionary_sha256,
            item_ids_sha256=ids_sha256(content.items.ids),
            versions=origin.versions,
            scalars={
                "prior_weight": content.space.prior_weight,
                "companion_weight": content.space.companion_weight,
                "public_share": content.prior.public_share,
                "population_users": content.population.users,
                "mean_item_mass": content.population.mean_item_mass,
            },
            files=records(folder, hashes),
            manifest_sha256="",
        )
        manifest = manifest.model_copy(update={"manifest_sha256": manifest.content_sha256()})
        write_json(folder / BUNDLE_MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def load_bundle(folder: Path) -> Bundle:
    """Loads a bundle after checking every hash, shape and number. Raises BundleError with the reason."""
    manifest = _read_manifest(folder)
    _check_files(folder, manifest)
    with _reading(folder, CONFIG_FILE) as path:
        config = Config.model_validate_json(path.read_text("utf-8"))
    with _reading(folder, CATALOGUE_FILE) as path:
        catalogue = Catalogue.model_validate_json(path.read_text("utf-8"))
    with _reading(folder, EVALUATION_FILE) as path:
        evaluation = json.loads(path.read_text("utf-8"))
    with _reading(folder, ITEMS_FILE) as path:
        if not pq.read_schema(path).equals(ITEMS_SCHEMA):
            raise ValueError("it has other columns than expected")
        items = read_items(folder)
    tensors = {}
    for name in TENSOR_FILES:
        with _reading(folder, name) as path:
            tensors[name] = read_tensors(path)
    if ids_sha256(items.ids) != manifest.item_ids_sha256:
        raise BundleError(
            f"Bundle {folder} is refused: the order of its items is not the one it was trained on."
        )
    if catalogue.intents_version != manifest.intents_version:
        raise BundleError(f"Bundle {folder} is refused: {CATALOGUE_FILE} belongs to another dictionary.")
    if [intent.latent for intent in catalogue.intents] != list(range(len(catalogue.intents))):
        raise BundleError(f"Bundle {folder} is refused: {CATALOGUE_FILE} is not in the order of the latents.")
    check_tensors(tensors, len(items), len(catalogue.intents))
    return _assemble(folder, manifest, config, items, catalogue, tensors, evaluation)


@contextlib.contextmanager
def _reading(folder: Path, name: str) -> Iterator[Path]:
    """Yields the path of one file; what goes wrong while it is read becomes the reason of a BundleError."""
    try:
        yield folder / name
    except (ValueError, TypeError, KeyError, OSError, pa.ArrowException, SafetensorError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise BundleError(f"Bundle {folder} is refused: {name} cannot be read: {reason}.") from error


def _assemble(
    folder: Path,
    manifest: BundleManifest,
    config: Config,
    items: PreparedItems,
    catalogue: Catalogue,
    tensors: dict[str, Tensors],
    evaluation: dict[str, Any],
) -> Bundle:
    item, intent, scalars = tensors[ITEM_TENSORS], tensors[INTENT_TENSORS], manifest.scalars
    codes = csr_array(
        (item["code_values"], item["code_intents"], item["code_offsets"]),
        shape=(len(items), len(catalogue.intents)),
    )
    companions = read_companions(item)
    if companions is None and scalars.get("companion_weight"):
        raise BundleError(
            f"Bundle {folder} is refused: its score has companions, and their tensors are missing."
        )
    try:
        prior_weight, public_share = scalars["prior_weight"], scalars["public_share"]
        users, mean_item_mass = int(scalars["population_users"]), scalars["mean_item_mass"]
    except KeyError as error:
        raise BundleError(f"Bundle {folder} is refused: its manifest lacks the number {error}.") from error
    return Bundle(
        folder=folder,
        manifest=manifest,
        config=config,
        items=items,
        catalogue=catalogue,
        space=ItemSpace(
            codes=codes,
            intent_vectors=intent["intent_vectors"],
            residuals=item["residuals"],
            biases=item["biases"],
            popularity=item["popularity"],
            prior_weight=prior_weight,
            companions=companions,
            companion_weight=scalars.get("companion_weight", 0.0),
        ),
        prior=PriorTable(intent["inverse_document_frequency"], intent["public"], public_share),
        steering=SteeringTable(intent["targets"], intent["spreads"], intent["loading_caps"]),
        population=Population(
            users=users,
            mean_item_mass=mean_item_mass,
            **{name: intent[f"population_{name}"] for name in POPULATION_ARRAYS},
        ),
        value_quantiles=intent["value_quantiles"],
        label_vectors=intent["label_vectors"],
        backbone=tensors[BACKBONE_TENSORS],
        dictionary=tensors[DICTIONARY_TENSORS],
        evaluation=evaluation,
    )


def _tensors(bundle: BundleContent) -> dict[str, Tensors]:
    space = bundle.space
    return {
        ITEM_TENSORS: {
            "code_offsets": space.codes.indptr.astype(np.int64),
            "code_intents": space.codes.indices.astype(np.int32),
            "code_values": space.codes.data,
            "residuals": space.residuals,
            "biases": space.biases,
            "popularity": space.popularity,
            **({} if space.companions is None else companion_tensors(space.companions)),
        },
        INTENT_TENSORS: {
            "intent_vectors": space.intent_vectors,
            "inverse_document_frequency": bundle.prior.inverse_document_frequency,
            "public": bundle.prior.public,
            "targets": bundle.steering.targets,
            "spreads": bundle.steering.spreads,
            "loading_caps": bundle.steering.loading_caps,
            "value_quantiles": bundle.value_quantiles,
            "label_vectors": bundle.label_vectors,
            **{f"population_{name}": values for name, values in bundle.population.arrays().items()},
        },
        BACKBONE_TENSORS: bundle.backbone,
        DICTIONARY_TENSORS: bundle.dictionary,
    }


def _read_manifest(folder: Path) -> BundleManifest:
    path = folder / BUNDLE_MANIFEST
    if not folder.is_dir():
        raise BundleError(f"There is no bundle at {folder}.")
    try:
        text = path.read_text("utf-8")
        written = ManifestFormat.model_validate_json(text).format_version
        if written != FORMAT_VERSION:
            raise BundleError(
                f"Bundle {folder} is refused: {BUNDLE_MANIFEST} says format {written}; "
                f"this version reads format {FORMAT_VERSION}."
            )
        manifest = BundleManifest.model_validate_json(text)
    except FileNotFoundError as error:
        raise BundleError(
            f"Bundle {folder} is refused: it has no {BUNDLE_MANIFEST}; it was not written whole."
        ) from error
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        raise BundleError(f"Bundle {folder} is refused: {BUNDLE_MANIFEST} is damaged.") from error
    if manifest.content_sha256() != manifest.manifest_sha256:
        raise BundleError(
            f"Bundle {folder} is refused: the content of {BUNDLE_MANIFEST} does not match its hash."
        )
    return manifest


def _check_files(folder: Path, manifest: BundleManifest) -> None:
    if set(manifest.files) != set(FILES):
        raise BundleError(
            f"Bundle {folder} is refused: its manifest does not list exactly the files of a bundle."
        )
    if fault := fault_of_files(folder, manifest.files, {BUNDLE_MANIFEST, MANIFEST_NAME}):
        raise BundleError(f"Bundle {folder} is refused: {fault}.")
