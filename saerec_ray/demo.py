"""`saerec demo`: the whole product on MovieLens, from training to a steered, explained recommendation."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax

from saerec_ray import service_tables
from saerec_ray.bundle import Bundle, load_bundle
from saerec_ray.client import Client, SaerecError
from saerec_ray.config import load_config
from saerec_ray.data.prepared import read_sequences
from saerec_ray.errors import StageError
from saerec_ray.intents.population import Verdict, compare_with_population
from saerec_ray.pipeline import run_stages
from saerec_ray.progress import Reporter
from saerec_ray.v1 import event_service_pb2 as events_api
from saerec_ray.v1 import intent_service_pb2 as intents_api
from saerec_ray.v1 import recommender_service_pb2 as recommender

PRESET = "demo"
USER = "demo-user"
SHOWN = 5
COMPARED = 10
CANDIDATES = 20
BOOST_STRENGTH = 0.5
MOST_HISTORY = 60
SERVER_LOG = "server.log"
_START_SECONDS = 180.0
_CALL_SECONDS = 20.0


def run_demo(workdir: Path, *, keep_serving: bool) -> None:
    """Trains (or reuses what is there), serves, shows the product, and says how to go on.

    Raises InputError or StageError when a stage or the server cannot do its work.
    """
    console = Console()
    with Reporter() as reporter:
        run_stages(load_config(PRESET), workdir, reporter)
    bundle = load_bundle(workdir / "bundle")
    history = _telling_history(bundle, workdir)
    console.print("Starting the server ...")
    with _server(workdir) as target, _client(target, workdir / SERVER_LOG) as client:
        _write_history(client, bundle, history)
        tried = _intents_to_try(client)
        _show_product(console, client, tried)
        _show_next_steps(console, target, workdir, tried)
        if keep_serving:
            with contextlib.suppress(KeyboardInterrupt):
                console.print(f"\nServing on {target}. Stop with Ctrl-C.", highlight=False)
                signal.pause()


@dataclass(frozen=True)
class _Tried:
    """The two intents the demo steers."""

    boosted: intents_api.Intent
    suppressed: recommender.UserIntent


def _show_product(console: Console, client: Client, tried: _Tried) -> None:
    console.rule("Recommendations, and the intents behind each")
    page = client.recommend(USER, page_size=SHOWN, explained=True, timeout=_CALL_SECONDS)
    console.print(service_tables.recommendations(page))
    console.rule("The user against the population, with evidence")
    console.print(
        service_tables.user_profile(client.explain_user(USER, max_intents=12, timeout=_CALL_SECONDS))
    )
    before = client.recommend(USER, page_size=200, timeout=_CALL_SECONDS)
    boosted = client.recommend(
        USER, page_size=COMPARED, boost={tried.boosted.intent_id: BOOST_STRENGTH}, timeout=_CALL_SECONDS
    )
    console.rule(f"More of '{tried.boosted.label}': before and after a boost of strength {BOOST_STRENGTH:g}")
    console.print(service_tables.comparison(before, boosted, count=COMPARED))
    suppressed = client.recommend(
        USER, page_size=COMPARED, suppress={tried.suppressed.intent_id: 1.0}, timeout=_CALL_SECONDS
    )
    console.rule(f"Without '{tried.suppressed.label}': before and after a suppress")
    console.print(service_tables.comparison(before, suppressed, count=COMPARED))


def _intents_to_try(client: Client) -> _Tried:
    """The intent whose boost brings most new items to the page, and the one that drives the page most."""
    listed = {
        intent.intent_id: intent
        for intent in client.list_intents(steerable_only=True, timeout=_CALL_SECONDS).intents
    }
    page = client.recommend(USER, page_size=COMPARED, explained=True, timeout=_CALL_SECONDS)
    totals: dict[str, float] = {}
    for item in page.items:
        for part in item.explanation.intents:
            totals[part.intent_id] = totals.get(part.intent_id, 0.0) + part.contribution
    profile = client.explain_user(USER, max_intents=100, timeout=_CALL_SECONDS)
    driving = [
        intent
        for intent in profile.intents
        if intent.intent_id in listed and totals.get(intent.intent_id, 0) > 0
    ]
    rare = [intent for intent_id, intent in listed.items() if totals.get(intent_id, 0.0) <= 0]
    if not driving or not rare:
        raise StageError(
            "The demo found no published intents to steer; run it again with --workdir set to a new folder."
        )
    rare.sort(key=lambda intent: -intent.label_confidence)
    shown = {item.item_id for item in page.items}
    boosted = max(rare[:CANDIDATES], key=lambda intent: _new_items(client, intent.intent_id, shown))
    return _Tried(boosted, max(driving, key=lambda intent: totals[intent.intent_id]))


def _new_items(client: Client, intent_id: str, shown: set[str]) -> int:
    """How many items such a boost brings to the page."""
    page = client.recommend(
        USER, page_size=COMPARED, boost={intent_id: BOOST_STRENGTH}, timeout=_CALL_SECONDS
    )
    return sum(item.item_id not in shown for item in page.items)


def _telling_history(bundle: Bundle, workdir: Path) -> list[str]:
    """The training history of the user whose profile differs most from the population, among short ones."""
    sequences = read_sequences(workdir / "prepare")
    best: list[str] = []
    most = -1
    for user in range(len(sequences)):
        items = sequences.train(user)[-MOST_HISTORY:].astype(np.int64)
        verdicts = compare_with_population(bundle.space.codes, items, bundle.population).verdicts
        named = [v for v, intent in zip(verdicts, bundle.catalogue.intents, strict=True) if intent.published]
        over, under = named.count(Verdict.OVER), named.count(Verdict.UNDER)
        if min(over, 3) + min(under, 3) > most:
            most = min(over, 3) + min(under, 3)
            best = [bundle.items.ids[item] for item in items]
    return best


def _write_history(client: Client, bundle: Bundle, history: list[str]) -> None:
    """Stores the history as events, a minute apart, ending now; writing it again changes nothing."""
    now = int(time.time())
    events = [
        events_api.Event(
            event_id=f"demo-{bundle.manifest.model_version}-{place}",
            user_id=USER,
            item_id=item_id,
            event_type="view",
            event_time=Timestamp(seconds=now - 60 * (len(history) - place)),
        )
        for place, item_id in enumerate(history)
    ]
    client.delete_user_data(USER, timeout=_CALL_SECONDS)
    client.write_events(events, timeout=_CALL_SECONDS)


@contextlib.contextmanager
def _server(workdir: Path) -> Iterator[str]:
    """A server process on a free port for the length of the block; yields its address when it answers."""
    options = ["--bundle", str(workdir / "bundle"), "--port", "0", "--drain-seconds", "0"]
    log_path = workdir / SERVER_LOG
    with log_path.open("w") as log:
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [sys.executable, "-m", "saerec_ray", "serve", *options],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"127.0.0.1:{_announced_port(process, log_path)}"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _client(target: str, log_path: Path) -> Iterator[Client]:
    """A client whose failed calls end the demo with a sentence."""
    with Client(target) as client:
        try:
            yield client
        except SaerecError as error:
            raise StageError(
                f"The server of the demo did not answer a call as it should: {error} See {log_path}, and run the "
                "demo again: what is trained is kept."
            ) from error


def _announced_port(process: subprocess.Popen[bytes], log_path: Path) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"^Serving .*:(\d+)\. Stop", log_path.read_text("utf-8"), re.MULTILINE):
            return int(found[1])
        time.sleep(0.1)
    raise StageError(f"The server did not start within {_START_SECONDS:.0f} s; see {log_path}.")


def _show_next_steps(console: Console, target: str, workdir: Path, tried: _Tried) -> None:
    boosted, suppressed = tried.boosted.intent_id, tried.suppressed.intent_id
    commands = f"""\
saerec serve --bundle {workdir / "bundle"} --port 50051      # a server of your own
saerec recommend --user {USER} --target {target}
saerec explain --user {USER} --target {target}
saerec recommend --user {USER} --boost {boosted}={BOOST_STRENGTH:g} --compare --target {target}
saerec steer --user {USER} --suppress {suppressed} --ttl 7d --preview --target {target}
saerec intents list --target {target}"""
    snippet = f"""\
from saerec_ray.client import Client

with Client("{target}") as client:
    answer = client.recommend("{USER}", page_size=5, explained=True, boost={{"{boosted}": {BOOST_STRENGTH:g}}})
    for item in answer.items:
        reasons = [(part.label, round(part.contribution, 3)) for part in item.explanation.intents]
        print(item.title, round(item.score, 3), reasons)
    client.steer("{USER}", suppress={{"{suppressed}": 1.0}}, reason="asked for less of it")"""
    console.rule("The same by yourself")
    console.print(
        Panel(Syntax(commands, "bash", word_wrap=True), title="Commands (in .venv/bin)", expand=False)
    )
    console.print(Panel(Syntax(snippet, "python", word_wrap=True), title="Python", expand=False))
