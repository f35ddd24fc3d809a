"""What people decided in another run: it goes on with the id, under the same rules as what they decide here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.config import IntentsConfig
from saerec_ray.dictionary.sae import write_codes
from saerec_ray.intents.catalogue import Catalogue, read_catalogue, stable_ids
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.identity import NamedLatents, item_keys
from saerec_ray.intents.overlay import OVERLAY_FILE, Overlay, edit_overlay
from saerec_ray.intents.stage import build_intents
from tests.intents.planted import Planted, encode, plant
from tests.intents.stage_folders import write_stages


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(attributes=False)


@pytest.fixture(scope="module")
def ids(planted: Planted) -> list[str]:
    return stable_ids(planted.decoder)


def test_an_inherited_label_is_judged_as_one_of_the_overlay(planted: Planted, ids: list[str]) -> None:
    """Not with the figure of the label that a machine would give."""
    edit = Edit(label="extra deluxe travel")
    here = planted.build(overlay=Overlay(intents={ids[0]: edit}))[0].intents[0]
    before = planted.build(inherited={ids[0]: edit})[0].intents[0]
    assert before.detection_auc is not None
    assert before.detection_auc < 0.7
    assert before.model_copy(update={"inherited_edit": None}) == here
    assert (here.edit, here.inherited_edit, before.inherited_edit) == (edit, None, edit)


def test_no_two_intents_have_one_label(planted: Planted, ids: list[str]) -> None:
    machine = planted.build()[0].intents[1].label
    catalogue = planted.build(
        overlay=Overlay(intents={ids[3]: Edit(label="Brows")}),
        inherited={
            ids[0]: Edit(label=machine.upper()),  # as a machine calls another
            ids[2]: Edit(label="BROWS", description="All for brows."),  # as a person calls another here
            ids[4]: Edit(label="Lips"),
            ids[5]: Edit(label="lips"),
        },
    )[0]
    labels = [each.label for each in catalogue.intents if each.published]
    assert len({label.casefold() for label in labels}) == len(labels)
    assert catalogue.intents[0].label == machine.upper()
    assert catalogue.intents[3].label == "Brows"
    assert catalogue.intents[2].description == "All for brows.", "the rest of the edit holds"
    assert sum(label.casefold() == "lips" for label in labels) == 1


@pytest.mark.parametrize(
    ("before", "here", "together"),
    [
        ({"label": "Nails"}, {"steerable": False}, {"label": "Nails", "steerable": False}),
        ({"label": "Nails"}, {"label": "Lips"}, {"label": "Lips"}),
        ({"state": "blocked"}, {"notes": "asked"}, {"state": "blocked", "notes": "asked"}),
        ({"state": "blocked"}, {"steerable": True}, {"steerable": True}),
        ({"kind": "nuisance"}, {"state": "active"}, {"state": "active"}),
        ({"state": "blocked", "label": "Nails"}, {"state": "active"}, {"state": "active", "label": "Nails"}),
    ],
)
def test_the_overlay_wins_field_by_field_or_alone_where_the_two_contradict(
    before: dict[str, object], here: dict[str, object], together: dict[str, object]
) -> None:
    each = "int-00000001"
    overlay = Overlay(intents={each: Edit.model_validate(here)})
    found = overlay.over({each: Edit.model_validate(before)}, [each])
    assert found.intents == {each: Edit.model_validate(together)}


def test_figures_of_the_overlay_are_of_its_own_edits(planted: Planted, ids: list[str]) -> None:
    results = planted.results(
        overlay=Overlay(intents={ids[0]: Edit(label="Nails")}), inherited={ids[1]: Edit(label="Lips")}
    )
    assert results.summary["overlay"] == {"edits": 1, "applied": 1, "unmatched": []}
    assert "overlay" not in planted.results(inherited={ids[1]: Edit(label="Lips")}).summary


def nested(planted: Planted) -> Planted:
    """The second topic is a part of the first: it fires on half of its items."""
    codes = planted.codes.toarray()
    codes[:, 1] = codes[:, 0] * (np.arange(len(codes)) % 2)
    return replace(planted, codes=csr_array(codes.astype(np.float32)))


def test_an_intent_that_people_blocked_before_is_nobodys_parent(
    planted: Planted, ids: list[str], tmp_path: Path
) -> None:
    family = nested(planted)
    write_stages(family, tmp_path)
    write_codes(family.codes, tmp_path / "dictionary")
    (tmp_path / "intents").mkdir()
    overlay = tmp_path / OVERLAY_FILE
    edit_overlay(overlay, ids[1], {"state": "active"}, remove=False, intents_folder=tmp_path)

    def build(**options: object) -> Catalogue:
        folders = [tmp_path / name for name in ("prepare", "embed", "dictionary", "intents")]
        prefixes = [[1, len(family.decoder)]]
        build_intents(IntentsConfig(), 5, *folders, encode, prefixes=prefixes, overlay=overlay, **options)  # type: ignore[arg-type]
        return read_catalogue(tmp_path / "intents")

    free = build()
    assert free.intents[1].parent_id == free.intents[0].intent_id
    blocked = free.intents[0].model_copy(update={"inherited_edit": Edit(state="blocked")})
    before = NamedLatents(
        family.decoder,
        family.codes,
        item_keys(family.items),
        free.model_copy(update={"intents": [blocked, *free.intents[1:]]}),
    )
    found = build(previous=before)
    assert (found.intents[0].state, found.intents[0].verdict) == ("blocked", "blocked by a person")
    assert found.intents[1].published
    published = {each.intent_id for each in found.intents if each.published}
    assert {each.parent_id for each in found.intents} <= published | {None}
