"""From what a person typed to an intent: an id, or a part of a label that fits exactly one intent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from saerec_ray.client import Client
from saerec_ray.errors import InputError
from saerec_ray.group_file import read_group
from saerec_ray.intents import INTENT_ID
from saerec_ray.intents.listing import listed
from saerec_ray.service_tables import printable
from saerec_ray.v1 import intent_service_pb2 as intents_api

SECONDS = 20.0
MOST_LIMITED = 5
"""Boosts and avoids that act at once; see AdjustmentMode."""

Say = Callable[[str], None]
"""Tells a person what was chosen."""


@dataclass(frozen=True)
class Adjustments:
    """Strengths by intent id for each mode, and the labels of the chosen intents."""

    boost: dict[str, float] = field(default_factory=dict)
    avoid: dict[str, float] = field(default_factory=dict)
    suppress: dict[str, float] = field(default_factory=dict)
    exclude: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.boost or self.avoid or self.suppress or self.exclude)


NO_ADJUSTMENTS = Adjustments()


def adjustments(
    client: Client,
    say: Say,
    boost: Sequence[str] | None,
    avoid: Sequence[str] | None,
    suppress: Sequence[str] | None,
    exclude: Sequence[str] | None,
) -> Adjustments:
    """Reads INTENT, INTENT=STRENGTH or @GROUP_FILE for each mode and finds the intents.

    Of a group to boost or avoid the strongest act, as many as may at once; a strength after @GROUP_FILE= makes all
    of it weaker. Raises InputError when a strength is not in (0, 1], a file is no group file, or an intent is
    unknown, ambiguous or given twice.
    """
    result = Adjustments()
    for option, texts, strengths in (
        ("--boost", boost, result.boost),
        ("--avoid", avoid, result.avoid),
        ("--suppress", suppress, result.suppress),
        ("--exclude", exclude, result.exclude),
    ):
        for text in texts or ():
            for name, strength in _members(option, text, say):
                intent = choose(client, say, name)
                if intent.intent_id in result.labels:
                    raise InputError(f"{option} {text} names an intent that is adjusted already.")
                result.labels[intent.intent_id] = intent.label
                strengths[intent.intent_id] = strength
    return result


def ids_to_drop(client: Client, say: Say, texts: Sequence[str]) -> list[str]:
    """Reads INTENT or @GROUP_FILE into intent ids.

    An id is taken as it is: what is stored may be of an intent that the dictionary no longer has. Raises InputError
    when a file is no group file, or a label is unknown or ambiguous.
    """
    names: list[str] = []
    for text in texts:
        if text.startswith("@"):
            names += [member.intent_id for member in read_group(Path(text[1:])).members]
        else:
            names.append(text.strip())
    return [name if re.fullmatch(INTENT_ID, name) else choose(client, say, name).intent_id for name in names]


def _members(option: str, text: str, say: Say) -> list[tuple[str, float]]:
    """The intents that one value of an option names, with their strengths."""
    name, strength = _split(option, text)
    if not name.startswith("@"):
        return [(name, strength)]
    group = read_group(Path(name[1:]))
    most = MOST_LIMITED if option in {"--boost", "--avoid"} else len(group.members)
    members = group.strongest(most)
    kind = "supervised direction" if group.supervised else "group"
    cut = f", the strongest {most} of {len(group.members)}" if len(members) < len(group.members) else ""
    say(f"{name} is the {kind} “{printable(group.name)}”: {len(members)} intents{cut}.")
    return [(member.intent_id, max(0.01, member.weight * strength)) for member in members]


def _split(option: str, text: str) -> tuple[str, float]:
    name, separator, number = text.rpartition("=")
    if not separator:
        return text, 1.0
    try:
        strength = float(number)
    except ValueError:
        strength = 0.0
    if option == "--exclude" or not 0 < strength <= 1:
        allowed = "takes no strength" if option == "--exclude" else "needs a strength above 0 and at most 1"
        raise InputError(f"{option} {text} {allowed}.")
    return name, strength


def choose(client: Client, say: Say, text: str) -> intents_api.Intent:
    """The one intent with this id or with this text in its label; an equal label wins over a longer one.

    Raises InputError with the candidates when there is none or more than one.
    """
    wanted = text.strip()
    if not wanted:
        raise InputError("The name of an intent is empty.")
    if re.fullmatch(INTENT_ID, wanted):
        return client.get_intent(wanted, timeout=SECONDS).intent
    found = [intent for intent in _candidates(client, wanted) if wanted.casefold() in intent.label.casefold()]
    equal = [intent for intent in found if intent.label.casefold() == wanted.casefold()]
    fitting = equal or found
    if len(fitting) == 1:
        say(f"{wanted} is {_named(fitting[0])}.")
        return fitting[0]
    if fitting:
        raise InputError(
            f"{wanted} fits {len(fitting)} intents, give an id or more of the name: {_names(fitting)}."
        )
    close = [match.intent for match in client.search_intents(wanted[:256], timeout=SECONDS).matches]
    hint = f" The closest are: {_names(close)}." if close else ""
    raise InputError(f"No intent has {wanted} in its name.{hint}")


def _candidates(client: Client, text: str) -> list[intents_api.Intent]:
    known = client.list_intents(timeout=SECONDS)
    found = {intent.intent_id: intent for intent in known.intents}
    if known.total_size > len(found):  # the list was cut: search the rest by words
        for match in client.search_intents(text[:256], page_size=100, timeout=SECONDS).matches:
            found[match.intent.intent_id] = match.intent
    return list(found.values())


def labels(client: Client) -> dict[str, str]:
    """Labels of the listed intents by id."""
    return {intent.intent_id: intent.label for intent in client.list_intents(timeout=SECONDS).intents}


def _named(intent: intents_api.Intent) -> str:
    return f"“{printable(intent.label)}” ({intent.intent_id})"


def _names(intents: Sequence[intents_api.Intent]) -> str:
    return listed([_named(intent) for intent in intents])
