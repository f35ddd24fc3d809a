"""A bundle comes back as it was written, or is refused with one sentence that says why."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from saerec_ray import bundle as bundles
from saerec_ray.bundle import (
    BUNDLE_MANIFEST,
    CONFIG_FILE,
    EVALUATION_FILE,
    FILES,
    Bundle,
    BundleContent,
    BundleManifest,
    BundleOrigin,
    load_bundle,
    write_bundle,
)
from saerec_ray.bundle_tensors import (
    BACKBONE_TENSORS,
    DICTIONARY_TENSORS,
    INTENT_TENSORS,
    ITEM_TENSORS,
)
from saerec_ray.errors import BundleError
from saerec_ray.hashed_files import FileRecord
from saerec_ray.intents.catalogue import CATALOGUE_FILE
from saerec_ray.manifest import file_sha256
from saerec_server.registry import load_model
from tests.synthetic import load_synthetic_bundle

EVERY_FILE = (*FILES, BUNDLE_MANIFEST)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_synthetic_bundle(tmp_path_factory.mktemp("whole") / "bundle")


@pytest.fixture
def copied(whole: Bundle, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole.folder, tmp_path / "bundle"))


def content_of(bundle: Bundle) -> BundleContent:
    return BundleContent(**{name: getattr(bundle, name) for name in BundleContent.__dataclass_fields__})


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def seal(folder: Path, **changes: Any) -> None:
    """Makes the manifest agree with the files again, as a careless tool would."""
    manifest = BundleManifest.model_validate_json((folder / BUNDLE_MANIFEST).read_text("utf-8"))
    files = {
        name: FileRecord(bytes=(folder / name).stat().st_size, sha256=file_sha256(folder / name))
        for name in manifest.files
    }
    changed = manifest.model_copy(update={"files": files, **changes})
    sealed = changed.model_copy(update={"manifest_sha256": changed.content_sha256()})
    (folder / BUNDLE_MANIFEST).write_text(sealed.model_dump_json(), "utf-8")


def change_tensor(folder: Path, file: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensors = load_file(folder / file)
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    save_file(tensors, folder / file)
    seal(folder)


def refusal(folder: Path) -> str:
    """What the server says of a bundle that it must refuse, in one sentence without line breaks."""
    with pytest.raises(BundleError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bundle_comes_back_bit_for_bit(whole: Bundle, tmp_path: Path) -> None:
    write_bundle(content_of(whole), BundleOrigin("0" * 64, "1" * 64, {"python": "3"}, 7), tmp_path / "again")
    again = load_bundle(tmp_path / "again")
    for name in FILES:
        assert again.manifest.files[name] == whole.manifest.files[name]
    assert again.config == whole.config
    assert again.items == whole.items
    assert again.catalogue == whole.catalogue
    assert again.space.prior_weight == whole.space.prior_weight
    assert again.prior.public_share == whole.prior.public_share
    assert (again.population.users, again.population.mean_item_mass) == (
        whole.population.users,
        whole.population.mean_item_mass,
    )
    np.testing.assert_array_equal(again.space.item_vectors, whole.space.item_vectors)


def test_the_version_changes_with_the_content(whole: Bundle, tmp_path: Path) -> None:
    origin = BundleOrigin("0" * 64, "1" * 64, {"python": "3"}, 7)
    space = replace(whole.space, biases=whole.space.biases + np.float32(0.5))
    other = write_bundle(replace(content_of(whole), space=space), origin, tmp_path / "other")
    assert other.model_version.rpartition("-")[2] != whole.manifest.model_version.rpartition("-")[2]
    assert other.catalog_version == whole.manifest.catalog_version
    assert other.intents_version == whole.manifest.intents_version


@pytest.mark.parametrize("name", EVERY_FILE)
def test_one_flipped_bit_anywhere_is_refused_naming_the_file(copied: Path, name: str) -> None:
    path = copied / name
    bits = path.stat().st_size * 8
    for bit in np.random.default_rng(1).integers(bits, size=25 if name != BUNDLE_MANIFEST else 400):
        flip(path, int(bit))
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            load_bundle(copied)
        flip(path, int(bit))
    load_bundle(copied)  # undamaged again


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_file_cut_short_is_refused_naming_it(copied: Path, name: str) -> None:
    content = (copied / name).read_bytes()
    for kept in (0, 1, len(content) // 2, len(content) - 2):
        (copied / name).write_bytes(content[:kept])
        assert name in refusal(copied)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_missing_file_is_refused_naming_it(copied: Path, name: str) -> None:
    (copied / name).unlink()
    assert name in refusal(copied)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file_is_refused(copied: Path, whole: Bundle, name: str) -> None:
    (copied / name).unlink()
    (copied / name).symlink_to(whole.folder / name)
    assert "not a plain file" in refusal(copied)


def test_two_files_in_each_others_place_are_refused(copied: Path) -> None:
    one, other = copied / ITEM_TENSORS, copied / INTENT_TENSORS
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert INTENT_TENSORS in refusal(copied)


def test_a_stranger_in_the_folder_is_refused(copied: Path) -> None:
    (copied / "weights.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    assert "unknown file weights.pkl" in refusal(copied)


def test_a_folder_that_does_not_exist_is_said_so(tmp_path: Path) -> None:
    assert "There is no bundle at" in refusal(tmp_path / "nowhere")


def test_a_bundle_of_a_later_format_is_refused_with_both_formats(copied: Path) -> None:
    later = json.loads((copied / BUNDLE_MANIFEST).read_text("utf-8"))
    later.update(format_version=bundles.FORMAT_VERSION + 1, signature="of the future")
    (copied / BUNDLE_MANIFEST).write_text(json.dumps(later), "utf-8")
    assert f"format {bundles.FORMAT_VERSION + 1}" in refusal(copied)
    assert f"reads format {bundles.FORMAT_VERSION}" in refusal(copied)


def test_a_manifest_without_a_number_of_the_score_is_refused(copied: Path, whole: Bundle) -> None:
    scalars = {key: value for key, value in whole.manifest.scalars.items() if key != "prior_weight"}
    seal(copied, scalars=scalars)
    assert "prior_weight" in refusal(copied)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (ITEM_TENSORS, "code_offsets"),
        (ITEM_TENSORS, "code_intents"),
        (ITEM_TENSORS, "code_values"),
        (ITEM_TENSORS, "residuals"),
        (ITEM_TENSORS, "biases"),
        (ITEM_TENSORS, "popularity"),
        (ITEM_TENSORS, "companion_offsets"),
        (ITEM_TENSORS, "companion_items"),
        (ITEM_TENSORS, "companion_rates"),
        (INTENT_TENSORS, "intent_vectors"),
        (INTENT_TENSORS, "public"),
        (INTENT_TENSORS, "targets"),
        (INTENT_TENSORS, "loading_caps"),
        (INTENT_TENSORS, "value_quantiles"),
        (INTENT_TENSORS, "label_vectors"),
        (INTENT_TENSORS, "population_shares"),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda values: values[..., :-1], id="shorter"),
        pytest.param(lambda values: np.stack([values, values]), id="more_dimensions"),
        pytest.param(lambda values: values.astype(np.float64), id="other_type"),
        pytest.param(lambda values: values[:0], id="empty"),
    ],
)
def test_a_tensor_of_another_shape_or_type_is_refused(
    copied: Path, file: str, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    change_tensor(copied, file, name, change)
    assert re.search("has shape|of type|too few dimensions|point outside|cannot be read", refusal(copied))


@pytest.mark.parametrize("file", [ITEM_TENSORS, INTENT_TENSORS, BACKBONE_TENSORS, DICTIONARY_TENSORS])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_naming_tensor_and_file(
    copied: Path, file: str, number: float
) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        spoiled = values.copy()
        spoiled.flat[values.size // 2] = number
        return spoiled

    name = next(key for key, values in load_file(copied / file).items() if values.dtype == np.float32)
    change_tensor(copied, file, name, spoil)
    assert f"{name} in {file} holds numbers that are not finite" in refusal(copied)


def test_a_missing_tensor_is_refused_naming_it(copied: Path) -> None:
    tensors = load_file(copied / ITEM_TENSORS)
    del tensors["biases"]
    save_file(tensors, copied / ITEM_TENSORS)
    seal(copied)
    assert "biases" in refusal(copied)


def test_a_kind_of_number_that_numpy_lacks_is_refused(copied: Path) -> None:
    save_torch_file({"decoder": torch.zeros(3, 2, dtype=torch.bfloat16)}, copied / DICTIONARY_TENSORS)
    seal(copied)
    assert f"{DICTIONARY_TENSORS} cannot be read" in refusal(copied)


def test_codes_that_point_outside_the_catalogue_or_are_negative_are_refused(copied: Path) -> None:
    change_tensor(copied, ITEM_TENSORS, "code_intents", lambda values: values + np.int32(1))
    assert "point outside" in refusal(copied)
    change_tensor(copied, ITEM_TENSORS, "code_intents", lambda values: values - np.int32(1))
    change_tensor(copied, ITEM_TENSORS, "code_values", lambda values: -values)
    assert "negative" in refusal(copied)


def test_companions_that_point_outside_the_catalogue_or_are_negative_are_refused(copied: Path) -> None:
    change_tensor(copied, ITEM_TENSORS, "companion_items", lambda values: values + np.int32(300))
    assert "companions point outside" in refusal(copied)
    change_tensor(copied, ITEM_TENSORS, "companion_items", lambda values: values - np.int32(300))
    change_tensor(copied, ITEM_TENSORS, "companion_rates", lambda values: -values)
    assert "negative" in refusal(copied)


def without_companions(folder: Path) -> None:
    tensors = load_file(folder / ITEM_TENSORS)
    kept = {name: values for name, values in tensors.items() if not name.startswith("companion_")}
    save_file(kept, folder / ITEM_TENSORS)


def test_a_score_with_companions_and_no_companions_in_the_bundle_is_refused(copied: Path) -> None:
    without_companions(copied)
    seal(copied)
    assert "its score has companions, and their tensors are missing" in refusal(copied)


def test_a_bundle_from_before_there_were_companions_is_served_without(copied: Path, whole: Bundle) -> None:
    without_companions(copied)
    scalars = {key: value for key, value in whole.manifest.scalars.items() if key != "companion_weight"}
    seal(copied, scalars=scalars)
    space = load_bundle(copied).space
    assert (space.companions, space.companion_weight) == (None, 0.0)
    assert whole.space.companion_weight > 0


def test_items_in_another_order_are_refused(copied: Path) -> None:
    seal(copied, item_ids_sha256="f" * 64)
    assert "order of its items" in refusal(copied)


def test_a_catalogue_in_another_order_or_of_another_dictionary_is_refused(copied: Path) -> None:
    catalogue = json.loads((copied / CATALOGUE_FILE).read_text("utf-8"))
    catalogue["intents"].reverse()
    (copied / CATALOGUE_FILE).write_text(json.dumps(catalogue), "utf-8")
    seal(copied)
    assert "order of the latents" in refusal(copied)
    seal(copied, intents_version="another")
    assert "another dictionary" in refusal(copied)


@pytest.mark.parametrize("name", [CONFIG_FILE, CATALOGUE_FILE, EVALUATION_FILE])
def test_json_that_says_something_else_is_refused(copied: Path, name: str) -> None:
    (copied / name).write_text('{"unexpected": ', "utf-8")
    seal(copied)
    assert f"{name} cannot be read" in refusal(copied)


@pytest.mark.parametrize("setting", ["d_model", "max_length", "layers", "branches"])
def test_weights_that_do_not_fit_the_configuration_are_refused(copied: Path, setting: str) -> None:
    config = json.loads((copied / CONFIG_FILE).read_text("utf-8"))
    config["train"][setting] = {"d_model": 32, "max_length": 21, "layers": 3, "branches": "personal"}[setting]
    (copied / CONFIG_FILE).write_text(json.dumps(config), "utf-8")
    seal(copied)
    assert "configuration" in refusal(copied)


def test_item_vectors_of_another_width_than_the_backbone_are_refused(copied: Path) -> None:
    for file, name in ((ITEM_TENSORS, "residuals"), (INTENT_TENSORS, "intent_vectors")):
        change_tensor(copied, file, name, lambda values: values[:, :8])
    assert "8 numbers where the configuration says 16" in refusal(copied)


def test_content_that_does_not_fit_together_is_never_written(whole: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    origin = BundleOrigin("0" * 64, "1" * 64, {}, 7)
    spoiled = replace(whole.space, biases=whole.space.biases[:-1])
    with pytest.raises(BundleError, match="biases"):
        write_bundle(replace(content_of(whole), space=spoiled), origin, target)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_fails_half_way_leaves_the_old_bundle_as_it_was(
    copied: Path, whole: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(content_of(whole), BundleOrigin("0" * 64, "1" * 64, {}, 7), copied)
    assert load_bundle(copied).manifest == whole.manifest
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]
