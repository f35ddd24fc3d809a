"""What of a source was lost, in one sentence: people look at it before they wait for a training."""

from __future__ import annotations

from dataclasses import dataclass

from saerec_ray.data.raw import RawData, RawItem
from saerec_ray.data.rejects import Rejects

_MUCH = 0.5


@dataclass(frozen=True)
class _Loss:
    lost: int
    of: int
    what: str
    first: str = ""

    def __str__(self) -> str:
        return f"{self.lost} of {self.of} {self.what}" + (f" (the first: {self.first})" if self.first else "")

    @property
    def large(self) -> bool:
        return self.lost > _MUCH * self.of


def lost_data(raw: RawData, usable: list[RawItem], known: int, rejects: Rejects) -> str:
    """What was left out, with the first reason of each file; empty when nothing was.

    `usable` are the items that stay, `known` is how many interactions are with one of them. The sentence begins with
    WARNING when more than half of the interactions or of the items are lost.
    """
    read, log, catalogue = raw.interactions.height, raw.interactions_name, raw.items_name
    unusable = rejects.count(catalogue)
    if catalogue == log:  # in different folders; what was rejected goes by name
        unusable -= raw.rows_read - read
    losses = [
        _Loss(raw.rows_read - read, raw.rows_read, f"interactions in {log}", rejects.first(log)),
        _Loss(unusable, unusable + len(usable), f"items in {catalogue}", rejects.first(catalogue)),
        _Loss(read - known, read, "interactions whose items are unknown or left out"),
    ]
    told = [str(loss) for loss in losses if loss.lost]
    if not told:
        return ""
    *before, last = told
    sentence = f"left out {', '.join(before)} and {last}" if before else f"left out {last}"
    interactions = _Loss(raw.rows_read - known, raw.rows_read, "interactions")
    if any(loss.large for loss in (*losses, interactions)):
        return f"WARNING: {sentence}; check prepare.source."
    return f"{sentence}."
