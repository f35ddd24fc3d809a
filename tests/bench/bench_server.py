"""Latency of a real server process on a synthetic bundle, against a bare grpc.aio server with equal replies.

    python tests/bench/bench_server.py                          # 10,000 and 100,000 items x 64
    python tests/bench/bench_server.py --items 10000 --calls 50

One client process, one call at a time, histories of 20 items sent with each call. Calls to the server and to
the bare one alternate in small groups, so that both meet the same machine. `ratio` is median over median.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import grpc
import numpy as np

from saerec_ray.client import Client
from tests.bench.published import Transcript, add_page_option, described, publish
from tests.contract.process import server_process
from tests.synthetic import write_synthetic_bundle

D_MODEL, INTENTS, HISTORY, PAGE = 64, 128, 20, 10
GROUP = 10
ADJUSTMENTS = (0, 1, 3, 5)
Ask = Callable[[list[str]], Any]


@dataclass(frozen=True)
class Measured:
    """Seconds of every call, to the server and to the bare one."""

    server: np.ndarray
    bare: np.ndarray
    reply_bytes: int

    def row(self, items: int, name: str) -> str:
        """One line of the table; times in milliseconds."""
        p50, p99 = np.percentile(self.server, [50, 99]) * 1e3
        bare50, bare99 = np.percentile(self.bare, [50, 99]) * 1e3
        cells = [
            f"{items:,}",
            name,
            f"{p50:.2f}",
            f"{p99:.2f}",
            f"{1 / self.server.mean():.0f}",
            f"{bare50:.2f}",
            f"{bare99:.2f}",
            f"{1 / self.bare.mean():.0f}",
            f"{p50 / bare50:.1f}",
            f"{self.reply_bytes:,}",
        ]
        return f"| {' | '.join(cells)} |"


HEADER = (
    "| items | call | p50 ms | p99 ms | calls/s | bare p50 | bare p99 | bare calls/s | ratio | reply bytes |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@contextlib.contextmanager
def echo_process() -> Iterator[int]:
    """The port of a bare server."""
    program = [sys.executable, str(Path(__file__).with_name("echo_server.py"))]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure(ask: Ask, histories: list[list[str]], echo: grpc.Channel, calls: int) -> Measured:
    """Times `calls` calls of both; the bare server's reply is a reply of this very call."""
    reply = ask(histories[0])
    echo.unary_unary("/echo/Put")(reply.SerializeToString())
    bare = echo.unary_unary("/echo/Get", response_deserializer=type(reply).FromString)
    for history in histories[:GROUP]:  # until everything is warm
        ask(history)
        bare(b"")
    server_seconds: list[float] = []
    bare_seconds: list[float] = []
    while len(server_seconds) < calls:
        for _ in range(GROUP):
            history = histories[len(server_seconds) % len(histories)]
            server_seconds.append(timed(lambda: ask(history)))  # noqa: B023 (called at once)
        bare_seconds += [timed(lambda: bare(b"")) for _ in range(GROUP)]
    return Measured(np.array(server_seconds), np.array(bare_seconds), reply.ByteSize())


def questions(client: Client) -> Iterator[tuple[str, Ask]]:
    """Every kind of call that is measured."""
    steerable = [intent.intent_id for intent in client.list_intents(steerable_only=True).intents]
    for view in ("BASIC", "EXPLAINED"):
        for count in ADJUSTMENTS:

            def ask(history: list[str], view: str = view, count: int = count) -> Any:
                return client.recommend(
                    history=history,
                    page_size=PAGE,
                    explained=view == "EXPLAINED",
                    boost=dict.fromkeys(steerable[:count], 0.5),
                    timeout=30,
                )

            yield f"Recommend {view}, {count} adjustments", ask
    yield "ExplainUser", lambda history: client.explain_user(history=history, timeout=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--calls", type=int, default=300, help="timed calls of each kind")
    add_page_option(parser)
    options = parser.parse_args()
    say = Transcript()
    say(HEADER)
    with tempfile.TemporaryDirectory() as folder, echo_process() as echo_port:
        echo = grpc.insecure_channel(f"127.0.0.1:{echo_port}")
        for items in options.items:
            bundle = write_synthetic_bundle(Path(folder) / str(items), items, INTENTS, d_model=D_MODEL)
            rng = np.random.default_rng(1)
            histories = [
                [f"item-{item:04d}" for item in rng.choice(items, HISTORY, replace=False)] for _ in range(200)
            ]
            with (
                server_process(bundle, Path(folder) / f"{items}.sqlite") as server,
                Client(f"127.0.0.1:{server.port}") as client,
            ):
                for name, ask in questions(client):
                    say(measure(ask, histories, echo, options.calls).row(items, name))
    publish(options.page, "server-speed", "Latency of the server", described(__doc__), say.lines)


if __name__ == "__main__":
    main()
