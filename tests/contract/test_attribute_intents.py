"""Intents that stand for an attribute value: a real server finds them, and says that their names are right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from saerec_ray.bundle import Bundle, BundleOrigin, write_bundle
from saerec_ray.intents.catalogue import Intent
from saerec_ray.v1 import intent_service_pb2
from tests.contract.running import Api, running, settings_of

LABEL = "Zebrawood Atelier"


@pytest.fixture(scope="module")
def brand(bundle: Bundle) -> Intent:
    """A published intent as the value of an attribute: no other label has its words, and no AUC was measured."""
    chosen = next(each for each in bundle.catalogue.intents if each.published)
    changes = {"label": LABEL, "terms": [], "label_source": "attribute", "detection_auc": None}
    return chosen.model_copy(update={**changes, "dictionary": "attributes", "kind": "item property"})


@pytest.fixture(scope="module")
def branded(bundle: Bundle, brand: Intent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    intents = [brand if each.latent == brand.latent else each for each in bundle.catalogue.intents]
    intents[-2] = intents[-2].model_copy(update={"detection_auc": None, "state": "active"})
    folder: Path = tmp_path_factory.mktemp("branded") / "bundle"
    content = replace(bundle, catalogue=bundle.catalogue.model_copy(update={"intents": intents}))
    write_bundle(content, BundleOrigin("0" * 64, "1" * 64, {}, 7), folder)
    with running(settings_of(folder)) as api:
        yield api


def test_a_name_by_construction_is_sure_and_one_that_was_not_judged_is_not(
    branded: Api, bundle: Bundle, brand: Intent
) -> None:
    def sent(intent_id: str) -> intent_service_pb2.Intent:
        return branded.intents.GetIntent(intent_service_pb2.GetIntentRequest(intent_id=intent_id)).intent

    named = sent(brand.intent_id)
    assert named.label_source == intent_service_pb2.LABEL_SOURCE_ATTRIBUTE
    assert named.label_confidence == 1
    assert sent(bundle.catalogue.intents[-2].intent_id).label_confidence == 0


def test_it_is_found_by_its_name_and_by_its_items(branded: Api, brand: Intent) -> None:
    by_name = intent_service_pb2.SearchIntentsRequest(text="zebrawood", page_size=1)
    examples = intent_service_pb2.ExampleItems(item_ids=[each.item_id for each in brand.top_items[:8]])
    by_items = intent_service_pb2.SearchIntentsRequest(examples=examples, page_size=3)
    for request in (by_name, by_items):
        found = [match.intent.intent_id for match in branded.intents.SearchIntents(request).matches]
        assert brand.intent_id in found
