"""Which items may be returned: allow and deny lists and attribute conditions as one mask."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from saerec_ray.data.prepared import PreparedItems
from saerec_ray.retrieval import Mask
from saerec_ray.scoring import Indices


@dataclass(frozen=True)
class AnyOf:
    """The attribute has at least one of the values."""

    attribute: str
    values: Sequence[str]


@dataclass(frozen=True)
class NoneOf:
    """The attribute has none of the values."""

    attribute: str
    values: Sequence[str]


@dataclass(frozen=True)
class InRange:
    """One of the attribute's values is a number in this closed range."""

    attribute: str
    lowest: float
    highest: float


Condition = AnyOf | NoneOf | InRange


@dataclass(frozen=True)
class Filter:
    """Every part must hold; None as allowed items lets all through."""

    allowed: Sequence[int] | None = None
    denied: Sequence[int] = ()
    conditions: Sequence[Condition] = field(default_factory=tuple)


class AttributeIndex:
    """Items by attribute value; immutable after construction."""

    def __init__(self, items: PreparedItems) -> None:
        self._item_count = len(items)
        carriers: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for item, attributes in enumerate(items.attributes):
            for attribute, values in attributes.items():
                for value in values:
                    carriers[attribute][value].append(item)
        self._carriers: dict[str, dict[str, Indices]] = {
            attribute: {value: np.array(found, dtype=np.int64) for value, found in values.items()}
            for attribute, values in carriers.items()
        }
        self._numbers = cache(self._read_numbers)

    def __contains__(self, attribute: str) -> bool:
        return attribute in self._carriers

    def mask(self, wanted: Filter, seen: Iterable[int] = ()) -> Mask:
        """Marks the items that pass the filter and are not in `seen`: (items,)."""
        if wanted.allowed is None:
            mask = np.ones(self._item_count, dtype=bool)
        else:
            mask = np.zeros(self._item_count, dtype=bool)
            mask[list(wanted.allowed)] = True
        for condition in wanted.conditions:
            mask &= self._passing(condition)
        mask[list(wanted.denied)] = False
        mask[list(seen)] = False
        return mask

    def _passing(self, condition: Condition) -> Mask:
        passing = np.zeros(self._item_count, dtype=bool)
        if isinstance(condition, InRange):
            items, numbers = self._numbers(condition.attribute)
            passing[items[(numbers >= condition.lowest) & (numbers <= condition.highest)]] = True
            return passing
        carriers = self._carriers[condition.attribute]
        for value in condition.values:
            if value in carriers:
                passing[carriers[value]] = True
        return ~passing if isinstance(condition, NoneOf) else passing

    def _read_numbers(self, attribute: str) -> tuple[Indices, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """The attribute's values that are finite numbers, and their items."""
        items: list[Indices] = [np.empty(0, dtype=np.int64)]
        numbers: list[float] = []
        for value, carriers in self._carriers[attribute].items():
            with contextlib.suppress(ValueError):
                number = float(value)
                if math.isfinite(number):
                    items.append(carriers)
                    numbers.extend([number] * len(carriers))
        return np.concatenate(items), np.array(numbers, dtype=np.float64)
