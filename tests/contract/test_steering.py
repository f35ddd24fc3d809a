"""Stored and inline steering, over a real socket."""

from __future__ import annotations

import concurrent.futures
import hashlib
import time
import uuid

import grpc
import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.v1 import common_pb2, event_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server import steering_writes
from tests.contract.asking import AVOID, BOOST, EXCLUDE, SUPPRESS, adjust, answer, event, met, total, write
from tests.contract.running import Api, refusal

EXPLAINED = messages.RECOMMEND_VIEW_EXPLAINED


def steer(api: Api, user: str, *adjustments: common_pb2.IntentAdjustment, **fields: object):
    return api.recommender.SteerIntents(
        messages.SteerIntentsRequest(user_id=user, adjustments=adjustments, **fields)
    )


def profile(api: Api, user: str) -> messages.SteeringProfile:
    request = messages.GetSteeringProfileRequest(user_id=user)
    return api.recommender.GetSteeringProfile(request).profile


def recommend(api: Api, user: str, *inline: common_pb2.IntentAdjustment, **fields: object):
    return api.recommender.Recommend(
        messages.RecommendRequest(
            user_id=user, steering=messages.InlineSteering(adjustments=inline), **fields
        )
    )


@pytest.fixture
def shopper(api: Api, bundle: Bundle, user: str) -> str:
    """A user with a stored history."""
    api.events.WriteEvents(write(*(event(user, bundle.items.ids[item]) for item in (3, 1, 4, 15, 9))))
    return user


def test_a_stored_boost_acts_like_an_inline_one(api: Api, shopper: str, steerable: list[str]) -> None:
    inline = recommend(api, shopper, adjust(steerable[0], BOOST, 0.7))
    written = steer(api, shopper, adjust(steerable[0], BOOST, 0.7))
    stored = recommend(api, shopper)
    assert answer(stored) == answer(inline)
    assert stored.steering_revision == written.profile.revision == 1


def test_clear_restores_the_very_same_answers(api: Api, shopper: str, steerable: list[str]) -> None:
    before = recommend(api, shopper, page_size=200)
    steer(api, shopper, adjust(steerable[0]), adjust(steerable[1], SUPPRESS), adjust(steerable[2], EXCLUDE))
    assert answer(recommend(api, shopper, page_size=200)) != answer(before)
    cleared = steer(api, shopper, mode=messages.STEER_MODE_CLEAR)
    assert len(cleared.profile.adjustments) == 0
    assert answer(recommend(api, shopper, page_size=200)) == answer(before)


def test_ignore_profile_answers_as_if_nothing_were_stored(
    api: Api, shopper: str, steerable: list[str]
) -> None:
    before = recommend(api, shopper)
    steer(api, shopper, adjust(steerable[0]))
    request = messages.RecommendRequest(user_id=shopper)
    request.steering.ignore_profile = True
    ignoring = api.recommender.Recommend(request)
    assert answer(ignoring) == answer(before)
    assert ignoring.steering_revision == 0


def test_an_inline_adjustment_replaces_the_stored_one_of_the_same_intent(
    api: Api, shopper: str, steerable: list[str]
) -> None:
    alone = recommend(api, shopper, adjust(steerable[0], AVOID, 0.4))
    steer(api, shopper, adjust(steerable[0], BOOST))
    assert answer(recommend(api, shopper, adjust(steerable[0], AVOID, 0.4))) == answer(alone)


def test_suppress_leaves_nothing_of_the_intent_in_any_explanation(
    api: Api, shopper: str, steerable: list[str]
) -> None:
    seen = 0
    for intent_id in steerable[:8]:
        response = recommend(api, shopper, adjust(intent_id, SUPPRESS), view=EXPLAINED, page_size=200)
        for item in response.items:
            (change,) = item.explanation.steering
            own = [each for each in item.explanation.intents if each.intent_id == intent_id]
            if own and own[0].contribution > 0:
                assert own[0].contribution + change.contribution == 0
                seen += 1
            assert item.score == pytest.approx(total(item), abs=1e-5 * max(1, abs(item.score)))
    assert seen > 20


def test_merge_replaces_the_same_intent_and_keeps_the_others(
    api: Api, user: str, steerable: list[str]
) -> None:
    steer(api, user, adjust(steerable[0], BOOST, 0.2), adjust(steerable[1], AVOID, 0.3))
    steer(api, user, adjust(steerable[0], SUPPRESS, 0.9))
    stored = {
        each.adjustment.intent_id: (each.adjustment.mode, each.adjustment.strength)
        for each in profile(api, user).adjustments
    }
    assert stored == {steerable[0]: (SUPPRESS, 0.9), steerable[1]: (AVOID, 0.3)}


def test_replace_drops_everything_else(api: Api, user: str, steerable: list[str]) -> None:
    steer(api, user, adjust(steerable[0]), adjust(steerable[1]))
    steer(api, user, adjust(steerable[2]), mode=messages.STEER_MODE_REPLACE)
    assert [each.adjustment.intent_id for each in profile(api, user).adjustments] == [steerable[2]]


def test_clear_of_named_intents_keeps_the_others_and_names_unknown_ones(
    api: Api, user: str, steerable: list[str]
) -> None:
    steer(api, user, adjust(steerable[0]), adjust(steerable[1]))
    strange = "int-00000000"
    response = steer(
        api,
        user,
        common_pb2.IntentAdjustment(intent_id=steerable[0]),
        common_pb2.IntentAdjustment(intent_id=strange),
        mode=messages.STEER_MODE_CLEAR,
    )
    assert [each.adjustment.intent_id for each in response.profile.adjustments] == [steerable[1]]
    assert [(each.intent_id, each.reason) for each in response.skipped_adjustments] == [
        (strange, common_pb2.ERROR_REASON_UNKNOWN_INTENT)
    ]


def test_a_profile_nobody_wrote_is_empty(api: Api, user: str) -> None:
    empty = profile(api, user)
    assert (empty.revision, len(empty.adjustments)) == (0, 0)
    assert empty.etag


def test_the_end_is_thirty_days_from_now_unless_given(api: Api, user: str, steerable: list[str]) -> None:
    now = time.time()
    (stored,) = steer(api, user, adjust(steerable[0])).profile.adjustments
    assert stored.expire_time.seconds == pytest.approx(now + 30 * 86_400, abs=30)
    request = messages.SteerIntentsRequest(user_id=user, adjustments=[adjust(steerable[1])])
    request.ttl.FromSeconds(3600)
    end = {
        each.adjustment.intent_id: each.expire_time.seconds
        for each in api.recommender.SteerIntents(request).profile.adjustments
    }
    assert end[steerable[1]] == pytest.approx(now + 3600, abs=30)
    request.expire_time.FromSeconds(int(now) + 7200)
    end = {
        each.adjustment.intent_id: each.expire_time.seconds
        for each in api.recommender.SteerIntents(request).profile.adjustments
    }
    assert end[steerable[1]] == int(now) + 7200


def test_a_stale_etag_aborts_and_a_fresh_one_passes(api: Api, user: str, steerable: list[str]) -> None:
    first = profile(api, user).etag
    second = steer(api, user, adjust(steerable[0]), etag=first).profile.etag
    refused = refusal(lambda: steer(api, user, adjust(steerable[1]), etag=first))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert steer(api, user, adjust(steerable[1]), etag=second).profile.revision == 2


def test_a_repeated_request_id_has_one_effect_and_the_same_answer(
    api: Api, user: str, steerable: list[str]
) -> None:
    request_id = str(uuid.uuid4())
    first = steer(api, user, adjust(steerable[0]), request_id=request_id)
    steer(api, user, adjust(steerable[1]))
    again = steer(api, user, adjust(steerable[0]), request_id=request_id.upper())
    assert again == first
    assert profile(api, user).revision == 2
    refused = refusal(lambda: steer(api, user, adjust(steerable[2]), request_id=request_id))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert list(refused.fields) == ["request_id"]


def test_the_same_request_id_of_another_user_is_another_request(
    api: Api, user: str, steerable: list[str]
) -> None:
    request_id = str(uuid.uuid4())
    steer(api, user, adjust(steerable[0]), request_id=request_id)
    assert steer(api, f"{user}-b", adjust(steerable[1]), request_id=request_id).profile.revision == 1


def test_validate_only_shows_the_effect_and_changes_nothing(
    api: Api, shopper: str, steerable: list[str]
) -> None:
    before = recommend(api, shopper)
    preview = steer(api, shopper, adjust(steerable[0]), validate_only=True)
    assert profile(api, shopper).revision == 0
    assert answer(recommend(api, shopper)) == answer(before)
    written = steer(api, shopper, adjust(steerable[0]))
    assert preview.effect == written.effect
    assert [each.adjustment for each in preview.profile.adjustments] == [
        each.adjustment for each in written.profile.adjustments
    ]
    assert preview.profile.revision == 0
    assert not preview.HasField("consistency_token")


def test_the_effect_is_what_recommend_shows_before_and_after(
    api: Api, bundle: Bundle, shopper: str, steerable: list[str]
) -> None:
    before = {item.item_id for item in recommend(api, shopper).items}
    effect = steer(api, shopper, adjust(steerable[0])).effect
    after = {item.item_id for item in recommend(api, shopper).items}
    assert effect.overlap == pytest.approx(len(before & after) / 20)
    index = {item_id: place for place, item_id in enumerate(bundle.items.ids)}
    latent = {each.intent_id: each.latent for each in bundle.catalogue.intents}
    assert effect.exposures[0].intent_id == steerable[0]
    assert len(effect.exposures) <= 11
    for change in effect.exposures:
        for page, shown in ((before, change.before), (after, change.after)):
            codes = bundle.space.codes[[index[item_id] for item_id in page]].toarray()
            assert shown == pytest.approx(codes[:, latent[change.intent_id]].mean(), abs=1e-5)


def test_every_write_is_a_revision_in_an_unbroken_chain(api: Api, user: str, steerable: list[str]) -> None:
    steer(api, user, adjust(steerable[0], BOOST, 0.5), reason="asked by the customer")
    steer(api, user, adjust(steerable[1], EXCLUDE), mode=messages.STEER_MODE_REPLACE)
    steer(api, user, mode=messages.STEER_MODE_CLEAR)
    request = messages.ListSteeringRevisionsRequest(user_id=user)
    revisions = api.recommender.ListSteeringRevisions(request).revisions
    assert [each.revision for each in revisions] == [3, 2, 1]
    assert [each.mode for each in revisions] == [
        messages.STEER_MODE_CLEAR,
        messages.STEER_MODE_REPLACE,
        messages.STEER_MODE_MERGE,
    ]
    assert revisions[2].reason == "asked by the customer"
    assert list(revisions[2].adjustments) == [adjust(steerable[0], BOOST, 0.5)]
    assert [each.intent_id for each in revisions[0].adjustments] == [steerable[1]]
    request.page_size = 2
    page = api.recommender.ListSteeringRevisions(request)
    assert [each.revision for each in page.revisions] == [3, 2]
    request.page_token = page.next_page_token
    page = api.recommender.ListSteeringRevisions(request)
    assert ([each.revision for each in page.revisions], page.next_page_token) == ([1], "")
    request.user_id = "somebody else"
    refused = refusal(lambda: api.recommender.ListSteeringRevisions(request))
    assert list(refused.fields) == ["page_token"], "a token is for one user"


def test_the_eleventh_write_in_a_minute_is_refused_with_the_time_to_wait(
    api: Api, user: str, steerable: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns() // 1000
    monkeypatch.setattr(steering_writes, "now_microseconds", lambda: now)  # however long ten writes take
    for number in range(10):
        steer(api, user, adjust(steerable[0], BOOST, 0.01 + number / 100))
    refused = refusal(lambda: steer(api, user, adjust(steerable[0])))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert refused.retry_seconds == 60
    assert refused.pushback == str(round(refused.retry_seconds * 1000))
    assert profile(api, user).revision == 10


def test_a_preview_is_no_write_and_is_answered_after_the_last_one_of_the_minute(
    api: Api, user: str, steerable: list[str]
) -> None:
    for _ in range(11):
        steer(api, user, adjust(steerable[0]), validate_only=True)
    for number in range(10):
        steer(api, user, adjust(steerable[0], BOOST, 0.01 + number / 100))
    preview = steer(api, user, adjust(steerable[1]), validate_only=True)
    assert len(preview.profile.adjustments) == 2


def test_writes_at_the_same_time_are_applied_one_after_the_other(
    api: Api, user: str, steerable: list[str]
) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda place: steer(api, user, adjust(steerable[place], SUPPRESS)), range(8)))
    assert sorted(each.profile.revision for each in written) == list(range(1, 9))
    assert len(profile(api, user).adjustments) == 8


def test_five_boosts_and_avoids_may_be_stored_and_a_sixth_is_refused(
    api: Api, user: str, steerable: list[str]
) -> None:
    steer(
        api, user, *(adjust(each, BOOST if place % 2 else AVOID) for place, each in enumerate(steerable[:5]))
    )
    refused = refusal(lambda: steer(api, user, adjust(steerable[5], AVOID)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "STEERING_LIMIT")
    assert list(refused.fields) == ["adjustments"]
    assert steer(api, user, adjust(steerable[5], SUPPRESS)).profile.revision == 2


def test_stored_boosts_beyond_the_limit_give_way_to_inline_ones_and_are_named(
    api: Api, shopper: str, steerable: list[str]
) -> None:
    stored = steerable[:4]
    steer(api, shopper, *(adjust(each, BOOST, 0.1 * (place + 1)) for place, each in enumerate(stored)))
    inline = [adjust(each) for each in steerable[4:7]]
    response = recommend(api, shopper, *inline)
    skipped = {each.intent_id: each.reason for each in response.skipped_adjustments}
    assert skipped == dict.fromkeys(stored[:2], common_pb2.ERROR_REASON_STEERING_LIMIT)
    direct = messages.RecommendRequest(user_id=shopper)
    direct.steering.ignore_profile = True
    direct.steering.adjustments.extend([adjust(stored[2], BOOST, 0.1 * 3), adjust(stored[3], BOOST, 0.1 * 4)])
    direct.steering.adjustments.extend(inline)
    assert answer(response) == answer(api.recommender.Recommend(direct))


def test_an_erased_user_is_as_if_never_seen(api: Api, shopper: str, steerable: list[str]) -> None:
    steer(api, shopper, adjust(steerable[0]), request_id=str(uuid.uuid4()))
    request = event_service_pb2.DeleteUserDataRequest(user_id=shopper)
    erased = api.events.DeleteUserData(request)
    assert (erased.event_count, erased.steering_profile_deleted) == (5, True)
    assert profile(api, shopper).revision == 0
    listed = messages.ListSteeringRevisionsRequest(user_id=shopper)
    assert len(api.recommender.ListSteeringRevisions(listed).revisions) == 0
    assert list(recommend(api, shopper).degradations) == [messages.DEGRADATION_POPULARITY_ONLY]
    again = api.events.DeleteUserData(request)
    assert (again.event_count, again.steering_profile_deleted) == (0, False)


def test_a_user_is_explained_with_and_without_steering(
    api: Api, bundle: Bundle, shopper: str, steerable: list[str]
) -> None:
    request = messages.ExplainUserRequest(user_id=shopper, max_intents=100)
    plain = api.recommender.ExplainUser(request)
    assert not plain.HasField("profile")
    assert 0 < plain.intent_share <= 1
    weights = {each.intent_id: each.base_weight for each in plain.intents}
    assert len(weights) == sum(each.published for each in bundle.catalogue.intents)
    steer(
        api, shopper, adjust(steerable[0], BOOST), adjust(steerable[1], AVOID), adjust(steerable[2], SUPPRESS)
    )
    steered = {each.intent_id: each for each in api.recommender.ExplainUser(request).intents}
    assert {intent_id: each.base_weight for intent_id, each in steered.items()} == weights
    assert steered[steerable[0]].weight > steered[steerable[0]].base_weight
    assert steered[steerable[1]].weight < steered[steerable[1]].base_weight
    assert steered[steerable[2]].weight == min(0, steered[steerable[2]].base_weight)
    assert api.recommender.ExplainUser(request).profile.revision == 1


def test_an_intent_listed_only_because_of_a_boost_says_so(
    api: Api, bundle: Bundle, steerable: list[str], user: str
) -> None:
    plain = api.recommender.ExplainUser(messages.ExplainUserRequest(user_id=user, max_intents=1))
    assert not plain.intents, "nothing is known of this user"
    assert list(plain.degradations) == [messages.DEGRADATION_POPULARITY_ONLY]
    wanted = steerable[0]
    steer(api, user, adjust(wanted))
    steered = api.recommender.ExplainUser(messages.ExplainUserRequest(user_id=user, max_intents=1))
    assert [(each.intent_id, each.origin) for each in steered.intents] == [
        (wanted, messages.INTENT_ORIGIN_STEERED)
    ]


def test_the_audit_chain_can_be_recomputed(api: Api, user: str, steerable: list[str]) -> None:
    from saerec_server.records import Revision
    from saerec_server.requests import MODES, WRITE_MODES
    from saerec_server.steering import GENESIS, Change

    steer(api, user, adjust(steerable[0], BOOST, 0.5), reason="first")
    etag = steer(api, user, adjust(steerable[1], SUPPRESS, 0.25)).profile.etag
    chain = GENESIS
    listed = api.recommender.ListSteeringRevisions(messages.ListSteeringRevisionsRequest(user_id=user))
    for each in reversed(listed.revisions):
        changes = tuple(Change(edit.intent_id, MODES[edit.mode], edit.strength) for edit in each.adjustments)
        time_written = each.create_time.ToNanoseconds() // 1000
        chain = Revision(
            each.revision,
            time_written,
            each.actor,
            WRITE_MODES[each.mode],
            changes,
            each.reason,
            each.request_id,
            chain,
        ).chain_hash
    assert chain.startswith(etag)
    assert len(chain) == hashlib.sha256().digest_size * 2


def test_history_of_the_request_counts_as_seen(api: Api, bundle: Bundle, user: str) -> None:
    history = met(bundle, 3, 1, 4)
    response = recommend(api, user, history=history, page_size=200)
    assert not {each.item_id for each in history} & {item.item_id for item in response.items}
