"""What is asked, and which answers are of use."""

from __future__ import annotations

import pytest

from saerec_ray.intents.label_prompts import (
    detection_prompt,
    kind_prompt,
    label_prompt,
    shortened,
    usable_kind,
    usable_label,
    usable_verdict,
)

SHOWN = ["Matte red lipstick", "Lip balm with mint"]


def test_the_question_lists_the_items_of_either_side() -> None:
    question = label_prompt(SHOWN, ["Razor"]).question
    assert (
        question
        == "Inside the group:\n- Matte red lipstick\n- Lip balm with mint\nOutside the group:\n- Razor"
    )


def test_a_long_text_with_line_breaks_takes_one_short_line() -> None:
    line = shortened("Razor\n\nwith   blades " + "and more " * 100)
    assert line.startswith("Razor with blades and more")
    assert len(line) <= 160
    assert line.endswith("…")
    assert shortened("Razor\nblade") == "Razor blade"


def test_no_prompt_asks_the_model_how_sure_it_is() -> None:
    for prompt in (label_prompt(SHOWN, ["Razor"]), kind_prompt("lip care", SHOWN)):
        text = prompt.text().casefold()
        assert not [stem for stem in ("confiden", "how sure", "certain", "probab", "likel") if stem in text]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("lip care", "lip care"),
        ("  Lip care.\n\nThese items are all for lips.", "Lip care"),
        ('"Lip care"', "Lip care"),
        ("**Lip care**", "Lip care"),
        ("- lip care", "lip care"),
        ("Name: lip care", "lip care"),
        ("Name of the group: lip care", "lip care"),
        ("Answer: “lip care”", "lip care"),
        ("<think>They are\nall for lips.</think>\nlip care", "lip care"),
        ("L'Oréal lip care", "L'Oréal lip care"),
        ("唇膏", "唇膏"),
        ("information for parents", "information for parents"),
        ("Dr. Martens boots", "Dr. Martens boots"),
    ],
)
def test_a_label_is_taken_out_of_what_models_put_around_it(answer: str, label: str) -> None:
    assert usable_label(answer, SHOWN) == label


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n\t",
        "...",
        "42",
        "<think>I am not sure",
        "lip " * 9,
        "x" * 81,
        "The items inside the group have in common that they are for lips",
        "The group is about lips",
        "the moon (2013). Genres: Action, Horror",
        "In a box of these:",
        "lipstick,\nmakeup",
        "Red lipstick. For dry lips",
        "I cannot answer that.",
        "I'm sorry, but no.",
        "As an AI language model, I have no opinion",
        "Sorry, no idea",
        "Unable to tell",
        "There is no common theme",
        "None",
        "N/A",
        "unknown",
        "Outside the group:",
        "Answer with the name alone",
        "Inside the group: Matte red lipstick",
        "Matte red lipstick",
        "- lip balm WITH mint",
        "lip\x00care",
        "lip\u202ecare",
    ],
)
def test_nonsense_is_dropped(answer: str) -> None:
    assert usable_label(answer, SHOWN) is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("intent", "intent"),
        ("Property.", "item property"),
        ("**nuisance**", "nuisance"),
        ("It is a property\nand no intent", "item property"),
        ("intent or property", None),
        ("intentional", None),
        ("", None),
        ("I cannot say", None),
    ],
)
def test_a_kind_is_one_of_three_words(answer: str, kind: str | None) -> None:
    assert usable_kind(answer) == kind


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("yes", True),
        ("Yes.", True),
        ("**No**", False),
        ("no, it does not", False),
        ("<think>no no</think>\nyes", True),
        ("", None),
        ("perhaps", None),
        ("yes or no", None),
        ("Nothing known", None),
    ],
)
def test_a_verdict_is_yes_or_no_and_nothing_else(answer: str, verdict: bool | None) -> None:
    assert usable_verdict(answer) is verdict


def test_a_question_for_a_verdict_shows_name_and_text_and_both_answers() -> None:
    prompt = detection_prompt("hair loss", "Shampoo\nagainst   hair loss")
    assert "hair loss" in prompt.question
    assert "Shampoo against hair loss" in prompt.question
    assert {answer for _, answer in prompt.examples} == {"yes", "no"}
