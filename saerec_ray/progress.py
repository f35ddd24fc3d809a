"""Progress for people: bars in a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10.0


class Reporter:
    """Shows one stage after another; use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars: Progress | None = None
        if self.console.is_terminal:
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:<10}"),
                BarColumn(bar_width=30),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
        self._task: TaskID | None = None
        self._stage = ""
        self._last_line = 0.0

    def __enter__(self) -> Reporter:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def begin(self, stage: str) -> None:
        """A stage begins."""
        self._stage, self._last_line = stage, time.monotonic()
        if self._bars:
            self._task = self._bars.add_task(stage, total=None, note="")
        else:
            self._print(f"{stage}: started")

    def update(self, done: float, total: float, note: str = "") -> None:
        """The stage under way has done this much."""
        if self._bars and self._task is not None:
            self._bars.update(self._task, completed=done, total=total, note=note)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            share = f"{done / total:.0%}" if total else "under way"
            self._print(f"{self._stage}: {share}{', ' if note else ''}{note}")

    def say(self, message: str) -> None:
        """Tells something about the stage under way that people have to know."""
        self._print(f"{self._stage}: {message}")

    def end(self, message: str) -> None:
        """The stage is over; `message` says how it went."""
        if self._bars and self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        self._print(f"{self._stage}: {message}")

    def skip(self, stage: str, *, other_code: bool = False) -> None:
        """The stage had nothing to do; `other_code` says that its result is of another state of this library."""
        told = " (made by other code of this version; --force makes it again)" if other_code else ""
        self._print(f"{stage}: unchanged, skipped{told}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
