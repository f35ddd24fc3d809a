"""The part `intents` on planted items: true names and pure latents at the ceiling, controls at the floor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import PreparedItems
from saerec_ray.dictionary.samples import Samples, item_codes
from saerec_ray.evaluation.coded_items import CodedItems
from saerec_ray.evaluation.intents_part import CODINGS, intents_headline, measure_intents_part
from saerec_ray.evaluation.intents_tables import intents_lines
from saerec_ray.evaluation.label_detection import label_detection
from saerec_ray.evaluation.random_names import Naming
from saerec_ray.intents.catalogue import Catalogue
from tests.evaluation.named_planted import catalogue, encoder, intent
from tests.evaluation.planted_dictionary import ITEMS, TOPICS, plant

PLANTED = plant()


def measure(
    items: PreparedItems = PLANTED.items,
    named: Catalogue | None = None,
    coded: CodedItems = PLANTED.coded,
    **more: Any,
) -> dict[str, Any]:
    settings = {"attributes": 4, "latents": 24, "seed": 7, "naming_seed": 3, **more}
    return measure_intents_part(
        coded,
        items,
        named or catalogue(),
        settings["attributes"],
        settings["latents"],
        settings["seed"],
        Naming(IntentsConfig(), settings["naming_seed"], encoder(PLANTED)),
        settings.get("on_progress", lambda _done, _total: None),
        fuzzed=24,
        judge=settings.get("judge"),
    )


FOUND = measure()


def test_planted_latents_are_at_the_ceiling_of_every_metric() -> None:
    assert FOUND["detection"]["own"]["mean"] == pytest.approx(1)
    assert FOUND["probing"]["codings"]["dictionary"]["1"]["auc"] == pytest.approx(1)
    assert FOUND["purity"]["codings"]["dictionary"]["own"]["purity"] == pytest.approx(1)
    assert FOUND["absorption"]["dictionary"]["silent"] == pytest.approx(0, abs=0.02)
    for space in ("attributes", "texts"):
        assert FOUND["spaces"][space]["intruder"]["accuracy"] > 0.85


def test_the_controls_are_at_the_floor() -> None:
    assert FOUND["detection"]["shuffled"]["mean"] == pytest.approx(0.5, abs=0.1)
    permuted = FOUND["probing"]["codings"]["permuted"]
    assert permuted["5"]["auc"] == pytest.approx(0.5, abs=0.1)
    assert FOUND["probing"]["codings"]["random_dictionary"]["1"]["auc"] < 0.9
    assert FOUND["purity"]["codings"]["dictionary"]["permuted"]["purity"] < 0.4
    assert FOUND["purity"]["codings"]["random_dictionary"]["own"]["purity"] < 0.8
    assert FOUND["absorption"]["random_dictionary"]["silent"] > 0.1
    for space in FOUND["spaces"].values():
        assert space["intruder"]["shuffled"] == pytest.approx(0.2, abs=0.1)
        scores = {name: row["score"] for name, row in space["monosemanticity"].items()}
        assert max(scores, key=lambda name: scores[name]) == "dictionary"
        assert scores["permuted"] < 0.5 * scores["dictionary"]


def test_random_directions_are_named_and_judged_like_latents_and_do_worse() -> None:
    control = FOUND["random_dictionary"]
    named, random = FOUND["detection"], control["detection"]
    assert random["latents"] == control["of_latents"] == TOPICS
    assert random["published"] < named["published"] / 2
    assert random["coverage"] < named["coverage"] / 2
    assert random["auc_when_named_all"] < 0.75
    assert random["own"]["mean"] < named["own"]["mean"] - 0.1
    for space in FOUND["spaces"].values():
        learnt, drawn = space["intruder"], space["intruder_random_dictionary"]
        assert drawn["chance"] < drawn["accuracy"] < learnt["accuracy_interval"][0]
    lines = intents_lines(FOUND)
    judged = control["judged_names"]["random_dictionary"]
    assert 0 < judged <= TOPICS
    assert any(line.startswith(f"| random dictionary | {judged} of {TOPICS} |") for line in lines)
    intruders = lines[next(place for place, line in enumerate(lines) if line.startswith("Intruder")) :]
    assert f"| {FOUND['spaces']['texts']['intruder_random_dictionary']['accuracy']:.1%} |" in "".join(
        intruders
    )


def test_as_many_random_directions_are_named_as_latents_are_tested() -> None:
    found = measure(latents=6)
    control = found["random_dictionary"]
    assert (control["detection"]["latents"], control["of_latents"]) == (6, TOPICS)
    assert "6 of 24 random directions" in "\n".join(intents_lines(found))
    assert measure(latents=6)["random_dictionary"] == control, "the seed draws them"


def test_every_coding_is_probed_and_the_number_of_attributes_is_said() -> None:
    assert set(FOUND["probing"]["codings"]) == set(CODINGS)
    assert (FOUND["probing"]["attributes"], FOUND["probing"]["of_attributes"]) == (4, TOPICS)
    text = "\n".join(intents_lines(FOUND))
    assert f"4 of the {TOPICS} attribute values" in text
    assert f"{TOPICS} of {TOPICS} latents, drawn by the seed" in text


def test_progress_rises_to_the_end() -> None:
    steps: list[float] = []
    measure(on_progress=lambda done, total: steps.append(done / total))
    assert steps == sorted(steps)
    assert steps[-1] == 1
    assert len(steps) > 20, "every attribute of every coding is a step"


def test_without_attributes_names_and_texts_are_still_judged() -> None:
    found = measure(replace(PLANTED.items, attributes=[{}] * ITEMS))
    assert not {"probing", "absorption", "purity"} & set(found)
    assert set(found["spaces"]) == {"texts"}
    assert found["detection"] == FOUND["detection"]
    text = "\n".join(intents_lines(found))
    assert "Probes" not in text
    assert "Intruder" in text
    assert set(intents_headline({"intents": found})) == {"detection_auc", "detection_auc_fresh_gate"}


def test_with_nothing_but_vectors_the_report_says_what_it_can() -> None:
    bare = replace(PLANTED.items, attributes=[{}] * ITEMS, texts=[""] * ITEMS)
    unnamed = catalogue([intent(latent, state="unpublished") for latent in range(TOPICS)])
    found = measure(bare, unnamed)
    assert found["spaces"] == {}
    assert found["families"] == []
    text = "\n".join(intents_lines(found))
    assert "0 of 24 latents" in text
    assert "could be judged" in text
    assert intents_headline({"intents": found}) == {}


def test_a_second_dictionary_changes_the_families_and_no_figure() -> None:
    more = catalogue([*catalogue().intents, intent(TOPICS, label="bought together")])
    found = measure(named=more)
    assert {name: value for name, value in found.items() if name != "families"} == {
        name: value for name, value in FOUND.items() if name != "families"
    }
    assert "bought together" in [tree["label"] for tree in found["families"]]


def test_names_and_meanings_are_measured_on_codes_with_reviews_where_people_meet_those() -> None:
    """Reviews say the topics of another item: the catalogue is of such codes, so figures of texts would flatter."""
    order = np.random.default_rng(0).permutation(ITEMS)
    samples = Samples(
        np.concatenate([PLANTED.vectors, PLANTED.vectors[order]]), np.tile(np.arange(ITEMS), 2), ITEMS
    )
    codes = item_codes(PLANTED.dictionary, samples)
    hidden = [intent(latent, state="unpublished" if latent else "active") for latent in range(TOPICS)]
    reviewed = replace(PLANTED.coded, product_codes=codes, samples=samples)
    found, of_texts = measure(coded=reviewed), measure()
    assert found["detection"] == label_detection(catalogue(), codes, PLANTED.vectors, encoder(PLANTED), 3)
    assert found["detection"]["own"]["mean"] < 0.9 < of_texts["detection"]["own"]["mean"]
    mass = codes.sum(axis=0)
    assert measure(named=catalogue(hidden), coded=reviewed)["detection"]["coverage"] == pytest.approx(
        mass[0] / mass.sum()
    )
    for figures, texts in zip(found["spaces"].values(), of_texts["spaces"].values(), strict=True):
        assert figures["intruder"]["accuracy"] < texts["intruder"]["accuracy"] - 0.1
    for control in ("dictionary", "random_dictionary"):
        own = [each["purity"]["codings"][control]["own"]["purity"] for each in (found, of_texts)]
        assert own[0] < own[1]
    assert found["absorption"]["random_dictionary"] != of_texts["absorption"]["random_dictionary"]
    assert found["fuzzing"] == of_texts["fuzzing"], "what a sentence sets off is asked of texts"


def test_the_intruder_test_tells_published_latents_apart() -> None:
    hidden = catalogue([intent(latent, state="unpublished") for latent in range(TOPICS)])
    spaces = measure(named=hidden)["spaces"]
    assert set(spaces) == {"attributes", "texts"}
    for name, space in spaces.items():
        assert space["intruder"]["accuracy_published"] is None
        assert FOUND["spaces"][name]["intruder"]["accuracy_published"] is not None


def test_headlines_are_plain_figures() -> None:
    assert intents_headline({"intents": FOUND}) == {
        "detection_auc": pytest.approx(1),
        "detection_auc_fresh_gate": pytest.approx(1),
        "probing_auc_1": pytest.approx(1),
    }
    assert intents_headline({}) == {}
