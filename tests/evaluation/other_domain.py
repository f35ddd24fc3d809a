"""A second domain without a second training: the items of finished stages in another order, with the same users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from saerec_ray.data.prepared import PreparedItems, read_items, read_sequences
from saerec_ray.dictionary.concatenated import read_dictionaries
from saerec_ray.dictionary.foreign import ForeignReader
from saerec_ray.evaluation.transfer_part import OtherDomain, OtherDomains
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.text.embed import load_embeddings


def other_domain(workdir: Path, name: str = "there") -> OtherDomain:
    """What the finished stages of `workdir` would be as another domain, whose item 0 is the last one here."""
    items, sequences = read_items(workdir / "prepare"), read_sequences(workdir / "prepare")
    last = len(items) - 1
    return OtherDomain(
        name=name,
        dictionary=read_dictionaries(workdir / "dictionary").text,
        intents=read_catalogue(workdir / "intents").intents,
        items=PreparedItems(items.ids[::-1], items.titles[::-1], items.texts[::-1], items.attributes[::-1]),
        vectors=np.ascontiguousarray(load_embeddings(workdir / "embed")[::-1]),
        sequences=replace(sequences, items=(last - sequences.items).astype(np.int32)),
    )


def other_domains(workdir: Path, *names: str, shared: bool = True) -> OtherDomains:
    """Several of them; with `shared` users the reader is that of the run in `workdir`."""
    reader = ForeignReader(read_dictionaries(workdir / "dictionary")) if shared else None
    return OtherDomains([other_domain(workdir, name) for name in names or ("there",)], reader)
