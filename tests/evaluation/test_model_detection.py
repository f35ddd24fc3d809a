"""A language model judges names: one that reads them finds the items, and whatever it does the report stays valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from saerec_ray.config import LanguageModelConfig
from saerec_ray.evaluation.intents_part import intents_headline
from saerec_ray.evaluation.intents_tables import intents_lines
from saerec_ray.evaluation.model_detection import Judge, model_detection
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.detection import split_halves
from saerec_ray.intents.language_model import LanguageModel
from tests.evaluation.named_planted import catalogue, intent
from tests.evaluation.planted_dictionary import TOPICS, plant
from tests.evaluation.test_intents_part import measure
from tests.intents.scripted_endpoint import Endpoint, Reply, Request, question

PLANTED = plant()
CODES = PLANTED.dictionary.encode(PLANTED.vectors)
TEXTS = [f"{text} (item {place})" for place, text in enumerate(PLANTED.items.texts)]
SEED = 3


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as started:
        yield started


def reads(request: Request) -> Reply:
    """Yes where the label is a word of the text."""
    label, text = re.findall(r": (.*)", question(request))
    return Reply("Yes." if label in text.split() else "no")


def model(endpoint: Endpoint, folder: Path, **settings: Any) -> LanguageModel:
    section = {"base_url": endpoint.base_url, "model": "small", "timeout_seconds": 30.0} | settings
    return LanguageModel(LanguageModelConfig.model_validate(section), folder, {}, first_wait=0.001)


def judged(
    endpoint: Endpoint, folder: Path, named: Catalogue | None = None, labels: int = 6, **settings: Any
) -> dict[str, Any]:
    judge = Judge(model(endpoint, folder, **settings), labels, 20)
    return model_detection(judge, named or catalogue(), CODES, PLANTED.vectors, TEXTS, SEED)


@pytest.mark.parametrize("mode", ["chat", "completions"])
def test_a_model_that_reads_is_always_right_about_true_names_and_no_better_than_chance_about_others(
    endpoint: Endpoint, tmp_path: Path, mode: Literal["chat", "completions"]
) -> None:
    endpoint.answer(reads)
    found = judged(endpoint, tmp_path, mode=mode)
    assert found["own"] == {"balanced_accuracy": 1, "median": 1, "f1": 1, "good_share": 1}
    assert found["shuffled"]["balanced_accuracy"] == pytest.approx(0.5, abs=0.15)
    assert (found["published"], found["asked"], found["judged"]) == (TOPICS, 6, 6)
    assert found["questions"] == 6 * 20 * 2
    assert found["calls"] == len(endpoint.requests) == len(set(map(question, endpoint.requests)))
    assert (found["unanswered"], found["unusable"], found["reasons"]) == (0, 0, {})


def test_half_of_the_texts_carry_the_intent_and_all_are_of_the_half_that_names_were_not_made_from(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(reads)
    judged(endpoint, tmp_path, catalogue([intent(0)]))
    items = [int(re.findall(r"\(item (\d+)\)", question(request))[-1]) for request in endpoint.requests]
    assert set(items) <= set(split_halves(len(TEXTS), SEED)[1].tolist())
    carried = PLANTED.present[items, 0]
    assert carried.tolist() == [True] * 10 + [False] * 10
    centre = PLANTED.vectors[PLANTED.present[:, 0]].mean(axis=0)
    closeness = PLANTED.vectors[items[10:]] @ centre
    assert closeness[:5].mean() > closeness[5:].mean() + 0.01, "five hard ones, then five at random"


def test_false_names_are_found_out(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.answer(reads)
    rotated = catalogue([intent(latent, label=f"topic{(latent + 1) % TOPICS}") for latent in range(TOPICS)])
    assert judged(endpoint, tmp_path, rotated)["own"]["balanced_accuracy"] == pytest.approx(0.5, abs=0.15)


def test_a_second_run_asks_nothing_and_one_that_was_cut_short_goes_on(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(reads)
    first = judged(endpoint, tmp_path, max_calls=90)
    assert (first["calls"], len(endpoint.requests)) == (90, 90)
    assert first["unanswered"] > 100
    assert 0 < first["judged"] < 6
    assert list(first["reasons"]) == ["the budget of 90 calls is used up"]
    second = judged(endpoint, tmp_path)
    assert second["calls"] <= first["unanswered"]
    assert (second["unanswered"], second["judged"]) == (0, 6)
    third = judged(endpoint, tmp_path)
    assert (third["calls"], third["cached_answers"]) == (0, 240)
    assert len(endpoint.requests) == len(set(map(question, endpoint.requests)))
    assert third["own"] == second["own"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Reply(status=500), "the endpoint answered 500"),
        (Reply(status=401), "the endpoint answered 401: it refuses the key"),
        (Reply(body=b"<html>"), "the answer is not JSON of the OpenAI kind"),
    ],
)
def test_an_endpoint_that_fails_leaves_a_valid_report_that_says_what_is_missing(
    endpoint: Endpoint, tmp_path: Path, answer: Reply, reason: str
) -> None:
    endpoint.answer(answer)
    found = judged(endpoint, tmp_path)
    assert found["own"] is None
    assert found["shuffled"] is None
    assert found["unanswered"] == found["questions"] == 240
    assert all(reason in each for each in found["reasons"])
    text = "\n".join(intents_lines(measure() | {"model_detection": found}))
    assert "No label could be judged." in text
    assert "240 of 240 questions have no answer" in text
    assert reason in text
    assert intents_headline({"intents": {"model_detection": found}}) == {"judge_unanswered": 240}


def test_answers_that_say_neither_yes_nor_no_are_counted_and_a_label_needs_half_of_either_side(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    def mumbles(request: Request) -> Reply:
        number = int(re.findall(r"\(item (\d+)\)", question(request))[-1])
        return Reply("perhaps") if number % 4 == 0 else reads(request)

    endpoint.answer(mumbles)
    found = judged(endpoint, tmp_path)
    assert found["unusable"] > 20
    assert found["own"]["balanced_accuracy"] == 1
    endpoint.answer(Reply("perhaps"))
    found = judged(endpoint, tmp_path / "other")
    assert (found["judged"], found["unusable"]) == (0, found["questions"])


def test_only_published_labels_are_sent_and_one_alone_has_no_other_to_be_compared_with(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.answer(reads)
    hidden = [intent(latent, label="secret", state="blocked") for latent in range(1, TOPICS)]
    found = judged(endpoint, tmp_path, catalogue([intent(0), *hidden]))
    assert (found["published"], found["judged"], found["shuffled"]) == (1, 1, None)
    assert not any("secret" in question(request) for request in endpoint.requests)
    none = catalogue([intent(latent, state="unpublished") for latent in range(TOPICS)])
    assert judged(endpoint, tmp_path, none)["judged"] == 0


def test_the_part_holds_what_the_model_said(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.answer(reads)
    found = measure(judge=Judge(model(endpoint, tmp_path), 4, 20))
    assert found["model_detection"]["own"]["balanced_accuracy"] == 1
    assert intents_headline({"intents": found})["judge_balanced_accuracy"] == 1
    text = "\n".join(intents_lines(found))
    assert "small was asked whether the label fits the text, for 4 of 24 published labels" in text
    assert np.isfinite(found["model_detection"]["shuffled"]["f1"])
