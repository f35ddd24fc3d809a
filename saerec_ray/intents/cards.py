"""Cards for people: ten texts under a name, half of which carry the intent, and how far their answers agree.

The cards are a CSV file to fill in; which texts carry the intent stands in a JSON file beside it, the key.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.sparse import csr_array

from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.detection import draw_examples, split_halves
from saerec_ray.manifest import write_json

Floats = npt.NDArray[np.float32]

TEXTS = 10
"""On a card; half of them carry the intent."""
COLUMNS = ("card", "name", "number", "text", "fits")
"""The last is left to people: yes or no."""
KEY_SUFFIX = ".key.json"
_OTHER_EXAMPLES = 5
"""Added to the seed: naming and the judges took those before."""
_ANSWERS = {
    "yes": True,
    "y": True,
    "1": True,
    "true": True,
    "no": False,
    "n": False,
    "0": False,
    "false": False,
}
_FORMULA = ("=", "+", "-", "@")
"""What makes a spreadsheet compute a cell, or more; such texts get an apostrophe before them."""


class CardText(BaseModel):
    """One line of a card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_id: str
    text: str
    carries: bool


class Card(BaseModel):
    """One intent with its texts, in the order in which they are shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intent_id: str
    name: str
    texts: list[CardText]


class Key(BaseModel):
    """What the cards hide."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intents_version: str
    cards: list[Card]


@dataclass(frozen=True)
class Agreement:
    """How far answers of people agree with the codes."""

    answered: int
    unanswered: int
    agreement: float
    """Share of equal answers."""
    kappa: float | None
    """Cohen's kappa: 0 is chance, 1 all equal; None where chance alone would agree on everything."""


def draw_cards(
    catalogue: Catalogue,
    codes: csr_array,
    vectors: Floats,
    item_ids: Sequence[str],
    texts: Sequence[str],
    cards: int,
    seed: int,
    naming_seed: int,
) -> Key:
    """Cards of at most so many published learnt intents, drawn by `seed`.

    `codes`: (items, latents); `vectors`: unit embeddings of the texts, (items, d); `naming_seed`: of the intents
    stage. Texts are of the half that names were not made from: five that carry the intent, from all over its
    activations, and of the others three that are closest to these and two at random. Intents of attributes are
    right by construction and left out.
    """
    _, judging = split_halves(len(vectors), naming_seed)
    examples = draw_examples(codes, vectors, judging, naming_seed + _OTHER_EXAMPLES, TEXTS, TEXTS)
    half = TEXTS // 2
    able = [
        each
        for each in catalogue.intents
        if each.published
        and each.dictionary != "attributes"
        and min(len(examples[each.latent].positives), len(examples[each.latent].negatives)) >= TEXTS - 1
    ]
    rng = np.random.default_rng(seed)
    drawn = []
    for place in np.sort(rng.permutation(len(able))[:cards]):
        intent, shown = able[place], examples[able[place].latent]
        carriers, others = shown.positives[::2][:half], shown.negatives[::2][:half]
        lines = [
            CardText(item_id=item_ids[item], text=_cell(texts[item]), carries=carries)
            for items, carries in ((carriers, True), (others, False))
            for item in items
        ]
        order = rng.permutation(len(lines))
        drawn.append(
            Card(intent_id=intent.intent_id, name=_cell(intent.label), texts=[lines[line] for line in order])
        )
    return Key(intents_version=catalogue.intents_version, cards=drawn)


def _cell(text: str) -> str:
    """One line that a spreadsheet shows as it is."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(_FORMULA) else line


def key_path(path: Path) -> Path:
    """Where the key of a file of cards stands."""
    return path.with_suffix(KEY_SUFFIX)


def write_cards(key: Key, path: Path) -> None:
    """Writes cards to fill in, and their key beside them. Raises InputError where there is a file or it cannot be."""
    for taken in (path, key_path(path)):
        if taken.exists():
            raise InputError(f"{taken} is there and may hold answers; remove it or name another file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8-sig") as handle:
            rows = csv.writer(handle)
            rows.writerow(COLUMNS)
            for card, each in enumerate(key.cards, start=1):
                rows.writerows(
                    [card, each.name, number, line.text, ""]
                    for number, line in enumerate(each.texts, start=1)
                )
        write_json(key_path(path), key.model_dump(mode="json"))
    except OSError as error:
        raise InputError(f"The cards cannot be written to {path}: {error.strerror}.") from error


def read_key(path: Path) -> Key:
    """The key beside a file of cards. Raises InputError where it is missing or damaged."""
    place = key_path(path)
    try:
        return Key.model_validate(json.loads(place.read_text("utf-8")))
    except FileNotFoundError as error:
        raise InputError(f"There is no {place}: keep the key beside the cards, under its name.") from error
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(f"{place} is no whole key of cards; write the cards anew.") from error


def read_answers(path: Path, key: Key) -> list[list[bool | None]]:
    """What people answered for each text of each card, in the order of the key; None where they did not.

    Rows may stand in any order. Raises InputError that names the line where the file is not that of the key.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            header = handle.readline()
            delimiter = ";" if header.count(";") > header.count(",") else ","
            handle.seek(0)
            rows = list(csv.reader(handle, delimiter=delimiter, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The cards {path} cannot be read: {error}.") from error
    if not rows or [name.strip().lower() for name in rows[0]] != list(COLUMNS):
        raise InputError(f"{path} must begin with the columns {', '.join(COLUMNS)}.")
    answers: dict[tuple[int, int], bool | None] = {}
    for line, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        place, answer = _answer(f"{path}, line {line}", row, key)
        if place in answers:
            raise InputError(f"{path}, line {line}: text {place[1]} of card {place[0]} is there twice.")
        answers[place] = answer
    for card, each in enumerate(key.cards, start=1):
        for number in range(1, len(each.texts) + 1):
            if (card, number) not in answers:
                raise InputError(
                    f"{path} lacks text {number} of card {card}; leave what nobody answered empty instead."
                )
    return [
        [answers[card, number] for number in range(1, len(each.texts) + 1)]
        for card, each in enumerate(key.cards, start=1)
    ]


def _answer(where: str, row: list[str], key: Key) -> tuple[tuple[int, int], bool | None]:
    """Card and number of a row, and what it answers."""
    if len(row) != len(COLUMNS):
        raise InputError(f"{where}: {len(row)} columns, {len(COLUMNS)} are needed.")
    try:
        card, number = int(row[0]), int(row[2])
        known = key.cards[card - 1] if card > 0 else None
        line = known.texts[number - 1] if known and number > 0 else None
    except (ValueError, IndexError):
        known = line = None
    if known is None or line is None:
        raise InputError(f"{where}: the key has no text {row[2]} of a card {row[0]}.")
    if (_cell(row[1]), _cell(row[3])) != (_cell(known.name), _cell(line.text)):
        raise InputError(f"{where}: name or text are not those of the key; the file belongs to another key.")
    said = row[4].strip().lower()
    if said and said not in _ANSWERS:
        raise InputError(f"{where}: {said[:20]!r} is no answer; write yes or no, or leave it empty.")
    return (card, number), _ANSWERS.get(said)


def agreement(key: Key, answers: Sequence[Sequence[bool | None]]) -> Agreement:
    """Agreement and Cohen's kappa of answers, as read_answers gives them, with what carries the intents.

    Raises InputError where nothing was answered.
    """
    pairs = [
        (line.carries, answer)
        for card, given in zip(key.cards, answers, strict=True)
        for line, answer in zip(card.texts, given, strict=True)
        if answer is not None
    ]
    total = sum(len(card.texts) for card in key.cards)
    if not pairs:
        raise InputError("Nothing is answered: write yes or no into the last column.")
    truth, said = (np.array(each) for each in zip(*pairs, strict=True))
    equal = float((truth == said).mean())
    chance = float(truth.mean() * said.mean() + (1 - truth.mean()) * (1 - said.mean()))
    kappa = None if chance == 1 else (equal - chance) / (1 - chance)
    return Agreement(len(pairs), total - len(pairs), equal, kappa)
