"""Phrases of texts that people follow: who took an item with the phrase soon takes another one with it.

Makers, series and heroes often stand in titles and in no field of their own, and the vector of a text tells
little of names. Which phrases matter is read from training interactions; which items have one, from texts alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary_settings import FollowedPhrasesConfig
from saerec_ray.text.phrases import count_phrases, phrases_of, surface_forms

Numbers = npt.NDArray[np.float64]

PHRASE = "phrase"
"""The attribute whose values are the phrases."""
MIN_OCCASIONS = 20
"""Interactions that must come after the phrase was met, or nothing is known of it."""
MIN_Z_SCORE = 3.0
MAX_OVERLAP = 0.7
"""Jaccard overlap of items from which one of two phrases says nothing new."""
_INTERACTIONS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Following:
    """How often a phrase is met again, one entry a phrase."""

    occasions: Numbers  # interactions with the phrase among the items before
    followed: Numbers  # of these, interactions with an item that has the phrase, too
    expected: Numbers  # how many there would be if the items before told nothing

    @property
    def lift(self) -> Numbers:
        """How many times as often as by chance; one more of each keeps rare phrases near 1."""
        return np.asarray((self.followed + 1) / (self.expected + 1))

    @property
    def z_score(self) -> Numbers:
        """Deviations of a Poisson count that `followed` lies above `expected`."""
        return np.asarray((self.followed - self.expected) / np.sqrt(np.maximum(self.expected, 1e-9)))


def add_followed_phrases(
    config: FollowedPhrasesConfig,
    texts: Sequence[str],
    attributes: Sequence[Mapping[str, list[str]]],
    met: PreparedSequences,
    cold: Collection[int] = (),
) -> list[dict[str, list[str]]]:
    """The attributes of every item with its followed phrases beside; see followed_phrases and with_phrases."""
    phrases = followed_phrases(config, texts, attributes, met, cold)
    return with_phrases(phrases, config.most_an_item, texts, attributes)


def followed_phrases(
    config: FollowedPhrasesConfig,
    texts: Sequence[str],
    attributes: Sequence[Mapping[str, list[str]]],
    met: PreparedSequences,
    cold: Collection[int] = (),
) -> list[str]:
    """The phrases that people follow, the surest first, written as the texts mostly write them.

    Phrases with nearly the items of an attribute value, or of a surer phrase, are left out. `met`: the
    interactions to learn from, of which the training part is read. Phrases are not looked for in the items `cold`,
    which training must not know.
    """
    unknown = set(cold)
    texts = ["" if item in unknown else text for item, text in enumerate(texts)]
    attributes = [{} if item in unknown else own for item, own in enumerate(attributes)]
    counted = count_phrases(list(texts), config.max_phrases)
    carriers = np.asarray(counted.counts.sum(axis=0)).ravel()
    enough = (carriers >= config.min_items) & (carriers <= config.max_share * len(texts))
    has = csr_array(counted.counts.tocsc()[:, np.flatnonzero(enough)])  # (items, phrases)
    phrases = [counted.phrases[place] for place in np.flatnonzero(enough)]
    following = follow(has, met, config.window)
    sure = np.flatnonzero(
        (following.occasions >= MIN_OCCASIONS)
        & (following.lift >= config.min_lift)
        & (following.z_score >= MIN_Z_SCORE)
    )
    order = sure[np.argsort(-following.z_score[sure], kind="stable")]  # the surest first
    kept = order[different(csr_array(has.tocsc()[:, order]), value_carriers(attributes))]
    written = surface_forms([phrases[place] for place in kept], list(texts))
    return [written[phrases[place]] for place in kept]


def with_phrases(
    phrases: Sequence[str],
    most_an_item: int,
    texts: Sequence[str],
    attributes: Sequence[Mapping[str, list[str]]],
) -> list[dict[str, list[str]]]:
    """The attributes of every item with the phrases that its text has, in any case, beside its own values.

    `phrases` are written as the result writes them; of those of an item the first `most_an_item` count. A field of
    the items that is itself called PHRASE gives way: its values were not found in texts.
    """
    place_of = {phrase.lower(): place for place, phrase in enumerate(phrases)}
    result = []
    for text, fields in zip(texts, attributes, strict=True):
        own = {name: values for name, values in fields.items() if name != PHRASE}
        held = {phrase.lower() for phrase in phrases_of(text)} & place_of.keys() if place_of else set()
        places = sorted(place_of[phrase] for phrase in held)[:most_an_item]
        names = [phrases[place] for place in places]
        result.append({**own, PHRASE: names} if names else own)
    return result


def follow(has: csr_array, met: PreparedSequences, window: int) -> Following:
    """Counts over training interactions, for each with the `window` interactions before it.

    `has`: (items, phrases), 1 where the item has the phrase. An item met again does not count: it has its own
    phrases without anybody following them.
    """
    users, items = met.train_interactions()
    occasions, followed = np.zeros(has.shape[1]), np.zeros(has.shape[1])
    ages = np.arange(1, window + 1)
    for start in range(0, len(items), _INTERACTIONS_AT_ONCE):
        now = np.arange(start, min(start + _INTERACTIONS_AT_ONCE, len(items)))
        before = np.maximum(now[:, None] - ages, 0)  # (interactions, window)
        known = (now[:, None] >= ages) & (users[before] == users[now][:, None])
        again = (known & (items[before] == items[now][:, None])).any(axis=1)
        known &= ~again[:, None]
        offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
        earlier = csr_array(
            (np.ones(offsets[-1], dtype=np.float32), items[before][known], offsets),
            shape=(len(now), has.shape[0]),
        )
        seen = csr_array(earlier @ has)  # (interactions, phrases)
        seen.data[:] = 1
        occasions += np.asarray(seen.sum(axis=0)).ravel()
        followed += np.asarray(seen.multiply(has[items[now]]).sum(axis=0)).ravel()
    share = np.bincount(items, minlength=has.shape[0]) @ has / max(len(items), 1)
    return Following(occasions, followed, occasions * share)


def different(has: csr_array, others: csr_array) -> npt.NDArray[np.int64]:
    """Places of the columns of `has` that are unlike all columns of `others` and all kept columns before them.

    Both are (items, ...) with ones; alike are columns whose items overlap by more than MAX_OVERLAP (Jaccard).
    """
    alike_others = (overlap(has, others) > MAX_OVERLAP).sum(axis=1)
    alike = csr_array(overlap(has, has) > MAX_OVERLAP)
    kept = np.zeros(has.shape[1], dtype=bool)
    for place in range(has.shape[1]):
        neighbours = alike.indices[alike.indptr[place] : alike.indptr[place + 1]]
        kept[place] = not alike_others[place] and not kept[neighbours].any()
    return np.flatnonzero(kept)


def overlap(one: csr_array, other: csr_array) -> csr_array:
    """The Jaccard overlap of the items of every column of `one` with those of every column of `other`."""
    shared = csr_array(one.T @ other).astype(np.float64)
    sizes = [np.asarray(each.sum(axis=0)).ravel() for each in (one, other)]
    rows = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
    shared.data /= sizes[0][rows] + sizes[1][shared.indices] - shared.data
    return shared


def value_carriers(attributes: Sequence[Mapping[str, list[str]]]) -> csr_array:
    """Which item has which attribute value: (items, values), 1 where it has."""
    places: dict[tuple[str, str], int] = {}
    rows, columns = [], []
    for item, named in enumerate(attributes):
        for value in {(name, value) for name, values in named.items() for value in values}:
            rows.append(item)
            columns.append(places.setdefault(value, len(places)))
    ones = np.ones(len(rows), dtype=np.float32)
    return csr_array((ones, (rows, columns)), shape=(len(attributes), len(places)))
