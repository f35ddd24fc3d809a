"""Feedback: what users did, and its erasure."""

from __future__ import annotations

import grpc
from sqlalchemy.exc import IntegrityError

from saerec_ray.v1 import common_pb2
from saerec_ray.v1 import event_service_pb2 as messages
from saerec_ray.v1.event_service_pb2_grpc import EventServiceServicer
from saerec_server import limits
from saerec_server.errors import ApiError
from saerec_server.records import StoredEvent
from saerec_server.registry import ModelRegistry
from saerec_server.requests import consistency_token
from saerec_server.store import Store, StoreError
from saerec_server.validation import MICROSECONDS, Checker, now_microseconds


class EventService(EventServiceServicer):
    """Writes events into the history that the next Recommend reads."""

    def __init__(self, registry: ModelRegistry, store: Store) -> None:
        self._registry = registry
        self._store = store

    async def WriteEvents(
        self, request: messages.WriteEventsRequest, _context: grpc.aio.ServicerContext
    ) -> messages.WriteEventsResponse:
        """Writes a batch of events; all or nothing."""
        now = now_microseconds()
        events = _checked(request, now)
        known_items = self._registry.model().history.index
        try:
            if request.validate_only:
                known = await self._store.known_event_ids([each.event_id for each in events], now)
                accepted = len({each.event_id for each in events} - known)
            else:
                accepted = await self._store.write_events(events, now)
        except (StoreError, IntegrityError) as error:
            raise ApiError.unavailable("Events cannot be written right now.") from error
        response = messages.WriteEventsResponse(
            accepted_count=accepted,
            duplicate_count=len(events) - accepted,
            unknown_item_ids=list(
                dict.fromkeys(each.item_id for each in events if each.item_id not in known_items)
            ),
        )
        if not request.validate_only:
            token = consistency_token(self._store.store_id, now)
            response.consistency_token.CopyFrom(common_pb2.ConsistencyToken(token=token))
        return response

    async def DeleteUserData(
        self, request: messages.DeleteUserDataRequest, _context: grpc.aio.ServicerContext
    ) -> messages.DeleteUserDataResponse:
        """Erases everything stored for a user; a repetition finds nothing left to erase."""
        check = Checker()
        check.identifier("user_id", request.user_id)
        check.uuid4("request_id", request.request_id)
        check.done()
        try:
            count, profile = await self._store.erase(request.user_id, now_microseconds())
        except (StoreError, IntegrityError) as error:
            raise ApiError.unavailable("User data cannot be erased right now.") from error
        return messages.DeleteUserDataResponse(event_count=count, steering_profile_deleted=profile)


def _checked(request: messages.WriteEventsRequest, now: int) -> list[StoredEvent]:
    check = Checker()
    if not request.events:
        check.add("events", "must not be empty")
    check.at_most("events", request.events, limits.MAX_EVENTS)
    if request.ByteSize() > limits.MAX_EVENTS_BYTES:
        check.add("events", f"must have at most {limits.MAX_EVENTS_BYTES} bytes in all")
    events = [
        _checked_event(check, f"events[{place}]", event, now)
        for place, event in enumerate(request.events[: limits.MAX_EVENTS])
    ]
    check.done()
    return events


def _checked_event(check: Checker, path: str, event: messages.Event, now: int) -> StoredEvent:
    check.identifier(f"{path}.event_id", event.event_id)
    check.identifier(f"{path}.user_id", event.user_id)
    check.identifier(f"{path}.item_id", event.item_id)
    check.identifier(f"{path}.event_type", event.event_type, required=False)
    check.identifier(f"{path}.recommendation_id", event.recommendation_id, required=False)
    check.identifier(f"{path}.session_id", event.session_id, required=False)
    check.at_most(f"{path}.impression_item_ids", event.impression_item_ids, limits.MAX_IMPRESSIONS)
    for place, item_id in enumerate(event.impression_item_ids[: limits.MAX_IMPRESSIONS]):
        check.identifier(f"{path}.impression_item_ids[{place}]", item_id)
    if event.HasField("value"):
        check.finite(f"{path}.value", event.value)
    time = now
    if event.HasField("event_time"):
        time = check.timestamp(f"{path}.event_time", event.event_time)
        earliest = now - limits.MAX_EVENT_AGE_SECONDS * MICROSECONDS
        latest = now + limits.MAX_EVENT_AHEAD_SECONDS * MICROSECONDS
        if not earliest <= time <= latest:
            check.add(f"{path}.event_time", "must be at most 30 days back and 5 minutes ahead")
    return StoredEvent(
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        event_type=event.event_type,
        event_time=time,
        recommendation_id=event.recommendation_id,
        impressions=tuple(event.impression_item_ids),
        value=event.value if event.HasField("value") else None,
        session_id=event.session_id,
    )
