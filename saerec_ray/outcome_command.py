"""`saerec intents outcome`: which intents predict an outcome of items; it reads a work directory, not a server."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saerec_ray.errors import InputError
from saerec_ray.service_tables import intent_name, json_answer, printable

if TYPE_CHECKING:
    from saerec_ray.data.prepared import PreparedItems
    from saerec_ray.intents.outcomes import Direction, OutcomeProbe

GROUPS_FOLDER = "groups"
MAX_NAME = 80


def register(intents_app: typer.Typer) -> None:
    """Adds the command to the group of intent commands."""
    intents_app.command("outcome")(outcome)


def outcome(
    file: Annotated[
        Path, typer.Option("--outcome", help="CSV or TSV file with a header: item id, and a number.")
    ],
    name: Annotated[str, typer.Option("--name", help='What a high number stands for: "high quality".')],
    workdir: Annotated[
        Path, typer.Option("--workdir", "-w", help="Work directory with a finished intents stage.")
    ] = Path("out"),
    low: Annotated[bool, typer.Option("--low", help="The name is of low numbers.")] = False,
    item_column: Annotated[str, typer.Option(help="Column of the item ids.")] = "item_id",
    value_column: Annotated[
        str | None, typer.Option(help="Column of the number; needed when there are several others.")
    ] = None,
    supervised: Annotated[
        bool,
        typer.Option(
            "--supervised", help="Where no intent is found, write the supervised direction instead."
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Group file; by default WORKDIR/groups/NAME.json.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which items choose and which judge.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as JSON instead of tables.")
    ] = False,
) -> None:
    """Find the intents that items with a high outcome carry, and write them as a group to steer by.

    Found in one half of the items, judged in the other: the top third of the outcome against the bottom third.
    Below a held-out AUC of 0.65 the dictionary has no such intent, and the command says so.
    """
    from saerec_ray.data.prepared import read_items
    from saerec_ray.dictionary.sae import read_codes
    from saerec_ray.errors import StageError
    from saerec_ray.intents.catalogue import read_catalogue
    from saerec_ray.intents.listing import listed
    from saerec_ray.intents.outcome_file import read_outcome
    from saerec_ray.intents.outcomes import probe_outcome
    from saerec_ray.manifest import read_manifest, write_json

    name = " ".join(printable(name).split())
    if not 0 < len(name) <= MAX_NAME:
        raise InputError(f"--name must have 1 to {MAX_NAME} characters.")
    for stage in ("prepare", "dictionary", "intents"):
        try:
            read_manifest(workdir / stage)
        except StageError as error:
            raise InputError(f"{workdir} has no finished {stage} stage; run `saerec run` first.") from error
    items, catalogue = read_items(workdir / "prepare"), read_catalogue(workdir / "intents")
    read = read_outcome(file, items.ids, item_column, value_column)
    values = -read.values if low else read.values
    try:
        probe = probe_outcome(
            catalogue.intents, read_codes(workdir / "dictionary"), items.texts, read.items, values, seed
        )
    except ValueError as error:
        raise InputError(f"Nothing can be told from {file}: {error}.") from error
    chosen = probe.group if probe.has_intent else probe.supervised if supervised else None
    written = None
    if chosen is not None and chosen.holds:
        written = output or workdir / GROUPS_FOLDER / f"{_slug(name)}.json"
        group = _group(name, catalogue.intents_version, chosen, supervised=not probe.has_intent)
        try:
            written.parent.mkdir(parents=True, exist_ok=True)
            write_json(written, group)
        except OSError as error:
            raise InputError(f"The group file {written} cannot be written: {error.strerror}.") from error
    unknown = (
        f"Left out, because the catalogue does not have them: {listed(read.unknown)}." if read.unknown else ""
    )
    verdict = _verdict(name, probe, written, supervised)
    if as_json:
        report = _report(
            name, probe, items, dict(zip(read.items.tolist(), read.values.tolist(), strict=True))
        )
        report |= {
            "items": len(read.items),
            "unknown_item_ids": read.unknown,
            "file": str(written) if written else None,
            "verdict": verdict,
        }
        sys.stdout.write(json_answer(report))
        return
    console = Console()
    if probe.found:
        console.print(_table(probe, items))
    console.print(Text(verdict))
    if written is not None:
        sys.stdout.write(f"Steer by it: saerec recommend --user USER --boost @{written}\n")
    if unknown:
        console.print(Text(printable(unknown), style="yellow"))


def _verdict(name: str, probe: OutcomeProbe, written: Path | None, supervised: bool) -> str:
    """What was found, in plain words."""
    from saerec_ray.intents.outcomes import MIN_AUC

    group, fallback = probe.group, probe.supervised
    if probe.has_intent:
        return (
            f"Found “{name}”: a group of {len(group.members)} tells high from low with AUC {group.auc:.2f} on "
            f"{probe.judged} held-out items. Written to {written}. Check its intents and items before you use it."
        )
    text = f"The dictionary has no intent of “{name}”: "
    if group.members:
        text += f"the best group reaches AUC {group.auc:.2f} on held-out items, {MIN_AUC} is needed"
        text += "." if group.holds else ", and chance alone may do as well."
    else:
        text += "no intent is more frequent among items with a high outcome."
    if not fallback.holds:
        return f"{text} A supervised direction does not hold on held-out items either."
    text += (
        f" A supervised direction, fitted to the outcome, reaches {fallback.auc:.2f} with {len(fallback.members)} "
        "intents; it is no intent of the dictionary and its intents need not be about the outcome."
    )
    if supervised:
        return f"{text} Written to {written}, marked as supervised."
    return f"{text} To write it, marked as supervised, give --supervised."


def _group(name: str, version: str, direction: Direction, *, supervised: bool) -> dict[str, Any]:
    from saerec_ray.group_file import GroupMember, IntentGroup

    members = tuple(
        GroupMember(member.intent.intent_id, member.intent.label, max(0.01, round(member.weight, 2)))
        for member in direction.members
    )
    return IntentGroup(name, version, supervised, round(direction.auc, 4), members).as_dict()


def _table(probe: OutcomeProbe, items: PreparedItems) -> Table:
    table = Table(title="Intents of a high outcome", title_justify="left", show_lines=True)
    table.add_column("Intent", ratio=3, min_width=12)
    table.add_column("Held-out\nAUC", justify="right")
    table.add_column("q", justify="right")
    table.add_column("Weight", justify="right")
    table.add_column("Held-out items with a high outcome", ratio=4, min_width=12)
    for each in probe.found:
        table.add_row(
            intent_name(each.intent.intent_id, each.intent.label),
            f"{each.auc:.2f}",
            f"{each.q_value:.2g}",
            f"{each.weight:.2f}" if each.weight else "",
            Text(", ".join(printable(items.titles[item] or items.ids[item]) for item in each.evidence[:3])),
        )
    return table


def _report(name: str, probe: OutcomeProbe, items: PreparedItems, values: dict[int, float]) -> dict[str, Any]:
    def shown(evidence: list[int]) -> list[dict[str, Any]]:
        return [
            {"item_id": items.ids[item], "title": items.titles[item], "outcome": values[item]}
            for item in evidence
        ]

    def told(direction: Direction) -> dict[str, Any]:
        return {
            "auc": direction.auc,
            "p_value": direction.p_value,
            "members": [
                {"intent_id": member.intent.intent_id, "label": member.intent.label, "weight": member.weight}
                for member in direction.members
            ],
            "evidence": shown(direction.evidence),
        }

    return {
        "name": name,
        "found": probe.has_intent,
        "judged_items": probe.judged,
        "intents": [
            {
                "intent_id": each.intent.intent_id,
                "label": each.intent.label,
                "auc": each.auc,
                "q_value": each.q_value,
                "weight": each.weight,
                "evidence": shown(each.evidence),
            }
            for each in probe.found
        ],
        "group": told(probe.group),
        "supervised": told(probe.supervised) | {"auc_of_all_intents": probe.everything_auc},
    }


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name.casefold()).strip("-") or "group"
