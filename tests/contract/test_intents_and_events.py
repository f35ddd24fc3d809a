"""The catalogue and the events, over a real socket."""

from __future__ import annotations

import concurrent.futures
import time
import uuid
from functools import partial
from pathlib import Path

import grpc
import pytest

from saerec_ray._calls import MOST_INTENTS
from saerec_ray.bundle import Bundle, load_bundle
from saerec_ray.client import Client
from saerec_ray.v1 import event_service_pb2, intent_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server import limits
from tests.contract.asking import answer, event, met, write
from tests.contract.running import PATIENCE, Api, refusal, running, settings_of
from tests.synthetic import write_synthetic_bundle


def test_the_list_holds_the_published_intents_by_id(api: Api, bundle: Bundle) -> None:
    listed = api.intents.ListIntents(intent_service_pb2.ListIntentsRequest())
    ids = [each.intent_id for each in listed.intents]
    published = [each for each in bundle.catalogue.intents if each.published]
    assert ids == sorted(each.intent_id for each in published)
    assert listed.total_size == len(published)
    assert listed.intents_version == bundle.manifest.intents_version
    assert {each.state for each in listed.intents} == {intent_service_pb2.INTENT_STATE_ACTIVE}


def test_pages_of_a_list_follow_each_other_until_all_intents_came_once(api: Api, bundle: Bundle) -> None:
    published = sorted(each.intent_id for each in bundle.catalogue.intents if each.published)
    request, came = intent_service_pb2.ListIntentsRequest(page_size=3), []
    while True:
        listed = api.intents.ListIntents(request)
        assert listed.total_size == len(published)
        came += [each.intent_id for each in listed.intents]
        if not listed.next_page_token:
            break
        assert len(listed.intents) == 3
        request.page_token = listed.next_page_token
    assert came == published
    assert len(published) > 6


def test_a_page_token_is_for_the_list_it_came_from(api: Api) -> None:
    token = api.intents.ListIntents(intent_service_pb2.ListIntentsRequest(page_size=3)).next_page_token
    other_size = intent_service_pb2.ListIntentsRequest(page_size=2, page_token=token)
    assert len(api.intents.ListIntents(other_size).intents) == 2, "the size of pages may change"
    for request in (
        intent_service_pb2.ListIntentsRequest(page_token=token, steerable_only=True),
        intent_service_pb2.ListIntentsRequest(page_token=token + "x"),
    ):
        refused = refusal(partial(api.intents.ListIntents, request))
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
        assert list(refused.fields) == ["page_token"]


def test_the_client_gets_all_intents_of_a_dictionary_whose_pages_end_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert limits.MAX_PAGE_BYTES < 4 << 20, "what a gRPC client takes that was not told otherwise"
    monkeypatch.setattr(limits, "MAX_PAGE_BYTES", 64 << 10)
    folder = write_synthetic_bundle(tmp_path / "bundle", intents=2_400)
    published = [each for each in load_bundle(folder).catalogue.intents if each.published]
    assert len(published) > 2_000
    with running(settings_of(folder)) as api, Client(f"127.0.0.1:{api.port}") as client:
        listed = client.list_intents(timeout=PATIENCE)
        asked = intent_service_pb2.ListIntentsRequest(page_size=limits.MAX_INTENTS)
        page = api.intents.ListIntents(asked)
    assert listed.total_size == len(listed.intents) == len(published)
    assert sum(each.ByteSize() for each in page.intents) <= 64 << 10 < listed.ByteSize()
    assert list(page.intents) == list(listed.intents)[: len(page.intents)]


def test_an_intent_larger_than_a_page_may_be_comes_alone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [
        each.intent_id for each in api.intents.ListIntents(intent_service_pb2.ListIntentsRequest()).intents
    ]
    monkeypatch.setattr(limits, "MAX_PAGE_BYTES", 1)
    first = api.intents.ListIntents(intent_service_pb2.ListIntentsRequest())
    after = intent_service_pb2.ListIntentsRequest(page_token=first.next_page_token)
    pages = [first, api.intents.ListIntents(after)]
    assert [[each.intent_id for each in page.intents] for page in pages] == [ids[:1], ids[1:2]]


def test_the_client_asks_for_as_many_intents_as_the_server_gives_and_says_so() -> None:
    assert MOST_INTENTS == limits.MAX_INTENTS
    told = f"at most {limits.MAX_INTENTS} in one answer, and fewer where they would be above"
    assert f"{told} {limits.MAX_PAGE_BYTES >> 20} MiB" in (Client.list_intents.__doc__ or "")
    proto = (Path(__file__).parents[2] / "protos/saerec_ray/v1/intent_service.proto").read_text("utf-8")
    assert f"A page ends before {limits.MAX_PAGE_BYTES >> 20} MiB" in proto


def test_only_steerable_intents_can_be_asked_for(api: Api, steerable: list[str]) -> None:
    listed = api.intents.ListIntents(intent_service_pb2.ListIntentsRequest(steerable_only=True))
    assert [each.intent_id for each in listed.intents] == sorted(steerable)


def test_no_intent_is_blocked_here(api: Api) -> None:
    blocked = [intent_service_pb2.INTENT_STATE_BLOCKED]
    request = intent_service_pb2.ListIntentsRequest(states=blocked)
    assert api.intents.ListIntents(request).total_size == 0


def test_the_list_of_another_dictionary_is_refused(api: Api, bundle: Bundle) -> None:
    request = intent_service_pb2.ListIntentsRequest(intents_version=bundle.manifest.intents_version)
    assert api.intents.ListIntents(request).total_size > 0
    request.intents_version = "another"
    assert list(refusal(lambda: api.intents.ListIntents(request)).fields) == ["intents_version"]


def test_an_intent_is_described_with_its_strongest_items(api: Api, bundle: Bundle) -> None:
    wanted = next(each for each in bundle.catalogue.intents if each.published)
    request = intent_service_pb2.GetIntentRequest(intent_id=wanted.intent_id, max_top_items=4)
    intent = api.intents.GetIntent(request).intent
    assert (intent.label, intent.description) == (wanted.label, wanted.description)
    assert [each.item_id for each in intent.top_items] == [each.item_id for each in wanted.top_items[:4]]
    assert all(each.title for each in intent.top_items)
    assert list(intent.top_terms) == wanted.terms
    assert intent.label_confidence == wanted.detection_auc == wanted.label_confidence
    assert intent.density == wanted.user_density
    assert intent.update_time.seconds > 0


def test_the_kind_of_an_intent_is_sent(api: Api, bundle: Bundle) -> None:
    listed = api.intents.ListIntents(intent_service_pb2.ListIntentsRequest(page_size=1000))
    sent = {each.intent_id: intent_service_pb2.IntentKind.Name(each.kind) for each in listed.intents}
    names = {
        "unknown": "INTENT_KIND_UNSPECIFIED",
        "intent": "INTENT_KIND_INTENT",
        "item property": "INTENT_KIND_ITEM_PROPERTY",
        "nuisance": "INTENT_KIND_NUISANCE",
    }
    assert sent == {each.intent_id: names[each.kind] for each in bundle.catalogue.intents if each.published}
    assert set(sent.values()) == set(names.values())


def test_search_by_words_finds_the_label_first(api: Api, bundle: Bundle) -> None:
    wanted = next(each for each in bundle.catalogue.intents if each.label == "perfume 4")
    request = intent_service_pb2.SearchIntentsRequest(text="Perfume 4", page_size=5)
    matches = api.intents.SearchIntents(request).matches
    assert matches[0].intent.intent_id == wanted.intent_id
    scores = [each.score for each in matches]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


def test_search_never_finds_unpublished_intents(api: Api, bundle: Bundle) -> None:
    hidden = {each.intent_id for each in bundle.catalogue.intents if not each.published}
    for each in bundle.catalogue.intents:
        request = intent_service_pb2.SearchIntentsRequest(text=each.label, page_size=100)
        found = {match.intent.intent_id for match in api.intents.SearchIntents(request).matches}
        assert not found & hidden


def test_search_by_items_finds_what_they_share(api: Api, bundle: Bundle) -> None:
    wanted = max(
        (each for each in bundle.catalogue.intents if each.published), key=lambda each: each.item_count
    )
    examples = [each.item_id for each in wanted.top_items[:5]]
    request = intent_service_pb2.SearchIntentsRequest(examples={"item_ids": [*examples, "gone"]})
    matches = api.intents.SearchIntents(request).matches
    assert wanted.intent_id in [each.intent.intent_id for each in matches[:2]]
    assert all(0 < each.score <= 1 for each in matches)


def test_search_by_unknown_items_finds_nothing(api: Api) -> None:
    request = intent_service_pb2.SearchIntentsRequest(examples={"item_ids": ["gone"]})
    assert len(api.intents.SearchIntents(request).matches) == 0


def test_an_event_id_counts_once(api: Api, user: str) -> None:
    one = event(user, "item-0001")
    first = api.events.WriteEvents(write(one, one, event(user, "item-0002")))
    assert (first.accepted_count, first.duplicate_count) == (2, 1)
    again = api.events.WriteEvents(write(one, event(user, "item-0003")))
    assert (again.accepted_count, again.duplicate_count) == (1, 1)
    erase = event_service_pb2.DeleteUserDataRequest(user_id=user, request_id=str(uuid.uuid4()))
    assert api.events.DeleteUserData(erase).event_count == 3


def test_events_of_unknown_items_are_kept_and_named(api: Api, user: str) -> None:
    response = api.events.WriteEvents(write(event(user, "item-0001"), event(user, "not sold any more")))
    assert response.accepted_count == 2
    assert list(response.unknown_item_ids) == ["not sold any more"]


def test_a_bad_event_keeps_the_whole_batch_out(api: Api, user: str) -> None:
    good, bad = event(user, "item-0001"), event(user, "")
    assert refusal(lambda: api.events.WriteEvents(write(good, bad))).code == grpc.StatusCode.INVALID_ARGUMENT
    assert api.events.WriteEvents(write(good)).accepted_count == 1


def test_validate_only_writes_nothing(api: Api, user: str) -> None:
    one = event(user, "item-0001")
    checked = api.events.WriteEvents(write(one, event(user, "gone"), validate_only=True))
    assert (checked.accepted_count, list(checked.unknown_item_ids)) == (2, ["gone"])
    assert not checked.HasField("consistency_token")
    assert api.events.WriteEvents(write(one)).duplicate_count == 0
    known = api.events.WriteEvents(write(one, validate_only=True))
    assert (known.accepted_count, known.duplicate_count) == (0, 1)


def test_history_is_in_the_order_of_event_times(api: Api, bundle: Bundle, user: str) -> None:
    now = int(time.time())
    events = [
        event(user, bundle.items.ids[item], event_time={"seconds": now - age})
        for item, age in ((4, 10), (3, 30), (1, 20))
    ]
    api.events.WriteEvents(write(*events))
    stored = api.recommender.Recommend(messages.RecommendRequest(user_id=user))
    given = api.recommender.Recommend(messages.RecommendRequest(history=met(bundle, 3, 1, 4)))
    assert answer(stored) == answer(given)


def test_an_item_does_not_come_back_after_200_events_more(api: Api, bundle: Bundle, user: str) -> None:
    now = int(time.time())
    events = [
        event(user, bundle.items.ids[item], event_time={"seconds": now - 300 + item}) for item in range(250)
    ]
    for start in range(0, 250, 50):
        api.events.WriteEvents(write(*events[start : start + 50]))
    response = api.recommender.Recommend(messages.RecommendRequest(user_id=user, page_size=200))
    assert {item.item_id for item in response.items} == set(bundle.items.ids[250:])


def test_many_writers_at_once_are_all_served(api: Api, user: str) -> None:
    def write_five(writer: int) -> int:
        return sum(
            api.events.WriteEvents(write(event(f"{user} {writer}", f"item {number}"))).accepted_count
            for number in range(5)
        )

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(write_five, range(20))) == 100
