"""A run with co-occurrence and attributes beside the texts: trained, named, served, explained and steered."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.bundle import Bundle, load_bundle
from saerec_ray.client import Client
from saerec_ray.data.prepared import read_sequences
from saerec_ray.dictionary.concatenated import COOCCURRENCE_FILE, Dictionaries, read_dictionaries
from saerec_ray.dictionary.sae import DICTIONARY_FILE, read_codes
from saerec_ray.intents.catalogue import Intent
from saerec_ray.manifest import read_manifest
from saerec_ray.v1 import intent_service_pb2 as intents_api
from tests.contract.asking import total
from tests.contract.process import server_process
from tests.small_run import SMALL_CONFIG, run_small

pytestmark = pytest.mark.ray

TEXTS = SMALL_CONFIG["dictionary"]["width"]  # type: ignore[index]
SECOND = 24
ENOUGH = 50
"""Training interactions from which on an item has a vector of co-occurrence."""
SETTINGS = (
    f"dictionary.cooccurrence={{dimensions: 16, width: {SECOND}, active: 2, epochs: 40, min_interactions: {ENOUGH}}}",
    "dictionary.attributes={names: [genre], max_share: 0.6}",
    "cluster.engine=local",
    "train.workers=1",
    "train.baseline=false",
    "train.epochs=1",
    "evaluate.parts=[dictionary, intents]",
    "evaluate.recovery_users=50",
    "evaluate.probed_attributes=2",
    "evaluate.intruder_latents=20",
    "evaluate.fuzzed_intents=2",
)
PATIENCE = 60.0
CLOSE = 1e-5


@pytest.fixture(scope="module")
def workdir(trained_workdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cooccurrence")
    for stage in ("prepare", "embed"):
        shutil.copytree(trained_workdir / stage, folder / stage)
    finished = run_small(folder, *(part for each in SETTINGS for part in ("--set", each)))
    assert finished.returncode == 0, finished.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def bundle(workdir: Path) -> Bundle:
    return load_bundle(workdir / "bundle")


@pytest.fixture(scope="module")
def client(workdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    state = tmp_path_factory.mktemp("state") / "state.db"
    with (
        server_process(workdir / "bundle", state) as server,
        Client(f"127.0.0.1:{server.port}") as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def histories(workdir: Path, bundle: Bundle) -> list[list[str]]:
    sequences = read_sequences(workdir / "prepare")
    chosen = random.Random(5).sample(range(len(sequences)), 10)
    return [[bundle.items.ids[item] for item in sequences.train(user)[-50:]] for user in chosen]


@pytest.fixture(scope="module")
def taken_together(bundle: Bundle) -> list[Intent]:
    """The published intents of co-occurrence."""
    found = [
        each for each in bundle.catalogue.intents if each.dictionary == "cooccurrence" and each.published
    ]
    assert found, "none passed the gates: the tests below would say nothing"
    return found


def test_the_text_dictionary_and_its_codes_are_what_they_are_without_a_second_one(
    workdir: Path, trained_workdir: Path
) -> None:
    alone, together = trained_workdir / "dictionary", workdir / "dictionary"
    assert (together / DICTIONARY_FILE).read_bytes() == (alone / DICTIONARY_FILE).read_bytes()
    assert not (alone / COOCCURRENCE_FILE).exists()
    codes, both = read_codes(alone), read_codes(together)
    assert both.shape[1] > TEXTS + SECOND, "attributes come last"
    np.testing.assert_array_equal(both[:, :TEXTS].toarray(), codes.toarray())


def test_items_that_few_people_met_have_no_code_of_co_occurrence(workdir: Path, bundle: Bundle) -> None:
    _, met = read_sequences(workdir / "prepare").train_interactions()
    few = np.bincount(met, minlength=len(bundle.items)) < ENOUGH
    counts = np.diff(bundle.space.codes[:, TEXTS : TEXTS + SECOND].indptr)
    assert few.any()
    assert not counts[few].any()
    assert counts[~few].mean() > 1


def test_the_report_measures_both_dictionaries_with_their_intents(workdir: Path, bundle: Bundle) -> None:
    report = json.loads((workdir / "evaluate" / "report.json").read_text("utf-8"))
    trained = read_manifest(workdir / "dictionary").metrics["cooccurrence"]
    second = report["dictionary"]["cooccurrence"]
    assert (report["dictionary"]["latents"], second["latents"]) == (TEXTS, SECOND)
    assert (second["items"], second["of_items"]) == (trained["items"], len(bundle.items))
    assert second["agreement"] > 0.99
    assert second["codings"]["dictionary"]["fvu"] == pytest.approx(trained["fvu"], rel=0.01)
    published = [
        each for each in bundle.catalogue.intents if each.dictionary == "cooccurrence" and each.published
    ]
    assert report["intents"]["cooccurrence"]["detection"]["published"] == len(published)


def test_the_bundle_holds_all_dictionaries(workdir: Path, bundle: Bundle) -> None:
    packed, loose = Dictionaries.from_arrays(bundle.dictionary), read_dictionaries(workdir / "dictionary")
    np.testing.assert_array_equal(packed.decoder, loose.decoder)
    assert packed.width == len(bundle.catalogue.intents)
    assert packed.attributes == loose.attributes != ()


def test_the_server_says_where_an_intent_was_found(client: Client, bundle: Bundle) -> None:
    expected = {
        "text": intents_api.INTENT_DICTIONARY_TEXT,
        "cooccurrence": intents_api.INTENT_DICTIONARY_COOCCURRENCE,
        "attributes": intents_api.INTENT_DICTIONARY_ATTRIBUTES,
    }
    listed = {each.intent_id: each.dictionary for each in client.list_intents(timeout=PATIENCE).intents}
    assert listed == {
        each.intent_id: expected[each.dictionary] for each in bundle.catalogue.intents if each.published
    }
    assert set(listed.values()) == set(expected.values())


def test_explanations_with_all_kinds_of_intents_add_up(
    client: Client, bundle: Bundle, histories: list[list[str]], taken_together: list[Intent]
) -> None:
    ids = {each.intent_id for each in taken_together}
    named = 0
    for history in histories:
        page = client.recommend(history=history, page_size=50, explained=True, timeout=PATIENCE)
        for item in page.items:
            assert total(item) == pytest.approx(item.score, rel=CLOSE, abs=CLOSE)
            named += sum(each.intent_id in ids for each in item.explanation.intents)
    assert named > 0, "no score was explained by what people take together"


def test_an_intent_of_an_attribute_is_named_by_its_value_and_on_exactly_the_items_that_have_it(
    bundle: Bundle,
) -> None:
    found = [each for each in bundle.catalogue.intents if each.dictionary == "attributes" and each.published]
    assert {"Animation", "Film-Noir"} <= {each.label.split(",")[0] for each in found}
    for each in found:
        assert each.attribute is not None
        assert each.label_source == "attribute"
        assert each.kind == "item property"
        carriers = bundle.space.carriers(each.latent)[0].tolist()
        assert carriers == [
            place
            for place, own in enumerate(bundle.items.attributes)
            if each.attribute.value in own.get("genre", [])
        ]


def test_an_intent_of_co_occurrence_can_be_boosted_and_suppressed(
    client: Client, bundle: Bundle, histories: list[list[str]], taken_together: list[Intent]
) -> None:
    steered = max(taken_together, key=lambda each: each.item_count)
    loadings = dict(
        zip(bundle.items.ids, bundle.space.codes[:, [steered.latent]].toarray().ravel(), strict=True)
    )

    def exposure(**adjustments: dict[str, float]) -> float:
        page = client.recommend(history=histories[0], page_size=20, timeout=PATIENCE, **adjustments)
        return float(np.mean([loadings[item.item_id] for item in page.items]))

    plain = exposure()
    assert exposure(boost={steered.intent_id: 1.0}) > plain
    assert exposure(avoid={steered.intent_id: 1.0}) <= plain
    client.steer("steered", suppress={steered.intent_id: 1.0}, timeout=PATIENCE)
    page = client.recommend("steered", history=histories[0], page_size=50, explained=True, timeout=PATIENCE)
    for item in page.items:
        parts = [*item.explanation.intents, *item.explanation.steering]
        own = sum(each.contribution for each in parts if each.intent_id == steered.intent_id)
        assert own <= CLOSE, "at strength 1 it adds to no score any more"
        assert total(item) == pytest.approx(item.score, rel=CLOSE, abs=CLOSE)
