"""What the pages say exists: links, files, settings, commands and their options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from saerec_ray import cli
from saerec_ray.config import Config, describe_keys

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """The names that links give to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words begin with, and what is given to it."""
    command: Any = typer.main.get_command(cli.app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def typed_commands(page: Path) -> Iterator[list[str]]:
    """What blocks of the page show to be typed after `saerec`."""
    for _, block in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.search(r"(?:^|-m )saerec(?:_ray)? (.+)", line):
                words = shlex.split(found[1], comments=True)
                yield words[: words.index(">")] if ">" in words else words


@every_page
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)\s]+)\)", page.read_text("utf-8")):
        name, _, heading = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not heading or heading in anchors(linked), target


@every_page
def test_programs_and_files_of_the_checkout_exist(page: Path) -> None:
    named = re.findall(r"\b(?:tests|saerec_ray|server|deploy)/[\w/]+\.\w+", page.read_text("utf-8"))
    assert [each for each in named if not (ROOT / each).exists()] == []


@every_page
def test_settings_exist(page: Path) -> None:
    known = {key for section in Config.model_fields for key, _, _ in describe_keys(section)}
    sections = "|".join(Config.model_fields)
    text = page.read_text("utf-8")
    named = set(re.findall(rf"(?:`|--set '?)((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)", text))
    named = {re.sub(r"^(evaluate\.other_domains)\..*", r"\1", key) for key in named}
    assert named <= known


def test_commands_in_blocks_can_be_typed_as_they_are() -> None:
    shown = [words for page in PAGES for words in typed_commands(page)]
    assert {"run", "serve", "evaluate", "cross-domain"} <= {words[0] for words in shown}
    for words in shown:
        command, given = command_of(words)
        command.make_context(words[0], given)


def test_commands_in_sentences_exist_with_their_options() -> None:
    shown = [
        shlex.split(each)
        for page in PAGES
        for each in re.findall(r"`(?:\.venv/bin/)?saerec ([a-z][^`]*)`", page.read_text("utf-8"))
    ]
    assert ["intents", "diff", "BEFORE", "NOW"] in shown
    for words in shown:
        command, given = command_of(words)
        assert command.name == words[0] or len(given) < len(words) - 1, words
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        assert {word for word in given if word.startswith("-")} <= known | {"--help"}, words
