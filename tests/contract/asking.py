"""Short ways to write requests."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from saerec_ray.bundle import Bundle
from saerec_ray.v1 import common_pb2, event_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages

BOOST = common_pb2.ADJUSTMENT_MODE_BOOST
AVOID = common_pb2.ADJUSTMENT_MODE_AVOID
SUPPRESS = common_pb2.ADJUSTMENT_MODE_SUPPRESS
EXCLUDE = common_pb2.ADJUSTMENT_MODE_EXCLUDE


def met(bundle: Bundle, *items: int) -> list[common_pb2.Interaction]:
    """A history of item indices."""
    return [common_pb2.Interaction(item_id=bundle.items.ids[item]) for item in items]


def adjust(intent_id: str, mode: int = BOOST, strength: float | None = None) -> common_pb2.IntentAdjustment:
    return common_pb2.IntentAdjustment(intent_id=intent_id, mode=mode, strength=strength)


def event(user: str, item_id: str, **fields: object) -> event_service_pb2.Event:
    fields.setdefault("event_id", str(uuid.uuid4()))
    return event_service_pb2.Event(user_id=user, item_id=item_id, **fields)


def write(*events: event_service_pb2.Event, **fields: object) -> event_service_pb2.WriteEventsRequest:
    return event_service_pb2.WriteEventsRequest(events=events, **fields)


def ids(response: messages.RecommendResponse) -> list[str]:
    return [item.item_id for item in response.items]


def answer(response: messages.RecommendResponse) -> list[tuple[str, float]]:
    """The items and their scores, to compare bit for bit."""
    return [(item.item_id, item.score) for item in response.items]


def total(item: messages.RecommendedItem) -> float:
    """What the parts of an explanation add up to."""
    why = item.explanation
    intents: Sequence[messages.IntentContribution] = why.intents
    return (
        sum(each.contribution for each in intents)
        + why.other_intents_score
        + why.residual_score
        + why.bias_score
        + sum(each.contribution for each in why.steering)
        + why.rules_score
        + why.companions_score
    )
