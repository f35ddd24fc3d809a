"""`saerec cross-domain`: reads the items of another domain for a bundle; no server takes part."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("cross-domain")(cross_domain)


def cross_domain(
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help="The other domain: a work directory with finished stages prepare and embed, or a bundle.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Its name: its item B1 becomes NAME/B1.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    workdir: Annotated[
        Path, typer.Option("--workdir", "-w", help="Work directory with a finished bundle, or that bundle.")
    ] = Path("out"),
    recentre: Annotated[
        bool,
        typer.Option(
            "--recentre/--no-recentre",
            help="Centre the texts on their own mean in place of that of the run: fewer intents an item, and worse "
            "recommendations on the sets it was measured on.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Read the items of another domain, so that histories of a served bundle may hold them.

    Their texts, attributes and phrases get the intents of the bundle; they are never recommended. Both runs must
    use the same language model.
    """
    from saerec_ray.bundle import BUNDLE_MANIFEST
    from saerec_ray.cross_domain import BUNDLE_FOLDER, read_across

    summary = read_across(workdir, source, name, output, recentre=recentre)
    if as_json:
        report = {"folder": str(output), "name": name, **dataclasses.asdict(summary)}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return
    bundle = workdir if (workdir / BUNDLE_MANIFEST).is_file() else workdir / BUNDLE_FOLDER
    Console().print(
        f"{summary.items} items of {name} are in {output}: {summary.learnt:.1f} intents of texts an item, "
        f"{summary.exact:.1f} of attributes and phrases; {summary.with_exact:.0%} of the items have any of these.\n"
        f"Serve them: saerec serve --bundle {bundle} --cross-domain {output}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
