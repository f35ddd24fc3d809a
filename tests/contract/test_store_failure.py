"""A database that fails: reads degrade, writes are refused at once, nothing lies."""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.errors import InputError
from saerec_ray.v1 import event_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server.settings import ServerSettings
from tests.contract.asking import adjust, answer, event, met, write
from tests.contract.running import Api, refusal, running, settings_of
from tests.in_time import in_time


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def own(bundle_folder: Path, state: Path) -> Iterator[Api]:
    """A server of one's own, to break its database."""
    with running(settings_of(bundle_folder, state=state)) as api:
        yield api


def break_table(state: Path, table: str) -> None:
    with sqlite3.connect(state) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO broken_{table}")
    connection.close()


def test_recommend_answers_without_a_readable_history(
    own: Api, bundle: Bundle, state: Path, user: str
) -> None:
    own.events.WriteEvents(write(event(user, bundle.items.ids[3])))
    break_table(state, "events")
    request = messages.RecommendRequest(user_id=user, history=met(bundle, 5))
    response = own.recommender.Recommend(request)
    assert list(response.degradations) == [messages.DEGRADATION_HISTORY_UNAVAILABLE]
    assert answer(response) == answer(
        own.recommender.Recommend(messages.RecommendRequest(history=met(bundle, 5)))
    )
    explained = own.recommender.ExplainUser(messages.ExplainUserRequest(user_id=user))
    assert list(explained.degradations) == [
        messages.DEGRADATION_HISTORY_UNAVAILABLE,
        messages.DEGRADATION_POPULARITY_ONLY,
    ]


def test_ids_of_users_are_in_no_log_when_the_database_fails(
    own: Api, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    break_table(state, "events")
    own.recommender.Recommend(messages.RecommendRequest(user_id="canary-of-a-user"))
    assert "no such table" in caplog.text, "the failure is logged"
    assert "canary-of-a-user" not in caplog.text


def trace_of(error: grpc.RpcError) -> str:
    return str(dict(error.initial_metadata())["x-trace-id"])


def lines_of(log: pytest.LogCaptureFixture, trace: str) -> list[str]:
    """What the log says of a call, each record as it would be written."""
    formatter = logging.Formatter()
    return [formatter.format(record) for record in log.records if trace in record.getMessage()]


@pytest.mark.parametrize(
    ("method", "table"),
    [
        ("WriteEvents", "event_ids"),
        ("DeleteUserData", "events"),
        ("SteerIntents", "adjustments"),
        ("GetSteeringProfile", "profiles"),
        ("ListSteeringRevisions", "revisions"),
    ],
)
def test_a_refused_call_leaves_one_line_with_its_method_its_trace_and_the_cause(
    own: Api, state: Path, steerable: list[str], caplog: pytest.LogCaptureFixture, method: str, table: str
) -> None:
    user = "canary-of-a-user"
    calls: dict[str, Callable[[], object]] = {
        "WriteEvents": lambda: own.events.WriteEvents(write(event(user, "x"))),
        "DeleteUserData": lambda: own.events.DeleteUserData(
            event_service_pb2.DeleteUserDataRequest(user_id=user)
        ),
        "SteerIntents": lambda: own.recommender.SteerIntents(
            messages.SteerIntentsRequest(user_id=user, adjustments=[adjust(steerable[0])])
        ),
        "GetSteeringProfile": lambda: own.recommender.GetSteeringProfile(
            messages.GetSteeringProfileRequest(user_id=user)
        ),
        "ListSteeringRevisions": lambda: own.recommender.ListSteeringRevisions(
            messages.ListSteeringRevisionsRequest(user_id=user)
        ),
    }
    break_table(state, table)
    with pytest.raises(grpc.RpcError) as error:
        calls[method]()
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    (line,) = lines_of(caplog, trace_of(error.value))
    assert len(line.splitlines()) == 1
    assert f"{method} is refused" in line
    assert f"no such table: {table}" in line
    assert user not in caplog.text


def test_a_call_that_waits_too_long_for_the_database_says_so(
    hurried: Api, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = sqlite3.connect(state, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(grpc.RpcError) as error:
        hurried.events.WriteEvents(write(event("u", "x")))
    blocker.rollback()
    blocker.close()
    (line,) = lines_of(caplog, trace_of(error.value))
    assert re.search(r"did not answer in time$|database is locked$", line)


def test_a_preview_without_a_readable_history_leaves_one_line(
    own: Api, state: Path, steerable: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    break_table(state, "events")
    preview = messages.SteerIntentsRequest(
        user_id="u", adjustments=[adjust(steerable[0])], validate_only=True
    )
    with pytest.raises(grpc.RpcError) as error:
        own.recommender.SteerIntents(preview)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    (line,) = lines_of(caplog, trace_of(error.value))
    assert line.endswith("no such table: events")


def test_an_answer_without_stored_state_leaves_one_line_with_both_causes(
    own: Api, bundle: Bundle, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for table in ("events", "profiles"):
        break_table(state, table)
    request = messages.RecommendRequest(user_id="canary-of-a-user", history=met(bundle, 5))
    response, call = own.recommender.Recommend.with_call(request)
    assert len(response.degradations) == 2
    (line,) = lines_of(caplog, dict(call.initial_metadata())["x-trace-id"])
    assert len(line.splitlines()) == 1
    assert "RecommenderService/Recommend goes without stored steering and history" in line
    assert "no such table: events" in line
    assert "no such table: profiles" in line
    assert "canary-of-a-user" not in caplog.text


def test_an_answer_with_all_it_needs_leaves_no_line(
    own: Api, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    request = messages.RecommendRequest(user_id="u", history=met(bundle, 5))
    _, call = own.recommender.Recommend.with_call(request)
    assert lines_of(caplog, dict(call.initial_metadata())["x-trace-id"]) == []


def test_recommend_answers_without_a_readable_profile(
    own: Api, bundle: Bundle, state: Path, user: str, steerable: list[str]
) -> None:
    request = messages.RecommendRequest(user_id=user, history=met(bundle, 5))
    before = own.recommender.Recommend(request)
    own.recommender.SteerIntents(
        messages.SteerIntentsRequest(user_id=user, adjustments=[adjust(steerable[0])])
    )
    break_table(state, "adjustments")
    response = own.recommender.Recommend(request)
    assert list(response.degradations) == [messages.DEGRADATION_STEERING_UNAVAILABLE]
    assert response.steering_revision == 0
    assert answer(response) == answer(before)


@pytest.fixture
def hurried(bundle_folder: Path, state: Path) -> Iterator[Api]:
    """A server that waits for its database as long as by default, on the same file as `own`."""
    with running(ServerSettings(bundle=bundle_folder, port=0, drain_seconds=0, state=state)) as api:
        yield api


def test_a_write_that_cannot_be_stored_is_unavailable_within_a_second(
    hurried: Api, own: Api, state: Path, user: str, steerable: list[str]
) -> None:
    blocker = sqlite3.connect(state, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    calls = [
        lambda: hurried.events.WriteEvents(write(event(user, "x"))),
        lambda: hurried.events.DeleteUserData(event_service_pb2.DeleteUserDataRequest(user_id=user)),
        lambda: hurried.recommender.SteerIntents(
            messages.SteerIntentsRequest(user_id=user, adjustments=[adjust(steerable[0])])
        ),
    ]

    def is_refused(call: Callable[[], object]) -> None:
        refused = refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_READY")
        assert refused.retry_seconds == 1

    for call in calls:
        in_time(1, partial(is_refused, call))
    blocker.rollback()
    blocker.close()
    assert own.events.WriteEvents(write(event(user, "x"))).accepted_count == 1
    profile = messages.GetSteeringProfileRequest(user_id=user)
    assert own.recommender.GetSteeringProfile(profile).profile.revision == 0


def test_a_profile_that_cannot_be_read_is_unavailable(own: Api, state: Path, user: str) -> None:
    for table in ("profiles", "revisions"):
        break_table(state, table)
    asked = messages.GetSteeringProfileRequest(user_id=user)
    listed = messages.ListSteeringRevisionsRequest(user_id=user)
    for call in (
        lambda: own.recommender.GetSteeringProfile(asked),
        lambda: own.recommender.ListSteeringRevisions(listed),
    ):
        assert refusal(call).code == grpc.StatusCode.UNAVAILABLE


def test_stored_adjustments_of_intents_that_are_gone_are_skipped_and_named(
    own: Api, bundle: Bundle, state: Path, user: str, steerable: list[str]
) -> None:
    edits = [adjust(each, strength=0.5) for each in steerable[:3]]
    own.recommender.SteerIntents(messages.SteerIntentsRequest(user_id=user, adjustments=edits))
    hidden = next(each.intent_id for each in bundle.catalogue.intents if not each.published)
    with sqlite3.connect(state) as connection:  # as if a newer dictionary were served
        for old, new in ((steerable[0], "int-00000000"), (steerable[1], hidden)):
            connection.execute("UPDATE adjustments SET intent_id = ? WHERE intent_id = ?", (new, old))
    connection.close()
    response = own.recommender.Recommend(messages.RecommendRequest(user_id=user, history=met(bundle, 5)))
    assert {(each.intent_id, each.reason) for each in response.skipped_adjustments} == {
        ("int-00000000", 3),  # ERROR_REASON_UNKNOWN_INTENT
        (hidden, 4),  # ERROR_REASON_INTENT_NOT_STEERABLE
    }
    cleared = own.recommender.SteerIntents(
        messages.SteerIntentsRequest(
            user_id=user, mode=messages.STEER_MODE_CLEAR, adjustments=[{"intent_id": "int-00000000"}]
        )
    )
    assert len(cleared.profile.adjustments) == 2
    assert len(cleared.skipped_adjustments) == 0


def test_an_expired_adjustment_acts_no_more(
    own: Api, bundle: Bundle, state: Path, user: str, steerable: list[str]
) -> None:
    request = messages.RecommendRequest(user_id=user, history=met(bundle, 5), page_size=200)
    before = own.recommender.Recommend(request)
    own.recommender.SteerIntents(
        messages.SteerIntentsRequest(user_id=user, adjustments=[adjust(steerable[0])])
    )
    assert answer(own.recommender.Recommend(request)) != answer(before)
    with sqlite3.connect(state) as connection:
        connection.execute("UPDATE adjustments SET expire_time = ?", (time.time_ns() // 1000 - 1,))
    connection.close()
    assert answer(own.recommender.Recommend(request)) == answer(before)
    asked = messages.GetSteeringProfileRequest(user_id=user)
    profile = own.recommender.GetSteeringProfile(asked).profile
    assert (profile.revision, len(profile.adjustments)) == (1, 0)


def test_a_file_that_is_no_database_stops_the_start(bundle_folder: Path, state: Path) -> None:
    state.write_bytes(b"this is not a database" * 100)
    with (
        pytest.raises(InputError, match=r"state database .* cannot be used"),
        running(settings_of(bundle_folder, state=state)),
    ):
        pass


def test_a_damaged_database_stops_the_start(bundle_folder: Path, state: Path) -> None:
    settings = settings_of(bundle_folder, state=state)
    with running(settings) as api:
        for number in range(5):
            api.events.WriteEvents(write(*(event(f"user {number}", "i" * 200) for _ in range(100))))
    content = bytearray(state.read_bytes())
    content[20_000:60_000] = b"\xab" * 40_000
    state.write_bytes(content)
    with pytest.raises(InputError, match="state database"), running(settings):
        pass


def test_a_folder_that_does_not_exist_stops_the_start(bundle_folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "missing" / "state.sqlite"
    with (
        pytest.raises(InputError, match="cannot be used"),
        running(settings_of(bundle_folder, state=state)),
    ):
        pass


def test_a_database_of_another_layout_stops_the_start(bundle_folder: Path, state: Path) -> None:
    settings = settings_of(bundle_folder, state=state)
    with running(settings):
        pass
    with sqlite3.connect(state) as connection:
        connection.execute("UPDATE store_info SET schema_version = 99")
    connection.close()
    with pytest.raises(InputError, match="has layout 99"), running(settings):
        pass
