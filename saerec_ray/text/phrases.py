"""Phrases of texts: runs of one to three words that could be a name, and which texts hold them."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

TOKEN = re.compile(r"\w[\w'&+-]*\w|\w")
BOUNDARY = re.compile(r"[.!?](?=\s|$)|[,:;>|/()\[\]\"\n]|\s[-–]\s")
"""Phrases never cross these, or the end of one field would join the beginning of the next."""
LONGEST_PHRASE = 3
MAX_DOCUMENT_SHARE = 0.5
"""Phrases in more texts than this are the form of the texts (field names), not their content."""

_TEXTS_AT_ONCE = 100_000
"""Of so many texts all phrases fit into memory together."""
_COUNTERS = 1 << 27
"""512 MiB of them, once there are more texts."""


@dataclass(frozen=True)
class PhraseCounts:
    """Which texts hold which phrases of one to three words."""

    phrases: list[str]
    counts: csr_array  # (items, phrases), 1 where the text holds the phrase


def count_phrases(texts: list[str], max_phrases: int) -> PhraseCounts:
    """Counts phrases that at least three texts (one, of fewer than 100) and at most half of them hold.

    Of more than `max_phrases` the most frequent are kept.
    """
    minimum = 3 if len(texts) >= 100 else 1
    candidates = _lowered if len(texts) <= _TEXTS_AT_ONCE else _without_rare(texts, minimum)
    vectorizer = CountVectorizer(
        analyzer=candidates,
        min_df=minimum,
        max_df=MAX_DOCUMENT_SHARE,
        binary=True,
        dtype=np.float32,
    )
    try:
        matrix = csr_array(vectorizer.fit_transform(texts))
    except ValueError:  # no text holds a usable word
        return PhraseCounts([], csr_array((len(texts), 0), dtype=np.float32))
    phrases = vectorizer.get_feature_names_out().tolist()
    if len(phrases) > max_phrases:
        frequency = np.asarray(matrix.sum(axis=0)).ravel()
        kept = np.sort(np.argsort(-frequency, kind="stable")[:max_phrases])
        return PhraseCounts([phrases[place] for place in kept], csr_array(matrix.tocsc()[:, kept]))
    return PhraseCounts(phrases, matrix)


def _lowered(text: str) -> set[str]:
    return {phrase.lower() for phrase in phrases_of(text)}


def _without_rare(texts: list[str], minimum: int) -> Callable[[str], set[str]]:
    """What gives the phrases of a text without nearly all of those that fewer than `minimum` of the texts hold.

    Most phrases of a large catalogue are in one text, and all of them at once need more memory than a machine has.
    Here they share counters: what stays below the minimum is rare, whatever else was counted with it. A few rare ones
    are not seen to be, and are left to the caller.
    """
    counters = np.zeros(_COUNTERS, dtype=np.uint32)
    for text in texts:
        np.add.at(counters, np.array([_counter(phrase) for phrase in _lowered(text)], dtype=np.int64), 1)
    frequent = counters >= minimum
    return lambda text: {phrase for phrase in _lowered(text) if frequent[_counter(phrase)]}


def _counter(phrase: str) -> int:
    return zlib.crc32(phrase.encode("utf-8", "surrogatepass")) % _COUNTERS


def phrases_of(text: str) -> Iterator[str]:
    """All phrases of one to three words, as written, that could be a name."""
    for part in BOUNDARY.split(text):
        words = TOKEN.findall(part)
        for start in range(len(words)):
            for end in range(start + 1, min(start + LONGEST_PHRASE, len(words)) + 1):
                if _is_name_like(words[start:end]):
                    yield " ".join(words[start:end])


def _is_name_like(words: list[str]) -> bool:
    edges = {words[0].lower(), words[-1].lower()}
    letters = sum(character.isalpha() for word in words for character in word)
    different = {word.lower() for word in words}
    return letters >= 3 and not edges & ENGLISH_STOP_WORDS and len(different) == len(words)


def surface_forms(phrases: list[str], texts: list[str]) -> dict[str, str]:
    """How each phrase is usually written: its most frequent spelling in the texts."""
    wanted = set(phrases)
    spellings: dict[str, Counter[str]] = {}
    for text in texts:
        for written in phrases_of(text):
            if (lowered := written.lower()) in wanted:
                spellings.setdefault(lowered, Counter())[written] += 1
    return {
        phrase: spellings[phrase].most_common(1)[0][0] if phrase in spellings else phrase for phrase in wanted
    }
