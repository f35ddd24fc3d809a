"""The commands with which a person calls a running server: recommend, explain, steer, intents."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console, RenderableType

from saerec_ray import intent_choice, service_tables
from saerec_ray.client import any_of, none_of
from saerec_ray.errors import InputError
from saerec_ray.server_connection import (
    LOCAL,
    SECONDS,
    CaOption,
    Server,
    TargetOption,
    TlsOption,
    TokenOption,
    connected,
)
from saerec_ray.v1 import intent_service_pb2 as intents_api
from saerec_ray.v1 import recommender_service_pb2 as recommender

COMPARED = 200
"""How far down the ranking before is known, so that moves from there have a number."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON instead of a table.")]
UserOption = Annotated[str, typer.Option("--user", "-u", help="User id; empty for an anonymous session.")]
HistoryOption = Annotated[
    list[str] | None,
    typer.Option("--history", help="Item the user met, oldest first; after what is stored. Repeatable."),
]
_STRENGTH = (
    "Intent id or a unique part of its label, with a strength in (0, 1]: INTENT=0.5; or @FILE, a group file. "
    "Repeatable."
)
_INTENT = "Intent id or a unique part of its label, or @FILE, a group file. Repeatable."
BoostOption = Annotated[
    list[str] | None, typer.Option("--boost", help=f"Lift items that carry it. {_STRENGTH}")
]
AvoidOption = Annotated[
    list[str] | None, typer.Option("--avoid", help=f"Push down items that carry it. {_STRENGTH}")
]
SuppressOption = Annotated[
    list[str] | None, typer.Option("--suppress", help=f"Take away what it adds for this user. {_STRENGTH}")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option("--exclude", help=f"Never show items that carry it. {_INTENT}")
]

intents_app = typer.Typer(help="List, show and search the intents of a running server.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands to an app."""
    app.command()(recommend)
    app.command()(explain)
    app.command()(steer)
    app.add_typer(intents_app, name="intents")


def recommend(
    user: UserOption = "",
    history: HistoryOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=200, help="Items wanted.")] = 10,
    explained: Annotated[
        bool, typer.Option("--explain/--no-explain", help="Show what made up scores.")
    ] = True,
    boost: BoostOption = None,
    avoid: AvoidOption = None,
    suppress: SuppressOption = None,
    exclude: ExcludeOption = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Show the ranking before and after the adjustments given here; without any, before and "
            "after the stored ones.",
        ),
    ] = False,
    allow: Annotated[list[str] | None, typer.Option("--allow", help="Only this item. Repeatable.")] = None,
    deny: Annotated[list[str] | None, typer.Option("--deny", help="Never this item. Repeatable.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            help="ATTRIBUTE=VALUE or ATTRIBUTE!=VALUE. Repeatable: values of one attribute are alternatives, "
            "different attributes must all hold.",
        ),
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Let items of the history come back.")] = False,
    target: TargetOption = LOCAL,
    tls: TlsOption = False,
    ca: CaOption = None,
    token_env: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Recommend items to a user and show why."""
    conditions = _conditions(where or [])
    with connected(Server(target, tls, ca, token_env)) as client:
        steering = intent_choice.adjustments(client, _say, boost, avoid, suppress, exclude)

        def ask(page_size: int, *, explained: bool, steered: bool) -> recommender.RecommendResponse:
            chosen = steering if steered else intent_choice.NO_ADJUSTMENTS
            return client.recommend(
                user,
                history=history or [],
                page_size=page_size,
                explained=explained,
                boost=chosen.boost,
                avoid=chosen.avoid,
                suppress=chosen.suppress,
                exclude=chosen.exclude,
                ignore_profile=not steered and not steering,
                allow=allow or [],
                deny=deny or [],
                conditions=conditions,
                allow_seen=seen,
                timeout=SECONDS,
            )

        if compare:
            before = ask(COMPARED, explained=False, steered=False)
            after = ask(count, explained=False, steered=True)
            if as_json:
                sys.stdout.write(
                    service_tables.json_answer({"before": _as_dict(before), "after": _as_dict(after)})
                )
            else:
                _show(service_tables.comparison(before, after, count=count))
            return
        response = ask(count, explained=explained, steered=True)
    _answer(response, as_json, service_tables.recommendations(response, labels=steering.labels))


def explain(
    user: UserOption = "",
    history: HistoryOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="Intents wanted.")] = 10,
    evidence: Annotated[
        int, typer.Option("--evidence", min=1, max=10, help="History items shown for each intent.")
    ] = 3,
    target: TargetOption = LOCAL,
    tls: TlsOption = False,
    ca: CaOption = None,
    token_env: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the intents that drive a user's recommendations, against the population, with evidence."""
    with connected(Server(target, tls, ca, token_env)) as client:
        response = client.explain_user(
            user, history=history or [], max_intents=count, max_evidence=evidence, timeout=SECONDS
        )
    _answer(response, as_json, service_tables.user_profile(response))


def steer(
    user: Annotated[str, typer.Option("--user", "-u", help="User id.")],
    boost: BoostOption = None,
    avoid: AvoidOption = None,
    suppress: SuppressOption = None,
    exclude: ExcludeOption = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Keep adjustments of other intents (default).")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Drop everything stored first.")] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Drop the intents named by --intent, or everything.")
    ] = False,
    intent: Annotated[
        list[str] | None, typer.Option("--intent", help=f"With --clear: what to drop. {_INTENT}")
    ] = None,
    ttl: Annotated[
        str, typer.Option("--ttl", help="How long it lasts: 90s, 15m, 12h, 30d or 2w. By default 30 days.")
    ] = "",
    etag: Annotated[
        str, typer.Option("--etag", help="Refuse the write when the profile has another etag by now.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit record.")] = "",
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what would change; store nothing.")
    ] = False,
    target: TargetOption = LOCAL,
    tls: TlsOption = False,
    ca: CaOption = None,
    token_env: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Store how intents count for a user, or show what is stored when nothing is to change."""
    if merge + replace + clear > 1:
        raise InputError("Give only one of --merge, --replace and --clear.")
    if intent and not clear:
        raise InputError("--intent names what --clear drops: give --clear too.")
    changes = bool(boost or avoid or suppress or exclude)
    if clear and (changes or ttl):
        raise InputError("--clear takes --intent only: it cannot be given with an adjustment or --ttl.")
    if merge and not changes:
        raise InputError("--merge needs at least one of --boost, --avoid, --suppress and --exclude.")
    lasting = _duration(ttl) if ttl else None
    with connected(Server(target, tls, ca, token_env)) as client:
        if not (changes or clear or replace):
            stored = client.get_steering_profile(user, timeout=SECONDS)
            labels = intent_choice.labels(client)
            _answer(stored, as_json, service_tables.steering_profile(stored.profile, labels))
            return
        chosen = intent_choice.adjustments(client, _say, boost, avoid, suppress, exclude)
        dropped = intent_choice.ids_to_drop(client, _say, intent or [])
        response = client.steer(
            user,
            boost=chosen.boost,
            avoid=chosen.avoid,
            suppress=chosen.suppress,
            exclude=chosen.exclude,
            mode="clear" if clear else "replace" if replace else "merge",
            clear=dropped,
            ttl=lasting,
            etag=etag,
            reason=reason,
            validate_only=preview,
            timeout=SECONDS,
        )
        _say(
            "Preview: nothing was stored." if preview else f"Stored as revision {response.profile.revision}."
        )
        labels = {} if as_json else intent_choice.labels(client)
    _answer(response, as_json, service_tables.steering_write(response, labels))


@intents_app.command("list")
def list_intents(
    steerable: Annotated[bool, typer.Option("--steerable", help="Only those callers may steer.")] = False,
    every_state: Annotated[bool, typer.Option("--all", help="Also deprecated ones.")] = False,
    target: TargetOption = LOCAL,
    tls: TlsOption = False,
    ca: CaOption = None,
    token_env: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the intents of the serving dictionary."""
    states = [
        intents_api.INTENT_STATE_ACTIVE,
        intents_api.INTENT_STATE_DEPRECATED,
        intents_api.INTENT_STATE_BLOCKED,
    ]
    with connected(Server(target, tls, ca, token_env)) as client:
        response = client.list_intents(
            states=states if every_state else (), steerable_only=steerable, timeout=SECONDS
        )
    _answer(response, as_json, service_tables.intent_list(response.intents, response.total_size))


@intents_app.command("show")
def show_intent(
    intent: Annotated[str, typer.Argument(help="Intent id or a unique part of its label.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="Items wanted.")] = 10,
    target: TargetOption = LOCAL,
    tls: TlsOption = False,
    ca: CaOption = None,
    token_env: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one intent with the items that carry it most."""
    with connected(Server(target, tls, ca, token_env)) as client:
        chosen = intent_choice.choose(client, _say, intent)
        response = client.get_intent(chosen.intent_id, max_top_items=count, timeout=SECONDS)
        parent_id = response.intent.parent_intent_id
        parent = client.get_intent(parent_id, timeout=SECONDS).intent.label if parent_id else ""
    _answer(response, as_json, service_tables.intent_details(response.intent, parent))


@intents_app.command("search")
def search_intents(
    text: Annotated[str, typer.Argument(help="Words to search by.")] = "",
    item: Annotated[
        list[str] | None, typer.Option("--item", help="Search by example items instead. Repeatable.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="Intents wanted.")] = 10,
    target: TargetOption = LOCAL,
    tls: TlsOption = False,
    ca: CaOption = None,
    token_env: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Find intents by words or by example items."""
    if bool(text.strip()) == bool(item):
        raise InputError("Give either words or --item to search by.")
    with connected(Server(target, tls, ca, token_env)) as client:
        response = client.search_intents(text.strip(), items=item or [], page_size=count, timeout=SECONDS)
    _answer(response, as_json, service_tables.intent_matches(response.matches))


def _conditions(tests: list[str]) -> list[recommender.AttributeCondition]:
    wanted: dict[tuple[str, bool], list[str]] = {}
    for test in tests:
        match = re.fullmatch(r"([^=!]+)(!?=)(.+)", test)
        if match is None:
            raise InputError(f"--where {test} must be ATTRIBUTE=VALUE or ATTRIBUTE!=VALUE.")
        wanted.setdefault((match[1], match[2] == "="), []).append(match[3])
    return [
        any_of(attribute, *values) if equal else none_of(attribute, *values)
        for (attribute, equal), values in wanted.items()
    ]


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None:
        raise InputError(f"--ttl {text} must be at most 6 digits and a unit: 90s, 15m, 12h, 30d or 2w.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _answer(response: Message, as_json: bool, table: RenderableType) -> None:
    if as_json:
        sys.stdout.write(service_tables.json_answer(_as_dict(response)))
    else:
        _show(table)


def _show(table: RenderableType) -> None:
    Console().print(table)


def _say(sentence: str) -> None:
    """Tells something that is not the answer: on stderr, so that --json stays clean."""
    Console(stderr=True).print(sentence, markup=False, highlight=False)


def _as_dict(message: Message) -> dict[str, object]:
    fields: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True)
    return fields
