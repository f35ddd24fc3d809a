"""The errors a person can act on."""

from __future__ import annotations


class InputError(Exception):
    """Something the person gave is wrong; the message says what, where and what to do.

    The command prints the message and exits with code 2; no traceback.
    """


class StageError(Exception):
    """A stage could not finish for a reason outside the person's input; exit code 1."""


class BundleError(InputError):
    """The bundle is refused; the message says which file and why."""


class StoppedError(Exception):
    """A signal ended the command; the message says what is kept and how to go on."""

    def __init__(self, message: str, code: int) -> None:
        """`code` is the exit code that a shell expects of that signal."""
        super().__init__(message)
        self.code = code
