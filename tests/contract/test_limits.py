"""Every documented limit: what is at the limit passes, one more is refused and named."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.v1 import common_pb2, event_service_pb2, intent_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.contract.asking import BOOST, EXCLUDE, SUPPRESS, adjust, answer, event, met, write
from tests.contract.running import Api, Refusal, refusal

LONGEST = "i" * 256


def violated(call: Callable[[], object]) -> dict[str, str]:
    refused = refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), refused
    assert refused.domain == "saerec-ray"
    return refused.fields


def recommend(api: Api, bundle: Bundle, **fields: Any) -> messages.RecommendResponse:
    fields.setdefault("history", met(bundle, 1, 2))
    return api.recommender.Recommend(messages.RecommendRequest(**fields))


def steer(api: Api, **fields: Any) -> messages.SteerIntentsResponse:
    return api.recommender.SteerIntents(messages.SteerIntentsRequest(validate_only=True, **fields))


def test_ids_have_at_most_256_bytes_and_no_control_characters(api: Api, bundle: Bundle) -> None:
    recommend(api, bundle, user_id=LONGEST)
    recommend(api, bundle, user_id="ü" * 128, history=[common_pb2.Interaction(item_id=LONGEST)])
    for bad in (LONGEST + "i", "ü" * 129, "line\nbreak", "nul\0", "\x7f"):
        assert list(violated(lambda bad=bad: recommend(api, bundle, user_id=bad))) == ["user_id"]
        history = [*met(bundle, 1), common_pb2.Interaction(item_id=bad)]
        assert list(violated(lambda h=history: recommend(api, bundle, history=h))) == ["history[1].item_id"]
    assert "history[0].item_id" in violated(
        lambda: recommend(api, bundle, history=[common_pb2.Interaction()])
    )


def test_history_has_at_most_200_items(api: Api, bundle: Bundle) -> None:
    recommend(api, bundle, history=met(bundle, *range(200)))
    assert list(violated(lambda: recommend(api, bundle, history=met(bundle, *range(201))))) == ["history"]


def test_a_negative_page_size_is_an_error(api: Api, bundle: Bundle) -> None:
    assert list(violated(lambda: recommend(api, bundle, page_size=-1))) == ["page_size"]


def test_a_list_of_intents_is_asked_for_by_at_most_16_states(api: Api) -> None:
    def listed(count: int) -> object:
        states = [intent_service_pb2.INTENT_STATE_ACTIVE] * count
        return api.intents.ListIntents(intent_service_pb2.ListIntentsRequest(states=states))

    listed(16)
    assert list(violated(lambda: listed(17))) == ["states"]


@pytest.mark.parametrize("field", ["allow_item_ids", "deny_item_ids"])
def test_allow_and_deny_lists_have_at_most_1000_ids(api: Api, bundle: Bundle, field: str) -> None:
    ids = [f"x{number}" for number in range(1001)]
    recommend(api, bundle, filter=messages.ItemFilter(**{field: ids[:1000]}))
    fields = violated(lambda: recommend(api, bundle, filter=messages.ItemFilter(**{field: ids})))
    assert list(fields) == [f"filter.{field}"]


def test_a_filter_has_at_most_32_conditions_of_256_values(api: Api, bundle: Bundle) -> None:
    def condition(values: int) -> messages.AttributeCondition:
        return messages.AttributeCondition(
            attribute="colour", any_of={"values": [f"c{number}" for number in range(values)]}
        )

    def ask(*conditions: messages.AttributeCondition) -> object:
        return recommend(api, bundle, filter=messages.ItemFilter(conditions=conditions))

    ask(*[condition(1)] * 32)
    assert list(violated(lambda: ask(*[condition(1)] * 33))) == ["filter.conditions"]
    ask(condition(256))
    assert list(violated(lambda: ask(condition(257)))) == ["filter.conditions[0].any_of.values"]


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        ({"attribute": "weight", "any_of": {"values": ["1"]}}, "attribute"),
        ({"attribute": "colour"}, ""),
        ({"attribute": "colour", "any_of": {}}, "any_of.values"),
        ({"attribute": "colour", "none_of": {}}, "none_of.values"),
        ({"attribute": "price", "range": {}}, "range"),
        ({"attribute": "price", "range": {"min": 2, "max": 1}}, "range"),
        ({"attribute": "price", "range": {"min": math.nan}}, "range.min"),
        ({"attribute": "price", "range": {"max": math.inf}}, "range.max"),
    ],
)
def test_a_condition_must_make_sense(api: Api, bundle: Bundle, condition: Any, field: str) -> None:
    wanted = messages.ItemFilter(conditions=[condition])
    path = ".".join(part for part in ("filter.conditions[0]", field) if part)
    assert list(violated(lambda: recommend(api, bundle, filter=wanted))) == [path]


def test_32_inline_adjustments_act_and_33_are_refused(api: Api, bundle: Bundle, steerable: list[str]) -> None:
    repeated = [adjust(f"int-{number:08x}", SUPPRESS) for number in range(33)]
    known = [adjust(each, SUPPRESS) for each in steerable]
    assert len(steerable) < 32
    recommend(api, bundle, steering=messages.InlineSteering(adjustments=known))
    for count, named in ((32, False), (33, True)):
        inline = messages.InlineSteering(adjustments=repeated[:count])
        fields = violated(lambda inline=inline: recommend(api, bundle, steering=inline))
        assert ("steering.adjustments" in fields) == named


def test_64_stored_adjustments_are_accepted_and_65_are_refused(api: Api, user: str) -> None:
    for count, named in ((64, False), (65, True)):
        entries = [common_pb2.IntentAdjustment(intent_id=f"int-{number:08x}") for number in range(count)]
        request = {"user_id": user, "adjustments": entries, "mode": messages.STEER_MODE_CLEAR}
        if named:
            assert list(violated(lambda request=request: steer(api, **request))) == ["adjustments"]
        else:
            steer(api, **request)


@pytest.mark.parametrize(
    ("strength", "accepted"),
    [(None, True), (1.0, True), (5e-324, True), (0.0, False), (-0.5, False), (1.0000001, False),
     (math.nan, False), (math.inf, False)],
)  # fmt: skip
def test_strength_is_above_0_and_at_most_1(
    api: Api, bundle: Bundle, user: str, steerable: list[str], strength: float | None, accepted: bool
) -> None:
    edit = adjust(steerable[0], BOOST, strength)
    inline = messages.InlineSteering(adjustments=[edit])
    if accepted:
        recommend(api, bundle, steering=inline)
        steer(api, user_id=user, adjustments=[edit])
    else:
        fields = violated(lambda: recommend(api, bundle, steering=inline))
        assert list(fields) == ["steering.adjustments[0].strength"]
        fields = violated(lambda: steer(api, user_id=user, adjustments=[edit]))
        assert list(fields) == ["adjustments[0].strength"]


def test_exclude_ignores_its_strength(api: Api, bundle: Bundle, steerable: list[str]) -> None:
    def listed(strength: float | None) -> list[tuple[str, float]]:
        inline = messages.InlineSteering(adjustments=[adjust(steerable[0], EXCLUDE, strength)])
        return answer(recommend(api, bundle, page_size=200, steering=inline))

    assert listed(0.0) == listed(1.0) != answer(recommend(api, bundle, page_size=200))


def test_five_inline_boosts_act_and_a_sixth_is_refused(
    api: Api, bundle: Bundle, steerable: list[str]
) -> None:
    edits = [adjust(each) for each in steerable[:6]]
    recommend(api, bundle, steering=messages.InlineSteering(adjustments=edits[:5]))
    refused = refusal(lambda: recommend(api, bundle, steering=messages.InlineSteering(adjustments=edits)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "STEERING_LIMIT")


@pytest.mark.parametrize(
    ("field", "entry"),
    [
        ("intent_id", {"intent_id": "", "mode": BOOST}),
        ("intent_id", {"intent_id": "17", "mode": BOOST}),
        ("intent_id", {"intent_id": "int-00000000", "mode": BOOST}),
        ("mode", {"mode": 0}),
        ("mode", {"mode": 99}),
    ],
)
def test_an_adjustment_must_name_a_known_intent_and_a_mode(
    api: Api, bundle: Bundle, user: str, steerable: list[str], field: str, entry: dict[str, Any]
) -> None:
    edit = common_pb2.IntentAdjustment(**{"intent_id": steerable[0], **entry})
    inline = messages.InlineSteering(adjustments=[edit])
    assert f"steering.adjustments[0].{field}" in violated(lambda: recommend(api, bundle, steering=inline))
    assert f"adjustments[0].{field}" in violated(lambda: steer(api, user_id=user, adjustments=[edit]))


def test_an_intent_is_adjusted_once_in_a_request(api: Api, user: str, steerable: list[str]) -> None:
    twice = [adjust(steerable[0]), adjust(steerable[0], SUPPRESS)]
    assert list(violated(lambda: steer(api, user_id=user, adjustments=twice))) == ["adjustments[1].intent_id"]


@pytest.mark.parametrize("seconds", [59, 365 * 86_400 + 1, -5, 0, 400_000_000_000])
def test_a_ttl_outside_1_minute_to_365_days_is_refused(
    api: Api, user: str, steerable: list[str], seconds: int
) -> None:
    request = {"user_id": user, "adjustments": [adjust(steerable[0])]}
    assert "ttl" in violated(lambda: steer(api, **request, ttl={"seconds": seconds}))
    when = (
        {"seconds": max(-60_000_000_000, int(time.time()) + seconds - 1)}
        if seconds < 60
        else {"seconds": int(time.time()) + seconds + 60}
    )
    assert "expire_time" in violated(lambda: steer(api, **request, expire_time=when))


@pytest.mark.parametrize("seconds", [60, 365 * 86_400])
def test_a_ttl_of_1_minute_and_of_365_days_is_accepted(
    api: Api, user: str, steerable: list[str], seconds: int
) -> None:
    request = messages.SteerIntentsRequest(user_id=user, adjustments=[adjust(steerable[0])])
    request.ttl.FromSeconds(seconds)
    api.recommender.SteerIntents(request)
    read = api.recommender.GetSteeringProfile(messages.GetSteeringProfileRequest(user_id=user))
    (stored,) = read.profile.adjustments
    assert stored.expire_time.seconds == pytest.approx(time.time() + seconds, abs=30)


def test_a_reason_has_at_most_512_bytes(api: Api, user: str, steerable: list[str]) -> None:
    request = {"user_id": user, "adjustments": [adjust(steerable[0])]}
    steer(api, **request, reason="r" * 512)
    assert list(violated(lambda: steer(api, **request, reason="r" * 513))) == ["reason"]
    assert list(violated(lambda: steer(api, **request, reason="a\0b"))) == ["reason"]


def test_a_request_id_is_a_uuid_of_version_4(api: Api, user: str, steerable: list[str]) -> None:
    request = {"user_id": user, "adjustments": [adjust(steerable[0])]}
    steer(api, **request, request_id=str(uuid.uuid4()))
    for bad in ("7", str(uuid.uuid1()), uuid.uuid4().hex, "{" + str(uuid.uuid4()) + "}"):
        assert list(violated(lambda bad=bad: steer(api, **request, request_id=bad))) == ["request_id"]
        erase = event_service_pb2.DeleteUserDataRequest(user_id=user, request_id=bad)
        assert list(violated(lambda erase=erase: api.events.DeleteUserData(erase))) == ["request_id"]


def test_a_merge_must_change_something_and_a_clear_has_no_end(
    api: Api, user: str, steerable: list[str]
) -> None:
    assert list(violated(lambda: steer(api, user_id=user))) == ["adjustments"]
    clear = {"user_id": user, "mode": messages.STEER_MODE_CLEAR, "ttl": {"seconds": 60}}
    assert list(violated(lambda: steer(api, **clear))) == ["ttl"]
    steer(api, user_id=user, mode=messages.STEER_MODE_REPLACE)
    assert list(violated(lambda: steer(api, user_id=user, mode=77, adjustments=[adjust(steerable[0])]))) == [
        "mode"
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scenario", "home"),
        ("page_token", "abc"),
        ("diversity", 0.0),
        ("diversity", math.nan),
        ("context", {"device": "phone"}),
    ],
)
def test_what_is_not_built_is_refused_never_ignored(api: Api, bundle: Bundle, field: str, value: Any) -> None:
    fields = violated(lambda: recommend(api, bundle, **{field: value}))
    assert fields == {field: "not supported by this server yet"}


@pytest.mark.parametrize("field", ["history_mode", "view"])
def test_an_enum_value_nobody_defined_is_refused(api: Api, bundle: Bundle, field: str) -> None:
    assert list(violated(lambda: recommend(api, bundle, **{field: 99}))) == [field]
    bad = messages.ItemFilter(seen_policy=99)
    assert list(violated(lambda: recommend(api, bundle, filter=bad))) == ["filter.seen_policy"]


def test_anonymous_callers_must_bring_history(api: Api, bundle: Bundle, user: str) -> None:
    assert list(violated(lambda: recommend(api, bundle, history=[]))) == ["user_id"]
    stored = messages.HISTORY_MODE_STORED_ONLY
    assert "user_id" in violated(lambda: recommend(api, bundle, history_mode=stored))
    fields = violated(lambda: recommend(api, bundle, user_id=user, history_mode=stored))
    assert list(fields) == ["history"]
    recommend(api, bundle, user_id=user, history_mode=stored, history=[])


def test_all_violations_are_answered_together(api: Api, bundle: Bundle) -> None:
    fields = violated(
        lambda: recommend(
            api,
            bundle,
            user_id="a\nb",
            page_size=-1,
            scenario="x",
            steering=messages.InlineSteering(adjustments=[adjust("nonsense", 0, 7)]),
        )
    )
    assert set(fields) == {
        "user_id",
        "scenario",
        "page_size",
        "steering.adjustments[0].intent_id",
        "steering.adjustments[0].mode",
        "steering.adjustments[0].strength",
    }


def test_a_thousand_violations_still_fit_into_an_answer(api: Api, bundle: Bundle) -> None:
    bad = messages.ItemFilter(deny_item_ids=["\n"] * 1000)
    fields = violated(lambda: recommend(api, bundle, filter=bad))
    assert "filter.deny_item_ids[0]" in fields
    assert fields[""] == "980 more violations are not listed"


def test_errors_never_repeat_what_was_sent(api: Api, bundle: Bundle) -> None:
    secret = "s3cr3t\n"
    refused = refusal(
        lambda: recommend(
            api,
            bundle,
            user_id=secret,
            scenario=secret,
            history=[common_pb2.Interaction(item_id=secret)],
            filter=messages.ItemFilter(conditions=[{"attribute": secret}]),
            steering=messages.InlineSteering(adjustments=[adjust(secret)]),
        )
    )
    assert "s3cr3t" not in f"{refused.message} {refused.fields}"


def test_a_token_of_another_server_is_refused(api: Api, bundle: Bundle, user: str) -> None:
    token = api.events.WriteEvents(write(event(user, "item-0001"))).consistency_token
    recommend(api, bundle, at_least_as_fresh=token)
    foreign = common_pb2.ConsistencyToken(token=f"1.{'0' * 32}.17")
    for bad in (foreign, common_pb2.ConsistencyToken(token="x"), common_pb2.ConsistencyToken()):
        fields = violated(lambda bad=bad: recommend(api, bundle, at_least_as_fresh=bad))
        assert list(fields) == ["at_least_as_fresh.token"]


def test_a_batch_has_1_to_100_events(api: Api, user: str) -> None:
    events = [event(user, f"x{number}") for number in range(101)]
    assert api.events.WriteEvents(write(*events[:100])).accepted_count == 100
    assert list(violated(lambda: api.events.WriteEvents(write(*events)))) == ["events"]
    assert list(violated(lambda: api.events.WriteEvents(write()))) == ["events"]


def test_a_batch_has_at_most_256_kib(api: Api, user: str) -> None:
    limit = 256 * 1024
    items = [f"{place:03d}" + "x" * 250 for place in range(200)]
    request = write(*(event(user, "item-0001", impression_item_ids=items) for _ in range(5)))
    last = request.events.add(event_id=str(uuid.uuid4()), user_id=user, item_id="i", session_id="s")
    while request.ByteSize() < limit - 400:
        last.impression_item_ids.append("y" * 200)
    last.recommendation_id = "r"
    while request.ByteSize() < limit:
        grown = "recommendation_id" if len(last.recommendation_id) < 250 else "session_id"
        setattr(last, grown, getattr(last, grown) + "z")
    assert request.ByteSize() == limit
    assert api.events.WriteEvents(request).accepted_count == 6
    last.session_id += "z"
    assert list(violated(lambda: api.events.WriteEvents(request))) == ["events"]


@pytest.mark.parametrize("seconds", [-30 * 86_400 + 60, 0, 5 * 60 - 10])
def test_event_times_within_bounds_are_accepted(api: Api, user: str, seconds: int) -> None:
    when = {"seconds": int(time.time()) + seconds}
    assert api.events.WriteEvents(write(event(user, "x", event_time=when))).accepted_count == 1


@pytest.mark.parametrize("seconds", [-30 * 86_400 - 60, 5 * 60 + 10, 10**12])
def test_event_times_out_of_bounds_are_refused(api: Api, user: str, seconds: int) -> None:
    when = {"seconds": int(time.time()) + seconds}
    fields = violated(lambda: api.events.WriteEvents(write(event(user, "x", event_time=when))))
    assert list(fields) == ["events[0].event_time"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", ""),
        ("event_id", LONGEST + "i"),
        ("user_id", ""),
        ("item_id", ""),
        ("session_id", LONGEST + "i"),
        ("recommendation_id", "a\tb"),
        ("value", math.nan),
        ("value", -math.inf),
        ("impression_item_ids", ["i"] * 201),
    ],
)
def test_every_field_of_an_event_is_checked(api: Api, user: str, field: str, value: Any) -> None:
    bad = event(user, "x")
    bad.ClearField(field)
    bad.MergeFrom(event_service_pb2.Event(**{field: value}))
    assert list(violated(lambda: api.events.WriteEvents(write(bad)))) == [f"events[0].{field}"]


def test_a_request_has_at_most_1_mib(api: Api) -> None:
    request = messages.RecommendRequest(user_id="u" * (1 << 20))
    refused = refusal(lambda: api.recommender.Recommend(request))
    assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_search_text_has_at_most_256_characters(api: Api) -> None:
    def search(**fields: Any) -> object:
        return api.intents.SearchIntents(intent_service_pb2.SearchIntentsRequest(**fields))

    search(text="soap " + "x" * 251)
    assert list(violated(lambda: search(text="x" * 257))) == ["text"]
    assert list(violated(lambda: search(text="  "))) == ["text"]
    assert list(violated(search)) == ["query"]
    search(examples={"item_ids": ["item-0001"] * 20})
    assert list(violated(lambda: search(examples={"item_ids": ["i"] * 21}))) == ["examples.item_ids"]
    assert list(violated(lambda: search(examples={}))) == ["examples.item_ids"]
    assert list(violated(lambda: search(text="soap", page_token="x"))) == ["page_token"]


@pytest.mark.parametrize("field", ["max_intents", "max_evidence"])
def test_counts_of_an_explanation_must_not_be_negative(api: Api, bundle: Bundle, field: str) -> None:
    request = messages.ExplainUserRequest(history=met(bundle, 1, 2), **{field: -1})
    assert list(violated(lambda: api.recommender.ExplainUser(request))) == [field]
    setattr(request, field, 2**31 - 1)
    answered = api.recommender.ExplainUser(request)
    assert len(answered.intents) <= 100
    assert all(len(each.evidence) <= 10 for each in answered.intents)


def test_a_refusal_is_fully_described(api: Api, bundle: Bundle) -> None:
    refused: Refusal = refusal(lambda: recommend(api, bundle, page_size=-1))
    assert refused.message == "page_size: must not be negative"
    assert refused.retry_seconds is None
