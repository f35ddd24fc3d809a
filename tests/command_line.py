"""The command line in this process: what a person types, and what comes back."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from saerec_ray import cli


class Outcome(NamedTuple):
    """The exit code, and what was written to standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def flat(self) -> str:
        """Standard output without the wrapping and frames of tables."""
        return re.sub(r"[\s│┃]+", " ", self.out)

    @property
    def complaint(self) -> str:
        """Standard error without line breaks."""
        return re.sub(r"\s+", " ", self.err)


Run = Callable[..., Outcome]


def run_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> Outcome:
    """Runs `saerec` with the arguments. What it prints is never a traceback."""
    monkeypatch.setattr(sys, "argv", ["saerec", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return Outcome(code or 0, printed.out, printed.err)
