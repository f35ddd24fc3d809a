"""The `saerec` command: the stages, the server, and the calls a person makes against it."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from typer.core import TyperCommand, TyperGroup

from saerec_ray import (
    __version__,
    card_command,
    cross_domain_command,
    intent_commands,
    outcome_command,
    service_commands,
    state_command,
)
from saerec_ray.errors import InputError, StageError, StoppedError
from saerec_ray.stopping import stoppable

app = typer.Typer(
    name="saerec",
    help="Train, serve, explain and steer an intent-based recommender.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _histories_importer() -> state_command.Importer:
    """The rest of the library does not know the server."""
    from saerec_server.history_import import import_histories

    return import_histories


service_commands.register(app)
intent_commands.register(service_commands.intents_app)
outcome_command.register(service_commands.intents_app)
cross_domain_command.register(app)
state_command.register(app, _histories_importer)
card_command.register(service_commands.intents_app)
errors = Console(stderr=True)

ConfigOption = Annotated[
    str,
    typer.Option(
        "--config", "-c", help="A YAML file, or the name of a shipped preset: see `saerec presets`."
    ),
]
WorkdirOption = Annotated[
    Path, typer.Option("--workdir", "-w", help="Where stages write; finished stages found there are reused.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Overrides one key, for example --set train.epochs=5. Repeatable."),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at the first unusable row instead of counting it.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Run even when nothing changed.")]


def _run(
    config: str, workdir: Path, overrides: list[str] | None, only: str | None, strict: bool, force: bool
) -> None:
    from saerec_ray.config import load_config
    from saerec_ray.pipeline import run_stages
    from saerec_ray.progress import Reporter

    with stoppable(), Reporter() as reporter:
        run_stages(load_config(config, overrides), workdir, reporter, only, strict=strict, force=force)


@app.command()
def run(
    config: ConfigOption,
    workdir: WorkdirOption = Path("out"),
    overrides: SetOption = None,
    strict: StrictOption = False,
    force: ForceOption = False,
    dictionary_from: Annotated[
        Path | None,
        typer.Option(
            help="Take over the dictionary of this bundle instead of training one; sets dictionary.source."
        ),
    ] = None,
) -> None:
    """Run all stages: prepare, embed, dictionary, intents, train, evaluate, bundle.

    A stage is skipped when neither its inputs nor its settings changed. A stage that was stopped goes on
    where its last checkpoint left it.
    """
    if dictionary_from is not None:
        overrides = [*(overrides or []), f"dictionary.source={json.dumps(str(dictionary_from))}"]
    _run(config, workdir, overrides, None, strict, force)
    Console().print(
        f"The bundle is in {workdir / 'bundle'}. Serve it: saerec serve --bundle {workdir / 'bundle'}"
    )


_STAGE_HELP = {
    "prepare": "Read interactions and items, filter, split; writes prepare/.",
    "embed": "Turn item texts into vectors, on Ray Data actors; writes embed/.",
    "dictionary": "Train the sparse autoencoder and encode all items; writes dictionary/.",
    "intents": "Name the latents, judge the names on held-out items, measure the population; writes intents/.",
    "train": "Train the sequence encoder with intents, and the one without beside it; writes train/.",
    "evaluate": "Measure accuracy, cold items, faithfulness, steering, representation, transfer, dictionary and "
    "intents; writes evaluate/.",
    "bundle": "Put everything needed to serve into one hashed directory; writes bundle/.",
}


def _print_keys(section: str) -> None:
    from saerec_ray.config import describe_keys

    keys = Table("Key", "Default", "Meaning", box=None, header_style="dim", pad_edge=False)
    for row in describe_keys(section):
        keys.add_row(*map(escape, row))
    if keys.row_count:
        Console().print(
            Panel(keys, title="Keys of the configuration", title_align="left", border_style="dim")
        )


class StageCommand(TyperCommand):
    """A stage, whose help ends with the keys of the configuration it reads."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See click."""
        super().format_help(ctx, formatter)
        _print_keys(self.name or "")


class StageGroup(TyperGroup):
    """A stage that is a group of calls too."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See click."""
        super().format_help(ctx, formatter)
        _print_keys(self.name or "")


def _register_stage(name: str) -> None:
    def command(
        config: ConfigOption,
        workdir: WorkdirOption = Path("out"),
        overrides: SetOption = None,
        strict: StrictOption = False,
        force: ForceOption = False,
    ) -> None:
        _run(config, workdir, overrides, name, strict, force)

    before = "" if name == "prepare" else " The stages before it must have finished."
    app.command(name=name, cls=StageCommand, help=_STAGE_HELP[name] + before)(command)


for _name in _STAGE_HELP:
    if _name not in {"intents", "evaluate"}:
        _register_stage(_name)


class EvaluationPart(StrEnum):
    """What can be measured alone."""

    ACCURACY = "accuracy"
    COLD = "cold"
    FAITHFULNESS = "faithfulness"
    STEERING = "steering"
    REPRESENTATION = "representation"
    TRANSFER = "transfer"
    DICTIONARY = "dictionary"
    INTENTS = "intents"
    ALL = "all"


@app.command(cls=StageCommand, help=f"{_STAGE_HELP['evaluate']} The stages before it must have finished.")
def evaluate(
    config: ConfigOption,
    workdir: WorkdirOption = Path("out"),
    overrides: SetOption = None,
    part: Annotated[
        list[EvaluationPart] | None,
        typer.Option(
            "--part",
            help="Measure this part instead of evaluate.parts; the report then holds no other. Repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    strict: StrictOption = False,
    force: ForceOption = False,
) -> None:
    """The stage that shows what it found."""
    chosen = [each.value for each in part or []]
    if EvaluationPart.ALL in chosen:
        chosen = [each.value for each in EvaluationPart if each is not EvaluationPart.ALL]
    asked = [f"evaluate.parts=[{', '.join(chosen)}]"] if chosen else []
    _run(config, workdir, [*(overrides or []), *asked], "evaluate", strict, force)
    folder = workdir / "evaluate"
    print((folder / f"report.{'json' if as_json else 'md'}").read_text("utf-8"))  # noqa: T201 (for pipes)
    errors.print(f"The same with plots: {folder / 'report.html'}", highlight=False, soft_wrap=True)


@service_commands.intents_app.callback(
    cls=StageGroup,
    invoke_without_command=True,
    help="With list, show or search: ask a running server. With diff or group: read bundles. "
    "With outcome or cards: read a work directory. "
    "With edit: correct what the catalogue says. "
    f"With --config: the stage. {_STAGE_HELP['intents']}",
)
def intents_stage(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Run the stage with this YAML file or shipped preset."),
    ] = None,
    workdir: WorkdirOption = Path("out"),
    overrides: SetOption = None,
    strict: StrictOption = False,
    force: ForceOption = False,
) -> None:
    """The one name that is a stage and a group of calls."""
    if context.invoked_subcommand is not None:
        return
    if config is None:
        raise InputError(
            "saerec intents needs --config to run the stage, or list, show, search, edit, diff, group, outcome or "
            "cards."
        )
    _run(config, workdir, overrides, "intents", strict, force)


class EditedState(StrEnum):
    """What people may decide about an intent."""

    ACTIVE = "active"
    BLOCKED = "blocked"


class EditedKind(StrEnum):
    """What people may take an intent for."""

    INTENT = "intent"
    ITEM_PROPERTY = "item property"
    NUISANCE = "nuisance"


@service_commands.intents_app.command("edit")
def edit_intent(
    intent_id: Annotated[str, typer.Argument(help="Id of the intent: see `saerec intents list`.")],
    label: Annotated[str | None, typer.Option("--label", help="Its name.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="What it is about.")] = None,
    state: Annotated[
        EditedState | None, typer.Option("--state", help="active shows it whatever the gates say.")
    ] = None,
    steerable: Annotated[
        bool | None, typer.Option("--steerable/--no-steerable", help="Whether callers may steer by it.")
    ] = None,
    kind: Annotated[
        EditedKind | None, typer.Option("--kind", help="nuisance hides it; another kind says it is none.")
    ] = None,
    notes: Annotated[str | None, typer.Option("--notes", help="For colleagues; not served.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take back all edits of this intent.")] = False,
    workdir: WorkdirOption = Path("out"),
    overlay: Annotated[
        Path | None, typer.Option("--overlay", help="File of edits; by default WORKDIR/intents-overlay.json.")
    ] = None,
) -> None:
    """Correct an intent in the overlay file; the next run of the intents stage takes it over.

    What is not given stays as an earlier edit or the machine has it.
    """
    from saerec_ray.intents.overlay import OVERLAY_FILE, edit_overlay

    given = {
        "label": label,
        "description": description,
        "state": state.value if state else None,
        "steerable": steerable,
        "kind": kind.value if kind else None,
        "notes": notes,
    }
    path = overlay or workdir / OVERLAY_FILE
    edit_overlay(path, intent_id, given, remove=remove, intents_folder=workdir / "intents")
    done = f"The edits of {intent_id} are gone from" if remove else f"Saved the edit of {intent_id} in"
    errors.print(
        f"{done} {path}. Run the stages intents and bundle, or `saerec run`, for it to take effect.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


@app.command()
def presets(name: Annotated[str | None, typer.Argument(help="Print this preset as YAML.")] = None) -> None:
    """List the shipped configurations, or print one."""
    from saerec_ray.config import preset_names, preset_text

    print(preset_text(name) if name else "\n".join(preset_names()))  # noqa: T201 (plain output for pipes)


class LogLevel(StrEnum):
    """How much the server says."""

    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


@app.command()
def serve(
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Bundle directory.")] = Path("out/bundle"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
    ] = 50051,
    state: Annotated[
        Path | None,
        typer.Option(help="SQLite file with histories and steering profiles; by default beside the bundle."),
    ] = None,
    cross_domain: Annotated[
        list[Path] | None,
        typer.Option(
            help="Items of another domain that histories may hold, from saerec cross-domain. Repeatable."
        ),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0, help="Wait this long between turning unhealthy and refusing calls.")
    ] = 5.0,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads that rank.")] = 2,
    max_calls: Annotated[int, typer.Option(min=1, help="Calls answered at once; more are refused.")] = 64,
    state_seconds: Annotated[
        float, typer.Option(min=0.1, max=60, help="Longest wait of a call for the state database.")
    ] = 0.6,
    reflection: Annotated[bool, typer.Option(help="Let clients list the services.")] = False,
    log_level: Annotated[LogLevel, typer.Option(help="How much to log.")] = LogLevel.INFO,
) -> None:
    """Serve a bundle over gRPC until SIGTERM or Ctrl-C, then finish the calls under way."""
    import logging

    from pydantic import ValidationError

    from saerec_server.serve import run_server
    from saerec_server.settings import ServerSettings

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    def ready(bound_port: int) -> None:
        errors.print(
            f"Serving {bundle} on {host}:{bound_port}. Stop with Ctrl-C.", highlight=False, soft_wrap=True
        )

    try:
        settings = ServerSettings(
            bundle=bundle,
            cross_domain=tuple(cross_domain or ()),
            host=host,
            port=port,
            state=state,
            reflection=reflection,
            drain_seconds=drain_seconds,
            threads=threads,
            max_calls=max_calls,
            state_seconds=state_seconds,
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        option = f"--{wrong['loc'][0]}".replace("_", "-")
        raise InputError(f"{option} cannot be {str(wrong['input'])!r}: {wrong['msg']}.") from error
    run_server(settings, ready)


@app.command()
def demo(
    workdir: Annotated[Path, typer.Option("--workdir", "-w", help="Where the demo keeps its files.")] = Path(
        "out/demo"
    ),
    keep_serving: Annotated[
        bool, typer.Option(help="Leave the server running afterwards, until Ctrl-C.")
    ] = False,
) -> None:
    """Train on MovieLens, serve, and show recommendations, explanations and steering."""
    from saerec_ray.demo import run_demo

    with stoppable():
        run_demo(workdir, keep_serving=keep_serving)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)  # noqa: T201 (plain output for pipes)


def main() -> None:
    """Entry point: errors a person can act on become one sentence and an exit code."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        _fail(f"Error: {error}", 2)
    except StageError as error:
        _fail(f"Error: {error}", 1)
    except StoppedError as stop:
        _fail(str(stop), stop.code)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail(f"Error: {error.strerror or error}{where}. Finished stages are kept.", 1)


def _fail(message: str, code: int) -> NoReturn:
    errors.print(message, style="bold red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(code)
