"""Corrections by people: written whole or not at all, stronger than machines, and never lost in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.config import IntentsConfig
from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import Catalogue, Intent, stable_ids
from saerec_ray.intents.detection import draw_examples, judge, split_halves
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.overlay import OVERLAY_FILE, Overlay, edit_overlay, overlay_file, read_overlay
from tests.intents.planted import TOPICS, Planted, encode, plant
from tests.intents.scripted_endpoint import Endpoint, Reply, question

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
    same = {"label", "label_source", "description", "detection_auc", "edit"}
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
    changes: list[dict[str, object]] = [{"description": "All for nails."}, {"steerable": False}]
    for change in changes:
        edit = Edit.model_validate(change)
        assert edited(planted, 0, **change) == machine.model_copy(update={**change, "edit": edit})
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
