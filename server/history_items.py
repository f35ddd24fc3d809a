"""What a history may hold: items of the catalogue, and items of other domains that the server was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saerec_ray.backbone.history_space import history_space
from saerec_ray.bundle import Bundle
from saerec_ray.errors import InputError
from saerec_ray.foreign_items import load_foreign_items
from saerec_ray.scoring import ItemSpace


@dataclass(frozen=True)
class HistoryItems:
    """Every item that a history may hold, by place: first those of the catalogue, in its order, then foreign ones."""

    index: dict[str, int]  # place by item id
    titles: Sequence[str]
    space: ItemSpace  # in which histories are read; see history_space
    home_count: int
    """How many are of the catalogue. Only these can be returned, filtered and compared with the population."""

    def at_home(self, places: Sequence[int]) -> list[int]:
        """Those of the places that are items of the catalogue, in order."""
        return [place for place in places if place < self.home_count]


def load_history_items(bundle: Bundle, folders: Sequence[Path]) -> HistoryItems:
    """The items of a bundle and of folders of foreign items.

    Raises InputError when a folder is refused or two of them have one name.
    """
    ids, titles = list(bundle.items.ids), list(bundle.items.titles)
    codes, names = [], dict[str, Path]()
    for folder in folders:
        items = load_foreign_items(folder, bundle)
        if items.name in names:
            raise InputError(
                f"The foreign items in {names[items.name]} and in {folder} are both named {items.name}; "
                "write one of them with another --name."
            )
        names[items.name] = folder
        ids += items.ids
        titles += items.titles
        codes.append(items.codes)
    return HistoryItems(
        index={item_id: place for place, item_id in enumerate(ids)},
        titles=titles,
        space=history_space(bundle.space, codes) if codes else bundle.space,
        home_count=len(bundle.items),
    )
