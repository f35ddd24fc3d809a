"""What each call of the API sends and how its answer is read: one description for both clients.

A builder takes plain Python values and returns a `Call`; it never touches the network.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Literal, TypeVar

from google.protobuf import duration_pb2, wrappers_pb2
from google.protobuf.message import Message

from saerec_ray import _values as values
from saerec_ray.v1 import common_pb2 as common
from saerec_ray.v1 import event_service_pb2 as events_api
from saerec_ray.v1 import intent_service_pb2 as intents_api
from saerec_ray.v1 import recommender_service_pb2 as recommender

Answer = TypeVar("Answer")

RECOMMEND_SECONDS = 0.3
READ_SECONDS = 1.0
WRITE_SECONDS = 1.0
SEARCH_SECONDS = 5.0
"""The first search by text loads the language model of the bundle."""
LIST_SECONDS = 5.0
MOST_INTENTS = 5_000
"""What a server gives in one answer, some MiB."""

_RECOMMENDER = "/saerec_ray.v1.RecommenderService/"
_INTENTS = "/saerec_ray.v1.IntentService/"
_EVENTS = "/saerec_ray.v1.EventService/"

_HISTORY_MODES = {
    "append": recommender.HISTORY_MODE_APPEND,
    "request": recommender.HISTORY_MODE_REQUEST_ONLY,
    "stored": recommender.HISTORY_MODE_STORED_ONLY,
}
HistoryMode = Literal["append", "request", "stored"]
_STEER_MODES = {
    "merge": recommender.STEER_MODE_MERGE,
    "replace": recommender.STEER_MODE_REPLACE,
    "clear": recommender.STEER_MODE_CLEAR,
}
SteerMode = Literal["merge", "replace", "clear"]


class ServingStatus(enum.IntEnum):
    """Answers of grpc.health.v1."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One call: where it goes, what it sends, how its answer is read and how long it may take."""

    method: str
    request: Message
    decode: Callable[[bytes], Answer]
    timeout: float  # seconds
    following: Callable[[Answer], Call[Answer] | None] | None = None
    """The call for the next page, None after the last one."""
    joined: Callable[[Sequence[Answer]], Answer] | None = None
    """All pages as one answer; set together with `following`."""


def recommend(
    user_id: str = "",
    *,
    history: values.History = (),
    history_mode: HistoryMode = "append",
    page_size: int = 0,
    explained: bool = False,
    boost: values.Strengths = (),
    avoid: values.Strengths = (),
    suppress: values.Strengths = (),
    exclude: values.Strengths = (),
    ignore_profile: bool = False,
    allow: Iterable[str] = (),
    deny: Iterable[str] = (),
    conditions: Iterable[recommender.AttributeCondition] = (),
    allow_seen: bool = False,
    model_version: str = "",
    at_least_as_fresh: values.Token = "",
    timeout: float | None = None,
) -> Call[recommender.RecommendResponse]:
    """Ranks items for a user, or for an anonymous session given by its history.

    `explained` adds why each item is there. `boost`, `avoid`, `suppress` and `exclude` steer this call only;
    `steer` stores. `allow` and `deny` name items; see `any_of`, `none_of` and `between` for conditions. Items
    of the history come back only with `allow_seen`. `timeout` is in seconds, 0.3 by default.
    """
    view = recommender.RECOMMEND_VIEW_EXPLAINED if explained else recommender.RECOMMEND_VIEW_BASIC
    request = recommender.RecommendRequest(
        user_id=user_id,
        history=values.interactions(history),
        history_mode=_chosen("history_mode", history_mode, _HISTORY_MODES),
        page_size=page_size,
        filter=recommender.ItemFilter(
            allow_item_ids=values.ids("allow", allow),
            deny_item_ids=values.ids("deny", deny),
            conditions=conditions,
            seen_policy=recommender.SEEN_POLICY_ALLOW if allow_seen else recommender.SEEN_POLICY_EXCLUDE,
        ),
        steering=recommender.InlineSteering(
            adjustments=values.adjustments(boost, avoid, suppress, exclude), ignore_profile=ignore_profile
        ),
        view=view,
        model_version=model_version,
        at_least_as_fresh=values.consistency_token(at_least_as_fresh),
    )
    decode = recommender.RecommendResponse.FromString
    return Call(f"{_RECOMMENDER}Recommend", request, decode, _seconds(timeout, RECOMMEND_SECONDS))


def explain_user(
    user_id: str = "",
    *,
    history: values.History = (),
    history_mode: HistoryMode = "append",
    max_intents: int = 0,
    max_evidence: int = 0,
    model_version: str = "",
    at_least_as_fresh: values.Token = "",
    timeout: float | None = None,
) -> Call[recommender.ExplainUserResponse]:
    """The intents that drive a user's ranking, compared with the population, with evidence."""
    request = recommender.ExplainUserRequest(
        user_id=user_id,
        history=values.interactions(history),
        history_mode=_chosen("history_mode", history_mode, _HISTORY_MODES),
        max_intents=max_intents,
        max_evidence=max_evidence,
        model_version=model_version,
        at_least_as_fresh=values.consistency_token(at_least_as_fresh),
    )
    decode = recommender.ExplainUserResponse.FromString
    return Call(f"{_RECOMMENDER}ExplainUser", request, decode, _seconds(timeout, READ_SECONDS))


def steer(
    user_id: str,
    *,
    boost: values.Strengths = (),
    avoid: values.Strengths = (),
    suppress: values.Strengths = (),
    exclude: values.Strengths = (),
    mode: SteerMode = "merge",
    clear: Iterable[str] = (),
    ttl: timedelta | None = None,
    expire_time: datetime | None = None,
    etag: str = "",
    request_id: str = "",
    reason: str = "",
    validate_only: bool = False,
    timeout: float | None = None,
) -> Call[recommender.SteerIntentsResponse]:
    """Changes a user's stored steering and tells what that does to the first page.

    `mode` "merge" keeps adjustments of other intents, "replace" drops them, "clear" drops the intents in
    `clear`, or all. `validate_only` changes nothing. Changes end after `ttl`, 30 days by default. A write is
    safe to repeat: without a `request_id` a new one is made and kept over retries.
    """
    named = values.ids("clear", clear)
    if named and mode != "clear":
        raise ValueError("clear names intents only in mode 'clear'.")
    if ttl is not None and expire_time is not None:
        raise ValueError("Give ttl or expire_time, not both.")
    request = recommender.SteerIntentsRequest(
        user_id=user_id,
        mode=_chosen("mode", mode, _STEER_MODES),
        adjustments=[
            *values.adjustments(boost, avoid, suppress, exclude),
            *(common.IntentAdjustment(intent_id=intent_id) for intent_id in named),
        ],
        etag=etag,
        request_id=request_id or ("" if validate_only else str(uuid.uuid4())),
        reason=reason,
        validate_only=validate_only,
    )
    if ttl is not None:
        lasting = duration_pb2.Duration()
        lasting.FromTimedelta(ttl)
        request.ttl.CopyFrom(lasting)
    if expire_time is not None:
        request.expire_time.CopyFrom(values.timestamp(expire_time))
    decode = recommender.SteerIntentsResponse.FromString
    return Call(f"{_RECOMMENDER}SteerIntents", request, decode, _seconds(timeout, WRITE_SECONDS))


def get_steering_profile(
    user_id: str, *, timeout: float | None = None
) -> Call[recommender.GetSteeringProfileResponse]:
    """A user's stored steering; without adjustments when the user never steered."""
    request = recommender.GetSteeringProfileRequest(user_id=user_id)
    decode = recommender.GetSteeringProfileResponse.FromString
    return Call(f"{_RECOMMENDER}GetSteeringProfile", request, decode, _seconds(timeout, READ_SECONDS))


def list_steering_revisions(
    user_id: str, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
) -> Call[recommender.ListSteeringRevisionsResponse]:
    """The latest writes to a user's steering, newest first; `page_token`, of an answer, goes on with those before."""
    request = recommender.ListSteeringRevisionsRequest(
        user_id=user_id, page_size=page_size, page_token=page_token
    )
    decode = recommender.ListSteeringRevisionsResponse.FromString
    return Call(f"{_RECOMMENDER}ListSteeringRevisions", request, decode, _seconds(timeout, READ_SECONDS))


def list_intents(
    *,
    states: Iterable[intents_api.IntentState.ValueType] = (),
    steerable_only: bool = False,
    page_size: int = MOST_INTENTS,
    timeout: float | None = None,
) -> Call[intents_api.ListIntentsResponse]:
    """All intents by id; only active ones unless `states` says otherwise.

    A server gives at most 5000 in one answer, and fewer where they would be above 3 MiB; the pages after it are asked
    for as well. `page_size` and `timeout`, 5 seconds by default, are those of one.
    """
    request = intents_api.ListIntentsRequest(
        page_size=page_size, states=states, steerable_only=steerable_only
    )
    return _intent_page(request, _seconds(timeout, LIST_SECONDS))


def _intent_page(
    request: intents_api.ListIntentsRequest, seconds: float
) -> Call[intents_api.ListIntentsResponse]:
    def following(answer: intents_api.ListIntentsResponse) -> Call[intents_api.ListIntentsResponse] | None:
        if not answer.next_page_token:
            return None
        next_request = intents_api.ListIntentsRequest()
        next_request.CopyFrom(request)
        next_request.page_token = answer.next_page_token
        return _intent_page(next_request, seconds)

    def joined(pages: Sequence[intents_api.ListIntentsResponse]) -> intents_api.ListIntentsResponse:
        return intents_api.ListIntentsResponse(
            intents=[intent for page in pages for intent in page.intents],
            total_size=pages[-1].total_size,
            intents_version=pages[-1].intents_version,
        )

    decode = intents_api.ListIntentsResponse.FromString
    return Call(f"{_INTENTS}ListIntents", request, decode, seconds, following, joined)


def get_intent(
    intent_id: str, *, max_top_items: int = 0, timeout: float | None = None
) -> Call[intents_api.GetIntentResponse]:
    """One intent with the items that carry it most."""
    request = intents_api.GetIntentRequest(intent_id=intent_id, max_top_items=max_top_items)
    decode = intents_api.GetIntentResponse.FromString
    return Call(f"{_INTENTS}GetIntent", request, decode, _seconds(timeout, READ_SECONDS))


def search_intents(
    text: str = "", *, items: Iterable[str] = (), page_size: int = 0, timeout: float | None = None
) -> Call[intents_api.SearchIntentsResponse]:
    """Intents like a text, or like example items; best first."""
    examples = values.ids("items", items)
    if bool(text) == bool(examples):
        raise ValueError("Give either a text or items to search by.")
    request = intents_api.SearchIntentsRequest(page_size=page_size)
    if text:
        request.text = text
    else:
        request.examples.item_ids.extend(examples)
    decode = intents_api.SearchIntentsResponse.FromString
    return Call(f"{_INTENTS}SearchIntents", request, decode, _seconds(timeout, SEARCH_SECONDS))


def write_events(
    events: Iterable[events_api.Event], *, validate_only: bool = False, timeout: float | None = None
) -> Call[events_api.WriteEventsResponse]:
    """Writes 1 to 100 events, all or nothing; see `event`. The next Recommend reads them.

    Safe to repeat with the same events, for 7 days: an event counts once by its `event_id`. Messages without one
    get one here, in place.
    """
    written = list(events)
    for each in written:
        each.event_id = each.event_id or str(uuid.uuid4())
    request = events_api.WriteEventsRequest(events=written, validate_only=validate_only)
    decode = events_api.WriteEventsResponse.FromString
    return Call(f"{_EVENTS}WriteEvents", request, decode, _seconds(timeout, WRITE_SECONDS))


def delete_user_data(
    user_id: str, *, timeout: float | None = None
) -> Call[events_api.DeleteUserDataResponse]:
    """Erases everything stored for a user: events, steering and its revisions."""
    request = events_api.DeleteUserDataRequest(user_id=user_id, request_id=str(uuid.uuid4()))
    decode = events_api.DeleteUserDataResponse.FromString
    return Call(f"{_EVENTS}DeleteUserData", request, decode, _seconds(timeout, WRITE_SECONDS))


def health(service: str = "", *, timeout: float | None = None) -> Call[ServingStatus]:
    """Whether the server, or one of its services, answers."""
    # Same bytes as grpc.health.v1.HealthCheckRequest {string service = 1}, whose stubs would be one more
    # dependency; the answer {enum status = 1} has the same bytes as an Int32Value.
    return Call(
        "/grpc.health.v1.Health/Check",
        wrappers_pb2.StringValue(value=service),
        _serving_status,
        _seconds(timeout, READ_SECONDS),
    )


def _serving_status(content: bytes) -> ServingStatus:
    return ServingStatus(wrappers_pb2.Int32Value.FromString(content).value)


def _seconds(timeout: float | None, default: float) -> float:
    seconds = default if timeout is None else timeout
    if not seconds > 0:
        raise ValueError("timeout must be above 0 seconds.")
    return seconds


Choice = TypeVar("Choice")


def _chosen(name: str, value: str, choices: Mapping[str, Choice]) -> Choice:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}.")
    return choices[value]
