"""A real gRPC server on a socket whose answers a test writes down beforehand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from saerec_ray.v1 import event_service_pb2, intent_service_pb2, recommender_service_pb2

TRACE_ID = "ab" * 16


@dataclass(frozen=True)
class Refusal:
    """An error answer with google.rpc details."""

    code: grpc.StatusCode
    message: str
    details: tuple[Message, ...] = ()

    def abort(self, context: grpc.ServicerContext) -> None:
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        # All of it trailing: an answer that has begun, even with metadata alone, is never retried.
        context.set_trailing_metadata(
            (("grpc-status-details-bin", status.SerializeToString()), ("x-trace-id", TRACE_ID))
        )
        context.abort(self.code, self.message)


def invalid(**violations: str) -> Refusal:
    """INVALID_ARGUMENT with one violation an argument; `__` in a name stands for a dot."""
    listed = [
        error_details_pb2.BadRequest.FieldViolation(field=name.replace("__", "."), description=description)
        for name, description in violations.items()
    ]
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"{listed[0].field}: {listed[0].description}",
        (
            error_details_pb2.ErrorInfo(reason="INVALID_FIELD", domain="saerec-ray"),
            error_details_pb2.BadRequest(field_violations=listed),
        ),
    )


Answer = Message | Refusal | Callable[[Any], Message]


@dataclass
class ScriptedServer:
    """Answers each method with its answers in turn; the last one is repeated. Records the requests.

    With a certificate it answers over TLS alone.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    port: int = 0
    certificate: tuple[bytes, bytes] | None = None  # private key and chain, PEM
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)  # of every call

    def answer(self, method: str, *answers: Answer) -> None:
        """Sets what a method answers, e.g. `Recommend`."""
        self.answers[method] = list(answers)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _respond(self, method: str, request: Message, context: grpc.ServicerContext) -> Message:
        self.requests[method].append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        script = self.answers.get(method)
        if not script:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not in the script")
        chosen = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(chosen, Refusal):
            chosen.abort(context)
        return chosen(request) if callable(chosen) else chosen

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4))
        for file in (recommender_service_pb2, intent_service_pb2, event_service_pb2):
            for service in file.DESCRIPTOR.services_by_name.values():
                handlers = {
                    method.name: grpc.unary_unary_rpc_method_handler(
                        lambda request, context, name=method.name: self._respond(name, request, context),
                        request_deserializer=GetMessageClass(method.input_type).FromString,
                        response_serializer=lambda message: message.SerializeToString(),
                    )
                    for method in service.methods
                }
                handler = grpc.method_handlers_generic_handler(service.full_name, handlers)
                self._server.add_generic_rpc_handlers((handler,))
        self.port = (
            self._server.add_insecure_port("127.0.0.1:0")
            if self.certificate is None
            else self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([self.certificate]))
        )
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
