"""`saerec intents cards`: names and texts for people to check, and how far they agree; needs no server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saerec_ray.errors import InputError
from saerec_ray.service_tables import intent_name, json_answer, printable


def register(intents_app: typer.Typer) -> None:
    """Adds the command to the group of intent commands."""
    intents_app.command("cards")(cards)


def cards(
    workdir: Annotated[
        Path, typer.Option("--workdir", "-w", help="Work directory with a finished intents stage.")
    ] = Path("out"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File of cards; by default WORKDIR/cards.csv.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="Cards at most.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Decides which intents, and the order of texts.")] = 0,
    read: Annotated[
        Path | None,
        typer.Option("--read", help="A file of cards that people filled in: tell how they agree."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as JSON instead of tables.")
    ] = False,
) -> None:
    """Write cards for people to check names with, or read what they answered.

    A card has the name of an intent and ten texts, half of which carry it. People write yes or no beside each. The
    key is a file of its own beside the cards; do not show it.
    """
    if read is not None:
        _report(read, as_json)
        return
    path = output or workdir / "cards.csv"
    written = _write(workdir, path, count, seed)
    if as_json:
        sys.stdout.write(json_answer({"file": str(path), "key": str(written[1]), "cards": written[0]}))
        return
    sys.stdout.write(
        f"{written[0]} cards written to {path}, their key to {written[1]}. Fill in the last column with yes or no, "
        f"then: saerec intents cards --read {path}\n"
    )


def _write(workdir: Path, path: Path, count: int, seed: int) -> tuple[int, Path]:
    from saerec_ray.data.prepared import read_items
    from saerec_ray.dictionary.sae import read_codes, unit_rows
    from saerec_ray.errors import StageError
    from saerec_ray.intents.cards import draw_cards, key_path, write_cards
    from saerec_ray.intents.catalogue import read_catalogue
    from saerec_ray.manifest import read_manifest
    from saerec_ray.text.embed import load_embeddings

    for stage in ("prepare", "embed", "dictionary", "intents"):
        try:
            naming_seed = read_manifest(workdir / stage).seed
        except StageError as error:
            raise InputError(f"{workdir} has no finished {stage} stage; run `saerec run` first.") from error
    items = read_items(workdir / "prepare")
    key = draw_cards(
        read_catalogue(workdir / "intents"),
        read_codes(workdir / "dictionary"),
        unit_rows(load_embeddings(workdir / "embed")),
        items.ids,
        items.texts,
        count,
        seed,
        naming_seed,
    )
    if not key.cards:
        raise InputError(f"{workdir} has no published learnt intent with enough items for a card.")
    write_cards(key, path)
    return len(key.cards), key_path(path)


def _report(path: Path, as_json: bool) -> None:
    from saerec_ray.intents.cards import agreement, read_answers, read_key

    key = read_key(path)
    answers = read_answers(path, key)
    whole = agreement(key, answers)
    of_cards = [
        {
            "intent_id": card.intent_id,
            "name": card.name,
            "answered": sum(each is not None for each in given),
            "equal": sum(line.carries == each for line, each in zip(card.texts, given, strict=True)),
            "texts": len(card.texts),
        }
        for card, given in zip(key.cards, answers, strict=True)
    ]
    if as_json:
        answer = {
            "intents_version": key.intents_version,
            "answered": whole.answered,
            "unanswered": whole.unanswered,
            "agreement": whole.agreement,
            "kappa": whole.kappa,
            "cards": of_cards,
        }
        sys.stdout.write(json_answer(answer))
        return
    table = Table(title="Cards", title_justify="left")
    table.add_column("Intent")
    table.add_column("Equal", justify="right")
    table.add_column("Answered", justify="right")
    for row in of_cards:
        table.add_row(
            intent_name(str(row["intent_id"]), printable(str(row["name"]))),
            str(row["equal"]),
            f"{row['answered']} of {row['texts']}",
        )
    console = Console()
    console.print(table)
    kappa = "not defined, for all answers are the same" if whole.kappa is None else f"{whole.kappa:.2f}"
    console.print(
        Text(
            f"{whole.agreement:.0%} of {whole.answered} answers agree with the codes; Cohen's kappa {kappa}. "
            f"{whole.unanswered} texts have no answer."
        )
    )
