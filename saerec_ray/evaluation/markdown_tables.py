"""Tables and figures of the text report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Lines = list[str]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """A Markdown table with an empty line after it."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return [*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows), ""]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def in_order(values: dict[str, Any], names: Sequence[str]) -> list[tuple[str, Any]]:
    """The pairs of a dictionary in a given order: a report read back from JSON has lost its own."""
    return [(name, values[name]) for name in names if name in values]


def number(value: float | None, form: str = ".2f") -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def interval(pair: Sequence[float], form: str = ".0%") -> str:
    """A 95% interval."""
    return f"{format(pair[0], form)} to {format(pair[1], form)}"
