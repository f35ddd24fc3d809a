"""The part `transfer`: what the finished runs of other domains give to this one. Nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from saerec_ray.backbone.validation import held_out
from saerec_ray.data.prepared import PreparedItems, PreparedSequences
from saerec_ray.dictionary.adoption import recentred
from saerec_ray.dictionary.foreign import ForeignReader, learnt_alone
from saerec_ray.dictionary.sae import Dictionary, Floats
from saerec_ray.errors import InputError
from saerec_ray.evaluation.coded_items import CodedItems
from saerec_ray.evaluation.intents_part import Encode
from saerec_ray.evaluation.text_neighbours import CLOSENESS
from saerec_ray.evaluation.transfer import (
    SharedUsers,
    TrainedModel,
    dictionary_transfer,
    label_transfer,
    profile_transfer,
)
from saerec_ray.intents.catalogue import Intent

KEPT, RECENTRED = "kept centre", "recentred"
CENTRES = (KEPT, RECENTRED)
LEARNT, WHOLE = "learnt latents alone", "with attributes and phrases"
CODINGS = tuple(f"{latents}, {centre}" for latents, centre in product((LEARNT, WHOLE), CENTRES))
TEXTS = tuple(
    f"{kind}, {closeness}"
    for kind, closeness in product(("text neighbours", "centred text neighbours"), CLOSENESS)
)
PROFILE_SCORERS = (
    *(f"{scorer}, {coding}" for coding, scorer in product(CODINGS, ("model", "intent prior"))),
    "popularity",
    *TEXTS,
)
"""What profile_transfer ranks by, in the order of tables."""
NO_PROFILES = (
    "Histories there were not tried as histories here: nobody said who is the same person. Equal user ids may be "
    "different people, as where every data set numbers its users anew. If they are the same people, set "
    "evaluate.shared_user_ids to true."
)

OnProgress = Callable[[float, float], None]


@dataclass(frozen=True)
class OtherDomain:
    """A finished run on other items, whose texts were read with the language model of this one."""

    name: str
    dictionary: Dictionary  # of the texts
    intents: Sequence[Intent]  # one a latent, in their order; after those of the texts there may be others
    items: PreparedItems
    vectors: Floats  # raw, (items, d)
    sequences: PreparedSequences


@dataclass(frozen=True)
class OtherDomains:
    """Those that a run is measured with."""

    domains: Sequence[OtherDomain]
    reader: ForeignReader | None
    """Reads their items for the model of this run; None where nobody knows which users are the same people."""


@dataclass(frozen=True)
class Trial:
    """What the histories of other domains are tried on."""

    model: TrainedModel
    reader: ForeignReader
    sequences: PreparedSequences  # of this run, whose user ids are those of the same people as there
    most_users: int


def measure_transfer(
    domains: Sequence[OtherDomain],
    coded: CodedItems,
    encode: Encode,
    trial: Trial | None,
    seed: int,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Dictionary, names and histories of every other domain, measured on the items of this one.

    `coded`: the items here with their own dictionary; without `trial` histories are left out. Raises InputError when
    the reader of the trial does not fit its model.
    """
    found: dict[str, Any] = {}
    for done, there in enumerate(domains):
        if on_progress:
            on_progress(done, len(domains))
        found[there.name] = {"items": len(there.items), **measure_reading(there, coded, encode, seed)}
        if trial is not None:
            found[there.name]["profiles"] = measure_profiles(there, trial, coded.vectors, seed)
    if on_progress:
        on_progress(1, 1)
    result = {"items": len(coded.vectors), "measured_items": len(coded.held_out), "domains": found}
    return result if trial is not None else {**result, "no_profiles": NO_PROFILES}


def measure_reading(there: OtherDomain, coded: CodedItems, encode: Encode, seed: int) -> dict[str, Any]:
    """What the dictionary of `there` and its names are worth on the items of `coded`, whose dictionary is native.

    `labels` are by how the foreign dictionary is centred: see CENTRES. See dictionary_transfer and label_transfer.
    """
    of_texts = there.intents[: there.dictionary.width]
    labels = encode([intent.label for intent in of_texts])
    readers = {KEPT: there.dictionary, RECENTRED: recentred(there.dictionary, coded.vectors)}
    return {
        "dictionary": dictionary_transfer(
            there.dictionary, coded.dictionary, coded.vectors, coded.held_out, seed
        ),
        "labels": {
            centre: label_transfer(of_texts, labels, reader.encode(coded.vectors), coded.vectors, seed)
            for centre, reader in readers.items()
        },
    }


def shared_users(there: PreparedSequences, here: PreparedSequences, most: int, seed: int) -> SharedUsers:
    """Users with a history there and test items here, by equal id; of more than `most` those that the seed draws.

    Their histories are all they did there before its held-out items.
    """
    rows = {person: row for row, person in enumerate(there.user_ids) if len(there.train(row))}
    every = held_out(here, "test")
    both = np.flatnonzero([here.user_ids[user] in rows for user in every.users])
    if len(both) > most:
        both = np.sort(np.random.default_rng(seed).choice(both, most, replace=False))
    cases = every.at(both)
    histories = [there.train(rows[here.user_ids[user]]).astype(np.int64) for user in cases.users]
    return SharedUsers(histories, cases)


def measure_profiles(there: OtherDomain, trial: Trial, vectors: Floats, seed: int) -> dict[str, Any]:
    """Recommends here from histories in `there` alone; see profile_transfer, whose figures are in `models`.

    `vectors`: text embeddings of the items here, (items, d). `exact_latents`: of attributes and phrases, those that
    an item of `there` has, on average. Without users there are no `models`. Raises InputError when the reader does
    not give the intents that the model was trained with.
    """
    reader, model = trial.reader, trial.model
    if reader.dictionaries.width != model.space.intent_count:
        raise InputError(
            f"The dictionary stage has {reader.dictionaries.width} latents, but the model was trained with "
            f"{model.space.intent_count}; run the stages intents and train again."
        )
    users = shared_users(there.sequences, trial.sequences, trial.most_users, seed)
    if len(users.cases) == 0:
        return {"users": 0}
    codings = {}
    for centre in CENTRES:
        codes = reader.codes(
            there.vectors, there.items.texts, there.items.attributes, recentre=centre == RECENTRED
        )
        codings[f"{LEARNT}, {centre}"] = learnt_alone(codes, reader.dictionaries)
        if reader.dictionaries.attributes:
            codings[f"{WHOLE}, {centre}"] = codes
    learnt = codings[f"{LEARNT}, {KEPT}"]
    exact = codings.get(f"{WHOLE}, {KEPT}", learnt).nnz - learnt.nnz
    return {
        "users": len(users.cases),
        "exact_latents": exact / len(there.items),
        "models": profile_transfer(model, codings, there.vectors, vectors, users, seed),
    }


def transfer_headline(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of the manifest."""
    metrics: dict[str, Any] = {}
    for name, found in report.get("transfer", {}).get("domains", {}).items():
        if (ratio := found["dictionary"]["fvu_ratio_foreign_recentred"]) is not None:
            metrics[f"transfer_{name}_fvu_ratio"] = ratio
        if (auc := found["labels"][RECENTRED].get("auc_away")) is not None:
            metrics[f"transfer_{name}_label_auc"] = auc
    return metrics
