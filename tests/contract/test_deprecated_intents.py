"""Intents of an earlier dictionary: still answered for, with what to use instead; families are named."""

from __future__ import annotations

import grpc

from saerec_ray.bundle import Bundle
from saerec_ray.v1 import common_pb2, intent_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.contract.asking import met
from tests.contract.running import Api, refusal
from tests.synthetic import DEPRECATED_ID


def test_a_deprecated_intent_is_answered_with_its_successors(api: Api, bundle: Bundle) -> None:
    request = intent_service_pb2.GetIntentRequest(intent_id=DEPRECATED_ID)
    intent = api.intents.GetIntent(request).intent
    (entry,) = bundle.catalogue.deprecated
    assert intent.state == intent_service_pb2.INTENT_STATE_DEPRECATED
    assert list(intent.successor_intent_ids) == entry.successors
    assert (intent.label, intent.intents_version) == (entry.label, entry.last_version)
    assert not intent.steerable
    for successor in entry.successors:
        found = api.intents.GetIntent(intent_service_pb2.GetIntentRequest(intent_id=successor)).intent
        assert found.state == intent_service_pb2.INTENT_STATE_ACTIVE


def test_deprecated_intents_are_listed_only_when_asked_for(api: Api) -> None:
    usual = api.intents.ListIntents(intent_service_pb2.ListIntentsRequest())
    assert DEPRECATED_ID not in {each.intent_id for each in usual.intents}
    states = [intent_service_pb2.INTENT_STATE_ACTIVE, intent_service_pb2.INTENT_STATE_DEPRECATED]
    both = api.intents.ListIntents(intent_service_pb2.ListIntentsRequest(states=states))
    ids = [each.intent_id for each in both.intents]
    assert set(ids) == {each.intent_id for each in usual.intents} | {DEPRECATED_ID}
    assert ids == sorted(ids)
    steerable = api.intents.ListIntents(
        intent_service_pb2.ListIntentsRequest(states=states, steerable_only=True)
    )
    assert DEPRECATED_ID not in {each.intent_id for each in steerable.intents}


def test_a_deprecated_intent_cannot_be_steered(api: Api, bundle: Bundle) -> None:
    adjustment = common_pb2.IntentAdjustment(intent_id=DEPRECATED_ID, mode=common_pb2.ADJUSTMENT_MODE_BOOST)
    request = messages.RecommendRequest(history=met(bundle, 1, 2), steering={"adjustments": [adjustment]})
    refused = refusal(lambda: api.recommender.Recommend(request))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(refused.fields) == ["steering.adjustments[0].intent_id"]


def test_search_never_finds_a_deprecated_intent(api: Api) -> None:
    request = intent_service_pb2.SearchIntentsRequest(text="scent", page_size=100)
    found = {match.intent.intent_id for match in api.intents.SearchIntents(request).matches}
    assert DEPRECATED_ID not in found


def test_an_intent_names_the_broader_one_it_belongs_to(api: Api, bundle: Bundle) -> None:
    child = next(each for each in bundle.catalogue.intents if each.parent_id)
    answer = api.intents.GetIntent(intent_service_pb2.GetIntentRequest(intent_id=child.intent_id)).intent
    assert answer.parent_intent_id == child.parent_id
    single = next(each for each in bundle.catalogue.intents if each.published and not each.parent_id)
    answer = api.intents.GetIntent(intent_service_pb2.GetIntentRequest(intent_id=single.intent_id)).intent
    assert answer.parent_intent_id == ""
