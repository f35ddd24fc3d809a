"""What a dictionary is worth on another domain, and what a history in one domain says about another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.history_space import history_space
from saerec_ray.backbone.validation import EncodedUsers, HeldOut, encode_users, model_ranks
from saerec_ray.config import TrainConfig
from saerec_ray.dictionary.adoption import recentred, unexplained_about_own_mean
from saerec_ray.dictionary.metrics import activation_counts, random_dictionary
from saerec_ray.dictionary.sae import Dictionary, Floats, unit_rows
from saerec_ray.evaluation.accuracy import Ranks, accuracy, popularity_ranks, target_cases
from saerec_ray.evaluation.intervals import target_interval
from saerec_ray.evaluation.text_neighbours import CLOSENESS, text_neighbour_ranks
from saerec_ray.intents.catalogue import Intent
from saerec_ray.intents.detection import draw_examples, judge
from saerec_ray.intents.identity import assign, direction_cosines
from saerec_ray.scoring import ItemSpace, PriorTable

LIVE_ITEMS = 10
"""A latent is alive on a domain when it fires on at least this many of its items."""
LABEL_ITEMS = 50
"""A label is judged on a domain when its latent fires on at least this many of its items."""


def dictionary_transfer(
    foreign: Dictionary, native: Dictionary, vectors: Floats, unseen: npt.NDArray[np.int64], seed: int
) -> dict[str, Any]:
    """How well the dictionary of another domain reads the items of this one.

    `vectors`: all items of this domain, (items, d); `unseen`: those the native dictionary was neither trained
    on nor chosen by, which alone are reconstructed, so that neither has an advantage. The variance is that of
    these items for all dictionaries. The control has random directions under the same inference rule and sparsity.
    Where these items do not vary, as when there is but one, what is lost of them is unknown: None.
    """
    held_out = vectors[unseen]
    native_codes = native.encode(vectors)
    active = max(1, round(native.encode(held_out).nnz / max(len(held_out), 1)))
    readers = {
        "native": native,
        "foreign": foreign,
        "foreign_recentred": recentred(foreign, vectors),
        "random": random_dictionary(native, vectors, active, seed),
    }
    varied = len(held_out) > 0 and bool((held_out != held_out[0]).any())
    fvu = {
        name: unexplained_about_own_mean(dictionary, held_out) if varied else None
        for name, dictionary in readers.items()
    }
    result: dict[str, Any] = {f"fvu_{name}": value for name, value in fvu.items()}
    for name in ("foreign", "foreign_recentred"):
        codes = readers[name].encode(vectors)
        own, its = fvu["native"], fvu[name]
        result[f"fvu_ratio_{name}"] = None if own is None or its is None or own == 0 else its / own
        result[f"l0_{name}"] = codes.nnz / len(vectors)
        result[f"live_share_{name}"] = float((activation_counts(codes) >= LIVE_ITEMS).mean())
    result["l0_native"] = native_codes.nnz / len(vectors)
    result["live_share_native"] = float((activation_counts(native_codes) >= LIVE_ITEMS).mean())
    result["match_share"] = assign(direction_cosines(foreign.decoder, native.decoder)).match_share()
    random = readers["random"].decoder
    result["match_share_random"] = assign(direction_cosines(random, native.decoder)).match_share()
    return result


def label_transfer(
    intents: Sequence[Intent], label_vectors: Floats, codes: csr_array, vectors: Floats, seed: int
) -> dict[str, Any]:
    """Whether names that were found on one domain still find the items of another.

    `intents` were named at home, where their AUC was measured on held-out items; `label_vectors`: embeddings
    of their labels, (intents, d); `codes` and `vectors`: the items of the other domain as the same dictionary
    of texts reads them. Only published intents active on at least LABEL_ITEMS of its items are judged. The control is
    the AUC of another intent's label.
    """
    counts = activation_counts(codes)
    judged = [
        intent
        for intent in intents
        if intent.published
        and intent.dictionary == "text"  # co-occurrence is read from interactions, which others do not share
        and intent.detection_auc is not None
        and counts[intent.latent] >= LABEL_ITEMS
    ]
    examples = draw_examples(codes, vectors, np.arange(len(vectors)), seed)
    judged = [intent for intent in judged if examples[intent.latent].judgeable]
    result: dict[str, Any] = {
        "published": sum(1 for intent in intents if intent.published and intent.dictionary == "text"),
        "judged": len(judged),
    }
    if not judged:
        return result
    home = np.array([intent.detection_auc for intent in judged], dtype=np.float64)
    away = np.array([judge(label_vectors[each.latent], examples[each.latent], vectors) for each in judged])
    result |= {
        "auc_home": float(home.mean()),
        "auc_away": float(away.mean()),
        "auc_drop": float((home - away).mean()),
        "auc_away_shuffled": None,  # a single label has no other to be compared with
        "kept_share": float((away >= 0.7).mean()),
    }
    if len(judged) > 1:
        strangers = [judged[place].latent for place in np.roll(np.arange(len(judged)), 1)]
        shuffled = [
            judge(label_vectors[stranger], examples[each.latent], vectors)
            for each, stranger in zip(judged, strangers, strict=True)
        ]
        result["auc_away_shuffled"] = float(np.mean(shuffled))
    return result


@dataclass(frozen=True)
class SharedUsers:
    """Users who are known in both domains: histories there, and the held-out items to be found here."""

    foreign_histories: list[npt.NDArray[np.int64]]  # rows of the foreign items, oldest first, none empty
    cases: HeldOut  # in this domain; the histories are only kept out of the ranking


@dataclass(frozen=True)
class TrainedModel:
    """The parts of a bundle that score items."""

    space: ItemSpace
    prior: PriorTable
    settings: TrainConfig
    encoder: Mapping[str, npt.NDArray[Any]]  # as UserEncoder takes them


def profile_transfer(
    model: TrainedModel,
    codings: Mapping[str, csr_array],
    foreign_vectors: Floats,
    vectors: Floats,
    users: SharedUsers,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Recommends here from what users did in another domain, as the only history.

    Items of the other domain are read as cold items, as a server reads them: e = D z, without residual; so the
    trained sequence encoder can follow them. `codings`: their codes by this model, (foreign items, intents), in
    several ways to be compared; see dictionary.foreign. `foreign_vectors` and `vectors`: unit text embeddings of
    both catalogues.
    Returns HR, NDCG and MRR at 10 and AUC (the share of items ranked below a target): with each coding of the model
    and of its intent prior alone; of popularity here; and of the text nearest neighbours in each reading of
    text_scores, as embedded and centred on the mean of each domain. Of each but popularity also by how much its HR@10
    is above that of popularity, and the 95% interval of that over users, drawn by the seed; of the model and its prior
    the same against the reading of the texts that is best for these very targets, which favours the texts.
    """
    ranks: dict[str, Ranks] = {}
    for name, codes in codings.items():
        encoded = encode_foreign(model, codes, users)
        ranks[f"model, {name}"] = model_ranks(model.space, model.prior, encoded)
        stateless = replace(encoded, states=np.zeros_like(encoded.states))
        ranks[f"intent prior, {name}"] = model_ranks(_profile_only(model.space), model.prior, stateless)
    ranks["popularity"] = popularity_ranks(model.space.popularity, users.cases)
    own_centres = [unit_rows(each - each.mean(axis=0)) for each in (vectors, foreign_vectors)]
    for kind, (here, there) in {
        "text neighbours": (vectors, foreign_vectors),
        "centred text neighbours": (own_centres[0], own_centres[1]),
    }.items():
        histories = [there[history] for history in users.foreign_histories]
        for closeness in CLOSENESS:
            ranks[f"{kind}, {closeness}"] = text_neighbour_ranks(here, users.cases, histories, closeness)
    rivals = _rivals(users.cases, model.space.item_count)
    result: dict[str, dict[str, Any]] = {
        name: {**accuracy(found, [10]), "AUC": float(1 - np.mean((found - 1) / rivals))}
        for name, found in ranks.items()
    }
    owners = target_cases(users.cases)
    hits = {name: (found <= 10).astype(np.float64) for name, found in ranks.items()}
    texts = [name for name in ranks if "text neighbours" in name]
    best = max(texts, key=lambda name: hits[name].mean())
    for called, other, ranked in (
        ("popularity", "popularity", ranks.keys() - {"popularity"}),
        ("texts", best, ranks.keys() - {"popularity", *texts}),
    ):
        for name in ranked:
            gains = hits[name] - hits[other]
            result[name][f"HR@10_over_{called}"] = float(gains.mean())
            result[name][f"HR@10_over_{called}_interval"] = list(target_interval(gains, owners, seed))
    return result


def _rivals(cases: HeldOut, items: int) -> npt.NDArray[np.int64]:
    """How many items each target competes with, at least 1: those neither met nor targets of the same case."""
    left = [
        items - len(np.union1d(history, targets))
        for history, targets in zip(cases.histories, cases.targets, strict=True)
    ]
    return np.maximum(np.array(left, dtype=np.int64)[target_cases(cases)], 1)


def _profile_only(space: ItemSpace) -> ItemSpace:
    """The space in which an item scores by the prior alone, for users without a state."""
    return replace(
        space,
        prior_weight=1.0,
        companion_weight=0.0,
        residuals=np.zeros_like(space.residuals),
        biases=np.zeros_like(space.biases),
    )


def encode_foreign(model: TrainedModel, foreign_codes: csr_array, users: SharedUsers) -> EncodedUsers:
    """States and profiles from foreign histories, for the cases in this domain.

    `foreign_codes`: (foreign items, intents). Nobody took a foreign item with one of here, so no companions.
    """
    together = history_space(model.space, [foreign_codes])
    encoder = UserEncoder(model.settings, model.encoder, together, model.prior)
    histories = [(history + model.space.item_count).astype(np.int32) for history in users.foreign_histories]
    encoded = encode_users(encoder, HeldOut(users.cases.users, histories, users.cases.targets))
    return replace(encoded, cases=users.cases)
