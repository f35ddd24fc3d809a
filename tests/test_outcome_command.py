"""`saerec intents outcome`: planted outcomes become a group to steer by; noise is called by its name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.config import IntentsConfig
from saerec_ray.data.prepared import read_items
from saerec_ray.dictionary.sae import read_codes
from saerec_ray.group_file import read_group
from saerec_ray.intents.catalogue import Catalogue, read_catalogue
from saerec_ray.intents.stage import build_intents
from tests.command_line import Run
from tests.finished_stage import finish_stage
from tests.intents.planted import TOPICS, encode, plant
from tests.intents.stage_folders import write_stages


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory whose intents stage has finished."""
    folder = tmp_path_factory.mktemp("outcome")
    write_stages(plant(), folder)
    (folder / "intents").mkdir()
    folders = [folder / name for name in ("prepare", "embed", "dictionary", "intents")]
    build_intents(IntentsConfig(), 5, *folders, encode)
    finish_stage(folder / "intents")
    return folder


@pytest.fixture(scope="module")
def catalogue(workdir: Path) -> Catalogue:
    return read_catalogue(workdir / "intents")


@pytest.fixture
def run(saerec: Run, workdir: Path) -> Run:
    return partial(saerec, "intents", "outcome", "--workdir", workdir)


def table(folder: Path, ids: list[str], values: np.ndarray) -> Path:
    path = folder / "outcome.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["item_id", "rating"])
        rows.writerows(zip(ids, values.tolist(), strict=True))
    return path


@pytest.fixture
def raised(workdir: Path, tmp_path: Path) -> Path:
    """Items of the first two topics are rated higher."""
    topics = read_codes(workdir / "dictionary").toarray()[:, :2].sum(axis=1)
    noise = np.random.default_rng(1).normal(size=len(topics))
    return table(tmp_path, read_items(workdir / "prepare").ids, topics + 0.3 * noise)


@pytest.fixture
def noise(workdir: Path, tmp_path: Path) -> Path:
    ids = read_items(workdir / "prepare").ids
    return table(tmp_path, ids, np.random.default_rng(2).normal(size=len(ids)))


def test_a_planted_outcome_is_written_as_a_group(
    run: Run, raised: Path, workdir: Path, catalogue: Catalogue
) -> None:
    code, out, _ = run("--outcome", raised, "--name", "high quality", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["found"]
    assert answer["group"]["auc"] >= 0.65
    path = workdir / "groups" / "high-quality.json"
    assert answer["file"] == str(path)
    group = read_group(path)
    assert {member.intent_id for member in group.members} == {
        catalogue.intents[0].intent_id,
        catalogue.intents[1].intent_id,
    }
    assert (group.name, group.supervised) == ("high quality", False)
    assert group.intents_version == catalogue.intents_version
    first = answer["intents"][0]
    assert first["q_value"] < 0.05
    titles = {each["title"] for each in first["evidence"]}
    words = set(list(TOPICS)[0].split()) | set(list(TOPICS)[1].split())  # noqa: RUF015
    assert all(set(title.replace(",", " ").split()) & words for title in titles)


def test_people_read_a_table_a_verdict_and_what_to_do_next(
    run: Run, raised: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    output = tmp_path / "deep" / "quality.json"
    code, out, _ = run("--outcome", raised, "--name", "high quality", "--output", output)
    assert code == 0
    assert catalogue.intents[0].label in out
    flat = " ".join(out.split())
    assert "Found “high quality”: a group of 2 tells high from low with AUC" in flat
    assert "held-out items" in flat
    assert f"saerec recommend --user USER --boost @{output}" in out
    assert output.is_file()


def test_the_other_end_of_the_outcome_can_be_named(
    run: Run, raised: Path, catalogue: Catalogue, tmp_path: Path
) -> None:
    output = tmp_path / "low.json"
    run("--outcome", raised, "--name", "poor quality", "--low", "--output", output, "--supervised")
    planted = {each.intent_id for each in catalogue.intents[:2]}
    if output.exists():
        assert not {member.intent_id for member in read_group(output).members} & planted
    _, out, _ = run("--outcome", raised, "--name", "poor quality", "--low", "--json")
    members = {each["intent_id"] for each in json.loads(out)["group"]["members"]}
    assert members
    assert not members & planted


def test_noise_is_no_intent_and_no_file_is_written(
    run: Run, noise: Path, workdir: Path, tmp_path: Path
) -> None:
    output = tmp_path / "noise.json"
    for more in ([], ["--supervised"]):
        code, out, _ = run("--outcome", noise, "--name", "luck", "--output", output, *more)
        assert code == 0
        flat = " ".join(out.split())
        assert "The dictionary has no intent of “luck”" in flat
        assert "A supervised direction does not hold on held-out items either" in flat
        assert "Steer by it" not in out
        assert not output.exists()


def test_the_supervised_direction_is_offered_and_marked(
    run: Run, workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Path
) -> None:
    """As if 0.65 were out of reach."""
    monkeypatch.setattr("saerec_ray.intents.outcomes.MIN_AUC", 0.999)
    output = tmp_path / "supervised.json"
    arguments = ("--outcome", raised, "--name", "high quality", "--output", output)
    _, out, _ = run(*arguments)
    flat = " ".join(out.split())
    assert "The dictionary has no intent of “high quality”: the best group reaches AUC" in flat
    assert "it is no intent of the dictionary" in flat
    assert "give --supervised" in flat
    assert not output.exists()
    _, out, _ = run(*arguments, "--supervised")
    assert "marked as supervised" in " ".join(out.split())
    assert read_group(output).supervised


def test_unknown_items_are_told(run: Run, raised: Path, tmp_path: Path) -> None:
    with raised.open("a", encoding="utf-8") as handle:
        handle.write("old-item,3\n")
    _, out, _ = run("--outcome", raised, "--name", "x", "--output", tmp_path / "x.json")
    assert "Left out, because the catalogue does not have them: old-item." in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--name", " "), "--name must have 1 to 80 characters"),
        (("--name", "x" * 81), "--name must have 1 to 80 characters"),
        (("--name", "x", "--value-column", "price"), "has no other column price"),
        (("--name", "x", "--item-column", "sku"), "has no column sku"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    run: Run, raised: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = run("--outcome", raised, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda ids: (ids[:40], np.arange(40.0)), "only 40 items have an outcome, at least 60 are needed"),
        (lambda ids: (ids, np.ones(len(ids))), "the outcome is the same for all items"),
        (lambda ids: ([f"x{each}" for each in ids], np.arange(float(len(ids)))), "are not in the catalogue"),
    ],
    ids=["too few", "constant", "unknown"],
)
def test_an_outcome_that_tells_nothing_is_one_sentence(
    run: Run, workdir: Path, tmp_path: Path, make: Callable[..., tuple[list[str], np.ndarray]], sentence: str
) -> None:
    path = table(tmp_path, *make(read_items(workdir / "prepare").ids))
    code, out, err = run("--outcome", path, "--name", "x")
    assert (code, out) == (2, "")
    assert sentence in err


def test_a_work_directory_without_the_stages_is_one_sentence(run: Run, raised: Path, tmp_path: Path) -> None:
    code, _, err = run("--outcome", raised, "--name", "x", "--workdir", tmp_path)
    assert code == 2
    assert "has no finished prepare stage" in err
