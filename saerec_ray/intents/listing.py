"""Many names in one sentence: the first few, and how many more there are."""

from __future__ import annotations

from collections.abc import Sequence

MOST_TOLD = 10


def listed(names: Sequence[str]) -> str:
    """At most MOST_TOLD of the names, and the number of the others: "a, b and 3 more"."""
    rest = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(names[:MOST_TOLD]) + rest
