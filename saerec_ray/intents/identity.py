"""Ids that outlive a retraining: latents of a new dictionary take over the ids of the latents they match."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

from saerec_ray.data.prepared import PreparedItems
from saerec_ray.dictionary.attributes import AttributeValue
from saerec_ray.intents.catalogue import Catalogue, DeprecatedIntent, Intent
from saerec_ray.intents.edit import Edit

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

MATCH_THRESHOLD = 0.7
"""A pair of latents with at least this similarity is one intent."""
SUCCESSOR_THRESHOLD = 0.4
"""A new intent must be at least this similar to an old one to be named as what to use instead."""
MAX_SUCCESSORS = 3
_DECIDED = ("active", "blocked")
"""States that end the deprecation of an id; a blocked intent must not be listed as deprecated either."""
MIN_SHARED_ITEMS = 50
"""With fewer items in both catalogues correlations say nothing, and directions decide alone."""


@dataclass(frozen=True)
class Latents:
    """Dictionaries and the items they were read on."""

    decoder: Floats  # unit rows of the text dictionary: (text latents, d)
    codes: (
        csr_array  # (items, latents): those of texts first, then of co-occurrence, then of attribute values
    )
    items: list[str]  # see item_keys
    values: tuple[AttributeValue, ...] = field(default=(), kw_only=True)
    """What the last latents stand for, in their order."""

    @property
    def learnt(self) -> int:
        """Number of latents that were trained; those of attribute values come after them."""
        return int(self.codes.shape[1]) - len(self.values)


def item_keys(items: PreparedItems) -> list[str]:
    """What tells items of two catalogues apart: id and text, since many catalogues number their items from 1.

    A digest of both, in hexadecimal.
    """
    return [
        hashlib.sha256(f"{item_id}\n{text}".encode()).hexdigest()[:32]
        for item_id, text in zip(items.ids, items.texts, strict=True)
    ]


@dataclass(frozen=True)
class NamedLatents(Latents):
    """The same with the names the latents got."""

    catalogue: Catalogue


@dataclass(frozen=True)
class Matching:
    """Which latent of a new dictionary is which of an old one."""

    similarity: Floats  # (old latents, new latents), in [-1, 1]
    new_of_old: dict[int, int]  # the pairs of the best assignment that reach MATCH_THRESHOLD

    def match_share(self) -> float:
        """Share of the old latents that have a match."""
        return len(self.new_of_old) / max(1, len(self.similarity))


def match_latents(old: Latents, new: Latents) -> Matching:
    """Matches latents by what they are read from and by what they fire on, those of each source by themselves.

    Latents of an attribute value match when the value is the same, and never otherwise: their similarity is 1
    then, else the correlation of the codes. The similarity of text latents is the mean of the cosine of the decoder
    directions and the correlation of the codes over the items that both catalogues have. Where the text vectors
    differ in length, or where fewer than MIN_SHARED_ITEMS items are shared, the other part alone decides; with
    neither, nothing matches. Directions of co-occurrence mean nothing on other interactions, so there the codes
    alone decide. Across sources similarities are 0.
    """
    similarity = np.zeros((old.codes.shape[1], new.codes.shape[1]), dtype=np.float32)
    new_of_old: dict[int, int] = {}
    correlations = _shared_correlations(old, new)
    texts, learnt = (len(old.decoder), len(new.decoder)), (old.learnt, new.learnt)
    for begin, end, directions in (((0, 0), texts, True), (texts, learnt, False)):
        block = slice(begin[0], end[0]), slice(begin[1], end[1])
        parts = [] if correlations is None else [correlations[block]]
        if directions and old.decoder.shape[1] == new.decoder.shape[1]:
            parts.insert(0, direction_cosines(old.decoder, new.decoder))
        if parts:
            found = assign(np.mean(parts, axis=0, dtype=np.float32))
            similarity[block] = found.similarity
            new_of_old |= {row + begin[0]: column + begin[1] for row, column in found.new_of_old.items()}
    if correlations is not None:
        similarity[learnt[0] :, learnt[1] :] = correlations[learnt[0] :, learnt[1] :]
    place = {value: learnt[1] + column for column, value in enumerate(new.values)}
    same = {learnt[0] + row: place[value] for row, value in enumerate(old.values) if value in place}
    for old_latent, new_latent in same.items():
        similarity[old_latent, new_latent] = 1
    return Matching(similarity, new_of_old | same)


def _shared_correlations(old: Latents, new: Latents) -> Floats | None:
    """Correlations of all pairs over the items of both, (old latents, new latents); None with too few of them."""
    place = {item: row for row, item in enumerate(new.items)}
    shared = [(row, place[item]) for row, item in enumerate(old.items) if item in place]
    if len(shared) < MIN_SHARED_ITEMS:
        return None
    old_rows, new_rows = np.array(shared, dtype=np.int64).T
    return code_correlations(old.codes[old_rows], new.codes[new_rows])


def assign(similarity: Floats, threshold: float = MATCH_THRESHOLD) -> Matching:
    """The one-to-one assignment with the largest total similarity, cut at the threshold."""
    rows, columns = linear_sum_assignment(-similarity)
    pairs = {
        int(row): int(column)
        for row, column in zip(rows, columns, strict=True)
        if similarity[row, column] >= threshold
    }
    return Matching(similarity, pairs)


def direction_cosines(old: Floats, new: Floats) -> Floats:
    """Cosines of all pairs of decoder directions, (old, new); a direction of length 0 has cosine 0."""
    return np.asarray(_unit(old) @ _unit(new).T, dtype=np.float32)


def code_correlations(old: csr_array, new: csr_array) -> Floats:
    """Pearson correlations of all pairs of latents over the same items, (old, new); 0 for a constant one."""
    items = old.shape[0]
    old_mean, new_mean = (np.asarray(codes.mean(axis=0)).ravel() for codes in (old, new))
    covariance = np.asarray((old.T @ new).todense()) / items - np.outer(old_mean, new_mean)
    old_variance, new_variance = (
        np.maximum(np.asarray(codes.power(2).mean(axis=0)).ravel() - mean**2, 0)
        for codes, mean in ((old, old_mean), (new, new_mean))
    )
    scale = np.sqrt(np.outer(old_variance, new_variance))
    correlations = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)
    return np.asarray(np.clip(correlations, -1, 1), dtype=np.float32)


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return unit


def carried_ids(before: Catalogue, ids: Sequence[str], new: Latents, matching: Matching) -> list[str]:
    """The ids of new latents: the old ones where latents match, else their own.

    `ids` are their own. An id that an intent of the old catalogue has is never given to a latent that does not
    continue it; one that is only listed as deprecated comes back with the direction it was made from. Latents of
    attribute values have their own always, because the same value has the same id everywhere.
    """
    old_of_new = {new_latent: old_latent for old_latent, new_latent in matching.new_of_old.items()}
    exact = set(ids[new.learnt :])
    taken = {intent.intent_id for intent in before.intents} | exact
    never = taken | {each.intent_id for each in before.deprecated} | set(ids)
    carried = []
    for latent, own in enumerate(ids[: new.learnt]):
        before_id = before.intents[old_of_new[latent]].intent_id if latent in old_of_new else None
        if before_id is not None and before_id not in exact:
            carried.append(before_id)
            continue
        origin = (
            new.decoder[latent].astype(np.float16).tobytes() if latent < len(new.decoder) else own.encode()
        )
        intent_id = own if own not in taken else _unused_id(origin, never)
        taken.add(intent_id)
        never.add(intent_id)
        carried.append(intent_id)
    return [*carried, *ids[new.learnt :]]


def carry_over(old: NamedLatents, new: NamedLatents, matching: Matching) -> Catalogue:
    """The new catalogue with the old ids where latents match, and with what became of the other old ids.

    Old intents that people could see are listed as deprecated when they have no match, or one that failed a gate,
    as are those the old catalogue listed already; their successors are the closest published new intents. An id
    leaves that list when its latent passes the gates again.
    """
    before, catalogue = old.catalogue, new.catalogue
    ids = carried_ids(before, [intent.intent_id for intent in catalogue.intents], new, matching)
    intents = _renamed(catalogue.intents, ids)
    visible = {intent.intent_id for intent in intents if intent.state in _DECIDED}
    gone = {
        intent.intent_id: deprecated(intent, before.intents_version, intents, matching.similarity)
        for intent in before.intents
        if intent.intent_id not in visible and intent.published
    }
    listed = {each.intent_id: each for each in _still_deprecated(before.deprecated, intents, gone)} | gone
    content = [catalogue.intents_version, *(intent.intent_id for intent in intents), *sorted(listed)]
    return Catalogue(
        intents_version=hashlib.sha256("\n".join(content).encode()).hexdigest()[:12],
        intents=intents,
        deprecated=[listed[intent_id] for intent_id in sorted(listed)],
    )


def inherited_edits(before: Catalogue, ids: Sequence[str], matching: Matching) -> dict[str, Edit]:
    """What people decided elsewhere of the intents that go on, by their id; `ids` are those of the new latents."""
    return {
        ids[new_latent]: edit
        for old_latent, new_latent in matching.new_of_old.items()
        if (edit := before.intents[old_latent].inherited_edit) is not None
    }


def deprecated(
    intent: Intent, last_version: str, intents: Sequence[Intent], similarity: Floats
) -> DeprecatedIntent:
    """What is kept of an intent without a match; `similarity` is (old latents, new latents)."""
    row = similarity[intent.latent]
    near = [
        other
        for other in sorted(intents, key=lambda each: (-float(row[each.latent]), each.latent))
        if other.published and row[other.latent] >= SUCCESSOR_THRESHOLD
    ]
    return DeprecatedIntent(
        intent_id=intent.intent_id,
        label=intent.label,
        description=intent.description,
        terms=intent.terms,
        label_source=intent.label_source,
        dictionary=intent.dictionary,
        last_version=last_version,
        successors=[other.intent_id for other in near[:MAX_SUCCESSORS]],
    )


def _renamed(intents: Sequence[Intent], ids: Sequence[str]) -> list[Intent]:
    """The intents with these ids; parents are named by id, so they are named anew."""
    now = {intent.intent_id: intent_id for intent, intent_id in zip(intents, ids, strict=True)}
    return [
        intent.model_copy(
            update={"intent_id": intent_id, "parent_id": now[intent.parent_id] if intent.parent_id else None}
        )
        for intent, intent_id in zip(intents, ids, strict=True)
    ]


def _still_deprecated(
    listed: Sequence[DeprecatedIntent], intents: Sequence[Intent], gone: Mapping[str, DeprecatedIntent]
) -> list[DeprecatedIntent]:
    """Entries of the old catalogue; a successor that is gone by now gives way to its own successors."""
    published = {intent.intent_id for intent in intents if intent.published}
    back = {intent.intent_id for intent in intents if intent.state in _DECIDED}
    result = []
    for entry in listed:
        if entry.intent_id in back:
            continue
        followed = [
            successor
            for each in entry.successors
            for successor in ([each] if each in published else gone[each].successors if each in gone else [])
        ]
        kept = list(dict.fromkeys(followed))[:MAX_SUCCESSORS]
        result.append(entry.model_copy(update={"successors": kept}))
    return result


def _unused_id(content: bytes, taken: set[str]) -> str:
    """An id for a latent whose own is in use for another intent, for good; `content` tells the latent apart."""
    while True:
        content = hashlib.sha256(content).digest()
        intent_id = f"int-{content.hex()[:16]}"
        if intent_id not in taken:
            return intent_id
