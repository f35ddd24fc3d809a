"""What a language model is asked about an intent, and which of its answers are of use."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from saerec_ray.intents.edit import MAX_LABEL
from saerec_ray.intents.language_model import Prompt

MAX_WORDS = 8
_TEXT_LENGTH = 160
_LABEL_TOKENS = 40
_KIND_TOKENS = 8
_VERDICT_TOKENS = 4

KINDS = {"intent": "intent", "property": "item property", "nuisance": "nuisance"}
"""The word asked for, and the kind it stands for."""

_LABEL_INSTRUCTION = (
    "You name groups of items for a catalogue. The items inside a group have something in common that the items "
    "outside the group lack. Say what it is in one to five words, as a person would type it into a search box. "
    "Answer with the name alone, no sentence."
)
_KIND_INSTRUCTION = (
    "A group of items has a name. Say what kind of group it is. intent: something a person wants to do, to have or "
    "to be, such as a purpose, an occasion or a taste. property: a plain property of items, such as a brand, a size "
    "or a colour. nuisance: an accident of how the texts are written. Answer with one of these words alone: intent, "
    "property, nuisance."
)

_VERDICT_INSTRUCTION = (
    "A group of items has a name. You see the name and the text of one item. Say whether the item belongs into the "
    "group. Answer with yes or no alone."
)


def shortened(text: str) -> str:
    """One line of an item's text."""
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_LENGTH else line[: _TEXT_LENGTH - 1].rstrip() + "…"


def _listed(texts: Sequence[str]) -> str:
    return "\n".join(f"- {shortened(text)}" for text in texts)


def _group(inside: Sequence[str], outside: Sequence[str]) -> str:
    return f"Inside the group:\n{_listed(inside)}\nOutside the group:\n{_listed(outside)}"


def _named(label: str, inside: Sequence[str]) -> str:
    return f"Name of the group: {label}\nInside the group:\n{_listed(inside)}"


_LABEL_EXAMPLES = (
    (
        _group(
            ["Trail running shoe, light", "Hydration vest for runners", "Running socks, 3 pairs"],
            ["Leather office shoe", "Yoga mat", "Football"],
        ),
        "running gear",
    ),
    (
        _group(
            ["The Ring (2002), horror", "Poltergeist (1982), horror", "The Conjuring (2013), horror"],
            ["Alien (1979), science fiction", "Heat (1995), crime", "Up (2009), animation"],
        ),
        "ghost stories",
    ),
    (
        _group(
            ["Decaf ground coffee 500 g", "Caffeine-free espresso pods", "Decaf instant coffee"],
            ["Espresso beans 1 kg", "Green tea", "Milk frother"],
        ),
        "decaf coffee",
    ),
)
_KIND_EXAMPLES = (
    (_named("camping with children", ["Family tent", "Child sleeping bag", "Camp night light"]), "intent"),
    (_named("500 ml bottles", ["Shampoo 500 ml", "Olive oil 500 ml", "Bleach 500 ml"]), "property"),
    (_named("texts that end with a code", ["Lamp B00X1", "Rug B07Q2", "Vase B01K9"]), "nuisance"),
)


def _fits(label: str, text: str) -> str:
    return f"Name of the group: {label}\nText of the item: {shortened(text)}\nDoes it belong into the group?"


_VERDICT_EXAMPLES = (
    (_fits("running gear", "Hydration vest for runners"), "yes"),
    (_fits("ghost stories", "Heat (1995), crime"), "no"),
    (_fits("decaf coffee", "Espresso beans 1 kg"), "no"),
    (_fits("camping with children", "Child sleeping bag"), "yes"),
)


PLAIN_GROUPS = (
    ("running shoes", ("Trail running shoe, light", "Road running shoe for women", "Running shoe, wide fit")),
    (
        "gifts for grandparents",
        ("Mug for the best grandma", "Photo frame, three generations", "Slippers, warm"),
    ),
    ("detective films", ("Murder on the Orient Express", "The Maltese Falcon", "Knives Out")),
    ("sugar-free snacks", ("Gummy bears without sugar", "Sugar-free chocolate", "Protein bar, no sugar")),
    ("gas stoves for camping", ("Camp stove, two flames", "Gas stove for hikers", "Folding gas cooker")),
    ("red nail polish", ("Nail lacquer, ruby", "Red gel nail polish", "Nail polish, cherry red")),
)
"""Names and texts of groups that nobody takes for an accident of the texts."""
ACCIDENTAL_GROUPS = (
    ("texts in capital letters", ("DESK LAMP LED", "RUG FOR THE HALL", "GLASS VASE")),
    ("remains of HTML in the texts", ("Lamp &amp; shade<br>", "<b>Rug</b> for the hall", "Vase &nbsp;glass")),
    ("texts cut off in the middle of a word", ("Desk lamp with a dim", "Rug for the ha", "Vase made of gla")),
)
"""Names and texts of groups that are nothing else."""


def label_prompt(inside: Sequence[str], outside: Sequence[str]) -> Prompt:
    """Asks for a name that tells the texts inside from those outside."""
    return Prompt(_LABEL_INSTRUCTION, _LABEL_EXAMPLES, _group(inside, outside), _LABEL_TOKENS)


def kind_prompt(label: str, inside: Sequence[str]) -> Prompt:
    """Asks whether a group is an intent, a property of items, or a nuisance."""
    return Prompt(_KIND_INSTRUCTION, _KIND_EXAMPLES, _named(label, inside), _KIND_TOKENS)


def detection_prompt(label: str, text: str) -> Prompt:
    """Asks whether one text belongs into the group of this name."""
    return Prompt(_VERDICT_INSTRUCTION, _VERDICT_EXAMPLES, _fits(label, text), _VERDICT_TOKENS)


_THOUGHTS = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
_LEADING = re.compile(
    r"^(?:[-*•#]\s+)?(?:\*\*)?(?:(?:name|label|answer|group)(?: of the group)?\s*:\s*)?", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"^(?:i\b|i['’]m\b|as an ai\b|sorry\b|unfortunately\b|it is not possible|there is no|none\b|"
    r"no (?:common|answer|name)|not (?:possible|applicable|enough)|n/?a$|unknown$|unable\b|cannot\b|can['’]t\b|"
    r"the (?:items|group)\b)",
    re.IGNORECASE,
)
_TWO_SENTENCES = re.compile(r"(?:\w{5}|\))[.!?]\s+\S")
"""A short word before the stop may be an abbreviation: Dr. Martens."""
_PROMPT_WORDS = ("inside the group", "outside the group", "name of the group", "answer with")


def usable_label(answer: str, shown: Sequence[str]) -> str | None:
    """The label in an answer; None when it is empty, too long, sentences, a refusal, or says the prompt back.

    `shown`: the texts of the question; a label equal to one of them names that item and not the group.
    """
    label = _first_line(answer)
    label = _LEADING.sub("", label).strip(" \t\"'`*_“”‘’«».")
    if sum(character.isalpha() for character in label) < 2 or len(label) > MAX_LABEL:
        return None
    if label.endswith((":", ",", ";")):  # it was about to say more
        return None
    if len(label.split()) > MAX_WORDS or any(unicodedata.category(each).startswith("C") for each in label):
        return None
    lowered = label.casefold()
    if (
        _TWO_SENTENCES.search(label)
        or _REFUSAL.match(label)
        or any(words in lowered for words in _PROMPT_WORDS)
    ):
        return None
    return None if lowered in {shortened(text).casefold() for text in shown} else label


def usable_kind(answer: str) -> str | None:
    """The kind in an answer; None when it names none or several."""
    named = {word for word in KINDS if re.search(rf"\b{word}\b", _first_line(answer).casefold())}
    return KINDS[named.pop()] if len(named) == 1 else None


def usable_verdict(answer: str) -> bool | None:
    """Whether an answer says yes; None when it says neither yes nor no, or both."""
    said = {word for word in ("yes", "no") if re.search(rf"\b{word}\b", _first_line(answer).casefold())}
    return said == {"yes"} if len(said) == 1 else None


def _first_line(answer: str) -> str:
    return next((line.strip() for line in _THOUGHTS.sub("", answer).splitlines() if line.strip()), "")
