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
