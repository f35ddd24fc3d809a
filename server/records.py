"""What the store keeps, as plain values; times are microseconds since 1970."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from saerec_ray.scoring import Mode
from saerec_server.steering import Change, Profile, StoredChange, WriteMode


@dataclass(frozen=True)
class StoredInteraction:
    """One past interaction, as much of it as ranking reads."""

    item_id: str
    event_time: int


@dataclass(frozen=True)
class StoredEvent:
    """One event as it is written."""

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    event_time: int
    recommendation_id: str
    impressions: tuple[str, ...]
    value: float | None
    session_id: str


@dataclass(frozen=True)
class Revision:
    """One audited steering write, chained to the one before it."""

    revision: int
    create_time: int
    actor: str
    mode: WriteMode
    changes: tuple[Change, ...]
    reason: str
    request_id: str
    previous_hash: str

    @property
    def chain_hash(self) -> str:
        """SHA-256 over this record and the hash of the previous one."""
        content = json.dumps(
            [
                self.previous_hash,
                self.revision,
                self.create_time,
                self.actor,
                self.mode.value,
                encode_changes(self.changes),
                self.reason,
                self.request_id,
            ],
            ensure_ascii=True,
            allow_nan=False,
        )
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """The answer to a write with a request id, kept so that a repetition gets the same one."""

    body_hash: str
    content: bytes


@dataclass(frozen=True)
class SteeringState:
    """All that a steering write must know of the user."""

    profile: Profile
    reply: Reply | None
    recent_writes: tuple[int, ...]  # times of the writes of the last day, oldest first


@dataclass(frozen=True)
class SteeringWrite:
    """A write that is ready to be stored, whole or not at all."""

    user_id: str
    revision: Revision
    stored: tuple[StoredChange, ...]
    reply: Reply


def encode_changes(changes: Sequence[Change]) -> str:
    """Changes as JSON text."""
    return json.dumps([[each.intent_id, each.mode.value, each.strength] for each in changes], allow_nan=False)


def decode_changes(text: str) -> tuple[Change, ...]:
    """Changes from JSON text."""
    return tuple(Change(intent_id, Mode(mode), strength) for intent_id, mode, strength in json.loads(text))
