"""One steering write from request to reply: checks, preview, audit, idempotency."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import grpc

from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server import limits
from saerec_server import messages as build
from saerec_server.compute import Compute
from saerec_server.errors import ApiError, Reason, Violation
from saerec_server.insight import Effect, steering_effect
from saerec_server.records import Reply, Revision, SteeringState, SteeringWrite
from saerec_server.registry import LoadedModel, ModelRegistry
from saerec_server.requests import (
    WRITE_MODES,
    Who,
    check_changes,
    check_expiration,
    check_known,
    check_steerable,
    consistency_token,
    steering_limit,
)
from saerec_server.steering import (
    Change,
    Profile,
    SteeringLimitError,
    StoredChange,
    WriteMode,
    changed,
    overlay,
)
from saerec_server.store import RevisionConflictError, Store, StoreError
from saerec_server.user_state import known_user
from saerec_server.validation import MICROSECONDS, Checker, now_microseconds

UNAUTHENTICATED_ACTOR = "unauthenticated"
"""Who wrote, as long as callers do not prove who they are."""
_ATTEMPTS = limits.STEERING_WRITES_PER_MINUTE + 2
"""Enough to lose against every other write that the rate limit lets through."""
_MINUTE = 60 * MICROSECONDS
_DAY = 86_400 * MICROSECONDS


@dataclass(frozen=True)
class _Edit:
    """A checked SteerIntents request."""

    user_id: str
    mode: WriteMode
    changes: list[Change]  # empty for CLEAR
    cleared: list[str]  # intents a CLEAR names
    expire_time: int
    etag: str
    request_id: str
    reason: str
    validate_only: bool
    body_hash: str


class SteeringWriter:
    """Applies writes to steering profiles, one revision each."""

    def __init__(self, registry: ModelRegistry, store: Store, compute: Compute) -> None:
        self._registry = registry
        self._store = store
        self._compute = compute

    async def write(
        self, request: messages.SteerIntentsRequest, context: grpc.aio.ServicerContext
    ) -> messages.SteerIntentsResponse:
        """Applies one request. Raises ApiError when it cannot be applied."""
        model = self._registry.model()
        now = now_microseconds()
        edit = _checked(request, model, now)
        for _ in range(_ATTEMPTS):
            try:
                return await self._attempt(edit, model, now_microseconds(), context)
            except RevisionConflictError:
                continue  # another write came first: check against the new profile
            except StoreError as error:
                raise ApiError.unavailable("Steering cannot be written right now.") from error
        raise ApiError.unavailable("Too many writes to this profile at once.", retry_after=0.1)

    async def _attempt(
        self, edit: _Edit, model: LoadedModel, now: int, context: grpc.aio.ServicerContext
    ) -> messages.SteerIntentsResponse:
        state = await self._store.steering_state(edit.user_id, edit.request_id, now)
        if state.reply is not None:
            if state.reply.body_hash != edit.body_hash:
                raise ApiError.invalid(
                    [Violation("request_id", "was used with another body within the last 24 hours")],
                    Reason.REQUEST_ID_REUSED,
                )
            if not edit.validate_only:
                return messages.SteerIntentsResponse.FromString(state.reply.content)
        if not edit.validate_only:
            _check_rate(state, now)
        profile = state.profile
        if edit.etag and edit.etag != profile.etag:
            raise ApiError(
                grpc.StatusCode.ABORTED,
                "The steering profile changed since it was read.",
                Reason.ETAG_MISMATCH,
            )
        additions = [
            StoredChange(change, edit.expire_time, UNAUTHENTICATED_ACTOR, edit.reason)
            for change in edit.changes
        ]
        try:
            stored = changed(profile, edit.mode, additions, edit.cleared, now)
        except SteeringLimitError as error:
            raise steering_limit("adjustments", str(error)) from error
        revision = _revision(edit, profile, now)
        after = (
            replace(profile, stored=stored)
            if edit.validate_only
            else Profile(revision.revision, revision.chain_hash, now, stored)
        )
        effect = await self._effect(edit, model, profile, after, now, context)
        held = {each.change.intent_id for each in profile.active(now)}
        skipped = [
            (intent_id, Reason.UNKNOWN_INTENT)
            for intent_id in edit.cleared
            if intent_id not in held and intent_id not in model.intents
        ]
        response = messages.SteerIntentsResponse(
            profile=build.steering_profile(edit.user_id, after, after.stored),
            skipped_adjustments=build.skipped_adjustments(skipped),
            effect=build.steering_effect(model, effect),
        )
        if not edit.validate_only:
            response.consistency_token.token = consistency_token(self._store.store_id, now)
            reply = Reply(edit.body_hash, response.SerializeToString())
            await self._store.write_steering(SteeringWrite(edit.user_id, revision, stored, reply))
        return response

    async def _effect(
        self,
        edit: _Edit,
        model: LoadedModel,
        before: Profile,
        after: Profile,
        now: int,
        context: grpc.aio.ServicerContext,
    ) -> Effect:
        """What the write does to the first page of the user's stored history."""
        who = Who(edit.user_id, [], reads_store=True)
        known = await known_user(self._store, model, who, None, reads_profile=False, degrades=False)
        history, seen = known.items(model), known.seen(model)
        old = overlay(model.intents, before.active(now), []).acting
        new = overlay(model.intents, after.active(now), []).acting
        return await self._compute.run(
            context,
            lambda: steering_effect(model.ranker, model.ranker.user(history), seen, old, new),
        )


def _checked(request: messages.SteerIntentsRequest, model: LoadedModel, now: int) -> _Edit:
    check = Checker()
    check.identifier("user_id", request.user_id)
    check.known_enum("mode", request.mode, messages.SteerMode.values())
    mode = WRITE_MODES.get(request.mode, WriteMode.MERGE)
    changes: list[Change] = []
    cleared: list[str] = []
    entries = request.adjustments
    if mode is WriteMode.CLEAR:
        check.at_most("adjustments", entries, limits.MAX_STORED_ADJUSTMENTS)
        for place, entry in enumerate(entries[: limits.MAX_STORED_ADJUSTMENTS]):
            check.intent_id(f"adjustments[{place}].intent_id", entry.intent_id)
            check.finite(f"adjustments[{place}].strength", entry.strength)
            cleared.append(entry.intent_id)
        if expiration := request.WhichOneof("expiration"):
            check.add(expiration, "must not be set when adjustments are cleared")
    else:
        changes = check_changes(check, "adjustments", entries, limits.MAX_STORED_ADJUSTMENTS)
        check_known(check, "adjustments", entries[: limits.MAX_STORED_ADJUSTMENTS], model)
        if mode is WriteMode.MERGE and not entries:
            check.add("adjustments", "must not be empty")
    expire_time = check_expiration(check, request, now) if mode is not WriteMode.CLEAR else 0
    check.identifier("etag", request.etag, required=False)
    check.uuid4("request_id", request.request_id)
    check.bytes_at_most("reason", request.reason, limits.MAX_REASON_BYTES)
    check.printable("reason", request.reason)
    check.done()
    check_steerable("adjustments", changes, model)
    return _Edit(
        user_id=request.user_id,
        mode=mode,
        changes=changes,
        cleared=list(dict.fromkeys(cleared)),
        expire_time=expire_time,
        etag=request.etag,
        request_id=request.request_id.lower(),
        reason=request.reason,
        validate_only=request.validate_only,
        body_hash=_body_hash(request),
    )


def _body_hash(request: messages.SteerIntentsRequest) -> str:
    """Hash of what the request asks for, without the fields that may differ between repetitions."""
    body = messages.SteerIntentsRequest()
    body.CopyFrom(request)
    body.ClearField("request_id")
    body.ClearField("validate_only")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).hexdigest()


def _check_rate(state: SteeringState, now: int) -> None:
    windows = ((_MINUTE, limits.STEERING_WRITES_PER_MINUTE), (_DAY, limits.STEERING_WRITES_PER_DAY))
    for window, most in windows:
        recent = [time for time in state.recent_writes if now - window < time <= now]  # clocks are set back
        if len(recent) >= most:
            wait = (recent[len(recent) - most] + window - now) / MICROSECONDS
            raise ApiError.exhausted(
                Reason.RATE_LIMITED, "Too many steering writes for this user.", retry_after=wait
            )


def _revision(edit: _Edit, profile: Profile, now: int) -> Revision:
    """The audit record; that of a CLEAR names the adjustments it dropped."""
    dropped = [
        each.change
        for each in profile.active(now)
        if edit.mode is WriteMode.CLEAR and (not edit.cleared or each.change.intent_id in edit.cleared)
    ]
    return Revision(
        revision=profile.revision + 1,
        create_time=now,
        actor=UNAUTHENTICATED_ACTOR,
        mode=edit.mode,
        changes=tuple(edit.changes or dropped),
        reason=edit.reason,
        request_id=edit.request_id,
        previous_hash=profile.chain_hash,
    )
