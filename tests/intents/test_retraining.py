"""A dictionary trained again in the same work directory: ids, and what people decided, go on by themselves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import Catalogue, read_catalogue
from saerec_ray.intents.lineage import BEFORE_FOLDER, LATENTS_FILE, read_named_latents
from saerec_ray.intents.overlay import OVERLAY_FILE
from saerec_ray.intents.policy import POLICY_FILE
from saerec_ray.manifest import MANIFEST_NAME, read_manifest
from tests.command_line import Run
from tests.intents.planted import TOPICS, Planted, plant
from tests.intents.stage_folders import Workdir, planted_workdir, write_dictionary_stage

FIRST = plant(attributes=False)
WIDTH = len(FIRST.decoder)
SKIPPED = "intents: unchanged, skipped\n"


def again(seed: int) -> Planted:
    """The same topics from another training: in another order, each a little off; what is noise is other noise."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(WIDTH)
    decoder = FIRST.decoder + rng.normal(scale=0.02, size=FIRST.decoder.shape).astype(np.float32)
    decoder[len(TOPICS) :] = rng.normal(size=decoder[len(TOPICS) :].shape)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    return replace(FIRST, decoder=decoder[order], codes=csr_array(FIRST.codes.tocsc()[:, order].tocsr()))


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    return planted_workdir(FIRST, tmp_path / "out", monkeypatch)


def retrain(workdir: Workdir, seed: int) -> None:
    write_dictionary_stage(again(seed) if seed else FIRST, workdir.path)


def visible(catalogue: Catalogue) -> dict[str, str]:
    return {each.intent_id: each.label for each in catalogue.intents if each.published}


def ids_of(catalogue: Catalogue) -> list[str]:
    return [each.intent_id for each in catalogue.intents]


def test_ids_are_carried_over_a_retraining_and_the_manifest_says_from_what(workdir: Workdir) -> None:
    first = workdir.run()
    assert "carried_from" not in read_manifest(workdir.path / "intents").inputs
    retrain(workdir, 1)
    second = workdir.run()
    assert visible(second) == visible(first)
    assert ids_of(second) != ids_of(first), "the latents are in another order"
    manifest = read_manifest(workdir.path / "intents")
    assert manifest.inputs["carried_from"]
    assert manifest.metrics["carried_from"] == first.intents_version
    assert manifest.metrics["carried"] >= len(TOPICS)
    assert f"ids are carried over from the catalogue {first.intents_version}" in workdir.said


def test_the_same_settings_again_change_nothing(workdir: Workdir) -> None:
    workdir.run()
    for seed in (1, 2):
        retrain(workdir, seed)
        found = workdir.run()
        before = read_manifest(workdir.path / "intents")
        assert workdir.run() == found
        assert workdir.said.endswith(SKIPPED)
        workdir.run(force=True)
        forced = read_manifest(workdir.path / "intents")
        assert (forced.fingerprint, forced.files) == (before.fingerprint, before.files)


def test_other_settings_carry_on_from_the_same_catalogue(workdir: Workdir) -> None:
    """And not from the one they replace: its names may be worse, and what it calls deprecated may not be."""
    first = workdir.run()
    retrain(workdir, 1)
    second = workdir.run()
    workdir.intents = {"min_items": 1000}
    nothing = workdir.run()
    assert not visible(nothing)
    assert {each.intent_id for each in nothing.deprecated} == set(visible(first))
    workdir.intents = {}
    assert workdir.run() == second


def test_an_edit_survives_retrainings(workdir: Workdir, saerec: Run) -> None:
    chosen = ids_of(workdir.run())[0]
    edit = ("--label", "Nails", "--description", "All for nails.", "--no-steerable")
    assert saerec("intents", "edit", chosen, *edit, "-w", workdir.path).code == 0
    workdir.run()
    for seed in (1, 2, 3):
        retrain(workdir, seed)
        intent = workdir.run().by_id()[chosen]
        assert (intent.label, intent.description) == ("Nails", "All for nails.")
        assert not intent.steerable
        assert read_manifest(workdir.path / "intents").metrics["overlay"]["unmatched"] == []


def test_where_an_edited_intent_is_gone_the_closest_one_is_named(workdir: Workdir, saerec: Run) -> None:
    chosen = ids_of(workdir.run())[0]
    saerec("intents", "edit", chosen, "--label", "Nails", "-w", workdir.path)
    workdir.run()
    further, codes = FIRST.decoder.copy(), FIRST.codes.toarray()
    aside = np.random.default_rng(0).normal(size=further[0].shape)
    further[0] = 0.4 * further[0] + 0.9 * aside / np.linalg.norm(aside)
    further[0] /= np.linalg.norm(further[0])
    codes[::4, 0] = 0  # and a quarter of its items are gone
    write_dictionary_stage(replace(FIRST, decoder=further, codes=csr_array(codes)), workdir.path)
    found = workdir.run()
    (entry,) = [each for each in found.deprecated if each.intent_id == chosen]
    assert entry.successors
    assert (
        f"Closest now to intents that were edited and are gone: {chosen}: {entry.successors[0]}"
        in workdir.said
    )
    assert "1 of 1 edits in the overlay are of intents that this dictionary does not have" in workdir.said


def test_an_edit_of_the_last_moment_before_a_retraining_is_applied(workdir: Workdir, saerec: Run) -> None:
    chosen = ids_of(workdir.run())[0]
    assert saerec("intents", "edit", chosen, "--state", "blocked", "-w", workdir.path).code == 0
    retrain(workdir, 1)
    assert workdir.run().by_id()[chosen].state == "blocked"


def test_an_edit_that_was_taken_back_does_not_come_back_with_the_id(workdir: Workdir, saerec: Run) -> None:
    machine = workdir.run()
    chosen = ids_of(machine)[0]
    saerec("intents", "edit", chosen, "--label", "Nails", "--state", "blocked", "-w", workdir.path)
    assert workdir.run().by_id()[chosen].state == "blocked"
    (workdir.path / OVERLAY_FILE).unlink()
    retrain(workdir, 1)
    intent = workdir.run().by_id()[chosen]
    assert (intent.label, intent.state, intent.edit) == (machine.intents[0].label, "active", None)


def test_going_back_to_a_dictionary_brings_back_its_ids(workdir: Workdir) -> None:
    first = workdir.run()
    for seed in (1, 0):
        retrain(workdir, seed)
        last = workdir.run()
    assert visible(last) == visible(first)


def test_a_person_can_start_afresh(workdir: Workdir) -> None:
    first = workdir.run()
    retrain(workdir, 1)
    assert set(ids_of(workdir.run())) & set(ids_of(first))
    workdir.intents = {"carry_ids": False}
    fresh = workdir.run()
    assert not set(ids_of(fresh)) & set(ids_of(first))
    assert fresh.deprecated == []
    assert not (workdir.path / "intents" / BEFORE_FOLDER).exists()
    workdir.intents = {}
    assert ids_of(workdir.run()) == ids_of(fresh), "the new ids are carried on from there"
    shutil.rmtree(workdir.path / "intents")
    assert ids_of(workdir.run()) == ids_of(fresh)


def test_to_carry_on_and_to_start_afresh_at_once_is_refused(workdir: Workdir) -> None:
    workdir.intents = {"carry_ids": False, "previous": "elsewhere"}
    with pytest.raises(InputError, match="leave one out"):
        workdir.run()


def test_the_catalogue_of_another_run_wins_where_it_is_asked_for(
    workdir: Workdir, saerec: Run, tmp_path: Path
) -> None:
    chosen = ids_of(workdir.run())[0]
    saerec("intents", "edit", chosen, "--label", "Nails", "-w", workdir.path)
    workdir.run()
    shutil.copytree(workdir.path, tmp_path / "elsewhere")
    (workdir.path / OVERLAY_FILE).unlink()
    workdir.intents = {"carry_ids": False}
    retrain(workdir, 1)
    workdir.run()
    retrain(workdir, 2)
    workdir.intents = {"previous": str(tmp_path / "elsewhere")}
    found = workdir.run()
    assert found.by_id()[chosen].label == "Nails", "the overlay of the other run is not at hand"
    manifest = read_manifest(workdir.path / "intents")
    assert "earlier" in manifest.inputs
    assert "carried_from" not in manifest.inputs
    workdir.intents = {}
    assert visible(workdir.run()) == visible(found), "it is kept: the path is needed once"
    retrain(workdir, 3)
    assert workdir.run().by_id()[chosen].label == "Nails"


def test_what_a_policy_blocked_is_decided_by_the_policy_of_the_run(workdir: Workdir) -> None:
    ids = ids_of(workdir.run())
    policy = workdir.path / POLICY_FILE
    policy.write_text(f"topics: [{{name: health, intents: [{ids[0]}, {ids[1]}]}}]", "utf-8")
    retrain(workdir, 1)
    blocked = workdir.run().by_id()
    assert [blocked[each].state for each in ids[:2]] == ["blocked", "blocked"]
    policy.write_text(f"topics: [{{name: faith, intents: [{ids[1]}]}}]", "utf-8")
    retrain(workdir, 2)
    after = workdir.run().by_id()
    assert (after[ids[0]].state, after[ids[0]].steerable) == ("active", True)
    assert "health" not in after[ids[0]].verdict
    assert after[ids[1]].state == "blocked"
    assert "1 intent that a policy blocked before may be seen now, because" in (workdir.said)


# Interruptions and damage


def test_a_retraining_without_a_catalogue_in_between_loses_nothing(workdir: Workdir) -> None:
    first = workdir.run()
    retrain(workdir, 1)
    retrain(workdir, 2)
    assert visible(workdir.run()) == visible(first)


def test_a_run_that_was_stopped_carries_on_from_the_same_catalogue(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = workdir.run()
    retrain(workdir, 1)
    with monkeypatch.context() as patch:
        patch.setattr("saerec_ray.intents.stage.write_catalogue", stop)
        with pytest.raises(KeyboardInterrupt):
            workdir.run()
    assert read_catalogue(workdir.path / "intents") == first
    assert visible(workdir.run()) == visible(first)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_process_killed_between_two_folders_loses_no_ids(workdir: Workdir) -> None:
    first = workdir.run()
    retrain(workdir, 1)
    folder = workdir.path / "intents"
    folder.rename(workdir.path / ".intents.old")  # the moment before the new folder takes its place
    assert visible(workdir.run()) == visible(first)
    assert "carried_from" in read_manifest(folder).inputs
    assert not (workdir.path / ".intents.old").exists()


@pytest.mark.parametrize("name", ["catalogue.json", LATENTS_FILE, MANIFEST_NAME])
def test_a_damaged_catalogue_stops_the_run_and_says_how_to_go_on(workdir: Workdir, name: str) -> None:
    workdir.run()
    retrain(workdir, 1)
    (workdir.path / "intents" / name).write_text("{", "utf-8")
    with pytest.raises(InputError, match=r"Ids cannot be carried over.*carry_ids=false"):
        workdir.run()
    workdir.intents = {"carry_ids": False}
    assert visible(workdir.run())


def test_a_catalogue_that_was_changed_by_hand_is_not_carried_on(workdir: Workdir) -> None:
    workdir.run()
    retrain(workdir, 1)
    path = workdir.path / "intents" / "catalogue.json"
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(InputError, match="was changed"):
        workdir.run()


def test_a_catalogue_without_its_latents_is_told_of(workdir: Workdir) -> None:
    """Of the dictionary it was made of nothing is left, so nobody knows what its ids stand for."""
    first = workdir.run()
    path = workdir.path / "intents" / MANIFEST_NAME
    manifest = read_manifest(path.parent)
    files = {name: digest for name, digest in manifest.files.items() if name != LATENTS_FILE}
    path.write_text(manifest.model_copy(update={"files": files}).model_dump_json(), "utf-8")
    retrain(workdir, 1)
    assert not set(ids_of(workdir.run())) & set(ids_of(first))
    assert "No ids are carried over" in workdir.said


def test_what_is_kept_is_read_back_as_it_was(workdir: Workdir) -> None:
    first = workdir.run()
    kept = read_named_latents(workdir.path / "intents")
    assert kept.catalogue == first
    np.testing.assert_array_equal(kept.decoder, FIRST.decoder)
    np.testing.assert_array_equal(kept.codes.toarray(), FIRST.codes.toarray())
    retrain(workdir, 1)
    workdir.run()
    before = read_named_latents(workdir.path / "intents" / BEFORE_FOLDER)
    assert (before.catalogue, before.items, before.values) == (kept.catalogue, kept.items, kept.values)
