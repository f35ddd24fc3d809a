"""The section on a finished run: its figures are those of the report, and what was not measured is absent."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from saerec_ray.cli import app
from saerec_ray.evaluation.segments import FEWEST_RUNS
from tests.bench import report_sections
from tests.bench.report_sections import named_run, read_report, run_section, shown_strengths
from tests.evaluation.finished_stages import write_stages

VERSIONS = {"python": "3.11", "torch": "2.6", "saerec-ray": "0.1"}
TRAINING = {"seconds": 62.0, "resumed": False}
FEW = {
    "completeness_users": 5,
    "faithfulness_users": 5,
    "history_users": 8,
    "steering_users": 4,
    "steering_intents": 3,
    "simulated_users": 3,
    "calibration_users": 5,
    "recovery_users": 10,
    "probed_attributes": 2,
    "intruder_latents": 5,
    "fuzzed_intents": 2,
}
TITLES = {
    "accuracy": ["Accuracy", "Accuracy by history length", "Lists of 10"],
    "cold": ["Cold items"],
    "explanations": ["Share of a score that intents explain"],
    "faithfulness": [
        "Cited intents against random ones",
        "Share of the top K kept",
        "Histories",
        "Stability of the three cited intents",
    ],
    "steering": ["Steering"],
    "representation": ["Over- and under-representation"],
    "dictionary": ["Dictionary"],
    "intents": ["Intents"],
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_stages(folder, cold=True)
    settings = [f"evaluate.{name}={value}" for name, value in FEW.items()]
    parts = ("accuracy", "cold", "faithfulness", "steering", "representation", "dictionary", "intents")
    arguments = ["evaluate", "-c", str(folder / "config.yaml"), "-w", str(folder)]
    arguments += [word for each in (*settings, "train.cold_share=0.2") for word in ("--set", each)]
    arguments += [word for part in parts for word in ("--part", part)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def report(workdir: Path) -> dict[str, Any]:
    return read_report(workdir)


def test_the_program_writes_one_section_a_run(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any]
) -> None:
    page = tmp_path / "page.md"
    runs = [f"--run={name}={workdir}" for name in ("toys", "beauty")]
    monkeypatch.setattr("sys.argv", ["report_sections.py", *runs, "--page", str(page)])
    report_sections.main()
    text = page.read_text("utf-8")
    assert text.index("<!-- begin report beauty -->") < text.index("<!-- begin report toys -->")
    for titles in TITLES.values():
        for title in titles:
            assert text.count(f"### {title}\n") == 2
    assert f"Seed {report['seed']}; " in text


def test_a_run_that_is_made_first_is_shown_with_all_its_settings(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("sequences.txt", "items.jsonl"):
        (tmp_path / file).touch()
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(report_sections, "saerec", lambda *arguments: made.append(arguments))
    run, data = [f"--run=toys={workdir}"], ["--data", str(tmp_path)]
    page = ["--page", str(tmp_path / "page.md")]
    monkeypatch.setattr("sys.argv", ["x.py", *run, *data, "--set", "train.cold_share=0.2", *page])
    report_sections.main()
    assert made == [("run", workdir, [f"prepare.source.path={tmp_path}", "train.cold_share=0.2"])]
    command = f"--run=toys=FOLDER/{workdir.name} --data FOLDER/{tmp_path.name} --set train.cold_share=0.2"
    assert f"python tests/bench/x.py {command}\n" in (tmp_path / "page.md").read_text("utf-8")
    for odd in ([*run, "--set", "seed=1"], [*run, *run, *data]):
        monkeypatch.setattr("sys.argv", ["x.py", *odd, *page])
        with pytest.raises(SystemExit):
            report_sections.main()
    assert len(made) == 1


def test_figures_are_those_of_the_report(report: dict[str, Any]) -> None:
    text = run_section("toys", report, VERSIONS, TRAINING)
    lines = text.splitlines()
    whole, by_length, *_ = [line for line in lines if line.startswith("| intents | 0")]
    for metric in ("HR@10", "NDCG@10"):
        assert f"| {report['accuracy']['test']['intents'][metric]:.4f} |" in whole
    assert "Training took 62 s." in text
    resumed = run_section("toys", report, VERSIONS, {**TRAINING, "resumed": True})
    assert "Training took 62 s, not counting what it had done before it was stopped." in resumed
    intents = report["accuracy_details"]["test"]["intents"]
    for group in intents["by_history_length"].values():
        assert f"{group['NDCG@10']:.4f}" in by_length
    cold = report["cold"]["models"]["text recent"]
    assert any(
        line.startswith(f"| text: mean with the latest items counting most | {cold['all']['HR@10']:.4f}")
        for line in lines
    )
    explained = report["explanations"]
    assert f"| warm | {explained['warm_items']} | {explained['warm_explained_share_median']:.3f} |" in text
    assert f"| cold | {explained['cold_items']} | 1.000 | 1.000 |" in text, "by construction"
    boost = report["steering"]["random"]["boost"]
    (full,) = [line for line in lines if line.startswith("| boost | 1 |")]
    for value, form in (
        (boost["lift"][-1], ".2f"),
        (boost["rank_biased_overlap"][-1], ".2f"),
        (boost["category_divergence"][-1], ".3f"),
        (boost["coverage"][-1], ".1%"),
    ):
        assert f"| {value:{form}} |" in full
    own = report["steering"]["own"]["boost"]
    (start,) = [line for line in lines if line.startswith("| own intent: none | 0 | 1.00 |")]
    assert f"| {own['ndcg'][0]:.4f} |" in start, "what own intents cost is read against this"
    (row,) = [line for line in lines if line.startswith("| 100 |")]
    assert row.endswith(f"| {report['representation']['lengths']['100']['under_possible']:.1%} |")
    assert "that needs two members, and this model has one" in text
    for name, removed in (("evidence", "cited"), ("history", "all carriers")):
        row = report["faithfulness"][name]["any_item"]
        (line,) = [line for line in lines if line.startswith(f"| {removed} | any item | {row['compared']} |")]
        assert line.endswith(f"| {row['ties']:.0%} | {row['loss_rate']:.0%} |")


def test_the_dictionary_and_its_intents_are_published_beside_their_controls(report: dict[str, Any]) -> None:
    text = run_section("toys", report, VERSIONS, TRAINING)
    dictionary, intents = text[text.index("### Dictionary\n") :].split("### Intents\n")
    lost, probed = report["dictionary"]["codings"], report["intents"]["probing"]["codings"]
    for name, shown in (("dictionary", "dictionary"), ("random_dictionary", "random dictionary")):
        assert f"| {lost[name]['fvu']:.3f} |" in line_of(shown, dictionary)
        assert f"| {probed[name]['1']['auc']:.3f} |" in line_of(shown, intents.split("Probes")[1])
    random = report["intents"]["random_dictionary"]
    assert f"| {random['judged_names']['random_dictionary']} of 5 |" in line_of("random dictionary", intents)
    test = report["dictionary"]["recovered"]["test"]
    assert f"NDCG@10 of the vectors themselves on test: {test['ndcg']['10']:.4f}" in dictionary
    assert "on validation" not in dictionary, "choices were made there"
    assert f"{report['intents']['detection']['coverage']:.0%} of the activation" in intents
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[0].startswith("## ")
    assert all(line.startswith(("### ", "#### ")) for line in headings[1:])


def line_of(name: str, text: str) -> str:
    """The first line of a table that begins so."""
    return next(line for line in text.splitlines() if line.startswith(f"| {name} |"))


def test_every_row_of_a_table_has_a_cell_for_each_head(report: dict[str, Any]) -> None:
    width = 0
    for line in run_section("toys", report, VERSIONS, TRAINING).splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = line.count("|")
        width = width or cells
        assert cells == width, line


def test_accuracy_of_a_segment_of_few_lists_is_not_shown(report: dict[str, Any]) -> None:
    few = copy.deepcopy(report)
    boost = few["steering"]["random"]["boost"]
    boost["ndcg_segment"] = [0.125] * len(boost["strengths"])
    for runs, cell in ((FEWEST_RUNS - 1, "–"), (FEWEST_RUNS, "0.1250")):
        boost["segment_runs"] = runs
        text = run_section("toys", few, VERSIONS, TRAINING)
        (line,) = [each for each in text.splitlines() if each.startswith("| boost | 1 |")]
        assert line.endswith(f"| {cell} | {runs} |")


@pytest.mark.parametrize("part", TITLES)
def test_what_was_not_measured_is_absent(report: dict[str, Any], part: str) -> None:
    text = run_section(
        "toys", {key: value for key, value in report.items() if key != part}, VERSIONS, TRAINING
    )
    for name, titles in TITLES.items():
        for title in titles:
            assert (f"### {title}\n" in text) is (name != part)


def test_stability_under_another_seed_is_shown_where_there_are_two_members(report: dict[str, Any]) -> None:
    two = copy.deepcopy(report)
    two["faithfulness"]["seed_stability"] |= {
        "members": 2,
        "users": 9,
        "top_3_jaccard_mean": 0.74,
        "top_3_jaccard_p10": 0.5,
        "by_chance": 0.13,
    }
    text = run_section("toys", two, VERSIONS, TRAINING)
    assert "| another seed | 9 | 0.74 | 0.50 | 0.13 |" in text
    assert "needs two members" not in text


def test_a_few_strengths_stand_for_all() -> None:
    assert shown_strengths([0, 0.2, 0.4, 0.6, 0.8, 1.0]) == [1, 3, 5]
    assert shown_strengths([0, 1.0]) == [1]


def test_a_report_of_another_version_or_none_is_refused(workdir: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no evaluate/report\.json"):
        read_report(tmp_path)
    found = json.loads((workdir / "evaluate" / "report.json").read_text("utf-8"))
    del found["faithfulness"]["evidence"]
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "report.json").write_text(json.dumps(found), "utf-8")
    with pytest.raises(SystemExit, match="another version: run saerec evaluate"):
        read_report(tmp_path)
    (tmp_path / "evaluate" / "report.json").write_text('{"transfer": {}}', "utf-8")
    with pytest.raises(SystemExit, match="no part that is published here"):
        read_report(tmp_path)


def test_a_run_is_named() -> None:
    assert named_run("beauty=out/beauty") == ("beauty", Path("out/beauty"))
    for odd in ("beauty", "=out", "beauty="):
        with pytest.raises(Exception, match="not NAME=WORKDIR"):
            named_run(odd)
