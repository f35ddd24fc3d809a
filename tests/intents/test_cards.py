"""Cards for people: half of ten texts carry the intent, the key stays apart, and answers are read back with care."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import read_items
from saerec_ray.dictionary.sae import read_codes
from saerec_ray.errors import InputError
from saerec_ray.intents.cards import (
    Card,
    CardText,
    Key,
    agreement,
    key_path,
    read_answers,
    read_key,
    write_cards,
)
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.intents.detection import split_halves
from saerec_ray.intents.stage import build_intents
from tests.command_line import Run
from tests.finished_stage import finish_stage
from tests.intents.planted import encode, plant
from tests.intents.stage_folders import write_stages

SEED = 7  # of finished_stage


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory whose intents stage has finished."""
    folder = tmp_path_factory.mktemp("cards")
    write_stages(plant(), folder)
    (folder / "intents").mkdir()
    folders = [folder / name for name in ("prepare", "embed", "dictionary", "intents")]
    build_intents(IntentsConfig(), SEED, *folders, encode)
    for stage in ("prepare", "embed", "dictionary", "intents"):
        finish_stage(folder / stage)
    return folder


@pytest.fixture
def run(saerec: Run) -> Run:
    return partial(saerec, "intents", "cards")


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as handle:
        return list(csv.reader(handle))


def write(path: Path, lines: list[list[str]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, delimiter=delimiter).writerows(lines)


@pytest.fixture
def cards(run: Run, workdir: Path, tmp_path: Path) -> Path:
    path = tmp_path / "cards.csv"
    assert run("--workdir", workdir, "--output", path, "--count", 4).code == 0
    return path


def filled(path: Path, key: Key, wrong: int = 0) -> list[list[str]]:
    """All answers right, but for the first few."""
    lines = rows(path)
    truth = [line.carries for card in key.cards for line in card.texts]
    for place, (row, carries) in enumerate(zip(lines[1:], truth, strict=True)):
        row[4] = "yes" if carries != (place < wrong) else "no"
    return lines


def test_a_card_has_ten_texts_of_the_judging_half_and_five_of_them_carry_the_intent(
    cards: Path, workdir: Path
) -> None:
    key, items = read_key(cards), read_items(workdir / "prepare")
    codes, intents = read_codes(workdir / "dictionary"), read_catalogue(workdir / "intents").by_id()
    judging = set(split_halves(len(items.ids), SEED)[1].tolist())
    assert len(key.cards) == 4
    for card in key.cards:
        assert intents[card.intent_id].published
        assert card.name == intents[card.intent_id].label
        places = [items.ids.index(line.item_id) for line in card.texts]
        assert len(set(places)) == 10
        assert set(places) <= judging
        column = codes[:, [intents[card.intent_id].latent]].toarray().ravel()
        assert [bool(column[place] > 0) for place in places] == [line.carries for line in card.texts]
        assert sum(line.carries for line in card.texts) == 5
    assert len({tuple(line.carries for line in card.texts) for card in key.cards}) > 1, "shuffled"


def test_the_file_of_cards_does_not_say_which_texts_carry_the_intent(cards: Path) -> None:
    lines = rows(cards)
    assert lines[0] == ["card", "name", "number", "text", "fits"]
    assert len(lines) == 41
    assert {row[4] for row in lines[1:]} == {""}
    assert "int-" not in cards.read_text("utf-8")
    assert key_path(cards).name == "cards.key.json"


def test_the_same_seed_draws_the_same_cards(run: Run, cards: Path, workdir: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 0), ("other", 1)):
        run("--workdir", workdir, "--output", tmp_path / f"{name}.csv", "--count", 4, "--seed", seed)
    assert (tmp_path / "again.csv").read_bytes() == cards.read_bytes()
    assert (tmp_path / "other.csv").read_bytes() != cards.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "share", "kappa"), [(0, 1.0, 1.0), (10, 0.75, 0.5), (20, 0.5, 0.0), (40, 0.0, -1.0)]
)
def test_answers_are_read_back_with_agreement_and_kappa(
    run: Run, cards: Path, wrong: int, share: float, kappa: float
) -> None:
    write(cards, filled(cards, read_key(cards), wrong))
    result = run("--read", cards, "--json")
    assert result.code == 0
    told = json.loads(result.out)
    assert (told["answered"], told["unanswered"]) == (40, 0)
    assert told["agreement"] == pytest.approx(share)
    assert told["kappa"] == pytest.approx(kappa)
    assert [card["equal"] for card in told["cards"]] == [
        10 - min(max(wrong - 10 * n, 0), 10) for n in range(4)
    ]


def test_rows_in_another_order_semicolons_and_empty_answers_are_no_harm(run: Run, cards: Path) -> None:
    lines = filled(cards, read_key(cards))
    for row in lines[1:8]:
        row[4] = ""
    lines[9][4] = {"yes": "Y", "no": "N"}[lines[9][4]]
    write(cards, [lines[0], *lines[:0:-1], ["", "", "", "", ""]], ";")
    told = json.loads(run("--read", cards, "--json").out)
    assert (told["answered"], told["unanswered"], told["agreement"]) == (33, 7, 1.0)
    assert "100% of 33 answers agree" in run("--read", cards).flat


def damaged(lines: list[list[str]], what: str) -> list[list[str]]:
    body = [list(row) for row in lines]
    if what == "header":
        body[0][4] = "carries"
    elif what == "missing":
        del body[7]
    elif what == "twice":
        body.append(body[3])
    elif what == "text":
        body[5][3] = "another text"
    elif what == "name":
        body[5][1] = "another name"
    elif what == "answer":
        body[5][4] = "maybe"
    elif what == "columns":
        body[5] = body[5][:4]
    elif what == "card":
        body[5][0] = "0"
    elif what == "number":
        body[5][2] = "eleven"
    elif what == "empty":
        body = [[*row[:4], ""] if place else row for place, row in enumerate(body)]
    elif what == "nothing":
        body = []
    return body


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("header", "must begin with the columns card, name, number, text, fits"),
        ("nothing", "must begin with the columns"),
        ("missing", "lacks text 7 of card 1"),
        ("twice", "line 42: text 3 of card 1 is there twice"),
        ("text", "line 6: name or text are not those of the key"),
        ("name", "line 6: name or text are not those of the key"),
        ("answer", "line 6: 'maybe' is no answer; write yes or no"),
        ("columns", "line 6: 4 columns, 5 are needed"),
        ("card", "line 6: the key has no text 5 of a card 0"),
        ("number", "line 6: the key has no text eleven of a card 1"),
        ("empty", "Nothing is answered"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong_where(
    run: Run, cards: Path, what: str, message: str
) -> None:
    write(cards, damaged(filled(cards, read_key(cards)), what))
    result = run("--read", cards)
    assert result.code != 0
    assert message in result.complaint


def test_bytes_that_are_no_text_and_keys_that_are_missing_or_damaged_are_refused(
    run: Run, cards: Path
) -> None:
    key = key_path(cards).read_text("utf-8")
    for content, message in (
        ("{", "no whole key"),
        ('{"cards": []}', "no whole key"),
        ("[]", "no whole key"),
    ):
        key_path(cards).write_text(content, "utf-8")
        assert message in run("--read", cards).complaint
    key_path(cards).unlink()
    assert "keep the key beside the cards" in run("--read", cards).complaint
    key_path(cards).write_text(key, "utf-8")
    cards.write_bytes(b"\xff\xfe\x00card")
    assert "cannot be read" in run("--read", cards).complaint
    cards.unlink()
    assert "cannot be read" in run("--read", cards).complaint


def test_answers_are_never_written_over_and_an_unfinished_run_is_an_error(
    run: Run, cards: Path, workdir: Path, tmp_path: Path
) -> None:
    before = cards.read_bytes()
    result = run("--workdir", workdir, "--output", cards)
    assert result.code != 0
    assert "may hold answers" in result.complaint
    assert cards.read_bytes() == before
    assert "no finished prepare stage" in run("--workdir", tmp_path).complaint


def one_card(*carries: bool) -> Key:
    lines = [
        CardText(item_id=str(place), text=f"text {place}", carries=each) for place, each in enumerate(carries)
    ]
    return Key(intents_version="v", cards=[Card(intent_id="int-1", name="name", texts=lines)])


def test_kappa_is_what_is_left_of_agreement_when_chance_is_taken_away() -> None:
    """Against the formula of Cohen, 1960, with 3 of 4 equal: po = .75, pe = .5 * .75 + .5 * .25 = .5."""
    found = agreement(one_card(True, True, False, False), [[True, True, True, False]])
    assert (found.agreement, found.kappa) == (0.75, pytest.approx(0.5))
    assert agreement(one_card(True, True), [[True, None]]).kappa is None
    rng = np.random.default_rng(0)
    carries, said = rng.random(4000) < 0.5, rng.random(4000) < 0.8
    guessed = agreement(one_card(*map(bool, carries)), [list(map(bool, said))])
    assert guessed.kappa == pytest.approx(0, abs=0.05), "one who often says yes is not rewarded for it"
    with pytest.raises(InputError, match="Nothing is answered"):
        agreement(one_card(True), [[None]])


def test_texts_that_a_spreadsheet_would_compute_are_shown_as_text(tmp_path: Path) -> None:
    from saerec_ray.intents.cards import _cell

    assert _cell("=1+1\n|cmd") == "'=1+1 |cmd"
    key = one_card(True).model_copy(
        update={
            "cards": [
                Card(
                    intent_id="i",
                    name=_cell("-10%"),
                    texts=[CardText(item_id="1", text=_cell("=A1"), carries=True)],
                )
            ]
        }
    )
    write_cards(key, tmp_path / "cards.csv")
    assert rows(tmp_path / "cards.csv")[1][:4] == ["1", "'-10%", "1", "'=A1"]
    write(
        tmp_path / "cards.csv", [["card", "name", "number", "text", "fits"], ["1", "-10%", "1", "=A1", "yes"]]
    )
    assert read_answers(tmp_path / "cards.csv", key) == [[True]], "a spreadsheet may drop the apostrophe"
