"""`saerec state`: keeps copies of what a server stores, and gives a new server what a run knows of users."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Protocol

import typer

from saerec_ray.state_backup import back_up
from saerec_ray.stopping import stoppable

state_app = typer.Typer(help="Back up what a server stores of users, or fill it.", no_args_is_help=True)


class Importer(Protocol):
    """Writes the histories of a work directory into a state, and says in one sentence what it did."""

    def __call__(
        self, workdir: Path, state: Path | None, tell: Callable[[int, int, str], None], *, dry_run: bool
    ) -> str:
        """`tell` is told how many users are done, of how many, and a note."""


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


def register(app: typer.Typer, importer: Callable[[], Importer]) -> None:
    """Adds the commands to an app. `importer` is asked for when it is needed: it comes with the server."""

    @state_app.command("import")
    def import_histories(
        workdir: Annotated[
            Path, typer.Option("--workdir", "-w", help="Work directory with a finished prepare stage.")
        ] = Path("out"),
        state: Annotated[
            Path | None,
            typer.Option(
                "--state",
                help="SQLite file of the server; it may be running. By default in the work directory.",
            ),
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; write nothing.")] = False,
    ) -> None:
        """Write the histories a run was trained on into the state of a server, so that it knows these users at once.

        Validation and test items are among them: they are what people did last. What the state has already is not
        written again, so the command may be stopped at any time, and run again.
        """
        from saerec_ray.progress import Reporter

        run = importer()
        with stoppable("What was written stays"), Reporter() as reporter:
            reporter.begin("import")
            sentence = run(workdir, state, reporter.update, dry_run=dry_run)
        sys.stdout.write(f"{sentence}\n")

    app.add_typer(state_app, name="state")
