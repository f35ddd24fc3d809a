"""Stages run once, again when what they depend on changes, and never leave half a result.

The stages before training run as they are; trainings are stood in for by stages of a few lines, because what
is tested is the order, the skipping and the folders.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from saerec_ray import pipeline
from saerec_ray.backbone.cold import cold_items, draw_cold_items
from saerec_ray.config import Config, load_config
from saerec_ray.data.prepared import ITEMS_FILE, PreparedItems, items_table
from saerec_ray.errors import InputError, StageError
from saerec_ray.intents.stage import POPULATION_FILE
from saerec_ray.manifest import MANIFEST_NAME, SOURCES, Manifest, is_current, read_manifest
from saerec_ray.pipeline import RUNS_FOLDER, STAGE_NAMES, STAGES, Job, Stage, run_stages
from saerec_ray.progress import Reporter
from saerec_ray.stage_inputs import plain
from tests.backbone.small_sets import sequences_of, write_sequences
from tests.small_shop import EACH, ITEMS, USERS, write_shop
from tests.stand_in_stages import QUICK_STAGES, Run, run_and_tell


@pytest.fixture(autouse=True)
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "STAGES", QUICK_STAGES)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop")


@pytest.fixture
def run(tmp_path: Path, shop: Path) -> Run:
    return partial(run_and_tell, shop, tmp_path / "out")


def test_nothing_is_learnt_of_cold_items_so_they_matter_to_the_dictionary(shop: Path) -> None:
    """An item held out as if it were new must not be known by its text or what people wrote of it."""
    config = load_config(shop, ["train.cold_share=0.25", "train.seed=9"])
    assert cold_items(config, 20) == np.flatnonzero(draw_cold_items(20, 0.25, 9)).tolist()
    others, none = load_config(shop, ["train.cold_share=0.5", "train.seed=8"]), load_config(shop, [])
    (dictionary,) = (stage for stage in STAGES if stage.name == "dictionary")
    settings = [dictionary.settings(each) for each in (config, others, none)]
    assert settings[0] != settings[1]
    assert settings[2] == [none.dictionary, none.seed]
    assert cold_items(none, 20) == []


def test_phrases_are_not_learnt_from_who_took_cold_items(shop: Path, tmp_path: Path) -> None:
    """An item held out as if it were new must not be known by what people took with it, nor by its own words."""
    cold = draw_cold_items(40, 0.25, 9)
    texts = [f"Zebra thing{item}" if cold[item] else f"Plain thing{item}" for item in range(40)]
    none: list[dict[str, list[str]]] = [{}] * 40
    items = PreparedItems([f"i{item}" for item in range(40)], texts, texts, none)
    pq.write_table(items_table(items), tmp_path / ITEMS_FILE)
    fans = [
        (np.roll(np.flatnonzero(each), user)[:8].tolist(), [0], [1])
        for each in (cold, ~cold)
        for user in range(30)
    ]
    write_sequences(sequences_of(fans), tmp_path)

    def found(*overrides: str) -> set[str]:
        phrases = "dictionary.attributes={phrases: {min_lift: 1.2, max_share: 0.4}}"
        config = load_config(shop, [phrases, "train.seed=9", *overrides])
        assert config.dictionary.attributes is not None
        kept_out = cold_items(config, 40)
        values = pipeline._attributes(config, config.dictionary.attributes, tmp_path, kept_out)
        return {name for each in values for name in each.get("phrase", [])}

    assert found() == {"Zebra"}
    assert found("train.cold_share=0.25") == set()


def test_all_stages_run_once_in_order_and_are_skipped_when_nothing_changed(run: Run, tmp_path: Path) -> None:
    assert run() == list(STAGE_NAMES)
    before = {name: read_manifest(tmp_path / "out" / name).finished for name in STAGE_NAMES}
    assert run() == []
    assert {name: read_manifest(tmp_path / "out" / name).finished for name in STAGE_NAMES} == before
    assert list((tmp_path / "out" / RUNS_FOLDER).iterdir()) == [], "checkpoints of finished stages go"


def test_it_is_told_when_a_skipped_result_was_made_by_other_code_of_this_version(
    run: Run, tmp_path: Path, shop: Path
) -> None:
    def said() -> list[str]:
        console = Console(file=io.StringIO(), width=200)
        with Reporter(console) as reporter:
            run_stages(load_config(shop), tmp_path / "out", reporter)
        return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]

    run()
    assert "embed: unchanged, skipped" in said()
    manifest = tmp_path / "out" / "embed" / MANIFEST_NAME
    finished = json.loads(manifest.read_text("utf-8"))
    finished["versions"][SOURCES] = "0" * 12
    manifest.write_text(json.dumps(finished), "utf-8")
    assert [line for line in said() if "other code" in line] == [
        "embed: unchanged, skipped (made by other code of this version; --force makes it again)"
    ]


def test_what_the_data_lost_is_told_when_they_are_prepared(tmp_path: Path, shop: Path) -> None:
    with (shop.parent / "interactions.csv").open("a") as handle:
        handle.write(",i1,5\nu1,nothing,5\n")

    def said() -> list[str]:
        console = Console(file=io.StringIO(), width=200)
        with Reporter(console) as reporter:
            run_stages(load_config(shop), tmp_path / "out", reporter, "prepare")
        return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]

    interactions = USERS * EACH
    begun, lost, finished = said()
    assert (begun, finished[:20]) == ("prepare: started", "prepare: finished in")
    assert lost == (
        f"prepare: left out 1 of {interactions + 2} interactions in interactions.csv (the first: line "
        f"{interactions + 2}: the user id is missing) and 1 of {interactions + 1} interactions whose items are "
        "unknown or left out."
    )
    assert said() == ["prepare: unchanged, skipped"]


def test_a_manifest_says_what_was_read_done_and_written(run: Run, tmp_path: Path, shop: Path) -> None:
    run("seed=5")
    prepared = read_manifest(tmp_path / "out" / "prepare")
    assert prepared.stage == "prepare"
    assert prepared.seed == 5
    assert set(prepared.inputs) == {str(shop.parent / name) for name in ("interactions.csv", "items.csv")}
    assert {"items.parquet", "sequences.parquet", "rejected.parquet"} == set(prepared.files)
    assert prepared.metrics["users"] == USERS
    assert prepared.metrics["items"] == ITEMS
    trained = read_manifest(tmp_path / "out" / "train")
    assert set(trained.inputs) == {"prepare", "dictionary", f"intents/{POPULATION_FILE}"}
    assert trained.inputs["prepare"] == prepared.content_hash
    assert trained.config["settings"][0]["epochs"] == 12
    assert trained.metrics == {"result": 1.5}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("prepare.user_core=4", ["prepare", "bundle"]),  # with the same result: the others have nothing to do
        ("embed.model=other", ["embed", "dictionary", "intents", "evaluate", "bundle"]),
        ("dictionary.width=64", ["dictionary", "intents", "train", "evaluate", "bundle"]),
        ("intents.top_items=3", ["intents", "evaluate", "bundle"]),  # training reads no label
        ("train.epochs=3", ["train", "evaluate", "bundle"]),
        ("evaluate.cutoffs=[3]", ["evaluate", "bundle"]),
        ("name=other", ["bundle"]),
        ("cluster.engine=auto", ["bundle"]),
    ],
)
def test_a_stage_runs_again_when_its_settings_or_the_results_it_reads_change(
    run: Run, override: str, expected: list[str]
) -> None:
    run()
    assert run(override) == expected, "a bundle holds the whole configuration, so it always follows"


def test_a_training_with_companions_reads_the_texts(run: Run, tmp_path: Path) -> None:
    run("train.companions=5")
    assert "embed" in read_manifest(tmp_path / "out" / "train").inputs
    assert "train" in run("train.companions=5", "embed.model=other")


FROM_INTERACTIONS = ("dictionary.cooccurrence={width: 32}", "dictionary.attributes={phrases: {}}")


@pytest.mark.parametrize("source", FROM_INTERACTIONS)
def test_the_dictionary_reads_interactions_only_where_a_source_is_wanted_that_learns_from_them(
    run: Run, tmp_path: Path, source: str
) -> None:
    run()
    before = read_manifest(tmp_path / "out" / "dictionary")
    assert set(before.inputs) == {"embed"}
    assert run(source)[0] == "dictionary"
    together = read_manifest(tmp_path / "out" / "dictionary")
    prepared = read_manifest(tmp_path / "out" / "prepare")
    sequences = ("prepare/sequences.parquet", prepared.files["sequences.parquet"])
    assert sequences in together.inputs.items()
    assert before.inputs.items() <= together.inputs.items()
    assert run()[0] == "dictionary"
    again = read_manifest(tmp_path / "out" / "dictionary")
    assert (again.fingerprint, again.config) == (before.fingerprint, before.config)


def test_another_share_of_cold_items_makes_another_dictionary(run: Run) -> None:
    run()
    assert run("train.cold_share=0.2")[0] == "dictionary"
    assert run("train.cold_share=0.2", "train.epochs=3")[0] == "train"
    assert run("train.cold_share=0.1")[0] == "dictionary"


def test_a_stage_runs_again_when_the_data_change(run: Run, shop: Path) -> None:
    run()
    with (shop.parent / "interactions.csv").open("a", encoding="utf-8") as handle:
        handle.write("u1,i9,99999999\n")
    again = run()
    assert again[0] == "prepare"
    assert {"embed", "train", "evaluate"} <= set(again), "what they read has changed too"


def test_a_damaged_result_is_made_again(run: Run, tmp_path: Path) -> None:
    run()
    (tmp_path / "out" / "dictionary" / "result.txt").write_text("touched", "utf-8")
    assert run() == ["dictionary"]
    (tmp_path / "out" / "train" / MANIFEST_NAME).unlink()
    assert run() == ["train"]


def test_a_folder_without_the_file_that_a_stage_reads_is_named(run: Run, tmp_path: Path) -> None:
    run()
    path = tmp_path / "out" / "intents" / MANIFEST_NAME
    manifest = json.loads(path.read_text("utf-8"))
    del manifest["files"][POPULATION_FILE]
    path.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(StageError, match=f"intents stage .* has no {POPULATION_FILE}; run it again"):
        run(only="train", force=True)


def test_a_new_version_of_the_library_makes_everything_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr(pipeline, "__version__", "999.0")
    assert run() == list(STAGE_NAMES)


def test_force_runs_what_has_not_changed(run: Run) -> None:
    run()
    assert run(force=True) == list(STAGE_NAMES)
    assert run(only="embed", force=True) == ["embed"]


def test_a_single_stage_runs_alone_and_needs_those_before_it(run: Run, tmp_path: Path) -> None:
    assert run(only="prepare") == ["prepare"]
    with pytest.raises(StageError, match=r"dictionary has no stage\.json: run the stage 'dictionary' first"):
        run(only="train")
    assert not (tmp_path / "out" / "train").exists()
    assert run(only="embed") == ["embed"]


def broken(error: BaseException) -> Callable[[Job], dict[str, Any]]:
    def work(job: Job) -> dict[str, Any]:
        (job.folder / "half.txt").write_text("half", "utf-8")
        job.runs.mkdir(parents=True, exist_ok=True)
        (job.runs / "checkpoint").write_text("to go on from", "utf-8")
        raise error

    return work


@pytest.mark.parametrize("error", [StageError("the disk is full"), KeyboardInterrupt()])
def test_a_stage_that_fails_keeps_its_old_result_its_checkpoints_and_the_stages_before(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    run()
    old = read_manifest(tmp_path / "out" / "train")
    sound = pipeline.STAGES
    failing = tuple(replace(s, run=broken(error)) if s.name == "train" else s for s in sound)
    monkeypatch.setattr(pipeline, "STAGES", failing)
    with pytest.raises(type(error)):
        run("train.epochs=3")
    assert is_current(tmp_path / "out" / "train", old.fingerprint)
    assert not list((tmp_path / "out").glob(".train*"))
    (checkpoint,) = (tmp_path / "out" / RUNS_FOLDER).glob("train-*/checkpoint")
    assert checkpoint.read_text("utf-8") == "to go on from"

    monkeypatch.setattr(pipeline, "STAGES", sound)
    assert run("train.epochs=3") == ["train", "evaluate", "bundle"]
    assert not list((tmp_path / "out" / RUNS_FOLDER).iterdir())
    went_on = {name: read_manifest(tmp_path / "out" / name).resumed for name in ("train", "evaluate")}
    assert went_on == {"train": True, "evaluate": False}, "seconds are not those of all attempts"


def test_what_other_code_began_is_not_gone_on_with(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = tuple(
        replace(s, run=broken(StageError("killed"))) if s.name == "train" else s for s in pipeline.STAGES
    )
    monkeypatch.setattr(pipeline, "STAGES", failing)

    def begun() -> set[str]:
        with pytest.raises(StageError):
            run()
        return {path.name for path in (tmp_path / "out" / RUNS_FOLDER).iterdir()}

    first = begun()
    assert begun() == first
    monkeypatch.setattr(pipeline, "sources_hash", lambda: "0" * 12)
    assert len(begun()) == 2


def test_a_checkpoint_that_cannot_be_removed_does_not_fail_a_stage_that_is_finished(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker about to end may still be adding files to it."""
    rmdir = os.rmdir

    def rmdir_unless_in_use(path: str | os.PathLike[str], **options: Any) -> None:
        if Path(path).name.startswith("train-"):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir_unless_in_use)
    assert run() == list(STAGE_NAMES)
    assert [path.name[:6] for path in (tmp_path / "out" / RUNS_FOLDER).iterdir()] == ["train-"]


KILLED = """
import os, signal, sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from saerec_ray import pipeline
from saerec_ray.config import load_config
from saerec_ray.progress import Reporter

def die(job):
    (job.folder / "half.txt").write_text("half", "utf-8")
    os.kill(os.getpid(), signal.SIGKILL)

pipeline.STAGES = (replace(pipeline.STAGES[0], run=die),)
pipeline.run_stages(load_config(sys.argv[1]), Path(sys.argv[2]), Reporter(), force=True)
"""


def test_a_killed_run_leaves_the_old_result_whole_and_no_lock(run: Run, tmp_path: Path, shop: Path) -> None:
    run(only="prepare")
    old = read_manifest(tmp_path / "out" / "prepare")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(shop), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert is_current(tmp_path / "out" / "prepare", old.fingerprint)
    assert run(only="prepare") == []
    assert run(only="prepare", force=True) == ["prepare"]
    assert not (tmp_path / "out" / ".prepare.writing").exists()


def test_a_second_run_in_the_same_directory_is_refused_and_one_beside_it_is_not(
    run: Run, tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(job: Job) -> dict[str, Any]:
        with pytest.raises(InputError, match=r"Another run is at work in .*/out; wait for it"):
            run_stages(job.config, tmp_path / "out", job.reporter, "prepare")
        monkeypatch.setattr(pipeline, "STAGES", STAGES[:1])
        run_stages(job.config, tmp_path / "elsewhere", job.reporter, "prepare")
        return {}

    monkeypatch.setattr(pipeline, "STAGES", (replace(STAGES[0], run=meet),))
    assert run() == ["prepare", "prepare"]
    assert read_manifest(tmp_path / "elsewhere" / "prepare").metrics["users"] == USERS


def test_a_work_directory_that_cannot_be_written_is_named(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(InputError, match=r"The work directory .*/file cannot be written"):
        run_stages(load_config(shop), tmp_path / "file", Reporter(Console(file=io.StringIO())))


def settings_of(stage: Stage, config: Config) -> Any:
    return plain(stage.settings(config))


def test_every_section_that_shapes_a_result_is_among_the_settings_of_its_stage(shop: Path) -> None:
    """A key left out would let a stage be skipped although its result would be another."""
    before = load_config(shop)
    for stage, override in (
        ("prepare", "prepare.user_core=2"),
        ("embed", "embed.max_tokens=16"),
        ("dictionary", "dictionary.seed=9"),
        ("dictionary", "seed=9"),
        ("intents", "intents.top_items=3"),
        ("intents", "embed.model=other"),
        ("intents", "seed=9"),
        ("train", "train.seed=9"),
        ("train", "seed=9"),
        ("evaluate", "evaluate.completeness_users=3"),
        ("evaluate", "seed=9"),
        ("bundle", "name=other"),
    ):
        chosen = STAGES[STAGE_NAMES.index(stage)]
        after = load_config(shop, [override])
        assert settings_of(chosen, after) != settings_of(chosen, before), (stage, override)


@pytest.mark.parametrize(
    ("change", "another"),
    [("model=other", True), ("temperature=0.1", True), ("base_url=http://elsewhere/v1", False)],
)
def test_a_report_is_made_again_for_another_judge_of_labels_and_not_for_another_address_of_it(
    shop: Path, change: str, another: bool
) -> None:
    evaluate = STAGES[STAGE_NAMES.index("evaluate")]
    asked = "intents.language_model={base_url: 'http://here/v1', model: one}"
    judged = load_config(shop, [asked])
    changed = load_config(shop, [asked, f"intents.language_model.{change}"])
    assert (settings_of(evaluate, changed) != settings_of(evaluate, judged)) == another
    assert settings_of(evaluate, judged) != settings_of(evaluate, load_config(shop))
    without_labels = load_config(shop, [asked, "evaluate.parts=[accuracy]"])
    assert settings_of(evaluate, without_labels) == settings_of(
        evaluate, load_config(shop, ["evaluate.parts=[accuracy]"])
    )


def test_every_stage_reads_earlier_stages_only() -> None:
    for place, stage in enumerate(STAGES):
        assert {name.partition("/")[0] for name in stage.reads} <= set(STAGE_NAMES[:place])


def test_what_was_asked_for_comes_back_as_manifests(tmp_path: Path, shop: Path) -> None:
    reporter = Reporter(Console(file=io.StringIO()))
    found = run_stages(load_config(shop), tmp_path / "out", reporter)
    assert [manifest.stage for manifest in found] == list(STAGE_NAMES)
    assert all(isinstance(manifest, Manifest) for manifest in found)
