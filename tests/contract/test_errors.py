"""Every reason a call can fail for, and that nothing else leaks."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saerec_ray.bundle import Bundle
from saerec_ray.errors import BundleError, InputError
from saerec_ray.v1 import common_pb2, event_service_pb2, intent_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.contract.asking import SUPPRESS, adjust, met
from tests.contract.running import PATIENCE, Api, connected, decoded, refusal, running, settings_of

METHODS = [
    "/saerec_ray.v1.RecommenderService/Recommend",
    "/saerec_ray.v1.RecommenderService/ExplainUser",
    "/saerec_ray.v1.RecommenderService/SteerIntents",
    "/saerec_ray.v1.RecommenderService/GetSteeringProfile",
    "/saerec_ray.v1.RecommenderService/ListSteeringRevisions",
    "/saerec_ray.v1.IntentService/ListIntents",
    "/saerec_ray.v1.IntentService/GetIntent",
    "/saerec_ray.v1.IntentService/SearchIntents",
    "/saerec_ray.v1.EventService/WriteEvents",
    "/saerec_ray.v1.EventService/DeleteUserData",
]


def test_an_unknown_intent_is_not_found(api: Api) -> None:
    request = intent_service_pb2.GetIntentRequest(intent_id="int-00000000")
    refused = refusal(lambda: api.intents.GetIntent(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_INTENT")
    assert "int-00000000" not in refused.message


def test_an_intent_that_failed_its_gate_is_not_found_and_not_steerable(
    api: Api, bundle: Bundle, user: str
) -> None:
    hidden = next(each.intent_id for each in bundle.catalogue.intents if not each.published)
    request = intent_service_pb2.GetIntentRequest(intent_id=hidden)
    assert refusal(lambda: api.intents.GetIntent(request)).code == grpc.StatusCode.NOT_FOUND
    write = messages.SteerIntentsRequest(user_id=user, adjustments=[adjust(hidden)])
    refused = refusal(lambda: api.recommender.SteerIntents(write))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INTENT_NOT_STEERABLE")


def test_an_intent_that_policy_protects_cannot_be_steered(api: Api, bundle: Bundle) -> None:
    kept = next(each.intent_id for each in bundle.catalogue.intents if each.published and not each.steerable)
    request = messages.RecommendRequest(
        history=met(bundle, 1), steering=messages.InlineSteering(adjustments=[adjust(kept, SUPPRESS)])
    )
    refused = refusal(lambda: api.recommender.Recommend(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INTENT_NOT_STEERABLE")
    assert list(refused.fields) == ["steering.adjustments[0].intent_id"]


def test_a_pinned_version_must_be_loaded(api: Api, bundle: Bundle) -> None:
    request = messages.RecommendRequest(history=met(bundle, 1), model_version=bundle.manifest.model_version)
    assert len(api.recommender.Recommend(request).items) == 20
    request.model_version = "2020-01-01T00-00Z-0000000"
    refused = refusal(lambda: api.recommender.Recommend(request))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "MODEL_VERSION_NOT_LOADED",
    )


def test_a_call_that_does_not_exist_is_unimplemented(api: Api) -> None:
    call = api.channel.unary_unary("/saerec_ray.v1.ModelService/ListModelVersions")
    with pytest.raises(grpc.RpcError) as error:
        call(b"")
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message_are_an_invalid_argument(api: Api, method: str) -> None:
    call = api.channel.unary_unary(method)
    refused = refusal(lambda: call(b"\xff\xff\xff\xff"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


def test_a_deadline_in_the_past_is_exceeded(api: Api, bundle: Bundle) -> None:
    request = messages.RecommendRequest(history=met(bundle, 1))
    with pytest.raises(grpc.RpcError) as error:
        api.recommender.Recommend(request, timeout=1e-6)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(api.recommender.Recommend(request, timeout=PATIENCE).items) == 20


def test_every_answer_carries_a_trace_id(api: Api, bundle: Bundle) -> None:
    request = messages.RecommendRequest(history=met(bundle, 1))
    _, call = api.recommender.Recommend.with_call(request)
    assert len(dict(call.initial_metadata())["x-trace-id"]) == 32
    given_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = (("traceparent", f"00-{given_id}-00f067aa0ba902b7-01"),)
    _, call = api.recommender.Recommend.with_call(request, metadata=parent)
    assert dict(call.initial_metadata())["x-trace-id"] == given_id


def test_an_unexpected_error_is_opaque_and_logged_with_its_trace(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from saerec_server.store import Store

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    settings_ = settings_of(bundle_folder, state=tmp_path / "s.sqlite")
    with running(settings_) as api:
        monkeypatch.setattr(Store, "profile", broken)
        with pytest.raises(grpc.RpcError) as error:
            api.recommender.GetSteeringProfile(messages.GetSteeringProfileRequest(user_id="u"))
    trace = dict(error.value.initial_metadata())["x-trace-id"]
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert decoded(error.value).message == f"Internal error; trace id {trace}."
    logged = next(record for record in caplog.records if trace in record.getMessage())
    assert logged.exc_info is not None


def test_calls_beyond_the_limit_are_shed_with_a_time_to_wait(bundle_folder: Path, tmp_path: Path) -> None:
    settings_ = settings_of(bundle_folder, state=tmp_path / "s.sqlite", max_calls=1)
    with running(settings_) as api:
        request = messages.RecommendRequest(
            user_id="u", page_size=200, view=messages.RECOMMEND_VIEW_EXPLAINED
        )
        request.history.extend(common_pb2.Interaction(item_id=f"item-{n:04d}") for n in range(20))
        calls = [api.recommender.Recommend.future(request) for _ in range(30)]
        errors = [call.exception() for call in calls]
        shed = [decoded(error) for error in errors if error is not None]
        assert 0 < len(shed) < 30
        detailed = [each for each in shed if each.reason]
        assert {each.code for each in shed} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert detailed
        for each in detailed:
            assert (each.reason, each.retry_seconds, each.pushback) == ("OVERLOADED", 0.1, "100")
        health = health_pb2_grpc.HealthStub(api.channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_health_is_known_for_the_server_and_each_service(api: Api) -> None:
    stub = health_pb2_grpc.HealthStub(api.channel)
    names = ["", *(f"saerec_ray.v1.{name}Service" for name in ("Recommender", "Intent", "Event"))]
    for name in names:
        status = stub.Check(health_pb2.HealthCheckRequest(service=name)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    unknown = health_pb2.HealthCheckRequest(service="saerec_ray.v1.ModelService")
    assert refusal(lambda: stub.Check(unknown)).code == grpc.StatusCode.NOT_FOUND


def test_reflection_answers_only_when_asked_for(api: Api, bundle_folder: Path, tmp_path: Path) -> None:
    def services(channel: grpc.Channel) -> list[str]:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (answered,) = stub.ServerReflectionInfo(iter([asked]))
        return [each.name for each in answered.list_services_response.service]

    assert "saerec_ray.v1.RecommenderService" in services(api.channel)
    settings_ = settings_of(bundle_folder, state=tmp_path / "s.sqlite")
    with running(settings_) as plain, pytest.raises(grpc.RpcError) as error:
        services(plain.channel)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_refused_bundle_stops_the_start_with_the_reason(bundle_folder: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(BundleError, match="There is no bundle"),
        running(settings_of(tmp_path / "nothing")),
    ):
        pass


def test_a_port_in_use_stops_the_start_with_the_reason(api: Api, bundle_folder: Path, tmp_path: Path) -> None:
    taken = settings_of(bundle_folder, port=api.port, state=tmp_path / "s.sqlite")
    with pytest.raises(InputError, match="is in use"), running(taken):
        pass
    with connected(api.port) as other:
        assert other.intents.ListIntents(intent_service_pb2.ListIntentsRequest()).total_size > 0


texts = st.text(max_size=20) | st.sampled_from(["", "item-0001", "item-0002", "user", "\n", "é" * 200])
numbers = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, 20, 200])
doubles = st.floats(allow_nan=True, allow_infinity=True)
seconds = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**31)
times = st.none() | st.builds(timestamp_pb2.Timestamp, seconds=seconds, nanos=numbers)
durations = st.none() | st.builds(duration_pb2.Duration, seconds=seconds, nanos=numbers)
wire_enums = st.integers(-2, 6)


def some(fields: dict[str, st.SearchStrategy[object]]) -> st.SearchStrategy[dict[str, object]]:
    """Any subset of the fields; None leaves a field out."""
    return st.fixed_dictionaries({}, optional=fields).map(
        lambda values: {name: value for name, value in values.items() if value is not None}
    )


def requests(intent_ids: list[str]) -> st.SearchStrategy[object]:
    interaction = some({"item_id": texts, "event_type": texts, "event_time": times})
    edit = some(
        {
            "intent_id": st.sampled_from(intent_ids) | texts,
            "mode": wire_enums,
            "strength": doubles | st.floats(0.01, 1),
        }
    )
    condition = st.one_of(
        some({"attribute": st.sampled_from(["colour", "price"]) | texts, kind: test})
        for kind, test in {
            "any_of": some({"values": st.lists(texts, max_size=3)}),
            "none_of": some({"values": st.lists(texts, max_size=3)}),
            "range": some({"min": doubles, "max": doubles}),
        }.items()
    )
    token = some({"token": texts})
    history = st.lists(interaction, max_size=4)
    common = {
        "user_id": texts,
        "scenario": st.just("") | texts,
        "history": history,
        "history_mode": wire_enums,
        "model_version": st.just("") | texts,
        "at_least_as_fresh": st.none() | token,
    }
    recommend = some(
        {
            **common,
            "page_size": numbers,
            "filter": some(
                {
                    "allow_item_ids": st.lists(texts, max_size=3),
                    "deny_item_ids": st.lists(texts, max_size=3),
                    "conditions": st.lists(condition, max_size=3),
                    "seen_policy": wire_enums,
                }
            ),
            "steering": some({"adjustments": st.lists(edit, max_size=7), "ignore_profile": st.booleans()}),
            "diversity": st.none() | doubles,
            "view": wire_enums,
            "context": st.just({}) | st.dictionaries(texts, texts, max_size=2),
        }
    )
    steer = some(
        {
            "user_id": texts,
            "mode": wire_enums,
            "adjustments": st.lists(edit, max_size=7),
            "ttl": durations,
            "etag": texts,
            "request_id": texts | st.uuids(version=4).map(str),
            "reason": texts,
            "validate_only": st.booleans(),
        }
    )
    event = some(
        {
            "event_id": texts,
            "user_id": texts,
            "item_id": texts,
            "event_type": texts,
            "event_time": times,
            "impression_item_ids": st.lists(texts, max_size=2),
            "value": doubles,
        }
    )
    search = st.one_of(
        some({"text": texts, "page_size": numbers}),
        some({"examples": some({"item_ids": st.lists(texts, max_size=3)}), "page_size": numbers}),
    )
    explain = some({**common, "max_intents": numbers, "max_evidence": numbers})
    profile = some({"user_id": texts})
    return st.one_of(
        recommend.map(lambda fields: ("Recommend", messages.RecommendRequest(**fields))),
        explain.map(lambda fields: ("ExplainUser", messages.ExplainUserRequest(**fields))),
        steer.map(lambda fields: ("SteerIntents", messages.SteerIntentsRequest(**fields))),
        profile.map(lambda fields: ("GetSteeringProfile", messages.GetSteeringProfileRequest(**fields))),
        some({"events": st.lists(event, max_size=3), "validate_only": st.booleans()}).map(
            lambda fields: ("WriteEvents", event_service_pb2.WriteEventsRequest(**fields))
        ),
        some({"user_id": texts, "request_id": texts}).map(
            lambda fields: ("DeleteUserData", event_service_pb2.DeleteUserDataRequest(**fields))
        ),
        search.map(lambda fields: ("SearchIntents", intent_service_pb2.SearchIntentsRequest(**fields))),
        some({"intent_id": texts | st.sampled_from(intent_ids), "max_top_items": numbers}).map(
            lambda fields: ("GetIntent", intent_service_pb2.GetIntentRequest(**fields))
        ),
        some({"page_size": numbers, "states": st.lists(wire_enums, max_size=20)}).map(
            lambda fields: ("ListIntents", intent_service_pb2.ListIntentsRequest(**fields))
        ),
    )


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_message_whatever_makes_the_server_fail(api: Api, bundle: Bundle, data: st.DataObject) -> None:
    intent_ids = [each.intent_id for each in bundle.catalogue.intents]
    method, request = data.draw(requests(intent_ids))
    stubs = (api.recommender, api.intents, api.events)
    call = next(getattr(stub, method) for stub in stubs if hasattr(stub, method))
    try:
        call(request, timeout=2 * PATIENCE)
    except grpc.RpcError as error:
        refused = decoded(error)
        described = f"{method} {request} {refused}"
        assert refused.code in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ), described
        assert refused.reason, described
        assert refused.domain == "saerec-ray", described
