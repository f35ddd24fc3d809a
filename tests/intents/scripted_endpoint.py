"""A real HTTP server on loopback that answers like a language model, or as badly as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Request = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One HTTP answer. Without a body, it is the JSON of a language model that says `text`."""

    text: str = ""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    tokens: int | None = 7
    seconds: float = 0.0  # before it begins
    seconds_a_byte: float = 0.0

    def content(self, chat: bool) -> bytes:
        if self.body is not None:
            return self.body
        choice = {"message": {"role": "assistant", "content": self.text}} if chat else {"text": self.text}
        usage = {} if self.tokens is None else {"usage": {"total_tokens": self.tokens}}
        return json.dumps({"choices": [choice], **usage}).encode()


Answer = Reply | Callable[[Request], Reply]


def question(request: Request) -> str:
    """What was asked, without instruction and worked examples."""
    if "messages" in request:
        return str(request["messages"][-1]["content"])
    return str(request["prompt"]).split("\n\n")[-1]


@dataclass
class Endpoint:
    """Gives its answers in turn; the last one is repeated. Keeps what it was asked, and with which headers."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def answer(self, *answers: Answer) -> None:
        self.answers = list(answers)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def stop(self) -> None:
        """From now on nobody listens."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(request)
                endpoint.paths.append(self.path)
                endpoint.headers.append(dict(self.headers))
                chosen = endpoint.answers.pop(0) if len(endpoint.answers) > 1 else endpoint.answers[0]
                reply = chosen(request) if callable(chosen) else chosen
                time.sleep(reply.seconds)
                content = reply.content("messages" in request)
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                try:
                    if reply.seconds_a_byte:
                        for byte in content:
                            self.wfile.write(bytes([byte]))
                            self.wfile.flush()
                            time.sleep(reply.seconds_a_byte)
                    else:
                        self.wfile.write(content)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client gave up, as it should

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
