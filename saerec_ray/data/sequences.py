"""Reader for S3Rec-style folders: one user a line in sequences.txt, one item a line in items.jsonl."""

from __future__ import annotations

from typing import Any

import polars as pl

from saerec_ray.data.cells import clean_values
from saerec_ray.data.collector import ItemCollector
from saerec_ray.data.files import json_records, plain_file, text_lines
from saerec_ray.data.ids import id_problem, id_text
from saerec_ray.data.raw import (
    INTERACTION_SCHEMA,
    NOT_UTF8,
    REPLACED,
    RawData,
    RawItem,
    without_shared_root,
)
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError
from saerec_ray.sources import SequencesSource

TITLE_CHARACTERS = 80
ATTRIBUTES = {
    "brand": "brand",
    "categories": "category",
    "category": "category",
    "genres": "genre",
    "tags": "tag",
}
"""Fields of items.jsonl that become attributes."""


def read_sequences_folder(source: SequencesSource, rejects: Rejects) -> RawData:
    """Reads both files. The order in a line is the order in time; there are no times."""
    path = source.path / source.sequences_file
    users: list[str] = []
    items: list[str] = []
    count = 0
    with plain_file(path) as plain:
        for number, line in text_lines(plain):
            user, *met = line.split()
            count += max(len(met), 1)
            bad = next((problem for value in (user, *met) if (problem := id_problem(value))), None)
            if REPLACED in line:
                bad = NOT_UTF8
            if bad or not met:
                rejects.add(path.name, number, bad or "the user has no items", line)
                continue
            users += [user] * len(met)
            items += met
    nothing = [None] * len(users)
    interactions = pl.DataFrame(
        {"user_id": users, "item_id": items, "time": nothing, "rating": nothing},
        schema=INTERACTION_SCHEMA,
    )
    return RawData(interactions, _read_items(source, rejects), count, path.name, source.items_file)


def _read_items(source: SequencesSource, rejects: Rejects) -> list[RawItem]:
    path = source.path / source.items_file
    collector = ItemCollector(path.name, rejects)
    with plain_file(path) as plain:
        for number, record in json_records(plain, path.name, rejects):
            if "id" not in record:
                raise InputError(
                    f"{path}, line {number}: the item has no field 'id'; it has {', '.join(record)}."
                )
            with collector.readable(number, record["id"]):
                collector.add(_item(record, number))
    return without_shared_root(collector.items())


def _item(record: dict[str, Any], line: int) -> RawItem:
    def values(name: str) -> list[str]:
        return clean_values(record.get(name), f"the field {name}")

    text = " ".join(values("text"))
    attributes: dict[str, list[str]] = {}
    for name, attribute in ATTRIBUTES.items():
        if found := values(name):
            attributes[attribute] = found
    title = " ".join(values("title")) or text[:TITLE_CHARACTERS]
    return RawItem(id_text(record["id"]), title, text, attributes, line)
