"""How a command reaches a server: the options for it, the client they make, and its errors for people."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import grpc
import typer

from saerec_ray.client import Client, SaerecError
from saerec_ray.errors import InputError, StageError

SECONDS = 20.0
"""A person waits longer than a service would; the first search by text loads a language model."""
LOCAL = "localhost:50051"

TargetOption = Annotated[str, typer.Option("--target", "-t", help="HOST:PORT of the server.")]
TlsOption = Annotated[
    bool, typer.Option("--tls", help="Encrypt, and check the certificate of the server's host.")
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca", help="PEM file with the authorities to trust instead of well-known ones; means --tls."
    ),
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token-env",
        metavar="NAME",
        help="Environment variable with a token to send; only with --tls or --ca.",
    ),
]


@dataclass(frozen=True)
class Server:
    """What the options say of a server."""

    target: str
    tls: bool
    ca: Path | None
    token_env: str

    @property
    def encrypted(self) -> bool:
        """Whether calls go over TLS."""
        return self.tls or self.ca is not None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What the client proves and trusts; None without TLS. Raises InputError."""
        if not self.encrypted:
            if self.token_env:
                raise InputError("--token-env needs --tls or --ca: a token is not sent without encryption.")
            return None
        channel = grpc.ssl_channel_credentials(None if self.ca is None else _authorities(self.ca))
        if not self.token_env:
            return channel
        token = grpc.access_token_call_credentials(_token(self.token_env))
        return grpc.composite_channel_credentials(channel, token)


def _authorities(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"--ca {path} cannot be read: {error.strerror or error}.") from error
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise InputError(f"--ca {path} holds no certificate in PEM form.")
    return content


def _token(name: str) -> str:
    token = os.environ.get(name, "").strip()
    if not token:
        raise InputError(f"--token-env {name}: there is no such environment variable, or it is empty.")
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise InputError(f"--token-env {name}: what the variable holds is no token.")
    return token


@contextmanager
def connected(server: Server) -> Iterator[Client]:
    """A client whose errors are one sentence for a person: InputError for bad input, else StageError."""
    with Client(server.target, credentials=server.credentials()) as client:
        try:
            yield client
        except SaerecError as error:
            raise _for_people(error, server) from error
        except UnicodeEncodeError as error:
            raise InputError("An id or a text given is not valid UTF-8.") from error


_BAD_INPUT = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
}


def _for_people(error: SaerecError, server: Server) -> InputError | StageError:
    if error.code in _BAD_INPUT:
        if error.field_violations:
            broken = "; ".join(f"{each.field} {each.description}" for each in error.field_violations)
            return InputError(f"The server refused the request: {broken}.")
        hint = (
            " Read it again: saerec steer --user shows the etag." if error.reason == "ETAG_MISMATCH" else ""
        )
        return InputError(f"{error.message.rstrip('.')}.{hint}")
    if error.code is grpc.StatusCode.UNAVAILABLE and not error.reason:
        return StageError(_nobody(server))
    if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return StageError(f"The server at {server.target} did not answer within {SECONDS:.0f} seconds.")
    if error.code is grpc.StatusCode.UNIMPLEMENTED:
        return StageError(f"The server at {server.target} does not offer this call.")
    if error.code is grpc.StatusCode.UNAUTHENTICATED:
        return StageError(
            f"The server at {server.target} wants a token that it accepts: see --token-env."
            f" It said: {error.message.rstrip('.')}."
        )
    wait = f" Try again in {error.retry_after:.1f} seconds." if error.retry_after else ""
    return StageError(f"The server answered {error.code.name}: {error.message.rstrip('.')}.{wait}")


def _nobody(server: Server) -> str:
    if server.encrypted:
        return (
            f"No server answers at {server.target} over TLS with a certificate for that host which is trusted: "
            "see --target and --ca."
        )
    return (
        f"No server answers at {server.target}: start one with `saerec serve`, or name another with --target. "
        "One behind TLS needs --tls."
    )
