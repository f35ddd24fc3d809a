"""The third source of intents: plain attributes of items, such as brand or category, one latent a value.

A language model's vector of a text tells little of names like brands, and people follow brands. These latents
need no training and no label that could be wrong: an item carries one when it has the value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, hstack

from saerec_ray.dictionary.followed_phrases import PHRASE
from saerec_ray.dictionary.sae import read_codes, write_codes
from saerec_ray.dictionary.stability import read_stability, write_stability
from saerec_ray.dictionary_settings import AttributesConfig
from saerec_ray.errors import InputError

ATTRIBUTES_FILE = "attributes.json"


class AttributeValue(NamedTuple):
    """One value of one attribute."""

    attribute: str
    value: str

    @property
    def intent_id(self) -> str:
        """The id of its intent: the same value has the same id everywhere."""
        return f"int-{hashlib.sha256(json.dumps(self).encode()).hexdigest()[:16]}"


def add_attributes(
    config: AttributesConfig,
    attributes: Sequence[Mapping[str, list[str]]],
    folder: Path,
    cold: Collection[int] = (),
) -> dict[str, Any]:
    """Appends the latents of attributes to the codes that the stage folder already holds; returns the metrics.

    `attributes`: the values of every item by attribute; see attribute_codes for `cold`. Raises InputError when no item
    has what is asked for.
    """
    values, codes = attribute_codes(config, attributes, cold)
    before = read_codes(folder)
    write_codes(csr_array(hstack([before, codes], format="csr")), folder)
    (folder / ATTRIBUTES_FILE).write_text(json.dumps(values, ensure_ascii=False), "utf-8")
    if (stability := read_stability(folder)) is not None:
        unknown = np.full(len(values), np.nan, dtype=np.float32)
        write_stability(np.concatenate([stability, unknown]), folder)
    return {"latents": len(values), "an_item": codes.nnz / codes.shape[0]}


def attribute_codes(
    config: AttributesConfig, attributes: Sequence[Mapping[str, list[str]]], cold: Collection[int] = ()
) -> tuple[list[AttributeValue], csr_array]:
    """The values that enough and not too many items have, ascending, and their codes: see value_codes.

    The names asked for choose among the attributes of items; followed phrases are asked for by themselves.
    Without names asked for there may be none, as many catalogues have no attributes. Raises InputError when an
    attribute is asked for that no item has, or when no value of those asked for is left. The items `cold`, which
    training must not know, have codes, but do not count among those that have a value.
    """
    unknown = set(cold)
    found = {PHRASE} if config.phrases is not None else set()
    carriers: dict[AttributeValue, list[int]] = {}
    for item, named in enumerate(attributes):
        if item in unknown:
            continue
        for name, values in named.items():
            if config.names is None or name in {*config.names, *found}:
                for value in set(values):
                    carriers.setdefault(AttributeValue(name, value), []).append(item)
    present = {value.attribute for value in carriers}
    if missing := set(config.names or ()) - present:
        known = sorted({name for named in attributes for name in named})
        raise InputError(
            f"No item has the attribute {min(missing)} of dictionary.attributes.names; "
            f"items have: {', '.join(known) or 'none'}."
        )
    most = config.max_share * len(attributes)
    kept = sorted(value for value, items in carriers.items() if config.min_items <= len(items) <= most)
    if not kept and config.names is None:
        return [], csr_array((len(attributes), 0), dtype=np.float32)
    if not kept:
        raise InputError(
            f"No attribute value is on at least {config.min_items} items and at most {config.max_share:.0%} of them; "
            "change dictionary.attributes or leave it out."
        )
    return kept, value_codes(kept, config.weight, attributes)


def refuse_own_phrases(config: AttributesConfig, attributes: Sequence[Mapping[str, list[str]]]) -> None:
    """Raises InputError when an attribute that is to be taken has the name of phrases that are found in texts.

    Those are judged as accidents of the texts, and its values must not be. `attributes`: as the source has them.
    """
    wanted = config.names is None or PHRASE in config.names
    if wanted and any(PHRASE in own for own in attributes):
        raise InputError(
            f"Items have an attribute called {PHRASE}, the name of phrases that are found in texts; "
            "rename it in the source, or list the others in dictionary.attributes.names."
        )


def value_codes(
    values: Sequence[AttributeValue], weight: float, attributes: Sequence[Mapping[str, list[str]]]
) -> csr_array:
    """Which of the given values each item has, as codes (items, values); other values of an item do not count.

    The codes of an item are equal, with a squared sum of `weight` squared.
    """
    places = {value: place for place, value in enumerate(values)}
    columns = [
        sorted(
            {
                places[value]
                for name, own in named.items()
                for value in (AttributeValue(name, each) for each in own)
                if value in places
            }
        )
        for named in attributes
    ]
    counts = np.array([len(own) for own in columns], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    loadings = (weight / np.sqrt(np.repeat(counts, counts))).astype(np.float32)
    indices = np.array([place for own in columns for place in own], dtype=np.int64)
    return csr_array((loadings, indices, offsets), shape=(len(attributes), len(values)))


def read_attributes(folder: Path) -> tuple[AttributeValue, ...]:
    """The values that have a latent, of a stage folder, in the order of the latents; none without attributes."""
    path = folder / ATTRIBUTES_FILE
    return parse_attributes(path.read_text("utf-8")) if path.exists() else ()


def parse_attributes(text: str) -> tuple[AttributeValue, ...]:
    """Values from the JSON of ATTRIBUTES_FILE."""
    return tuple(AttributeValue(attribute, value) for attribute, value in json.loads(text))
