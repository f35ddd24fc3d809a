"""`saerec intents diff` and `saerec intents group`: they read bundles and group files, not a server."""

from __future__ import annotations

import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saerec_ray.errors import InputError
from saerec_ray.group_file import MAX_MEMBERS
from saerec_ray.service_tables import intent_name, json_answer, printable

if TYPE_CHECKING:
    from saerec_ray.bundle import Bundle
    from saerec_ray.intents.difference import Change
    from saerec_ray.intents.groups import Member

JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON instead of a table.")]
MAX_TEXT = 256


class GroupMode(StrEnum):
    """How the adjustments of a group act; see AdjustmentMode."""

    BOOST = "boost"
    AVOID = "avoid"
    SUPPRESS = "suppress"
    EXCLUDE = "exclude"


def register(intents_app: typer.Typer) -> None:
    """Adds the commands to the group of intent commands."""
    intents_app.command("diff")(diff)
    intents_app.command("group")(group)


def diff(
    old: Annotated[Path, typer.Argument(help="Bundle or work directory of before.")],
    new: Annotated[Path, typer.Argument(help="Bundle or work directory of now.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two dictionaries: which intents were carried over, renamed, deprecated, and which are new.

    Warns when latents of texts are active on far more or fewer items than before. Needs no server. Ids are carried
    over when a dictionary is trained again in the same work directory, or from the bundle that intents.previous names.
    """
    from saerec_ray.earlier import read_earlier
    from saerec_ray.intents.density_shift import density_shift
    from saerec_ray.intents.difference import compare_catalogues

    before, now = read_earlier(old).latents, read_earlier(new).latents
    changes = compare_catalogues(before, now)
    shift = density_shift(*(each.codes[:, : len(each.decoder)] for each in (before, now)))
    if as_json:
        answer = {
            "changes": [change.as_dict() for change in changes],
            "counts": _counts(changes),
            "density_shift": shift.as_dict(),
        }
        sys.stdout.write(json_answer(answer))
    else:
        console = Console()
        console.print(_difference_table(changes))
        console.print(Text(shift.sentence(), style="yellow" if shift.alert else ""))


def group(
    text: Annotated[str, typer.Option("--text", help="Words for the concept.")] = "",
    items: Annotated[
        list[str] | None, typer.Option("--items", help="Example item instead; repeatable, or a,b,c.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Group file instead, from saerec intents outcome.")
    ] = None,
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Bundle directory.")] = Path("out/bundle"),
    mode: Annotated[GroupMode, typer.Option(help="How the adjustments are to act.")] = GroupMode.BOOST,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", "-n", min=1, max=MAX_MEMBERS, help="Intents at most; by default as many as act."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the intents that stand for a concept, and print the adjustments that steer all of them.

    Needs no server. At most 5 boosts or avoids act at once, so such a group has at most 5 members; a group
    to suppress or exclude has at most 10.
    """
    from saerec_ray.bundle import load_bundle
    from saerec_ray.scoring import MAX_LIMITED_ADJUSTMENTS, Mode

    examples = [each for entry in items or () for each in entry.split(",") if each]
    if bool(text.strip()) + bool(examples) + (file is not None) != 1:
        raise InputError("Give either --text or --items or --file.")
    if len(text) > MAX_TEXT:
        raise InputError(f"--text may have at most {MAX_TEXT} characters.")
    most = MAX_LIMITED_ADJUSTMENTS if Mode(mode.value).limited else MAX_MEMBERS
    if count is not None and count > most:
        raise InputError(f"Only {most} adjustments to {mode.value} act at once; lower --count.")
    loaded = load_bundle(bundle)
    if file is not None:
        members = _members_of_file(loaded, file)[: count or most]
    else:
        members = _members(loaded, text.strip(), examples, count or most)
    if not members:
        raise InputError("No steerable intent of this bundle is close to that: it has no such concept.")
    arguments = [f"--{mode.value} {_argument(member, mode)}" for member in members]
    if as_json:
        answer = {
            "intents_version": loaded.catalogue.intents_version,
            "adjustments": [
                {
                    "intent_id": member.intent.intent_id,
                    "label": member.intent.label,
                    "mode": mode.value,
                    "strength": round(member.weight, 2),
                }
                for member in members
            ],
            "arguments": arguments,
        }
        sys.stdout.write(json_answer(answer))
        return
    table = Table(title="Group", title_justify="left")
    table.add_column("Weight", justify="right")
    table.add_column("Intent")
    for member in members:
        table.add_row(f"{member.weight:.2f}", intent_name(member.intent.intent_id, member.intent.label))
    Console().print(table)
    sys.stdout.write("Pass to saerec recommend or steer:\n" + " ".join(arguments) + "\n")


def _members(bundle: Bundle, text: str, examples: list[str], size: int) -> list[Member]:
    from saerec_ray.intents.groups import group_from_items, group_from_text

    intents = bundle.catalogue.intents
    if text:
        from saerec_ray.text.encoder import TextEncoder

        settings = bundle.config.embed
        vector = TextEncoder(settings.model, settings.precision, settings.max_tokens).encode([text], 1)[0]
        if len(vector) != bundle.label_vectors.shape[1]:
            raise InputError(
                f"{settings.model} makes vectors of {len(vector)} numbers, the names of the bundle have "
                f"{bundle.label_vectors.shape[1]}; search with --items instead."
            )
        return group_from_text(intents, bundle.label_vectors, vector, size)
    index = {item_id: place for place, item_id in enumerate(bundle.items.ids)}
    if unknown := [item_id for item_id in examples if item_id not in index]:
        raise InputError(f"The catalogue of the bundle has no item {printable(unknown[0])}.")
    return group_from_items(intents, bundle.space.codes, [index[item_id] for item_id in examples], size)


def _members_of_file(bundle: Bundle, file: Path) -> list[Member]:
    from saerec_ray.group_file import read_group
    from saerec_ray.intents.groups import Member

    intents = bundle.catalogue.by_id()
    members = read_group(file).members
    for member in members:
        intent = intents.get(member.intent_id)
        if intent is None or not (intent.published and intent.steerable):
            raise InputError(
                f"The bundle has no steerable intent {member.intent_id}, which {file} names; find the group again "
                "with the present dictionary."
            )
    return [Member(intents[member.intent_id], member.weight) for member in members]


def _argument(member: Member, mode: GroupMode) -> str:
    if mode is GroupMode.EXCLUDE:
        return member.intent.intent_id
    return f"{member.intent.intent_id}={member.weight:.2f}"


def _difference_table(changes: list[Change]) -> Table:
    counts = _counts(changes)
    summary = ", ".join(f"{count} {fate}" for fate, count in counts.items())
    table = Table(title="Intents", title_justify="left", caption=summary, caption_justify="left")
    table.add_column("Fate")
    table.add_column("Intent", no_wrap=True)
    table.add_column("Before")
    table.add_column("Now")
    table.add_column("Similarity", justify="right")
    for change in changes:
        now = change.new_label or "; ".join(f"{label} ({each})" for each, label in change.successors)
        table.add_row(
            change.fate,
            change.intent_id,
            Text(printable(change.old_label)),
            Text(printable(now)),
            "" if change.similarity is None else f"{change.similarity:.2f}",
        )
    return table


def _counts(changes: list[Change]) -> dict[str, int]:
    from saerec_ray.intents.difference import FATES

    found = Counter(change.fate for change in changes)
    return {fate: found[fate] for fate in FATES}
