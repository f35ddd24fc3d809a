"""The page of published figures, and what the programs that write it share."""

from __future__ import annotations

import argparse
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.config import load_config
from tests.bench import (
    ablations,
    accuracy,
    all_results,
    dictionary_ablations,
    explained_share,
    foreign_dictionaries,
    published,
)
from tests.bench.provenance import sources_and_commit
from tests.bench.published import (
    KINDS,
    PAGE,
    Transcript,
    add_page_option,
    described,
    finished_part,
    locked,
    read_sections,
    render,
    saerec,
    shown_command,
    spread,
    table,
    write_section,
)

PROGRAMS = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_"))


def test_the_first_section_makes_a_page_with_an_introduction_and_a_table_of_contents(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    write_section(page, "accuracy small_set", "## Accuracy, small_set (real)\n\n0.1")
    text = page.read_text("utf-8")
    assert text.startswith("# Results\n")
    assert "- [Accuracy, small_set (real)](#accuracy-small_set-real)\n" in text
    assert text.endswith(
        "<!-- begin accuracy small_set -->\n## Accuracy, small_set (real)\n\n0.1\n"
        "<!-- end accuracy small_set -->\n"
    )


def test_writing_a_section_again_replaces_it_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    write_section(page, "accuracy beauty", "## Accuracy, beauty\n\nold")
    write_section(page, "accuracy beauty2", "## Accuracy, beauty2\n\nother")
    write_section(page, "accuracy beauty", "## Accuracy, beauty\n\nnew")
    assert read_sections(page.read_text("utf-8")) == {
        "accuracy beauty": "## Accuracy, beauty\n\nnew",
        "accuracy beauty2": "## Accuracy, beauty2\n\nother",
    }


def test_writing_the_same_again_changes_no_byte(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    for key in ("identity", "accuracy toys", "transfer"):
        write_section(page, key, f"## {key}\n\n| a |\n|---|\n| 1 |\n")
    before = page.read_bytes()
    write_section(page, "accuracy toys", "## accuracy toys\n\n| a |\n|---|\n| 1 |\n")
    assert page.read_bytes() == before


@given(
    st.permutations(["accuracy beauty", "accuracy toys", "ablations beauty", "training-speed", "identity"])
)
def test_sections_stand_in_one_order_whatever_was_written_first(keys: list[str]) -> None:
    text = render({key: f"## {key}" for key in keys})
    assert re.findall("<!-- begin (.*) -->", text) == [
        "accuracy beauty",
        "accuracy toys",
        "ablations beauty",
        "training-speed",
        "identity",
    ]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=60)


@given(st.dictionaries(st.sampled_from([*KINDS, "accuracy a", "accuracy b-c.d"]), texts, min_size=1))
def test_a_page_reads_back_as_its_sections_whatever_they_say(bodies: dict[str, str]) -> None:
    sections = {key: f"## {key}\n\n{body}" for key, body in bodies.items()}
    assert read_sections(render(sections)) == sections


def test_a_program_waits_for_another_that_writes_and_keeps_its_section(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    write_section(page, "identity", "## Identity\n\nold")
    writer = threading.Thread(target=write_section, args=(page, "transfer", "## Transfer"))
    with locked(tmp_path):
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        page.write_text(render({"identity": "## Identity\n\nnew"}), "utf-8")
    writer.join(60)
    assert not writer.is_alive()
    assert read_sections(page.read_text("utf-8")) == {
        "identity": "## Identity\n\nnew",
        "transfer": "## Transfer",
    }


def test_a_reader_that_opened_the_page_before_goes_on_reading_the_old_one(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    write_section(page, "identity", "## Identity")
    before = page.read_text("utf-8")
    os.link(page, tmp_path / "opened before")
    write_section(page, "transfer", "## Transfer")
    assert (tmp_path / "opened before").read_text("utf-8") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["opened before", "results.md"]


@pytest.mark.parametrize(
    "text",
    [
        "# Results\n\n## Figures of somebody\n\n0.5\n",
        "# Results\n\n<!-- begin identity -->\n## Identity\n",
        "# Results\n\n<!-- begin identity -->\n## Identity\n<!-- end identity -->\n\nA remark by hand\n",
        "<!-- begin transfer -->\n<!-- begin identity -->\n## Identity\n<!-- end identity -->\n",
    ],
    ids=["no sections", "no end", "text below", "begin alone"],
)
def test_a_page_that_would_lose_something_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    page = tmp_path / "results.md"
    page.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="mend it by hand"):
        write_section(page, "accuracy toys", "## Accuracy, toys")
    assert page.read_text("utf-8") == text


def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.md").write_text("Something else", "utf-8")
    parser = argparse.ArgumentParser()
    add_page_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--page", str(tmp_path / "page.md")])
    assert "mend it by hand" in capsys.readouterr().err
    assert parser.parse_args(["--page", str(tmp_path / "new.md")]).page == tmp_path / "new.md"
    assert parser.parse_args([]).page is None


@pytest.mark.parametrize("key", ["unheard", "accuracy two words", "accuracy -->", "", "accuracy "])
def test_a_key_that_has_no_place_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no key of a section"):
        write_section(tmp_path / "results.md", key, "## Title")


@pytest.mark.parametrize("text", ["no heading", "## Title\n<!-- end accuracy -->"])
def test_a_text_that_is_no_section_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="must begin with its heading"):
        write_section(tmp_path / "results.md", "accuracy", text)


def test_the_published_page_is_as_the_programs_write_it() -> None:
    text = PAGE.read_text("utf-8")
    assert render(read_sections(text)) == text


def test_every_program_writes_a_kind_of_section_that_the_page_knows() -> None:
    written = {program.stem: kinds_of(program) for program in PROGRAMS}
    assert written["accuracy"] == {"accuracy"}
    found = [kind for kinds in written.values() for kind in kinds]
    assert set(found) == set(KINDS)
    assert len(found) == len(set(found))


def test_make_results_repeats_every_section_of_the_page_and_none_twice(tmp_path: Path) -> None:
    steps = all_results.steps(tmp_path / "data", tmp_path / "out", tmp_path / "page.md")
    keys = [key for step in steps for key in step.keys]
    assert set() < set(read_sections(PAGE.read_text("utf-8"))) <= set(keys)
    assert len(keys) == len(set(keys))
    assert {key.split()[0] for key in keys} == set(KINDS)
    for step in steps:
        assert {key.split()[0] for key in step.keys} == kinds_of(Path(__file__).with_name(f"{step.name}.py"))
        assert str(tmp_path / "page.md") in step.arguments


def test_make_results_makes_the_runs_that_it_reports_before_others_read_them(tmp_path: Path) -> None:
    steps = all_results.steps(tmp_path / "data", tmp_path / "out", tmp_path / "page.md")
    made = {step.keys[0]: step.arguments for step in steps if step.name == "report_sections"}
    assert [step.name for step in steps[: len(made)]] == ["report_sections"] * len(made)
    beauty = str(tmp_path / "data" / "amazon2014_beauty")
    for key, run in (("report beauty", "amazon2014_beauty"), ("report beauty-cold", "beauty-cold")):
        assert f"--run={key.split()[1]}={tmp_path / 'out' / run}" in made[key]
        assert made[key][made[key].index("--data") + 1] == beauty
        assert ("--set=train.cold_share=0.1" in made[key]) is (run == "beauty-cold")


def kinds_of(program: Path) -> set[str]:
    """The kinds of section that a program writes."""
    writes = r'(?:write_section|publish)\(\s*\w+\.page,\s*f?"([a-z-]+)'
    return set(re.findall(writes, program.read_text("utf-8")))


def test_make_results_goes_on_with_the_step_that_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in all_results.SETS:
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in ("sequences.txt", "items.jsonl"):
            (tmp_path / "data" / name / file).touch()
    arguments = ["--data", str(tmp_path / "data"), "--workdir", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["all_results.py", *arguments, "--page", str(tmp_path / "page.md")])
    started: list[str] = []

    def run(step: all_results.Step, data: Path) -> None:
        started.append(step.name)
        if len(started) == 3:
            raise SystemExit("stopped")

    monkeypatch.setattr(all_results, "run", run)
    with pytest.raises(SystemExit, match="stopped"):
        all_results.main()
    all_results.main()
    names = [step.name for step in all_results.steps(tmp_path, tmp_path, tmp_path)]
    assert started == [*names[:3], *names[2:]]
    all_results.main()
    assert len(started) == len(names) + 1


def test_a_step_that_fails_ends_the_program(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="identity ended with exit code 2"):
        all_results.run(all_results.Step("identity", ("--unheard-of",), ("identity",)), tmp_path)


def test_a_program_is_described_by_its_docstring_without_commands() -> None:
    assert described("What it does.\n\n    python x.py\n    python x.py --more\n\nHow it\ndoes it.\n") == [
        "What it does.",
        "How it\ndoes it.",
    ]


def test_figures_are_measured_once_and_kept_with_their_settings(tmp_path: Path) -> None:
    path = tmp_path / "set" / "seed-1.json"
    made = finished_part(path, ["seed=1"], lambda: {"fvu": 0.25})
    assert made == {"fvu": 0.25, "settings": ["seed=1"], **sources_and_commit()}
    assert finished_part(path, ["seed=1"], lambda: pytest.fail("measured again")) == made


def test_figures_made_with_other_settings_end_the_program(tmp_path: Path) -> None:
    path = tmp_path / "seed-1.json"
    finished_part(path, ["train.epochs=1"], lambda: {"fvu": 0.25})
    with pytest.raises(SystemExit, match=r"made with the settings \['train.epochs=1'\], not \[\]"):
        finished_part(path, [], lambda: {"fvu": 0.5})


def test_a_stage_that_fails_ends_the_program_and_says_which(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"saerec prepare in .* ended with exit code 2"):
        saerec("prepare", tmp_path, [f"prepare.source.path={tmp_path / 'nowhere'}"])


@pytest.mark.parametrize(
    ("values", "formats", "shown"),
    [
        ([0.5], (), "0.5000"),
        ([1.0, 2.0, 3.0], (), "2.0000 ± 1.0000"),
        ([1.0, None, 3.0, float("nan")], (".3g", ".2g"), "2 ± 1.4"),
        ([None], (), "none"),
    ],
)
def test_a_spread_is_mean_and_sample_deviation_of_what_there_is(
    values: list[float | None], formats: Sequence[str], shown: str
) -> None:
    assert spread(values, *formats) == shown


def test_a_table_has_a_rule_below_its_heads() -> None:
    assert table(["", "seed 1"], [["fvu", "0.3"], ["l0", ""]]) == [
        "| | seed 1 |",
        "|---|---|",
        "| fvu | 0.3 |",
        "| l0 | |",
    ]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("--data /big/sets/beauty", "--data FOLDER/beauty"),
        ("--data /big/sets", "--data FOLDER"),
        ("--data ../elsewhere/toys", "--data FOLDER/toys"),
        ("--set prepare.source.path=/big/sets/toys", "--set prepare.source.path=FOLDER/toys"),
        ("--run toys=/runs/toys", "--run toys=FOLDER/toys"),
        ("/runs/seed-1/dictionary out/seed-2", "FOLDER/seed-1/dictionary out/seed-2"),
        (f"{published.REPOSITORY}/out/seed-1", "out/seed-1"),
        ("--page=p --seeds 1 --page p --workdir /tmp/w --values 0.5", "--seeds 1 --values 0.5"),
        ("--set evaluate.parts=[a,b]", "--set 'evaluate.parts=[a,b]'"),
    ],
)
def test_a_published_command_has_no_folders_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, words: str, shown: str
) -> None:
    monkeypatch.setenv("SAEREC_DATA", "/big/sets")
    monkeypatch.setattr("sys.argv", ["/home/me/x.py", *words.split()])
    assert shown_command() == f"python tests/bench/x.py {shown}"


def test_a_transcript_prints_and_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say = Transcript()
    say("| a |\n|---|")
    say("| 1 |")
    assert capsys.readouterr().out == "| a |\n|---|\n| 1 |\n"
    assert say.lines == ["| a |", "|---|", "| 1 |"]


def test_the_section_of_accuracy_has_seeds_side_by_side_and_says_what_was_not_run() -> None:
    def model(ndcg: float) -> dict[str, float]:
        return {"HR@10": 0.2, "NDCG@10": ndcg, "MRR@10": 0.05}

    def report(ndcg: float, control: bool) -> dict[str, object]:
        models = {"intents": model(ndcg), "no intents": model(0.06), "popularity": model(0.01)}
        if control:
            models["shuffled"] = model(0.055)
        return {
            "protocol": "Leave one out.",
            "accuracy": {"test": models, "validation": models},
            "seconds": dict.fromkeys(published.STAGES, 2.0),
            "prior_weight": 1.2,
            "dictionary_stage": dict.fromkeys(
                ("fvu", "fvu_pca_same_nonzeros", "fvu_random_dictionary", "l0", "dead_share"), 0.3
            ),
            "catalogue": dict.fromkeys(
                (
                    "published",
                    "mass_covered",
                    "detection_auc_mean_published",
                    "detection_auc_shuffled",
                ),
                0.8,
            ),
            "explanations": {"explained_share_median": 0.86, "completeness_error": 3e-7},
        }

    versions = {"python": "3.11", "torch": "2.6", "ray": "2.50", "saerec-ray": "0.1"}
    text = accuracy.set_section(
        "toys", [1, 2], [report(0.07, True), report(0.09, False)], versions, ["train.epochs=1"]
    )
    assert text.startswith("## Accuracy, toys\n")
    assert "--data FOLDER/toys --seeds 1 2 --baselines 2 --controls 1 --set train.epochs=1 " in text
    assert (
        "| with intents | 0.2000 ± 0.0000 | 0.0800 ± 0.0141 | 0.0500 ± 0.0000 | 0.0700 | 0.0900 |\n" in text
    )
    assert "| control: codes of other items | 0.2000 | 0.0550 | 0.0500 | 0.0550 | not run |\n" in text
    assert "| seed 2 | 2 | 2 | 2 | 2 | 2 | 2 | 12 |" in text
    resumed = accuracy.time_table([1], [{**report(0.07, False), "resumed": ["train"]}])
    assert "| seed 1 | 2 | 2 | 2 | 2 | 2+ | 2 | 12+ |" in resumed


def ablated(ndcg: float) -> dict[str, Any]:
    row = {"HR@10": 0.1, "NDCG@10": ndcg}
    models = dict.fromkeys(("intents", "no intents", "popularity"), row)
    return {"accuracy": {"test": models, "validation": models}, "explained": 0.5}


def test_the_section_of_ablations_compares_with_the_whole_model_seed_by_seed() -> None:
    results = {
        ablations.VARIANTS[0].name: [ablated(0.1), ablated(0.2)],
        "without companions": [ablated(0.05), ablated(0.2)],
    }
    text = ablations.set_section("toys", [1, 2], [], results)
    row = "0.1000 ± 0.0000 | 0.1250 ± 0.1061 | -25.0% ± 35.4% | 0.1250 ± 0.1061 | 0.50 ± 0.00"
    assert f"| without companions | {row} |\n" in text
    assert "| without intents: residuals alone | 0.1000 ± 0.0000 | 0.1500 ± 0.0707 | +0.0% ± 0.0% |" in text
    assert (
        "| without intents: residuals alone, without companions | 0.1000 ± 0.0000 | 0.1250 ± 0.1061 |" in text
    )
    assert "| popularity | 0.1000 ± 0.0000 | 0.1500 ± 0.0707 | +0.0% ± 0.0% | 0.1500 ± 0.0707 | |" in text


def test_the_section_of_ablations_says_which_seeds_only_the_whole_model_and_controls_have() -> None:
    control = next(each for each in ablations.VARIANTS if each.name.startswith("control: "))
    results = {
        ablations.VARIANTS[0].name: [ablated(0.1), ablated(0.2)],
        "without branches": [ablated(0.08)],
        control.name: [ablated(0.05), ablated(0.1)],
    }
    text = ablations.set_section("toys", [1], [2], results)
    assert "; of 2 the whole model and the controls alone. Seeds 1, 2;" in text
    assert "| without branches | 0.1000 | 0.0800 | -20.0% | 0.0800 | 0.50 |" in text
    assert f"| {control.name} | 0.1000 ± 0.0000 | 0.0750 ± 0.0354 | -50.0% ± 0.0% |" in text
    decisive = [variant.name for variant in ablations.VARIANTS if variant.decisive]
    assert decisive[0] == "the whole model"
    assert len(decisive) == 4
    assert all(name.startswith("control: ") for name in decisive[1:])


def test_the_section_of_dictionary_ablations_has_a_column_for_each_figure() -> None:
    figures = dict.fromkeys(dictionary_ablations.COLUMNS, 0.25)
    text = dictionary_ablations.set_section("toys", [1], {"topk": [{**figures, "auc": None}]})
    assert "| topk | 0.25 | 0.25 | 0.25 | 0.25 | 0.25 | none | 0.25 |" in text


def test_the_section_of_explained_shares_tells_the_defaults_and_leaves_open_what_is_not_known() -> None:
    figures = {"validation": 0.07, "test": 0.06, "median": 0.8, "p10": 0.5, "cold": None}
    text = explained_share.set_section("toys", [1], {"decay 0": [figures], "dropout 0.6": [figures]})
    assert "| decay 0 | 0.0700 | 0.0600 | 0.800 | 0.500 | none |\n" in text
    assert "| dropout 0.6 | 0.0700 | 0.0600 | 0.800 | 0.500 | none |" in text
    train = load_config("amazon").train
    assert f"train.residual_decay {train.residual_decay:g}, train.residual_dropout" in text


def test_of_explained_shares_each_setting_is_one_row_even_where_both_lists_hold_the_default() -> None:
    train = load_config("amazon").train
    rows = explained_share.settings_to_compare([0.0, train.residual_decay], [train.residual_dropout, 0.9])
    assert list(rows) == ["decay 0", f"decay {train.residual_decay:g}", "dropout 0.9", "no residuals"]
    assert rows["dropout 0.9"] == ("train.residual_dropout=0.9",)
    assert "dropout 0.3" in explained_share.settings_to_compare([0.0], [0.3])


def test_the_section_of_foreign_dictionaries_compares_each_with_the_sets_own() -> None:
    def figures(test: float) -> dict[str, float]:
        return {"validation": 0.1, "test": test, "popularity": 0.01, "published": 30, "explained": 0.75}

    text = foreign_dictionaries.page_section(
        [1], {"toys": {foreign_dictionaries.OWN: [figures(0.08)], "beauty": [figures(0.06)]}}
    )
    assert "| toys | its own | 0.1000 | 0.0800 | | 30 | 0.75 |\n" in text
    assert "| toys | beauty | 0.1000 | 0.0600 | -25.0% | 30 | 0.75 |\n" in text
    assert "| toys | none: popularity | | 0.0100 | | | |" in text
