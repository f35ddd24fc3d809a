"""Catalogue entries as a reader finds them: unusable ones are rejected, and no id stands for two."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from saerec_ray.data.cells import UnreadableCellError
from saerec_ray.data.ids import id_problem
from saerec_ray.data.raw import NOT_UTF8, REPLACED, RawItem
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError
from saerec_ray.sources import Repeated

_MOST_SHOWN = 3


class ItemCollector:
    """Gathers catalogue entries and sees to their ids.

    `repeated` says what to do with an id that comes back with other content; None refuses it, and no setting says
    otherwise.
    """

    def __init__(self, source: str, rejects: Rejects, repeated: Repeated | None = None) -> None:
        self._source, self._rejects, self._repeated = source, rejects, repeated
        self._items: dict[str, RawItem] = {}
        self._clashes: dict[str, tuple[int, int]] = {}  # lines of the first two contents of an id

    def add(self, item: RawItem) -> None:
        """One entry. The same entry twice counts once."""
        problem = id_problem(item.item_id)
        if problem or not _is_text(item):
            reason = f"an item cannot be used: {problem}" if problem else NOT_UTF8
            self._rejects.add(self._source, item.line, reason, item.item_id)
            return
        known = self._items.setdefault(item.item_id, item)
        if known == item:
            return
        match self._repeated:
            case "first":
                self._reject(item, "an earlier")
            case "last":
                self._reject(known, "a later")
                del self._items[item.item_id]
                self._items[item.item_id] = item
            case _:
                self._clashes.setdefault(item.item_id, (known.line, item.line))

    def _reject(self, item: RawItem, other: str) -> None:
        reason = f"{other} entry of the same item id is kept (repeated_items: {self._repeated})"
        self._rejects.add(self._source, item.line, reason, item.item_id)

    @contextlib.contextmanager
    def readable(self, line: int, item_id: object) -> Iterator[None]:
        """For the block that reads a row: rejects the row when one of its cells cannot be told as text."""
        try:
            yield
        except UnreadableCellError as error:
            self._rejects.add(self._source, line, str(error), str(item_id))

    def items(self) -> list[RawItem]:
        """All entries in the order of the source.

        Raises InputError when an id came back with other content: which of the two is meant is not ours to guess.
        """
        if self._clashes:
            shown = [
                f"{item_id!r} on lines {first} and {second}"
                for item_id, (first, second) in list(self._clashes.items())[:_MOST_SHOWN]
            ]
            count = len(self._clashes)
            told = f"{count} item ids" if count > 1 else "one item id"
            more = ", ..." if count > _MOST_SHOWN else ""
            remedy = (
                "" if self._repeated is None else "; prepare.source.repeated_items: first or last keeps one"
            )
            raise InputError(
                f"{self._source} lists {told} more than once with different content: {', '.join(shown)}{more}. "
                f"Ids must be unique{remedy}."
            )
        return list(self._items.values())


def _is_text(item: RawItem) -> bool:
    """Whether all of it can be written as UTF-8: JSON can hold half a character, such as "\\ud83d"."""
    values = [item.item_id, item.title, item.text, *(v for part in item.attributes.values() for v in part)]
    try:
        "".join(values).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return not any(REPLACED in value for value in values)
