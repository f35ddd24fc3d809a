"""A run's dictionary and its intents on the page: the words and tables of the report itself."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.dictionary_tables import dictionary_lines
from saerec_ray.evaluation.intents_tables import intents_lines
from saerec_ray.evaluation.markdown_tables import Lines

DICTIONARY_PARTS = {
    "dictionary": ("dictionary", "codings", "random_dictionary"),
    "intents": ("intents", "random_dictionary", "detection"),
}
"""What the report of a part holds if this version wrote it."""
_DEEPER = "##"
"""A run is one section of the page, and the report has the first two levels of headings for itself."""


def dictionary_tables(report: dict[str, Any]) -> Lines:
    """The parts `dictionary` and `intents` where they were measured, of the test split alone."""
    lines: Lines = []
    if "dictionary" in report:
        lines += dictionary_lines(report["dictionary"], ("test",))
    if "intents" in report:
        lines += intents_lines(report["intents"])
    return [f"{_DEEPER}{line}" if line.startswith("#") else line for line in lines]
