"""The client against a real server on a socket that answers from a script."""

from __future__ import annotations

import asyncio
import inspect
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from saerec_ray import _calls
from saerec_ray.client import (
    AsyncClient,
    Client,
    FieldViolation,
    SaerecError,
    ServingStatus,
    any_of,
    between,
    event,
    none_of,
)
from saerec_ray.v1 import common_pb2, event_service_pb2, intent_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as recommender
from tests.in_time import in_time
from tests.scripted_server import TRACE_ID, Refusal, ScriptedServer, invalid

INTENT, OTHER = "int-4f1c09ab", "int-00aa11bb"
UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "draining")
EMPTY = recommender.RecommendResponse(recommendation_id="r1")
PATIENCE = 30.0
"""Seconds for an answer: the limits that hold by default are for idle machines."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls without a timeout of their own wait for as long as tests beside them may take."""
    for name in ("RECOMMEND_SECONDS", "READ_SECONDS", "WRITE_SECONDS", "SEARCH_SECONDS", "LIST_SECONDS"):
        monkeypatch.setattr(_calls, name, PATIENCE)


@pytest.fixture
def client(server: ScriptedServer, patient: None) -> Iterator[Client]:
    with Client(server.target) as connected:
        yield connected


def test_importing_the_client_loads_neither_torch_nor_ray_nor_numpy() -> None:
    heavy = ("torch", "ray", "numpy", "pydantic", "typer", "rich", "pyarrow", "faiss")
    script = f"import sys, saerec_ray.client; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def surface(kind: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(member)
            for name, member in vars(kind).items()
            if callable(member) and not name.startswith("_")
        }

    blocking, awaited = surface(Client), surface(AsyncClient)
    assert blocking.keys() == awaited.keys()
    assert {name for name in blocking if blocking[name].parameters != awaited[name].parameters} == set()
    assert "Ranks items for a user" in (Client.recommend.__doc__ or "")


def test_recommend_sends_what_was_asked(server: ScriptedServer, client: Client) -> None:
    server.answer("Recommend", EMPTY)
    when = datetime(2026, 5, 1, 12, tzinfo=UTC)

    answer = client.recommend(
        "u1",
        history=["a", ("b", when), common_pb2.Interaction(item_id="c", event_type="view")],
        history_mode="request",
        page_size=7,
        explained=True,
        boost={INTENT: 0.25},
        exclude=[OTHER],
        ignore_profile=True,
        allow=["x"],
        deny=["y", "z"],
        conditions=[any_of("brand", "p", "q"), none_of("type", "r"), between("year", 1990)],
        allow_seen=True,
        at_least_as_fresh="1.token",
    )

    assert answer.recommendation_id == "r1"
    (sent,) = server.requests["Recommend"]
    assert sent.user_id == "u1"
    assert [entry.item_id for entry in sent.history] == ["a", "b", "c"]
    assert sent.history[1].event_time.ToDatetime(UTC) == when
    assert sent.history[2].event_type == "view"
    assert sent.history_mode == recommender.HISTORY_MODE_REQUEST_ONLY
    assert sent.page_size == 7
    assert sent.view == recommender.RECOMMEND_VIEW_EXPLAINED
    boost, exclude = sent.steering.adjustments
    assert (boost.intent_id, boost.mode, boost.strength) == (INTENT, common_pb2.ADJUSTMENT_MODE_BOOST, 0.25)
    assert (exclude.intent_id, exclude.mode) == (OTHER, common_pb2.ADJUSTMENT_MODE_EXCLUDE)
    assert not exclude.HasField("strength")
    assert sent.steering.ignore_profile
    assert (list(sent.filter.allow_item_ids), list(sent.filter.deny_item_ids)) == (["x"], ["y", "z"])
    assert [entry.WhichOneof("test") for entry in sent.filter.conditions] == ["any_of", "none_of", "range"]
    assert sent.filter.conditions[2].range.min == 1990
    assert not sent.filter.conditions[2].range.HasField("max")
    assert sent.filter.seen_policy == recommender.SEEN_POLICY_ALLOW
    assert sent.at_least_as_fresh.token == "1.token"


def test_a_plain_recommend_sends_no_optional_part(server: ScriptedServer, client: Client) -> None:
    server.answer("Recommend", EMPTY)
    client.recommend("u1")
    (sent,) = server.requests["Recommend"]
    assert not sent.HasField("at_least_as_fresh")
    assert not sent.steering.adjustments
    assert sent.view == recommender.RECOMMEND_VIEW_BASIC
    assert sent.filter.seen_policy == recommender.SEEN_POLICY_EXCLUDE


def test_steer_sends_mode_expiry_and_a_request_id_of_its_own(server: ScriptedServer, client: Client) -> None:
    server.answer("SteerIntents", recommender.SteerIntentsResponse())

    client.steer("u1", boost={INTENT: 0.5}, ttl=timedelta(days=3), etag="e1", reason="asked for")
    client.steer("u1", mode="clear", clear=[OTHER])
    client.steer("u1", mode="replace", suppress=[INTENT], expire_time=datetime(2027, 1, 1, tzinfo=UTC))
    client.steer("u1", avoid=[INTENT], validate_only=True)

    merge, clear, replace, preview = server.requests["SteerIntents"]
    assert merge.mode == recommender.STEER_MODE_MERGE
    assert (merge.ttl.seconds, merge.etag, merge.reason) == (3 * 86_400, "e1", "asked for")
    assert uuid.UUID(merge.request_id).version == 4
    assert merge.request_id != clear.request_id
    assert clear.mode == recommender.STEER_MODE_CLEAR
    assert [each.intent_id for each in clear.adjustments] == [OTHER]
    assert clear.WhichOneof("expiration") is None
    assert replace.WhichOneof("expiration") == "expire_time"
    assert replace.mode == recommender.STEER_MODE_REPLACE
    assert preview.validate_only
    assert preview.request_id == ""


def test_events_get_an_id_once_so_that_a_retry_does_not_count_twice(
    server: ScriptedServer, client: Client
) -> None:
    server.answer("WriteEvents", UNAVAILABLE, event_service_pb2.WriteEventsResponse(accepted_count=2))

    answer = client.write_events([event("u1", "a", value=4.5), event("u1", "b", event_id="mine")])

    assert answer.accepted_count == 2
    first, second = server.requests["WriteEvents"]
    assert first == second
    assert uuid.UUID(first.events[0].event_id).version == 4
    assert first.events[1].event_id == "mine"
    assert first.events[0].value == 4.5
    assert not first.events[1].HasField("value")


def test_a_batch_that_is_written_again_has_the_same_ids_whoever_made_its_events(
    server: ScriptedServer, client: Client
) -> None:
    late = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "late")
    server.answer("WriteEvents", late, event_service_pb2.WriteEventsResponse(accepted_count=2))
    batch = [event("u1", "a"), event_service_pb2.Event(user_id="u1", item_id="b")]

    with pytest.raises(SaerecError):
        client.write_events(batch)
    client.write_events(each for each in batch)

    first, again = server.requests["WriteEvents"]
    assert first == again
    ids = [each.event_id for each in first.events]
    assert ids == [each.event_id for each in batch]
    assert len(set(ids)) == 2
    assert all(uuid.UUID(each).version == 4 for each in ids)


def test_every_event_that_is_made_is_one_of_its_own() -> None:
    assert event("u1", "a").event_id != event("u1", "a").event_id
    assert event("u1", "a", event_id="mine").event_id == "mine"


def test_list_intents_follows_page_tokens(server: ScriptedServer, client: Client) -> None:
    def page(request: intent_service_pb2.ListIntentsRequest) -> intent_service_pb2.ListIntentsResponse:
        start = int(request.page_token or 0)
        return intent_service_pb2.ListIntentsResponse(
            intents=[intent_service_pb2.Intent(intent_id=f"int-{start:08x}")],
            next_page_token=str(start + 1) if start < 2 else "",
            total_size=3,
        )

    server.answer("ListIntents", page)
    answer = client.list_intents(steerable_only=True)

    assert [intent.intent_id for intent in answer.intents] == ["int-00000000", "int-00000001", "int-00000002"]
    assert (answer.total_size, answer.next_page_token) == (3, "")
    assert all(sent.steerable_only for sent in server.requests["ListIntents"])


def test_steering_revisions_go_on_where_a_token_says(server: ScriptedServer, client: Client) -> None:
    server.answer("ListSteeringRevisions", recommender.ListSteeringRevisionsResponse(next_page_token="more"))
    token = client.list_steering_revisions("u1", page_size=2).next_page_token
    client.list_steering_revisions("u1", page_size=2, page_token=token)
    sent = [
        (each.user_id, each.page_size, each.page_token) for each in server.requests["ListSteeringRevisions"]
    ]
    assert sent == [("u1", 2, ""), ("u1", 2, "more")]


def test_as_many_intents_as_a_server_gives_at_once_are_received(
    server: ScriptedServer, client: Client
) -> None:
    # Titles of 200 bytes, twice as long as those of shops: well above the 4 MiB that gRPC allows by itself.
    top = [
        intent_service_pb2.ItemLoading(item_id=f"item-{place:04d}", title="t" * 200, loading=0.5)
        for place in range(10)
    ]
    intents = [
        intent_service_pb2.Intent(intent_id=f"int-{number:08x}", top_items=top)
        for number in range(_calls.MOST_INTENTS)
    ]
    whole = intent_service_pb2.ListIntentsResponse(intents=intents, total_size=len(intents))
    assert whole.ByteSize() > 8 << 20
    server.answer("ListIntents", whole)
    assert len(client.list_intents().intents) == len(intents)
    (sent,) = server.requests["ListIntents"]
    assert sent.page_size == _calls.MOST_INTENTS


def test_search_takes_a_text_or_items(server: ScriptedServer, client: Client) -> None:
    server.answer("SearchIntents", intent_service_pb2.SearchIntentsResponse())
    client.search_intents("gentle soap")
    client.search_intents(items=["a", "b"], page_size=3)
    by_text, by_items = server.requests["SearchIntents"]
    assert by_text.text == "gentle soap"
    assert (list(by_items.examples.item_ids), by_items.page_size) == (["a", "b"], 3)


def test_an_error_carries_reason_violations_and_trace(server: ScriptedServer, client: Client) -> None:
    server.answer("Recommend", invalid(page_size="must not be negative", history="is too long"))

    with pytest.raises(SaerecError) as caught:
        client.recommend("u1", page_size=-1)

    error = caught.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_FIELD"
    assert error.message == "page_size: must not be negative"
    assert error.field_violations == [
        FieldViolation("page_size", "must not be negative"),
        FieldViolation("history", "is too long"),
    ]
    assert error.trace_id == TRACE_ID
    assert str(error) == "INVALID_ARGUMENT (INVALID_FIELD): page_size: must not be negative"
    assert len(server.requests["Recommend"]) == 1


def test_a_busy_server_says_when_to_come_back_and_is_not_asked_again(
    server: ScriptedServer, client: Client
) -> None:
    delay = duration_pb2.Duration(seconds=2, nanos=500_000_000)
    info = error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain="saerec-ray")
    retry = error_details_pb2.RetryInfo(retry_delay=delay)
    server.answer("SteerIntents", Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", (info, retry)))
    with pytest.raises(SaerecError) as caught:
        client.steer("u1", boost=[INTENT])
    assert (caught.value.reason, caught.value.retry_after) == ("RATE_LIMITED", 2.5)
    assert len(server.requests["SteerIntents"]) == 1


def test_unavailable_is_tried_three_times(server: ScriptedServer, client: Client) -> None:
    server.answer("Recommend", UNAVAILABLE, UNAVAILABLE, EMPTY)
    assert client.recommend("u1", timeout=PATIENCE).recommendation_id == "r1"
    assert len(server.requests["Recommend"]) == 3

    server.requests.clear()
    server.answer("ExplainUser", UNAVAILABLE)
    with pytest.raises(SaerecError, match="UNAVAILABLE: draining"):
        client.explain_user("u1", timeout=PATIENCE)
    assert len(server.requests["ExplainUser"]) == 3


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED])
def test_no_other_error_is_tried_again(server: ScriptedServer, client: Client, code: grpc.StatusCode) -> None:
    server.answer("Recommend", Refusal(code, "no"))
    with pytest.raises(SaerecError):
        client.recommend("u1")
    assert len(server.requests["Recommend"]) == 1


def test_retries_stop_when_most_calls_fail(server: ScriptedServer, client: Client) -> None:
    server.answer("Recommend", UNAVAILABLE)
    for _ in range(15):
        with pytest.raises(SaerecError):
            client.recommend("u1", timeout=PATIENCE)
    # Ten tokens, one lost a failure, retries only above five: without the throttle it would be 45.
    assert 15 <= len(server.requests["Recommend"]) <= 25


def test_a_slow_answer_ends_at_the_timeout_of_the_call(server: ScriptedServer) -> None:
    released = threading.Event()

    def slow(_request: recommender.RecommendRequest) -> recommender.RecommendResponse:
        released.wait(30)
        return EMPTY

    server.answer("Recommend", slow)
    with Client(server.target) as client:

        def runs_out_of_time(timeout: float | None) -> None:
            with pytest.raises(SaerecError) as caught:
                client.recommend("u1", timeout=timeout)
            assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED

        attempts = in_time(2, partial(runs_out_of_time, None)) + in_time(1, partial(runs_out_of_time, 0.05))
    released.set()
    assert 1 <= len(server.requests["Recommend"]) <= attempts, "a call that ran out of time is not repeated"


def test_no_server_is_an_error_with_a_code() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        with Client(f"127.0.0.1:{taken.getsockname()[1]}") as alone, pytest.raises(SaerecError) as caught:
            alone.recommend("u1", timeout=PATIENCE)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.field_violations == []


def test_details_that_are_not_a_status_leave_code_and_message(server: ScriptedServer, client: Client) -> None:
    class Garbage(Refusal):
        def abort(self, context: grpc.ServicerContext) -> None:
            context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
            context.abort(self.code, self.message)

    server.answer("Recommend", Garbage(grpc.StatusCode.NOT_FOUND, "gone"))
    with pytest.raises(SaerecError, match="NOT_FOUND: gone") as caught:
        client.recommend("u1")
    assert caught.value.reason == ""


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda client: client.recommend("u1", history="abc"), "history takes a list"),
        (lambda client: client.recommend("u1", boost=INTENT), "takes a list of ids"),
        (lambda client: client.recommend("u1", deny="abc"), "deny takes a list"),
        (lambda client: client.recommend("u1", history_mode="all"), "history_mode must be one of 'append'"),
        (lambda client: client.recommend("u1", timeout=0), "timeout must be above 0"),
        (lambda client: client.recommend("u1", history=[("a", datetime(2026, 1, 1))]), "need a time zone"),
        (lambda client: client.steer("u1", mode="drop"), "mode must be one of"),
        (lambda client: client.steer("u1", clear=[INTENT]), "only in mode 'clear'"),
        (
            lambda client: client.steer(
                "u1", boost=[INTENT], ttl=timedelta(1), expire_time=datetime.now(UTC)
            ),
            "not both",
        ),
        (lambda client: client.search_intents(), "either a text or items"),
        (lambda client: client.search_intents("a", items=["b"]), "either a text or items"),
    ],
)
def test_a_mistake_in_the_arguments_is_told_before_anything_is_sent(
    server: ScriptedServer, client: Client, mistake, message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        mistake(client)
    assert not server.requests


def test_health_reads_the_standard_service(patient: None) -> None:
    running = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, running)
    servicer.set("saerec_ray.v1.IntentService", health_pb2.HealthCheckResponse.NOT_SERVING)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    with Client(f"127.0.0.1:{port}") as client:
        assert client.health() is ServingStatus.SERVING
        assert client.health("saerec_ray.v1.IntentService") is ServingStatus.NOT_SERVING
        with pytest.raises(SaerecError) as caught:
            client.health("no.such.Service")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    running.stop(None).wait()


def test_the_async_client_answers_retries_pages_and_fails_alike(
    server: ScriptedServer, patient: None
) -> None:
    server.answer("Recommend", UNAVAILABLE, EMPTY)
    server.answer("GetIntent", invalid(intent_id="must not be empty"))
    server.answer(
        "ListIntents",
        intent_service_pb2.ListIntentsResponse(
            intents=[intent_service_pb2.Intent(intent_id=INTENT)], next_page_token="more", total_size=2
        ),
        intent_service_pb2.ListIntentsResponse(
            intents=[intent_service_pb2.Intent(intent_id=OTHER)], total_size=2
        ),
    )

    async def calls() -> tuple[str, list[str], SaerecError]:
        async with AsyncClient(server.target) as client:
            ranked = await client.recommend("u1", boost={INTENT: 1.0}, timeout=PATIENCE)
            listed = await client.list_intents()
            with pytest.raises(SaerecError) as caught:
                await client.get_intent("")
            return ranked.recommendation_id, [each.intent_id for each in listed.intents], caught.value

    ranked, listed, error = asyncio.run(calls())
    assert ranked == "r1"
    assert len(server.requests["Recommend"]) == 2
    assert listed == [INTENT, OTHER]
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.field_violations == [FieldViolation("intent_id", "must not be empty")]
