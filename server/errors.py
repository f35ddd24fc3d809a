"""Every error this server answers with: code, machine-readable reason and details."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "saerec-ray"
MAX_VIOLATIONS = 20
"""Violations listed in one answer; trailing metadata is limited to 8 KiB by most gRPC stacks."""
STATUS_METADATA = "grpc-status-details-bin"
PUSHBACK_METADATA = "grpc-retry-pushback-ms"

Trailers = tuple[tuple[str, str | bytes], ...]


class Reason(enum.Enum):
    """Reasons of google.rpc.ErrorInfo: the names of ErrorReason without its prefix."""

    INVALID_FIELD = enum.auto()
    UNKNOWN_INTENT = enum.auto()
    INTENT_NOT_STEERABLE = enum.auto()
    STEERING_LIMIT = enum.auto()
    MODEL_VERSION_NOT_LOADED = enum.auto()
    ETAG_MISMATCH = enum.auto()
    REQUEST_ID_REUSED = enum.auto()
    RATE_LIMITED = enum.auto()
    OVERLOADED = enum.auto()
    NOT_READY = enum.auto()


@dataclass(frozen=True)
class Violation:
    """One field that broke its rule. The description never repeats the value."""

    field: str
    description: str


class ApiError(Exception):
    """An answer that is an error. Messages never contain ids, texts or other values of the request."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        reason: Reason | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        """`retry_after` is in seconds."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.violations = violations
        self.retry_after = retry_after

    @classmethod
    def invalid(
        cls, violations: Sequence[Violation], reason: Reason = Reason.INVALID_FIELD, message: str = ""
    ) -> ApiError:
        """INVALID_ARGUMENT that lists the violations."""
        first = f"{violations[0].field}: {violations[0].description}" if violations else ""
        return cls(grpc.StatusCode.INVALID_ARGUMENT, message or first, reason, violations)

    @classmethod
    def precondition(cls, reason: Reason, message: str, violations: Sequence[Violation] = ()) -> ApiError:
        """FAILED_PRECONDITION."""
        return cls(grpc.StatusCode.FAILED_PRECONDITION, message, reason, violations)

    @classmethod
    def unavailable(cls, message: str, retry_after: float = 1.0) -> ApiError:
        """UNAVAILABLE: try again."""
        return cls(grpc.StatusCode.UNAVAILABLE, message, Reason.NOT_READY, retry_after=retry_after)

    @classmethod
    def exhausted(cls, reason: Reason, message: str, retry_after: float) -> ApiError:
        """RESOURCE_EXHAUSTED: try again later."""
        return cls(grpc.StatusCode.RESOURCE_EXHAUSTED, message, reason, retry_after=retry_after)

    def status(self) -> status_pb2.Status:
        """The error as google.rpc.Status."""
        details = []
        if self.reason is not None:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason.name, domain=DOMAIN))
        if self.violations:
            details.append(_bad_request(self.violations))
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(_milliseconds(self.retry_after))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status

    def trailers(self) -> Trailers:
        """The trailing metadata that carries the details."""
        trailers: list[tuple[str, str | bytes]] = [(STATUS_METADATA, self.status().SerializeToString())]
        if self.retry_after is not None:
            trailers.append((PUSHBACK_METADATA, str(_milliseconds(self.retry_after))))
        return tuple(trailers)


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    listed = list(violations[:MAX_VIOLATIONS])
    if len(violations) > MAX_VIOLATIONS:
        listed.append(Violation("", f"{len(violations) - MAX_VIOLATIONS} more violations are not listed"))
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=each.field, description=each.description)
            for each in listed
        ]
    )


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
