"""Stored steering: how a write changes a profile, and which adjustments act in the end; no store, no gRPC."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saerec_ray.intents.catalogue import Intent
from saerec_ray.scoring import MAX_LIMITED_ADJUSTMENTS, Adjustment, Mode
from saerec_server.errors import Reason
from saerec_server.limits import MAX_STORED_ADJUSTMENTS

GENESIS = "0" * 64
"""The chain hash before the first write."""


class WriteMode(enum.Enum):
    """How a write combines with the stored profile."""

    MERGE = "merge"
    REPLACE = "replace"
    CLEAR = "clear"


@dataclass(frozen=True)
class Change:
    """One adjustment as the caller names it."""

    intent_id: str
    mode: Mode
    strength: float


@dataclass(frozen=True)
class StoredChange:
    """One stored adjustment; times are microseconds since 1970."""

    change: Change
    expire_time: int
    actor: str
    reason: str


@dataclass(frozen=True)
class Profile:
    """A user's stored steering after its latest write."""

    revision: int = 0  # 0: the user never steered
    chain_hash: str = GENESIS
    update_time: int = 0
    stored: tuple[StoredChange, ...] = ()

    @property
    def etag(self) -> str:
        """Changes with every write."""
        return self.chain_hash[:20]

    def active(self, now: int) -> tuple[StoredChange, ...]:
        """The adjustments that have not expired."""
        return tuple(each for each in self.stored if each.expire_time > now)


class SteeringLimitError(ValueError):
    """The profile would hold more adjustments than may be stored or act at once."""


def changed(
    profile: Profile, mode: WriteMode, changes: Sequence[StoredChange], cleared: Sequence[str], now: int
) -> tuple[StoredChange, ...]:
    """What is stored after a write. Raises SteeringLimitError when that is too much.

    `cleared` names the intents of a CLEAR; none clears everything.
    """
    kept = {each.change.intent_id: each for each in profile.active(now)}
    if mode is WriteMode.REPLACE or (mode is WriteMode.CLEAR and not cleared):
        kept = {}
    for intent_id in cleared:
        kept.pop(intent_id, None)
    kept.update({each.change.intent_id: each for each in changes})
    if len(kept) > MAX_STORED_ADJUSTMENTS:
        raise SteeringLimitError(f"a profile holds at most {MAX_STORED_ADJUSTMENTS} adjustments")
    if sum(each.change.mode.limited for each in kept.values()) > MAX_LIMITED_ADJUSTMENTS:
        raise SteeringLimitError(f"at most {MAX_LIMITED_ADJUSTMENTS} boosts and avoids may act at once")
    return tuple(kept[intent_id] for intent_id in sorted(kept))


@dataclass(frozen=True)
class Overlay:
    """The adjustments that act on a request, and the stored ones that do not, with the reason."""

    acting: list[Adjustment]
    skipped: list[tuple[str, Reason]]


def obstacle(intents: Mapping[str, Intent], intent_id: str) -> Reason | None:
    """Why an intent cannot be steered; None when it can."""
    intent = intents.get(intent_id)
    if intent is None:
        return Reason.UNKNOWN_INTENT
    return None if intent.published and intent.steerable else Reason.INTENT_NOT_STEERABLE


def overlay(
    intents: Mapping[str, Intent], stored: Sequence[StoredChange], inline: Sequence[Change]
) -> Overlay:
    """The inline adjustments, then the stored ones of other intents as far as the limit allows.

    The inline ones must be valid already. Of the stored boosts and avoids the strongest act first.
    """
    result = Overlay([_resolved(intents, change) for change in inline], [])
    taken = {change.intent_id for change in inline}
    limited = sum(change.mode.limited for change in inline)
    for change in sorted(
        (each.change for each in stored), key=lambda change: (-change.strength, change.intent_id)
    ):
        if change.intent_id in taken:
            continue
        reason = obstacle(intents, change.intent_id)
        if reason is None and change.mode.limited:
            reason = Reason.STEERING_LIMIT if limited >= MAX_LIMITED_ADJUSTMENTS else None
            limited += reason is None
        if reason is None:
            result.acting.append(_resolved(intents, change))
        else:
            result.skipped.append((change.intent_id, reason))
    return result


def _resolved(intents: Mapping[str, Intent], change: Change) -> Adjustment:
    return Adjustment(intents[change.intent_id].latent, change.mode, change.strength)
