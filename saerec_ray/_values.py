"""Plain Python values to the messages that calls are made of."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from google.protobuf import timestamp_pb2

from saerec_ray.v1 import common_pb2 as common
from saerec_ray.v1 import event_service_pb2 as events_api
from saerec_ray.v1 import recommender_service_pb2 as recommender

History = Iterable[str | tuple[str, datetime] | common.Interaction]
"""Item ids, (item id, time) pairs or Interaction messages, oldest first."""
Strengths = Mapping[str, float] | Iterable[str]
"""Intent ids, or a mapping of intent ids to strengths in (0, 1]; without a strength it is 1."""
Token = common.ConsistencyToken | str


def event(
    user_id: str,
    item_id: str,
    *,
    event_type: str = "",
    event_time: datetime | None = None,
    recommendation_id: str = "",
    impressions: Iterable[str] = (),
    value: float | None = None,
    session_id: str = "",
    event_id: str = "",
) -> events_api.Event:
    """One thing that a user did, for `write_events`.

    Without an `event_id` it gets a new one here: however often this event is written, it counts once. Make another
    for the next thing.
    """
    return events_api.Event(
        event_id=event_id or str(uuid.uuid4()),
        user_id=user_id,
        item_id=item_id,
        event_type=event_type,
        event_time=timestamp(event_time) if event_time is not None else None,
        recommendation_id=recommendation_id,
        impression_item_ids=ids("impressions", impressions),
        value=value,
        session_id=session_id,
    )


def any_of(attribute: str, *values: str) -> recommender.AttributeCondition:
    """The attribute has at least one of the values."""
    return recommender.AttributeCondition(attribute=attribute, any_of=recommender.StringSet(values=values))


def none_of(attribute: str, *values: str) -> recommender.AttributeCondition:
    """The attribute has none of the values."""
    return recommender.AttributeCondition(attribute=attribute, none_of=recommender.StringSet(values=values))


def between(
    attribute: str, smallest: float | None = None, largest: float | None = None
) -> recommender.AttributeCondition:
    """The attribute is a number in the closed range; None leaves that end open."""
    wanted = recommender.NumberRange(min=smallest, max=largest)
    return recommender.AttributeCondition(attribute=attribute, range=wanted)


def adjustments(
    boost: Strengths = (), avoid: Strengths = (), suppress: Strengths = (), exclude: Strengths = ()
) -> list[common.IntentAdjustment]:
    """Adjustment messages, in the order of the arguments."""
    modes = {
        common.ADJUSTMENT_MODE_BOOST: boost,
        common.ADJUSTMENT_MODE_AVOID: avoid,
        common.ADJUSTMENT_MODE_SUPPRESS: suppress,
        common.ADJUSTMENT_MODE_EXCLUDE: exclude,
    }
    result = []
    for mode, wanted in modes.items():
        pairs = (
            list(wanted.items())
            if isinstance(wanted, Mapping)
            else [(intent_id, None) for intent_id in ids("an adjustment", wanted)]
        )
        result += [common.IntentAdjustment(intent_id=each, mode=mode, strength=how) for each, how in pairs]
    return result


def interactions(history: History) -> list[common.Interaction]:
    """Interaction messages, oldest first."""
    if isinstance(history, str):
        raise TypeError("history takes a list of item ids, not one string.")
    result = []
    for entry in history:
        if isinstance(entry, common.Interaction):
            result.append(entry)
        elif isinstance(entry, str):
            result.append(common.Interaction(item_id=entry))
        else:
            item_id, when = entry
            result.append(common.Interaction(item_id=item_id, event_time=timestamp(when)))
    return result


def ids(name: str, values: Iterable[str]) -> list[str]:
    """A list of ids. Raises TypeError for a single string; `name` is the argument."""
    # A string is an iterable of its letters: the mistake would be sent as ids of one letter.
    if isinstance(values, str):
        raise TypeError(f"{name} takes a list of ids, not one string.")
    return list(values)


def timestamp(when: datetime) -> timestamp_pb2.Timestamp:
    """A time as a message. Raises ValueError without a time zone."""
    if when.tzinfo is None:
        raise ValueError("Times need a time zone, for example datetime.now(UTC).")
    result = timestamp_pb2.Timestamp()
    result.FromDatetime(when.astimezone(UTC))
    return result


def consistency_token(token: Token) -> common.ConsistencyToken | None:
    """A token message; None when there is none."""
    if isinstance(token, str):
        return common.ConsistencyToken(token=token) if token else None
    return token if token.token else None
