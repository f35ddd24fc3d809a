"""The least a Python gRPC server can do: it answers every call with the bytes it was given before.

Run as a program it prints its port. `/echo/Put` keeps the request, `/echo/Get` answers with what was kept.
"""

from __future__ import annotations

import asyncio

import grpc


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Both methods, without any message class."""

    def __init__(self) -> None:
        self._kept = b""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """See grpc."""
        handlers = {"/echo/Put": self._put, "/echo/Get": self._get}
        handler = handlers.get(details.method)
        return None if handler is None else grpc.unary_unary_rpc_method_handler(handler)

    async def _put(self, request: bytes, _context: object) -> bytes:
        self._kept = request
        return b""

    async def _get(self, _request: bytes, _context: object) -> bytes:
        return self._kept


async def main() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
