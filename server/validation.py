"""Checks of request fields; all violations of a request are answered together."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Collection, Sequence

from google.protobuf import duration_pb2, timestamp_pb2

from saerec_ray.intents import INTENT_ID
from saerec_server.errors import ApiError, Violation
from saerec_server.limits import MAX_ID_BYTES

MICROSECONDS = 1_000_000
MIN_TIMESTAMP, _MAX_TIMESTAMP = -62_135_596_800, 253_402_300_799  # years 1 and 9999
_MAX_DURATION = 315_576_000_000

NOT_SUPPORTED = "not supported by this server yet"


_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_PRINTABLE = "must not contain control characters"


def now_microseconds() -> int:
    """The time now in microseconds since 1970."""
    return time.time_ns() // 1_000


def identifier_fault(value: str) -> str | None:
    """Why a text cannot be an id; None for 1 to 256 bytes of UTF-8 without control characters."""
    if not value:
        return "must not be empty"
    if len(value.encode()) > MAX_ID_BYTES:
        return f"must have at most {MAX_ID_BYTES} bytes"
    return _NOT_PRINTABLE if _CONTROL_CHARACTERS.search(value) else None


class Checker:
    """Collects violations; `done` raises when there are any."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        """Notes one violation."""
        self._violations.append(Violation(field, description))

    def done(self) -> None:
        """Raises ApiError with all violations, INVALID_ARGUMENT."""
        if self._violations:
            raise ApiError.invalid(self._violations)

    def identifier(self, field: str, value: str, *, required: bool = True) -> None:
        """1 to 256 bytes of UTF-8 without control characters; empty only when not required."""
        if not value and not required:
            return
        if fault := identifier_fault(value):
            self.add(field, fault)

    def printable(self, field: str, value: str) -> None:
        """No control characters."""
        if _CONTROL_CHARACTERS.search(value):
            self.add(field, _NOT_PRINTABLE)

    def intent_id(self, field: str, value: str) -> None:
        """The form of an intent id; whether it exists is another question."""
        if not re.fullmatch(INTENT_ID, value):
            self.add(field, "must be an intent id: int- and 8 to 64 hexadecimal digits")

    def at_most(self, field: str, values: Collection[object], limit: int) -> None:
        """No more entries than the limit."""
        if len(values) > limit:
            self.add(field, f"must have at most {limit} entries")

    def bytes_at_most(self, field: str, value: str, limit: int) -> None:
        """No more bytes than the limit."""
        if len(value.encode()) > limit:
            self.add(field, f"must have at most {limit} bytes")

    def finite(self, field: str, value: float) -> None:
        """A number that is neither infinite nor NaN."""
        if not math.isfinite(value):
            self.add(field, "must be a finite number")

    def uuid4(self, field: str, value: str) -> None:
        """A UUID of version 4, in any case; empty means none."""
        if not value:
            return
        try:
            parsed = uuid.UUID(value)
        except ValueError:
            self.add(field, "must be a UUID of version 4")
            return
        if parsed.version != 4 or str(parsed) != value.lower():
            self.add(field, "must be a UUID of version 4")

    def known_enum(self, field: str, value: int, known: Sequence[int]) -> None:
        """One of the enum's values; an open enum lets any number through the wire."""
        if value not in known:
            self.add(field, "must be one of the documented values")

    def unsupported(self, field: str, *, present: bool) -> None:
        """A field of the contract that this server does not act on is an error, never ignored."""
        if present:
            self.add(field, NOT_SUPPORTED)

    def page_size(self, field: str, value: int, default: int, most: int) -> int:
        """0 is the default, more than the most is coerced, negative is an error."""
        if value < 0:
            self.add(field, "must not be negative")
        return min(value, most) if value > 0 else default

    def timestamp(self, field: str, value: timestamp_pb2.Timestamp) -> int:
        """Microseconds since 1970."""
        if not (MIN_TIMESTAMP <= value.seconds <= _MAX_TIMESTAMP and 0 <= value.nanos < 1_000_000_000):
            self.add(field, "must be a valid timestamp")
        return value.seconds * MICROSECONDS + value.nanos // 1_000

    def duration(self, field: str, value: duration_pb2.Duration) -> int:
        """Microseconds."""
        same_sign = value.seconds * value.nanos >= 0
        if not (abs(value.seconds) <= _MAX_DURATION and abs(value.nanos) < 1_000_000_000 and same_sign):
            self.add(field, "must be a valid duration")
        return value.seconds * MICROSECONDS + value.nanos // 1_000
