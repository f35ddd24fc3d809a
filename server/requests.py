"""Request messages of the recommender to checked plain values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf import timestamp_pb2

from saerec_ray.scoring import MAX_LIMITED_ADJUSTMENTS, Mode
from saerec_ray.v1 import common_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server import limits
from saerec_server.errors import ApiError, Reason, Violation
from saerec_server.filters import AnyOf, Condition, Filter, InRange, NoneOf
from saerec_server.registry import LoadedModel
from saerec_server.steering import Change, WriteMode, obstacle
from saerec_server.validation import MICROSECONDS, Checker

MODES = {
    common_pb2.ADJUSTMENT_MODE_BOOST: Mode.BOOST,
    common_pb2.ADJUSTMENT_MODE_AVOID: Mode.AVOID,
    common_pb2.ADJUSTMENT_MODE_SUPPRESS: Mode.SUPPRESS,
    common_pb2.ADJUSTMENT_MODE_EXCLUDE: Mode.EXCLUDE,
}
WRITE_MODES = {
    messages.STEER_MODE_UNSPECIFIED: WriteMode.MERGE,
    messages.STEER_MODE_MERGE: WriteMode.MERGE,
    messages.STEER_MODE_REPLACE: WriteMode.REPLACE,
    messages.STEER_MODE_CLEAR: WriteMode.CLEAR,
}
_TOKEN = re.compile(r"1\.([0-9a-f]{32})\.[0-9]{1,20}")


@dataclass(frozen=True)
class Interaction:
    """One past interaction; the time is in microseconds since 1970, None when only the order is known."""

    item_id: str
    event_time: int | None


@dataclass(frozen=True)
class Who:
    """Whose state counts: the user, and which history is read."""

    user_id: str
    history: list[Interaction]
    reads_store: bool


@dataclass(frozen=True)
class CheckedFilter:
    """The filter of a request, with the items it names that the catalogue does not have."""

    filter: Filter
    exclude_seen: bool
    unknown_item_ids: list[str]


def consistency_token(store_id: str, now: int) -> str:
    """A token that stands for everything written to this store so far."""
    return f"1.{store_id}.{now}"


def check_common(
    check: Checker,
    request: messages.RecommendRequest | messages.ExplainUserRequest,
    store_id: str,
) -> Who:
    """Checks the fields that Recommend and ExplainUser share."""
    check.identifier("user_id", request.user_id, required=False)
    check.unsupported("scenario", present=bool(request.scenario))
    history = check_history(check, request.history)
    check.known_enum("history_mode", request.history_mode, messages.HistoryMode.values())
    stored_only = request.history_mode == messages.HISTORY_MODE_STORED_ONLY
    if stored_only and request.history:
        check.add("history", "must be empty when only stored history is asked for")
    if not request.user_id and (stored_only or not request.history):
        check.add("user_id", "must be set, or history given: nothing is known of an anonymous user")
    # One database holds all state, so whatever it acknowledged is read; only the token's origin matters.
    token = request.at_least_as_fresh.token
    if request.HasField("at_least_as_fresh"):
        match = _TOKEN.fullmatch(token)
        if match is None or match[1] != store_id:
            check.add("at_least_as_fresh.token", "must be a token that this server issued")
    request_only = request.history_mode == messages.HISTORY_MODE_REQUEST_ONLY
    return Who(request.user_id, history, bool(request.user_id) and not request_only)


def check_history(check: Checker, entries: Sequence[common_pb2.Interaction]) -> list[Interaction]:
    """Checks past interactions."""
    check.at_most("history", entries, limits.MAX_HISTORY)
    history = []
    for place, entry in enumerate(entries[: limits.MAX_HISTORY]):
        path = f"history[{place}]"
        check.identifier(f"{path}.item_id", entry.item_id)
        check.identifier(f"{path}.event_type", entry.event_type, required=False)
        time = None
        if entry.HasField("event_time"):
            time = check.timestamp(f"{path}.event_time", entry.event_time)
        history.append(Interaction(entry.item_id, time))
    return history


def check_filter(check: Checker, wanted: messages.ItemFilter, model: LoadedModel) -> CheckedFilter:
    """Checks a filter; items that the server does not have are named, not refused.

    Those of other domains it has, but as they are never returned it matters to none whether a filter names them.
    """
    unknown: list[str] = []

    def indices(field: str, ids: Sequence[str]) -> list[int]:
        check.at_most(field, ids, limits.MAX_LISTED_ITEM_IDS)
        known = []
        for place, item_id in enumerate(ids[: limits.MAX_LISTED_ITEM_IDS]):
            check.identifier(f"{field}[{place}]", item_id)
            if item_id in model.item_index:
                known.append(model.item_index[item_id])
            elif item_id not in model.history.index:
                unknown.append(item_id)
        return known

    allowed = indices("filter.allow_item_ids", wanted.allow_item_ids) if wanted.allow_item_ids else None
    denied = indices("filter.deny_item_ids", wanted.deny_item_ids)
    check.at_most("filter.conditions", wanted.conditions, limits.MAX_CONDITIONS)
    conditions = [
        _condition(check, f"filter.conditions[{place}]", condition, model)
        for place, condition in enumerate(wanted.conditions[: limits.MAX_CONDITIONS])
    ]
    check.known_enum("filter.seen_policy", wanted.seen_policy, messages.SeenPolicy.values())
    return CheckedFilter(
        filter=Filter(allowed, denied, [condition for condition in conditions if condition is not None]),
        exclude_seen=wanted.seen_policy != messages.SEEN_POLICY_ALLOW,
        unknown_item_ids=unknown,
    )


def _condition(
    check: Checker, path: str, condition: messages.AttributeCondition, model: LoadedModel
) -> Condition | None:
    if condition.attribute not in model.attributes:
        check.add(f"{path}.attribute", "must be an attribute of the catalogue")
    match condition.WhichOneof("test"):
        case "any_of":
            return AnyOf(condition.attribute, _values(check, f"{path}.any_of.values", condition.any_of))
        case "none_of":
            return NoneOf(condition.attribute, _values(check, f"{path}.none_of.values", condition.none_of))
        case "range":
            return _range(check, f"{path}.range", condition.attribute, condition.range)
        case _:
            check.add(path, "must have exactly one test: any_of, none_of or range")
            return None


def _values(check: Checker, path: str, values: messages.StringSet) -> list[str]:
    if not values.values:
        check.add(path, "must not be empty")
    check.at_most(path, values.values, limits.MAX_CONDITION_VALUES)
    return list(values.values[: limits.MAX_CONDITION_VALUES])


def _range(check: Checker, path: str, attribute: str, wanted: messages.NumberRange) -> InRange:
    lowest = wanted.min if wanted.HasField("min") else -math.inf
    highest = wanted.max if wanted.HasField("max") else math.inf
    if not (wanted.HasField("min") or wanted.HasField("max")):
        check.add(path, "must have a min or a max")
    for end in ("min", "max"):
        if wanted.HasField(end):
            check.finite(f"{path}.{end}", getattr(wanted, end))
    if lowest > highest:
        check.add(path, "must not have a min above its max")
    return InRange(attribute, lowest, highest)


def check_changes(
    check: Checker, field: str, entries: Sequence[common_pb2.IntentAdjustment], limit: int
) -> list[Change]:
    """Checks adjustments by themselves; whether their intents exist is another question."""
    check.at_most(field, entries, limit)
    changes: dict[str, Change] = {}
    for place, entry in enumerate(entries[:limit]):
        path = f"{field}[{place}]"
        check.intent_id(f"{path}.intent_id", entry.intent_id)
        if entry.intent_id in changes:
            check.add(f"{path}.intent_id", "must not be adjusted twice in one request")
        mode = MODES.get(entry.mode)
        if mode is None:
            check.add(f"{path}.mode", "must be BOOST, AVOID, SUPPRESS or EXCLUDE")
        strength = entry.strength if entry.HasField("strength") else 1.0
        check.finite(f"{path}.strength", strength)
        if mode is Mode.EXCLUDE:
            strength = 1.0
        elif math.isfinite(strength) and not 0 < strength <= 1:
            check.add(f"{path}.strength", "must be above 0 and at most 1")
        changes[entry.intent_id] = Change(entry.intent_id, mode or Mode.EXCLUDE, strength)
    return list(changes.values())


def check_known(
    check: Checker, field: str, entries: Sequence[common_pb2.IntentAdjustment], model: LoadedModel
) -> None:
    """Every adjusted intent must be in the serving dictionary."""
    for place, entry in enumerate(entries):
        if entry.intent_id and entry.intent_id not in model.intents:
            check.add(f"{field}[{place}].intent_id", "must be an intent of the serving dictionary")


def check_steerable(field: str, changes: Sequence[Change], model: LoadedModel) -> None:
    """Raises ApiError when policy forbids steering one of the intents."""
    forbidden = [
        Violation(f"{field}[{place}].intent_id", "must be a steerable intent")
        for place, change in enumerate(changes)
        if obstacle(model.intents, change.intent_id) is Reason.INTENT_NOT_STEERABLE
    ]
    if forbidden:
        raise ApiError.precondition(
            Reason.INTENT_NOT_STEERABLE, "Policy forbids steering one of the intents.", forbidden
        )


def check_inline_limit(changes: Sequence[Change]) -> None:
    """Raises ApiError when more boosts and avoids are asked for than may act at once."""
    if sum(change.mode.limited for change in changes) > MAX_LIMITED_ADJUSTMENTS:
        raise steering_limit(
            "steering.adjustments", f"at most {MAX_LIMITED_ADJUSTMENTS} boosts and avoids may act at once"
        )


def steering_limit(field: str, description: str) -> ApiError:
    """INVALID_ARGUMENT with the reason STEERING_LIMIT."""
    return ApiError.invalid([Violation(field, description)], Reason.STEERING_LIMIT)


def check_expiration(check: Checker, request: messages.SteerIntentsRequest, now: int) -> int:
    """When the changes end, in microseconds since 1970."""
    match request.WhichOneof("expiration"):
        case "ttl":
            field, lasting = "ttl", check.duration("ttl", request.ttl)
        case "expire_time":
            field, lasting = "expire_time", check.timestamp("expire_time", request.expire_time) - now
        case _:
            field, lasting = "ttl", limits.DEFAULT_TTL_SECONDS * MICROSECONDS
    shortest, longest = limits.MIN_TTL_SECONDS * MICROSECONDS, limits.MAX_TTL_SECONDS * MICROSECONDS
    if not shortest <= lasting <= longest:
        check.add(field, "must lie between 1 minute and 365 days from now")
    return now + lasting


def timestamp(microseconds: int) -> timestamp_pb2.Timestamp:
    """A time as a message."""
    return timestamp_pb2.Timestamp(
        seconds=microseconds // MICROSECONDS, nanos=microseconds % MICROSECONDS * 1_000
    )
