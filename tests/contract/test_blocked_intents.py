"""Intents that policy blocks, and nuisance: no call of a real server shows, cites or steers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from saerec_ray.bundle import Bundle, BundleOrigin, load_bundle, write_bundle
from saerec_ray.intents.catalogue import Intent
from saerec_ray.intents.policy import Policy, enforce
from saerec_ray.v1 import common_pb2, intent_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.contract.asking import BOOST, SUPPRESS, adjust, met, total
from tests.contract.running import Api, refusal, running, settings_of
from tests.synthetic import DEPRECATED_ID

TOPIC = "fragrance allergies"
STATES = [
    intent_service_pb2.INTENT_STATE_ACTIVE,
    intent_service_pb2.INTENT_STATE_DEPRECATED,
    intent_service_pb2.INTENT_STATE_BLOCKED,
]


@pytest.fixture(scope="module")
def strict_folder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the other tests under a policy, and with two intents found to be nuisance."""
    policy = Policy.model_validate(
        {"topics": [{"name": TOPIC, "phrases": ["perfume", "scent"]}]}  # "scent" is a deprecated intent
    )
    enforced = enforce(policy, bundle.catalogue, bundle.items, bundle.space.codes).catalogue
    intents = [
        intent.model_copy(
            update={"kind": "nuisance", "state": "unpublished", "steerable": False, "verdict": "nuisance: x"}
        )
        if intent.latent in (0, 1)
        else intent
        for intent in enforced.intents
    ]
    folder = tmp_path_factory.mktemp("strict") / "bundle"
    content = replace(bundle, catalogue=enforced.model_copy(update={"intents": intents}))
    write_bundle(content, BundleOrigin("0" * 64, "1" * 64, {}, 7), folder)
    return folder


@pytest.fixture(scope="module")
def strict(strict_folder: Path) -> Iterator[Api]:
    with running(settings_of(strict_folder)) as api:
        yield api


@pytest.fixture(scope="module")
def hidden(strict_folder: Path) -> list[Intent]:
    """Blocked intents and nuisance."""
    catalogue = load_bundle(strict_folder).catalogue
    chosen = [each for each in catalogue.intents if each.state == "blocked" or each.kind == "nuisance"]
    found = [each for each in chosen if not each.published]
    assert {each.state for each in found} == {"blocked", "unpublished"}
    assert sum(each.state == "blocked" for each in found) >= 3
    return found


def test_they_are_not_listed_in_any_state(strict: Api, hidden: list[Intent]) -> None:
    request = intent_service_pb2.ListIntentsRequest(states=STATES, page_size=1000)
    listed = {each.intent_id for each in strict.intents.ListIntents(request).intents}
    assert listed
    assert not listed & {each.intent_id for each in hidden}
    assert DEPRECATED_ID not in listed
    only = intent_service_pb2.ListIntentsRequest(states=STATES[2:])
    assert strict.intents.ListIntents(only).total_size == 0


def test_they_are_not_found_by_id(strict: Api, hidden: list[Intent]) -> None:
    for intent_id in [*(each.intent_id for each in hidden), DEPRECATED_ID]:
        request = intent_service_pb2.GetIntentRequest(intent_id=intent_id)
        refused = refusal(lambda asked=request: strict.intents.GetIntent(asked))  # type: ignore[misc]
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_INTENT")


def test_they_are_not_found_by_words_or_by_items(strict: Api, hidden: list[Intent]) -> None:
    found: set[str] = set()
    for each in hidden:
        for query in (
            {"text": each.label},
            {"examples": {"item_ids": [top.item_id for top in each.top_items[:5]]}},
        ):
            request = intent_service_pb2.SearchIntentsRequest(page_size=100, **query)
            found |= {match.intent.intent_id for match in strict.intents.SearchIntents(request).matches}
    assert len(found) > 5
    assert not found & {each.intent_id for each in hidden}


def test_they_are_not_cited_and_the_parts_still_add_up(
    strict: Api, bundle: Bundle, hidden: list[Intent]
) -> None:
    secret = {each.intent_id for each in hidden}
    rng = np.random.default_rng(2)
    cited: set[str] = set()
    for _ in range(20):
        history = met(bundle, *rng.choice(300, 6, replace=False))
        request = messages.RecommendRequest(
            history=history, page_size=40, view=messages.RECOMMEND_VIEW_EXPLAINED
        )
        for item in strict.recommender.Recommend(request).items:
            cited |= {each.intent_id for each in item.explanation.intents}
            assert total(item) == pytest.approx(item.score, rel=1e-5, abs=1e-5)
    assert len(cited) > 10
    assert not cited & secret


def test_hiding_an_intent_changes_no_score(strict: Api, api: Api, bundle: Bundle) -> None:
    request = messages.RecommendRequest(history=met(bundle, 3, 30, 100), page_size=50)
    with_all, without = api.recommender.Recommend(request), strict.recommender.Recommend(request)
    assert [(each.item_id, each.score) for each in with_all.items] == [
        (each.item_id, each.score) for each in without.items
    ]


def test_they_are_in_no_profile_and_no_verdict(strict: Api, hidden: list[Intent], bundle: Bundle) -> None:
    secret = {each.intent_id for each in hidden}
    for each in hidden:  # whoever has nothing but items of the intent
        items = [bundle.items.ids.index(top.item_id) for top in each.top_items[:15]]
        request = messages.ExplainUserRequest(history=met(bundle, *items), max_intents=100)
        explained = strict.recommender.ExplainUser(request)
        assert len(explained.intents) > 10
        assert not {reason.intent_id for reason in explained.intents} & secret


def test_they_cannot_be_steered_and_the_refusal_tells_no_topic(
    strict: Api, hidden: list[Intent], bundle: Bundle, user: str
) -> None:
    for each in hidden:
        for mode in (BOOST, SUPPRESS):
            write = messages.SteerIntentsRequest(user_id=user, adjustments=[adjust(each.intent_id, mode)])
            inline = messages.RecommendRequest(
                history=met(bundle, 1),
                steering=messages.InlineSteering(adjustments=[adjust(each.intent_id, mode)]),
            )
            for call in (
                lambda asked=write: strict.recommender.SteerIntents(asked),
                lambda asked=inline: strict.recommender.Recommend(asked),
            ):
                refused = refusal(call)
                assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
                assert refused.reason == "INTENT_NOT_STEERABLE"
                assert TOPIC not in refused.message


def test_the_effect_of_steering_names_none_of_them(
    strict: Api, hidden: list[Intent], strict_folder: Path, bundle: Bundle, user: str
) -> None:
    catalogue = load_bundle(strict_folder).catalogue
    shown = [each.intent_id for each in catalogue.intents if each.published and each.steerable]
    moved: set[str] = set()
    for intent_id in shown[:5]:
        request = messages.SteerIntentsRequest(
            user_id=user, adjustments=[adjust(intent_id)], validate_only=True
        )
        exposures = strict.recommender.SteerIntents(request).effect.exposures
        assert exposures[0].intent_id == intent_id
        moved |= {each.intent_id for each in exposures[1:]}
    assert len(moved) > 5, "or hardly an intent was named beside those that were steered"
    assert moved <= {each.intent_id for each in catalogue.intents} - {each.intent_id for each in hidden}


def test_steering_stored_before_the_policy_is_skipped_and_named_by_id_alone(
    bundle_folder: Path, strict_folder: Path, bundle: Bundle, hidden: list[Intent], tmp_path: Path
) -> None:
    before = {each.intent_id: each for each in bundle.catalogue.intents}
    was_steerable = next(each.intent_id for each in hidden if before[each.intent_id].steerable)
    state = tmp_path / "state.sqlite"
    with running(settings_of(bundle_folder, state=state)) as api:
        api.recommender.SteerIntents(
            messages.SteerIntentsRequest(user_id="u", adjustments=[adjust(was_steerable)])
        )
    with running(settings_of(strict_folder, state=state)) as api:
        request = messages.RecommendRequest(user_id="u", history=met(bundle, 1, 2))
        answered = api.recommender.Recommend(request)
        (skipped,) = answered.skipped_adjustments
        assert skipped.intent_id == was_steerable
        assert skipped.reason == common_pb2.ERROR_REASON_INTENT_NOT_STEERABLE
        plain = api.recommender.Recommend(messages.RecommendRequest(history=met(bundle, 1, 2)))
        assert [each.score for each in answered.items] == [each.score for each in plain.items]


def test_neither_topic_nor_verdict_is_on_the_wire(strict: Api, bundle: Bundle) -> None:
    listed = strict.intents.ListIntents(intent_service_pb2.ListIntentsRequest(states=STATES, page_size=1000))
    explained = strict.recommender.ExplainUser(
        messages.ExplainUserRequest(history=met(bundle, 4, 14), max_intents=100)
    )
    sent = listed.SerializeToString() + explained.SerializeToString()
    assert b"perfume" in explained.SerializeToString()  # titles of items stay: the history is the user's own
    for word in (TOPIC.encode(), b"policy", b"nuisance:"):
        assert word not in sent
