"""What people wrote about the items they met in training, a few texts an item."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from saerec_ray.data.amazon import review_texts
from saerec_ray.data.prepared import REVIEWS_SCHEMA
from saerec_ray.errors import InputError
from saerec_ray.sources import AmazonSource, Source


def check_reviews(source: Source) -> None:
    """Raises InputError when the source has no reviews."""
    if not isinstance(source, AmazonSource):
        raise InputError(
            f"prepare.reviews_per_item is set, but a source of format {source.format} has no reviews; "
            "set it to 0, or use the format amazon."
        )


def training_reviews(
    source: Source, lines: npt.NDArray[np.int64], items: npt.NDArray[np.int32], per_item: int
) -> pa.Table:
    """The table of REVIEWS_SCHEMA: at most `per_item` different texts of each item.

    `lines` are where the reviews of all training interactions stand in the source, `items` their item
    indices, each (training interactions,); nothing else of the source is read. Of more texts, those with the
    smallest digests are kept: a choice that depends on the texts alone. Empty texts count for nothing.
    """
    check_reviews(source)
    assert isinstance(source, AmazonSource)
    texts = review_texts(source, lines)
    found = {(int(item), text) for item, text in zip(items, texts, strict=True) if text}
    chosen: list[tuple[int, str]] = []
    for item, text in sorted(found, key=lambda pair: (pair[0], _digest(pair[1]), pair[1])):
        if len(chosen) < per_item or chosen[-per_item][0] != item:
            chosen.append((item, text))
    return pa.table(
        {"item": pa.array([item for item, _ in chosen], pa.int32()), "text": [text for _, text in chosen]},
        schema=REVIEWS_SCHEMA,
    )


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
