"""Reader for Amazon Reviews 2014, 2018 and 2023: reviews and metadata as JSON lines, plain or gzipped."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from saerec_ray.data.cells import clean_values
from saerec_ray.data.collector import ItemCollector
from saerec_ray.data.files import clear_errors, json_columns, plain_file, text_lines
from saerec_ray.data.ids import id_text
from saerec_ray.data.raw import (
    NOT_UTF8,
    REPLACED,
    RawData,
    RawItem,
    take_interactions,
    without_shared_root,
)
from saerec_ray.data.rejects import Rejects
from saerec_ray.sources import AmazonSource

_FIELDS = {
    2014: {"user_id": "reviewerID", "item_id": "asin", "rating": "overall", "time": "unixReviewTime"},
    2018: {"user_id": "reviewerID", "item_id": "asin", "rating": "overall", "time": "unixReviewTime"},
    2023: {"user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "time": "timestamp"},
}
_BRAND = {2014: "brand", 2018: "brand", 2023: "store"}
_REVIEW_TEXT = {2014: "reviewText", 2018: "reviewText", 2023: "text"}
_MILLISECONDS = 1000
_DESCRIPTION_CHARACTERS = 1000
_REVIEW_CHARACTERS = 1000
_TAG = re.compile(r"<[^>]+>")
_SPACE = re.compile(r"\s+")


def read_amazon(source: AmazonSource, rejects: Rejects, *, with_lines: bool = False) -> RawData:
    """Reads both files. Text: title, brand, category path, description and features, as far as they are there.

    With lines, every interaction keeps the line of its review, for `review_texts`.
    """
    name = source.reviews.name
    with clear_errors(source.reviews), plain_file(source.reviews) as plain:
        rows = json_columns(plain, _FIELDS[source.release], source.reviews)
        ticks = _MILLISECONDS if source.release == 2023 else 1
        interactions, count = take_interactions(
            rows, name, rejects, ticks_a_second=ticks, with_lines=with_lines
        )
    collector = ItemCollector(source.metadata.name, rejects)
    with plain_file(source.metadata) as plain:
        for number, record in _records(plain, source.metadata.name, rejects):
            with collector.readable(number, record.get(_FIELDS[source.release]["item_id"])):
                collector.add(_item(record, source.release, number))
    items = without_shared_root(collector.items())
    return RawData(interactions, items, count, name, source.metadata.name)


def review_texts(source: AmazonSource, lines: npt.NDArray[np.int64]) -> list[str]:
    """What the reviews on these lines say, in the order of the lines given; "" where nothing usable is said.

    Texts of other lines are not looked at.
    """
    wanted = pl.LazyFrame({"line": lines, "place": np.arange(len(lines))})
    with clear_errors(source.reviews), plain_file(source.reviews) as plain:
        rows = json_columns(plain, {"text": _REVIEW_TEXT[source.release]}, source.reviews)
        found = (
            rows.select(pl.col("line").cast(pl.Int64), "text")
            .join(wanted, on="line", how="inner")
            .sort("place")
            .collect(engine="streaming")
        )
    texts = [""] * len(lines)
    for place, text in zip(found["place"], found["text"], strict=True):
        if text and REPLACED not in text:
            texts[place] = _plain([text])[:_REVIEW_CHARACTERS].strip()
    return texts


def _records(path: Path, name: str, rejects: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
    """JSON objects, or the Python literals of which some 2014 metadata files consist."""
    for number, line in text_lines(path):
        value: Any = None
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            try:
                value = ast.literal_eval(line)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                value = None
        if REPLACED in line:
            rejects.add(name, number, NOT_UTF8, line)
        elif not isinstance(value, dict):
            rejects.add(name, number, "the row is not a JSON object", line)
        else:
            yield number, value


def _item(record: dict[str, Any], release: int, line: int) -> RawItem:
    """Raises UnreadableCellError."""

    def values(*names: str) -> list[str]:
        """Of the first of these fields that the record has."""
        name = next((name for name in names if record.get(name)), names[0])
        return clean_values(record.get(name), f"the field {name}")

    title, brand = _plain(values("title")), _plain(values(_BRAND[release]))
    path = [text for value in values("categories", "category") if (text := _plain([value]))]
    prose = [_plain(values("description")), _plain(values("features", "feature"))]
    description = " ".join(part for part in prose if part)[:_DESCRIPTION_CHARACTERS].strip()
    parts = [
        title,
        f"Brand: {brand}" if brand else "",
        f"Category: {' > '.join(path)}" if path else "",
        description,
    ]
    attributes = {"category": path} if path else {}
    if brand:
        attributes["brand"] = [brand]
    item_id = id_text(record.get(_FIELDS[release]["item_id"]))
    return RawItem(item_id, title, ". ".join(part for part in parts if part), attributes, line)


def _plain(values: list[str]) -> str:
    """Texts as one without markup, entities and runs of white space."""
    return _SPACE.sub(" ", html.unescape(_TAG.sub(" ", " ".join(values)))).strip()
