"""What the programs that publish figures share: run a stage, keep a finished part, mean and deviation, the page.

The page is docs/results.md. It has one section a program and set, between comments that name its key, so that a
program repeats its own section and leaves the others as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import math
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from saerec_ray.manifest import recorded_versions, write_json
from tests.bench.provenance import PAGE, REPOSITORY, check_sources, provenance, sources_and_commit

BEFORE_TRAIN = ("prepare", "embed", "dictionary", "intents")
STAGES = (*BEFORE_TRAIN, "train", "evaluate")
ONE_WORKER = ("train.workers=1", "cluster.engine=local")
"""One process without Ray, so that several runs can share a machine."""
ONE_MEMBER = ("train.members=1", *ONE_WORKER, "evaluate.parts=[accuracy, faithfulness]")
RANDOM_DICTIONARY = ("dictionary.epochs=1", "dictionary.learning_rate=1e-12")
"""A control: directions that are drawn and not learnt."""
KINDS = (
    "accuracy",
    "report",
    "ablations",
    "dictionary-ablations",
    "dictionary-gates",
    "cooccurrence",
    "dictionary-speed",
    "training-speed",
    "large-catalogues",
    "prepare-speed",
    "server-speed",
    "explained-share",
    "transfer",
    "foreign-dictionaries",
    "identity",
    "steering-limits",
    "cited-choices",
)
"""The order of the page. A key is a kind, or a kind and the name of a set."""
INTRODUCTION = """\
# Results

Each section was written by the program that its command names. Programs replace their own section and the lines
above the first one: what is written by hand is lost. `make results` repeats all sections on the sets of
`SAEREC_DATA`; it takes many hours on 2 cores, and goes on where it was stopped.
"""
KEY = re.compile(r"[a-z-]+( [\w.-]+)?")
SECTION = re.compile(r"<!-- begin (?P<key>.+?) -->\n(?P<text>.*?)\n<!-- end (?P=key) -->\n", re.DOTALL)
MARKER = re.compile(r"<!-- (begin|end) ")


def saerec(command: str, workdir: Path, settings: Iterable[str] = (), preset: str = "amazon") -> None:
    """Runs one command of the product; its progress goes to the terminal, away from tables.

    Ends the program with the command's exit code in the message when it fails.
    """
    options = [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "saerec_ray", command, "-c", preset, "-w", str(workdir), *options],
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=sys.stderr,
    )
    if done.returncode:
        sys.exit(
            f"saerec {command} in {workdir} ended with exit code {done.returncode}; the page is as it was."
        )


def run_stages(
    folder: Path,
    settings: Sequence[str],
    *,
    shared: Path | None = None,
    copied: Sequence[str] = (),
    stages: Sequence[str] = STAGES,
    preset: str = "amazon",
) -> None:
    """Runs stages in `folder`, which begins with the stages `copied` from `shared`; finished ones are skipped."""
    for stage in copied:
        assert shared is not None
        shutil.copytree(shared / stage, folder / stage, dirs_exist_ok=True)
    for stage in stages:
        saerec(stage, folder, settings, preset)


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text("utf-8"))


def finished_part(
    path: Path, settings: Sequence[str], measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The figures kept in `path`, or those that `measure` finds, which are kept there together with the settings.

    Ends the program when the figures in `path` were made with other settings: they are not what is asked for. Figures
    that other sources of the package made are taken, so that a stopped program goes on whatever was edited since; a
    warning says so, and so does the section, which names their commit.
    """
    if path.exists():
        kept: dict[str, Any] = read(path)
        if (made_with := kept.get("settings", [])) != list(settings):
            sys.exit(
                f"{path} was made with the settings {made_with}, not {list(settings)}: delete it, or name another "
                "--workdir."
            )
        check_sources(path, kept)
        return kept
    made_by = sources_and_commit()
    figures = {**measure(), "settings": list(settings), **made_by}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, figures)
    return figures


def spread(values: Iterable[float | None], mean: str = ".4f", deviation: str | None = None) -> str:
    """Mean ± sample deviation of the finite values, as format codes say; of a single value the value alone."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "none"
    middle = format(statistics.mean(known), mean)
    return middle if len(known) == 1 else f"{middle} ± {format(statistics.stdev(known), deviation or mean)}"


def circumstances(
    seeds: Sequence[int] = (),
    packages: Sequence[str] = ("torch",),
    versions: dict[str, str] | None = None,
) -> str:
    """One line on seeds, machine, versions and commit; `versions` are those of a finished stage, else the current ones.

    Figures that other sources made are named as such: those of the stage, and parts that finished_part kept.
    """
    found = recorded_versions() if versions is None else versions
    parts = [f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"] if seeds else []
    memory = psutil.virtual_memory().total / 2**30
    parts.append(f"{os.cpu_count()} CPU cores, {memory:.0f} GiB, {graphics()}")
    parts.append(", ".join(f"{name} {found[name]}" for name in ("python", *packages, "saerec-ray")))
    parts.append(provenance(found))
    return "; ".join(parts) + "."


def graphics() -> str:
    """The graphics card that torch would use."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "no GPU"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [("|".join(f" {cell} " if cell else " " for cell in cells)) for cells in (heads, *rows)]
    return [f"|{lines[0]}|", "|---" * len(heads) + "|", *(f"|{line}|" for line in lines[1:])]


def section(title: str, about: Iterable[str], commands: Iterable[str], body: Iterable[str]) -> str:
    """The text of a section: what was measured and where, how to repeat it, the tables."""
    lines = [f"## {title}", ""]
    for paragraph in about:
        lines += [paragraph, ""]
    return "\n".join([*lines, "```", *commands, "```", "", *body]).rstrip("\n")


def shown_command(without: Sequence[str] = ("--page", "--workdir")) -> str:
    """This program's command line for the page: without some options, and without folders of this machine."""
    words = [f"python tests/bench/{Path(sys.argv[0]).name}"]
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument in without:
            next(arguments, None)
        elif not argument.startswith(tuple(f"{option}=" for option in without)):
            words.append(shlex.quote(shown(argument)))
    return " ".join(words)


def shown(argument: str) -> str:
    """An argument for the page: FOLDER stands for the folder of the sets and whatever else is not in the checkout.

    Of a path elsewhere its name is shown, and that of its run where it is a stage.
    """
    name, sign, path = argument.rpartition("=")
    if not path.startswith(("/", "..")):
        return argument
    place = Path(path).resolve()
    kept = place.parts[-2 if place.name in STAGES else -1 :]
    if place.is_relative_to(REPOSITORY):
        return name + sign + str(place.relative_to(REPOSITORY))
    if (sets := os.environ.get("SAEREC_DATA")) and place.is_relative_to(Path(sets).resolve()):
        kept = place.relative_to(Path(sets).resolve()).parts
    return name + sign + "/".join(("FOLDER", *kept))


def publish(
    page: Path | None,
    key: str,
    title: str,
    about: Sequence[str],
    body: Iterable[str],
    command: str | None = None,
) -> None:
    """Writes the section of a program that prints its figures, if a page was asked for."""
    if page is not None:
        write_section(
            page, key, section(title, [*about, circumstances()], [command or shown_command()], body)
        )


def described(doc: str | None) -> list[str]:
    """The paragraphs of a program's docstring, without its indented commands."""
    return [part for part in (doc or "").strip().split("\n\n") if not part.startswith(" ")]


class Transcript:
    """Prints lines and keeps them for the page."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, lines: str = "") -> None:
        print(lines, flush=True)
        self.lines += lines.split("\n")

    def fenced(self) -> list[str]:
        """The lines as they were printed, for output that is not Markdown."""
        return ["```", *self.lines, "```"]

    def table_first(self) -> list[str]:
        """The rows of one table that was printed in parts, then what was said between them."""
        rows = [line for line in self.lines if line.startswith("|")]
        return [*rows, "", *(line for line in self.lines if line and line not in rows)]


def data_folder(argument: str) -> Path:
    """The folder of a set, for argparse."""
    folder = Path(argument).absolute()
    for name in ("sequences.txt", "items.jsonl"):
        if not (folder / name).is_file():
            raise argparse.ArgumentTypeError(f"{folder} has no {name}")
    return folder


def add_run_options(parser: argparse.ArgumentParser, seeds: Sequence[int] = (42, 43, 44)) -> None:
    """The options of all programs that run stages: seeds, settings, work directory, page."""
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="a setting for all, as of saerec run"
    )
    parser.add_argument("--workdir", type=Path, default=Path("out"))
    add_page_option(parser, PAGE)


def results_page(argument: str) -> Path:
    """A page that a section can be written to, for argparse: found out before the hours of work, not after."""
    page = Path(argument)
    if page.exists():
        try:
            read_sections(page.read_text("utf-8"))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{page}: {error}") from error
    return page


def add_page_option(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """Where the section is written; without a default nothing is written unless asked."""
    parser.add_argument(
        "--page",
        type=results_page,
        default=None if default is None else str(default),
        help="the page whose section is replaced" + ("" if default else "; none is by default"),
    )


def write_section(page: Path, key: str, text: str) -> None:
    """Replaces the section of `key`, or puts it in its place in the order of KINDS; other sections stay.

    Programs that write at the same time wait for each other, and a reader never sees half a page. `text` begins with
    its heading. Raises ValueError for an unknown kind, a text that is no section, or a page that is not of this form.
    """
    if not KEY.fullmatch(key) or key.split()[0] not in KINDS:
        raise ValueError(f"{key} is no key of a section: its kind must be one of {', '.join(KINDS)}")
    if not text.startswith("## ") or MARKER.search(text):
        raise ValueError(f"the section {key} must begin with its heading and hold no markers")
    page.parent.mkdir(parents=True, exist_ok=True)
    with locked(page.parent):
        sections = read_sections(page.read_text("utf-8")) if page.exists() else {}
        sections[key] = text.strip("\n")
        temporary = page.with_name(f".{page.name}.{os.getpid()}.tmp")
        temporary.write_text(render(sections), "utf-8")
        temporary.replace(page)
    print(f"Wrote the section {key} of {page}", file=sys.stderr)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, which needs no file of its own and goes with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_sections(text: str) -> dict[str, str]:
    """The sections of a page by key. Raises ValueError when it holds anything that writing it again would lose."""
    sections = {found["key"]: found["text"] for found in SECTION.finditer(text)}
    first, _, rest = SECTION.sub("\0", text).partition("\0")
    if not sections or MARKER.search(first + rest) or rest.replace("\0", "").strip():
        raise ValueError(
            "the page has markers without their counterparts, or text outside of sections: mend it by hand"
        )
    return sections


def render(sections: dict[str, str]) -> str:
    """The whole page, with a table of contents."""
    keys = sorted(sections, key=lambda key: (KINDS.index(key.split()[0]), key))
    titles = [sections[key].split("\n", 1)[0].removeprefix("## ") for key in keys]
    contents = [f"- [{title}](#{anchor(title)})" for title in titles]
    parts = [f"<!-- begin {key} -->\n{sections[key]}\n<!-- end {key} -->\n" for key in keys]
    return "\n".join([INTRODUCTION, "\n".join(contents) + "\n", *parts])


def anchor(title: str) -> str:
    """The link target that Markdown viewers give a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
