"""The intents stage with an earlier dictionary: ids are carried over on disk, families are written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import read_items
from saerec_ray.dictionary.sae import read_codes, read_dictionary
from saerec_ray.intents.catalogue import Catalogue, read_catalogue
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.identity import NamedLatents, item_keys
from saerec_ray.intents.stage import build_intents
from tests.intents.planted import encode, plant
from tests.intents.test_stage import write_stages


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    write_stages(plant(), folder)
    (folder / "intents").mkdir(exist_ok=True)
    build(folder)
    return folder


def build(workdir: Path, **options: object) -> tuple[dict[str, object], Catalogue]:
    (workdir / "intents").mkdir(exist_ok=True)
    folders = [workdir / name for name in ("prepare", "embed", "dictionary", "intents")]
    metrics = build_intents(IntentsConfig(), 5, *folders, encode, **options)  # type: ignore[arg-type]
    return metrics, read_catalogue(workdir / "intents")


def earlier(workdir: Path, catalogue: Catalogue) -> NamedLatents:
    """The same dictionary as if it had been published with other ids."""
    renamed = [
        intent.model_copy(update={"intent_id": f"int-{intent.latent:08x}"}) for intent in catalogue.intents
    ]
    return NamedLatents(
        catalogue=Catalogue(intents_version="before", intents=renamed),
        decoder=read_dictionary(workdir / "dictionary").decoder,
        codes=read_codes(workdir / "dictionary"),
        items=item_keys(read_items(workdir / "prepare")),
    )


def test_without_an_earlier_dictionary_nothing_is_carried(workdir: Path) -> None:
    metrics, catalogue = build(workdir)
    assert "carried" not in metrics
    assert catalogue.deprecated == []


def test_ids_of_the_earlier_dictionary_are_carried_over(workdir: Path) -> None:
    _, catalogue = build(workdir)
    active = np.bincount(read_codes(workdir / "dictionary").indices, minlength=len(catalogue.intents)) > 0
    metrics, again = build(workdir, previous=earlier(workdir, catalogue))
    carried = [intent.intent_id == f"int-{intent.latent:08x}" for intent in again.intents]
    assert metrics["carried"] == sum(carried) >= active.sum() > 0
    assert [intent.label for intent in again.intents] == [intent.label for intent in catalogue.intents]
    assert again.intents_version not in ("before", catalogue.intents_version)
    assert metrics["deprecated"] == len(again.deprecated) == 0


def test_an_edit_of_a_carried_id_is_applied_and_wins_over_what_was_decided_before(workdir: Path) -> None:
    _, first = build(workdir)
    before = earlier(workdir, first)
    kept = before.catalogue.intents[0]
    before = replace(
        before,
        catalogue=before.catalogue.model_copy(
            update={
                "intents": [
                    kept.model_copy(update={"inherited_edit": Edit(label="old name", steerable=False)}),
                    *before.catalogue.intents[1:],
                ]
            }
        ),
    )
    _, inherited = build(workdir, previous=before)
    assert (inherited.intents[0].label, inherited.intents[0].label_source) == ("old name", "human")
    overlay = workdir / "overlay.json"
    overlay.write_text(json.dumps({"intents": {kept.intent_id: {"label": "new name"}}}), "utf-8")
    metrics, catalogue = build(workdir, previous=before, overlay=overlay)
    assert metrics["overlay"] == {"edits": 1, "applied": 1, "unmatched": []}
    assert (catalogue.intents[0].intent_id, catalogue.intents[0].label) == (kept.intent_id, "new name")
    assert not catalogue.intents[0].steerable, "what the overlay says nothing of is inherited"


def test_the_items_that_both_catalogues_have_count_when_ids_are_carried(workdir: Path) -> None:
    _, catalogue = build(workdir)
    before = earlier(workdir, catalogue)
    elsewhere = replace(before, codes=csr_array(before.codes[::-1]))  # it fired on other items then
    metrics, again = build(workdir, previous=elsewhere)
    shared = [intent for intent in again.intents if intent.intent_id == f"int-{intent.latent:08x}"]
    assert metrics["carried"] == len(shared) < len(again.intents) / 4
