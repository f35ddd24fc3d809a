"""`saerec state`: keeps copies of what a server stores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from saerec_ray.state_backup import back_up

state_app = typer.Typer(help="Back up what a server stores of users.", no_args_is_help=True)


@state_app.callback()
def _group() -> None:
    """A group also while it has one command."""


@state_app.command()
def backup(
    state: Annotated[Path, typer.Option("--state", help="SQLite file of the server; it may be running.")],
    to: Annotated[Path, typer.Option("--to", help="File to write; it must not exist.")],
) -> None:
    """Copy histories and steering profiles into one file, and check the copy.

    To restore, stop the server and put the copy in the place of its state file.
    """
    size = back_up(state, to)
    sys.stdout.write(f"{state} is backed up in {to}: {size:,} bytes, checked.\n")


def register(app: typer.Typer) -> None:
    """Adds the commands to an app."""
    app.add_typer(state_app, name="state")
