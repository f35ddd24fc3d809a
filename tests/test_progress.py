"""Progress: a line now and then where there is no terminal, bars where there is one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from saerec_ray import progress
from saerec_ray.progress import Reporter


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_gets_the_begin_a_line_now_and_then_and_the_end(clock: Clock) -> None:
    console = Console(file=io.StringIO(), width=40)
    with Reporter(console) as reporter:
        reporter.skip("prepare")
        reporter.begin("train")
        for second in range(25):
            clock.now = 100.0 + second
            reporter.update(second, 50, f"loss {second}")
        reporter.end("finished in 25.0 s: a [bold]line[/bold] longer than the forty columns of the console")
    assert lines(console) == [
        "prepare: unchanged, skipped",
        "train: started",
        "train: 20%, loss 10",
        "train: 40%, loss 20",
        "train: finished in 25.0 s: a [bold]line[/bold] longer than the forty columns of the console",
    ]


def test_work_of_unknown_length_is_under_way(clock: Clock) -> None:
    console = Console(file=io.StringIO())
    with Reporter(console) as reporter:
        reporter.begin("embed")
        clock.now += 11
        reporter.update(3, 0)
    assert lines(console)[-1] == "embed: under way"


def test_a_terminal_gets_a_bar_that_goes_when_the_stage_is_over() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Reporter(console) as reporter:
        reporter.begin("train")
        reporter.update(1, 2, "loss 4.2")
        assert reporter._bars is not None
        (task,) = reporter._bars.tasks
        assert (task.completed, task.total, task.fields["note"]) == (1, 2, "loss 4.2")
        reporter.end("finished")
        assert list(reporter._bars.tasks) == []
    assert "train: finished" in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_error_stops_the_bars() -> None:
    reporter = Reporter(Console(file=io.StringIO(), force_terminal=True))

    def fail() -> None:
        with reporter:
            reporter.begin("train")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert reporter._bars is not None
    assert not reporter._bars.live.is_started
