"""Plain properties of item texts, measured without any model: length, characters, language, repeated phrases."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saerec_ray.text.phrases import BOUNDARY, TOKEN

Values = npt.NDArray[np.float64]

MARKUP = re.compile(r"</?[a-z][^>]{0,200}>|&(?:#\d{2,5}|[a-z]{2,8});|https?://\S+|www\.\S+", re.IGNORECASE)
TEMPLATE_WORDS = 6
"""So many words in a row that several texts repeat are a phrase of a template."""
MIN_HOLDERS = 20
"""A language or a repeated phrase that fewer texts have is no property of the catalogue."""
MAX_TEMPLATES = 100
SAME_HOLDERS = 0.8
"""Repeated phrases whose texts overlap more than this (Jaccard) are parts of one template."""
SAMPLED = 20_000
"""Texts in which repeated phrases are looked for."""
_MIN_SCRIPT_SHARE = 0.3
_MOST_CHARACTERS = 1000
_LANGUAGE = "language, guessed to be "

# The commonest words of each language that are no usual words of the others.
_FUNCTION_WORDS = {
    "Dutch": "de het een van voor met niet zijn aan ook als bij deze wordt naar uit door om",
    "English": "the and of for with to in is your from this it that are by or you as",
    "French": "le les des du une pour avec dans sur est et au aux par vos votre cette plus",
    "German": "der die das und für mit von den ist ein eine zu im auf nicht dem auch sich",
    "Italian": "il gli della delle per con una di che è nel alla dei sono questo più anche",
    "Portuguese": "o os uma para com não do da em na no por mais seu sua ao dos são",
    "Spanish": "el los las una para con del y en por su sus más este esta es al como",
}
_LANGUAGES_OF = {
    word: [language for language, words in _FUNCTION_WORDS.items() if word in words.split()]
    for words in _FUNCTION_WORDS.values()
    for word in words.split()
}


@dataclass(frozen=True)
class TextProperties:
    """What was measured of every text."""

    names: list[str]  # of every column, such as "length in words"
    values: Values  # (texts, properties)
    languages: frozenset[int]
    """The columns that tell which texts are in a language."""
    templates: dict[int, frozenset[str]]
    """All words of the repeated template, for the columns that tell which texts hold one."""


def measure_texts(texts: Sequence[str]) -> TextProperties:
    """Measures all texts. Properties that are equal for all of them are left out."""
    columns = {
        name: np.array([measure(text) for text in texts], dtype=np.float64)
        for name, measure in _MEASURES.items()
    }
    columns |= _languages(texts)
    names = [name for name, values in columns.items() if len(set(values.tolist())) > 1]
    found = _templates(texts)
    values = [columns[name] for name in names] + [holders for _, holders, _ in found]
    stacked = np.stack(values, axis=1) if values else np.empty((len(texts), 0))
    return TextProperties(
        names=names + [f"the repeated phrase '{phrase}'" for phrase, _, _ in found],
        values=stacked,
        languages=frozenset(place for place, name in enumerate(names) if name.startswith(_LANGUAGE)),
        templates={len(names) + place: words for place, (_, _, words) in enumerate(found)},
    )


def guess_language(text: str) -> str | None:
    """The language or the script a text is written in; None when nothing tells.

    A script beyond Latin with at least 30% of the letters; else the language of which the text has most function
    words, at least two different ones and more than of any other.
    """
    foreign = [character for character in text if character > "\u024f" and character.isalpha()]
    if foreign and len(foreign) >= _MIN_SCRIPT_SHARE * sum(map(str.isalpha, text)):
        script = Counter(unicodedata.name(each, "UNKNOWN").split()[0] for each in foreign).most_common(1)[0][
            0
        ]
        return f"{script.title()} script"
    hits = Counter(
        language
        for word in {word.lower() for word in TOKEN.findall(text)}
        for language in _LANGUAGES_OF.get(word, ())
    )
    ranked = hits.most_common(2)
    if not ranked or ranked[0][1] < 2 or (len(ranked) > 1 and ranked[1][1] == ranked[0][1]):
        return None
    return ranked[0][0]


def _languages(texts: Sequence[str]) -> dict[str, Values]:
    """Which texts are in which language, where at least two languages have MIN_HOLDERS texts each."""
    guesses = np.array([guess_language(text) or "" for text in texts])
    counts = Counter(guess for guess in guesses.tolist() if guess)
    frequent = sorted(language for language, count in counts.items() if count >= MIN_HOLDERS)
    if len(frequent) < 2:
        return {}
    return {f"{_LANGUAGE}{language}": (guesses == language).astype(np.float64) for language in frequent}


def _templates(texts: Sequence[str]) -> list[tuple[str, Values, frozenset[str]]]:
    """Templates that several texts repeat, the most frequent first: its first run, its holders, all its words.

    Runs of TEMPLATE_WORDS words are looked for in SAMPLED texts spread over the catalogue, and then in all; those
    with nearly the same holders are parts of one template.
    """
    step = max(1, -(-len(texts) // SAMPLED))
    counts = Counter(run for text in texts[::step] for run in _runs(text))
    frequent = {run for run, count in counts.items() if count * step >= MIN_HOLDERS}
    holders: dict[str, set[int]] = {run: set() for run in frequent}
    for place, text in enumerate(texts):
        for run in _runs(text) & frequent:
            holders[run].add(place)
    kept: list[tuple[str, Values, frozenset[str]]] = []
    places: list[set[int]] = []
    for run in sorted(frequent, key=lambda run: (-len(holders[run]), run)):
        found = holders[run]
        if not MIN_HOLDERS <= len(found) < len(texts):
            continue
        whole = next(
            (
                at
                for at, other in enumerate(places)
                if len(found & other) >= SAME_HOLDERS * len(found | other)
            ),
            None,
        )
        if whole is not None:
            first, column, words = kept[whole]
            kept[whole] = (first, column, words | frozenset(run.split()))
        elif len(kept) < MAX_TEMPLATES:
            column = np.zeros(len(texts))
            column[sorted(found)] = 1
            kept.append((run, column, frozenset(run.split())))
            places.append(found)
    return kept


def _runs(text: str) -> set[str]:
    """The runs of words of a text; of a long one, those near its beginning and its end."""
    if len(text) > 2 * _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]}\n{text[-_MOST_CHARACTERS:]}"
    runs = set()
    for part in BOUNDARY.split(text):
        words = [word.lower() for word in TOKEN.findall(part)]
        for start in range(len(words) - TEMPLATE_WORDS + 1):
            runs.add(" ".join(words[start : start + TEMPLATE_WORDS]))
    return runs


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


_MEASURES: dict[str, Callable[[str], float]] = {
    "length in words": lambda text: len(TOKEN.findall(text)),
    "length in characters": len,
    "share of characters beyond ASCII": lambda text: _share(
        len(text) - len(text.encode("ascii", "ignore")), len(text)
    ),
    "share of digits": lambda text: _share(sum(map(str.isdigit, text)), len(text)),
    "share of upper-case letters": lambda text: _share(
        sum(map(str.isupper, text)), sum(map(str.isalpha, text))
    ),
    "remains of HTML and web addresses": lambda text: len(MARKUP.findall(text)),
}
