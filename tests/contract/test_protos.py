"""The wire contract: linted, documented, and at one with the server's limits and the API page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from saerec_ray.intent_choice import MOST_LIMITED
from saerec_ray.scoring import MAX_LIMITED_ADJUSTMENTS, SHIFT_LIMIT
from saerec_ray.v1 import common_pb2
from saerec_server import errors, limits

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"
FILES = sorted((ROOT / "protos").rglob("*.proto"))


def buf(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    beside = Path(sys.executable).with_name("buf")
    command = str(beside) if beside.exists() else shutil.which("buf")
    assert command, "buf is missing: pip install buf-bin, or the extra dev"
    return subprocess.run([command, *arguments], cwd=ROOT / "protos", capture_output=True, check=False)


@cache
def built() -> descriptor_pb2.FileDescriptorSet:
    """The files with their comments."""
    done = buf("build", "--output", "-#format=binpb")
    assert done.returncode == 0, done.stderr.decode()
    return descriptor_pb2.FileDescriptorSet.FromString(done.stdout)


def own_files() -> Iterator[descriptor_pb2.FileDescriptorProto]:
    return (file for file in built().file if file.package == "saerec_ray.v1")


@cache
def field_comments() -> dict[str, str]:
    """`Message.field` to its comment and that of its message, without line breaks."""
    comments = {}
    for file in own_files():
        leading = {
            tuple(place.path): " ".join(place.leading_comments.split())
            for place in file.source_code_info.location
        }
        for at, message in enumerate(file.message_type):
            for place, field in enumerate(message.field):
                texts = (leading.get((4, at), ""), leading.get((4, at, 2, place), ""))
                comments[f"{message.name}.{field.name}"] = " ".join(texts)
    return comments


def method_names() -> list[str]:
    return [method.name for file in own_files() for service in file.service for method in service.method]


def test_the_contract_passes_buf_lint() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout.decode()


def test_comments_stand_alone() -> None:
    for file in FILES:
        found = re.findall(r"(?i)\.md\b|todo|fixme|issue|draft", file.read_text("utf-8"))
        assert found == [], f"{file.name} refers to {found}"


def test_every_call_and_every_reason_is_on_the_api_page() -> None:
    page = PAGE.read_text("utf-8")
    reasons = [name.removeprefix("ERROR_REASON_") for name in common_pb2.ErrorReason.keys()[1:]]
    missing = [name for name in (*method_names(), *reasons) if f"`{name}`" not in page]
    assert missing == []


def test_every_reason_the_server_sends_is_in_the_contract() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name in common_pb2.ErrorReason.keys()}  # noqa: SIM118 (an enum wrapper is no dict)
    assert {reason.name for reason in errors.Reason} <= known


@pytest.mark.parametrize(
    ("field", "stated"),
    [
        ("RecommendRequest.page_size", f"0 is {limits.DEFAULT_PAGE_SIZE}; above {limits.MAX_PAGE_SIZE}"),
        ("RecommendRequest.history", f"at most {limits.MAX_HISTORY}"),
        ("RecommendRequest.user_id", f"at most {limits.MAX_ID_BYTES} bytes"),
        ("ItemFilter.allow_item_ids", f"at most {limits.MAX_LISTED_ITEM_IDS}"),
        ("ItemFilter.deny_item_ids", f"at most {limits.MAX_LISTED_ITEM_IDS}"),
        ("ItemFilter.conditions", f"at most {limits.MAX_CONDITIONS}"),
        ("StringSet.values", f"1 to {limits.MAX_CONDITION_VALUES}"),
        ("InlineSteering.adjustments", f"at most {limits.MAX_INLINE_ADJUSTMENTS}"),
        ("ExplainUserRequest.history", f"at most {limits.MAX_HISTORY}"),
        (
            "ExplainUserRequest.max_intents",
            f"0 is {limits.DEFAULT_USER_INTENTS}; above {limits.MAX_USER_INTENTS}",
        ),
        ("ExplainUserRequest.max_evidence", f"0 is {limits.DEFAULT_EVIDENCE}; above {limits.MAX_EVIDENCE}"),
        ("SteerIntentsRequest.user_id", f"1 to {limits.MAX_ID_BYTES} bytes"),
        ("SteerIntentsRequest.user_id", f"at most {limits.STEERING_WRITES_PER_MINUTE} writes a minute"),
        ("SteerIntentsRequest.user_id", f"{limits.STEERING_WRITES_PER_DAY} a day"),
        ("SteerIntentsRequest.adjustments", f"at most {limits.MAX_STORED_ADJUSTMENTS}"),
        ("SteerIntentsRequest.ttl", f"{limits.MAX_TTL_SECONDS // 86_400} days"),
        ("SteerIntentsRequest.request_id", f"within {limits.REQUEST_ID_SECONDS // 3_600} hours"),
        ("SteerIntentsRequest.reason", f"at most {limits.MAX_REASON_BYTES} bytes"),
        (
            "ListSteeringRevisionsRequest.page_size",
            f"0 is {limits.DEFAULT_REVISIONS}; above {limits.MAX_REVISIONS}",
        ),
        ("ListSteeringRevisionsRequest.page_size", f"kept {limits.REVISION_SECONDS // 86_400} days"),
        (
            "WriteEventsRequest.events",
            f"1 to {limits.MAX_EVENTS}, at most {limits.MAX_EVENTS_BYTES >> 10} KiB",
        ),
        ("Event.event_id", f"within {limits.EVENT_ID_SECONDS // 86_400} days"),
        ("Event.event_time", f"{limits.MAX_EVENT_AHEAD_SECONDS // 60} minutes ahead"),
        ("Event.event_time", f"{limits.MAX_EVENT_AGE_SECONDS // 86_400} days back"),
        ("Event.impression_item_ids", f"at most {limits.MAX_IMPRESSIONS}"),
        ("ListIntentsRequest.page_size", f"0 is {limits.DEFAULT_INTENTS}; above {limits.MAX_INTENTS}"),
        ("ListIntentsRequest.states", f"at most {limits.MAX_INTENT_STATES}"),
        ("GetIntentRequest.max_top_items", f"0 is {limits.DEFAULT_TOP_ITEMS}; above {limits.MAX_TOP_ITEMS}"),
        ("SearchIntentsRequest.text", f"1 to {limits.MAX_SEARCH_CHARACTERS} characters"),
        ("SearchIntentsRequest.page_size", f"0 is {limits.DEFAULT_MATCHES}; above {limits.MAX_MATCHES}"),
        ("ExampleItems.item_ids", f"1 to {limits.MAX_EXAMPLE_ITEMS}"),
    ],
)
def test_the_comment_states_the_limit_that_the_server_enforces(field: str, stated: str) -> None:
    assert stated in field_comments()[field]


def test_contract_and_page_state_how_many_events_count_as_seen() -> None:
    stated = f"latest {limits.MAX_SEEN_EVENTS}"
    assert f"{stated} stored events" in (ROOT / "protos/saerec_ray/v1/recommender_service.proto").read_text(
        "utf-8"
    )
    assert f"items of the {stated} count as met" in PAGE.read_text("utf-8")


def test_how_far_steering_may_go_is_written_as_the_score_computes_it() -> None:
    share = f"{SHIFT_LIMIT:.0%}"
    page = " ".join(PAGE.read_text("utf-8").split())
    proto = " ".join(
        (ROOT / "protos/saerec_ray/v1/common.proto").read_text("utf-8").replace("//", "").split()
    )
    assert f"moves no score by more than {share} of the spread of the user's scores" in page
    assert f"at most {share} of the user's score spread" in proto
    assert f"| boosts and avoids that act at once | {MAX_LIMITED_ADJUSTMENTS} |" in page
    assert MOST_LIMITED == MAX_LIMITED_ADJUSTMENTS
    assert MAX_LIMITED_ADJUSTMENTS == 5
    assert "At most five boosts and avoids act at once" in page


def test_the_limits_that_hold_everywhere_are_stated_once() -> None:
    text = " ".join((ROOT / "protos/saerec_ray/v1/common.proto").read_text("utf-8").replace("//", "").split())
    assert f"at most {limits.MAX_REQUEST_BYTES >> 20} MiB" in text
    assert f"At most {MAX_LIMITED_ADJUSTMENTS} boosts and avoids act at once" in text
    assert f"more than {limits.MAX_STORED_ADJUSTMENTS} adjustments" in text
