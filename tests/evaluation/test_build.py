"""The evaluate stage on finished stages: what is in the report, and what a person gets to read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from saerec_ray.backbone import validation
from saerec_ray.backbone.build import read_model
from saerec_ray.backbone.validation import encode_users, held_out, model_ranks, ndcg
from saerec_ray.cli import app
from saerec_ray.config import LanguageModelConfig, parse_config
from saerec_ray.data.prepared import read_sequences
from saerec_ray.errors import InputError
from saerec_ray.evaluation import users_in_turn
from saerec_ray.evaluation.build import PAGE_FILE, REPORT_FILE, TABLE_FILE, build_report
from saerec_ray.evaluation.subject import Subject
from saerec_ray.evaluation_settings import EvaluateConfig
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.stage import read_population
from tests.evaluation.finished_stages import USERS, encode, write_stages
from tests.evaluation.other_domain import other_domains
from tests.intents.scripted_endpoint import Endpoint, Reply
from tests.synthetic import synthetic_config

FEW = {
    "completeness_users": 5,
    "faithfulness_users": 5,
    "history_users": 5,
    "steering_users": 4,
    "steering_intents": 3,
    "steering_strengths": [0.5, 1.0],
    "simulated_users": 3,
    "calibration_users": 5,
    "recovery_users": 10,
    "probed_attributes": 2,
    "intruder_latents": 5,
}
PARTS = (
    "accuracy",
    "cold",
    "faithfulness",
    "steering",
    "representation",
    "transfer",
    "dictionary",
    "intents",
)
KEYS = {
    "accuracy": {"accuracy", "accuracy_details", "accuracy_users"},
    "cold": {"cold"},
    "faithfulness": {"explanations", "faithfulness"},
    "steering": {"steering"},
    "representation": {"representation"},
    "transfer": {"transfer"},
    "dictionary": {"dictionary"},
    "intents": {"intents"},
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    write_stages(folder, cold=True)
    return folder


def build(
    workdir: Path, folder: Path, *parts: str, train: Any = None, on_progress: Any = None, **more: Any
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    return build_report(
        EvaluateConfig(parts=list(parts), **FEW),
        train or synthetic_config().train,
        7,
        workdir / "prepare",
        workdir / "intents",
        workdir / "train",
        folder,
        on_progress,
        embedded=workdir / "embed",
        dictionary=workdir / "dictionary",
        encode=encode,
        **{"others": other_domains(workdir), **more},
    )


@pytest.fixture(scope="module")
def whole(workdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    build(workdir, folder, *PARTS)
    return folder


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text("utf-8"))
    return found


def test_accuracy_is_that_of_the_ranks_the_scoring_gives(workdir: Path, whole: Path) -> None:
    space, encoder, frozen = read_model(workdir / "train", synthetic_config().train)
    users = encode_users(encoder, held_out(read_sequences(workdir / "prepare"), "test"))
    ranks = model_ranks(space, frozen.prior, users)
    test = report(whole)["accuracy"]["test"]
    assert set(test) == {"intents", "no intents", "popularity"}
    assert test["intents"]["NDCG@10"] == pytest.approx(ndcg(ranks, 10))
    assert test["intents"]["targets"] == USERS
    assert test["no intents"] != test["intents"]


def test_the_details_belong_to_the_same_models_and_users(whole: Path) -> None:
    found = report(whole)
    models = found["accuracy"]["test"]
    assert set(found["accuracy_details"]["test"]) == set(models)
    for name, details in found["accuracy_details"]["test"].items():
        low, high = details["NDCG@10_interval"]
        assert low <= models[name]["NDCG@10"] <= high
        groups = details["by_history_length"].values()
        assert sum(group["targets"] for group in groups) == USERS
        assert 0 < details["lists"]["catalogue_coverage"] <= 1


def test_every_part_is_in_the_whole_report(whole: Path) -> None:
    found = report(whole)
    assert set.union(*KEYS.values()) <= set(found)
    assert found["explanations"]["completeness_error"] < 1e-5
    assert found["steering"]["violations"] == 0
    assert len(found["steering"]["intents"]) == 3
    assert set(found["faithfulness"]) == {
        "cited_against_random",
        "named_against_random",
        "deletion_insertion",
        "history",
        "evidence",
        "stability",
        "seed_stability",
        "users",
    }


def test_a_language_model_judges_names_where_there_is_one(workdir: Path, whole: Path, tmp_path: Path) -> None:
    assert "model_detection" not in report(whole)["intents"]
    with Endpoint() as endpoint:
        endpoint.answer(Reply("yes"))
        settings = LanguageModelConfig(base_url=endpoint.base_url, model="small", max_calls=1000)
        headline = build(
            workdir,
            tmp_path / "report",
            "intents",
            language_model=LanguageModel(settings, tmp_path / "answers", {}),
        )
    assert report(tmp_path / "report")["intents"]["model_detection"]["own"]["balanced_accuracy"] == 0.5
    assert headline["judge_balanced_accuracy"] == 0.5
    assert "small was asked" in (tmp_path / "report" / TABLE_FILE).read_text("utf-8")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_was_not_asked_for_is_absent_and_the_others_are_as_before(
    workdir: Path, whole: Path, tmp_path: Path, part: str
) -> None:
    build(workdir, tmp_path, part)
    alone, everything = report(tmp_path), report(whole)
    assert set(alone) & set.union(*KEYS.values()) == KEYS[part]
    for key in KEYS[part]:
        assert alone[key] == everything[key], "the seed decides, not what else is measured"


def test_the_table_and_the_page_hold_the_figures_of_the_report(whole: Path) -> None:
    found = report(whole)
    table, page = ((whole / name).read_text("utf-8") for name in (TABLE_FILE, PAGE_FILE))
    for metrics in found["accuracy"]["test"].values():
        assert f"{metrics['NDCG@10']:.4f}" in table
        assert f"{metrics['NDCG@10']:.4f}" in page
    for text in ("Deletion and insertion", "Over- and under-representation", "median intent"):
        assert (text in table) == (text != "median intent")
    assert page.count("<figure>") >= 8


def test_history_lengths_stand_in_the_order_of_length(whole: Path) -> None:
    table = (whole / TABLE_FILE).read_text("utf-8")
    assert "| model | 1-4 | 5-9 | 10+ |" in table


def test_intents_without_a_published_name_are_not_cited_as_names(whole: Path) -> None:
    found = report(whole)["faithfulness"]
    assert found["named_against_random"]["1"]["same_item"]["cases"] > 0
    assert found["named_against_random"] != found["cited_against_random"], "one in eight has no name"


def test_where_no_intent_is_published_none_is_cited(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Subject, "published", np.zeros(len(read_catalogue(workdir / "intents").intents), bool)
    )
    metrics = build(workdir, tmp_path, "faithfulness")
    found = report(tmp_path)["faithfulness"]
    assert found["cited_against_random"]["1"]["same_item"]["cases"] > 0
    assert not any(found["named_against_random"].values())
    assert set(found["history"]) == set(found["evidence"]) == {"users"}
    assert found["stability"]["items"] == 0
    assert "cited_win_rate" not in metrics


def test_metrics_of_the_manifest_are_plain_figures(workdir: Path, tmp_path: Path) -> None:
    steps: list[tuple[float, float]] = []
    metrics = build(workdir, tmp_path, *PARTS, on_progress=lambda *step: steps.append(step))
    assert metrics["test_intents_NDCG@10"] == report(tmp_path)["accuracy"]["test"]["intents"]["NDCG@10"]
    assert metrics["completeness_error"] < 1e-5
    assert metrics["steering_violations"] == 0
    for name in (
        "dictionary_fvu",
        "detection_auc",
        "probing_auc_1",
        "cold_text recent_HR@10_all",
        "transfer_there_fvu_ratio",
    ):
        assert math.isfinite(metrics[name])
    assert 0 <= metrics["cited_win_rate"] <= 1
    assert not any(isinstance(value, (list, dict)) for value in metrics.values())
    done = [share / total for share, total in steps]
    assert done == sorted(done), "progress never goes back"
    assert done[-1] == pytest.approx(1)


def test_without_a_baseline_the_others_are_still_measured(tmp_path: Path) -> None:
    write_stages(tmp_path, baseline=False)
    build(tmp_path, tmp_path / "evaluate", "accuracy")
    assert set(report(tmp_path / "evaluate")["accuracy"]["test"]) == {"intents", "popularity"}


@pytest.mark.parametrize("control", [False, True])
def test_a_control_run_measures_the_population_of_its_own_codes(workdir: Path, control: bool) -> None:
    train = synthetic_config().train.model_copy(update={"shuffle_codes": control})
    folders = [workdir / name for name in ("prepare", "intents", "train", "embed", "dictionary")]
    subject = Subject(EvaluateConfig(), train, 7, *folders, encode=encode)
    served = read_population(workdir / "intents")
    assert (subject.population.means.tolist() == served.means.tolist()) is not control
    if control:
        _, met = read_sequences(workdir / "prepare").train_interactions()
        expected = subject.model[2].codes[met].toarray().mean(axis=0)
        np.testing.assert_allclose(subject.population.means, expected, rtol=1e-4)


def test_the_command_measures_one_part_and_prints_it(tmp_path: Path) -> None:
    write_stages(tmp_path)
    settings = [f"evaluate.{name}={value}" for name, value in FEW.items()]
    arguments = ["evaluate", "-c", str(tmp_path / "config.yaml"), "-w", str(tmp_path)]
    arguments += [part for setting in settings for part in ("--set", setting)]
    result = CliRunner().invoke(app, [*arguments, "--part", "representation", "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed == report(tmp_path / "evaluate")
    assert "representation" in printed
    assert "accuracy" not in printed
    result = CliRunner().invoke(app, [*arguments, "--part", "all"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("# Evaluation")
    measured = set(report(tmp_path / "evaluate"))
    assert set.union(*KEYS.values()) - {"cold", "transfer"} <= measured
    assert "cold" not in measured, "training met all items, so all parts are all but this one"
    assert "transfer" not in measured, "no other domain is named"


def test_cold_items_are_measured_by_the_command_beside_what_the_report_says_of_them(tmp_path: Path) -> None:
    write_stages(tmp_path, cold=True)
    arguments = ["evaluate", "-c", str(tmp_path / "config.yaml"), "-w", str(tmp_path), "--part", "cold"]
    result = CliRunner().invoke(app, [*arguments, "--set", "train.cold_share=0.1"])
    assert result.exit_code == 0, result.output
    assert "# Cold items" in result.stdout
    assert "companions of the items with the closest texts" in result.stdout
    assert "0 by definition" in result.stdout
    found = report(tmp_path / "evaluate")["cold"]
    for row in found["models"].values():
        assert f"{row['all']['HR@10']:.4f}" in result.stdout
    assert not (tmp_path / "evaluate" / "cold.json").exists(), "one report holds everything"


def test_asking_for_cold_items_where_there_are_none_says_what_to_set(tmp_path: Path) -> None:
    write_stages(tmp_path)
    arguments = ["evaluate", "-c", str(tmp_path / "config.yaml"), "-w", str(tmp_path), "--part", "cold"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, InputError)
    assert "train.cold_share 0" in str(result.exception)
    result = CliRunner().invoke(app, [*arguments, "--set", "train.cold_share=0.1"])
    assert isinstance(result.exception, InputError), "the model was trained without that setting"
    assert "train again" in str(result.exception)
    assert not (tmp_path / "evaluate").exists()


def test_transfer_asked_for_without_another_domain_says_what_to_set(workdir: Path, tmp_path: Path) -> None:
    for parts in (["transfer"], ["accuracy", "transfer"]):
        with pytest.raises(
            InputError, match=r"set evaluate\.other_domains to the work directories of other runs"
        ):
            build(workdir, tmp_path, *parts, others=None)
    build(workdir, tmp_path, *PARTS, others=None)
    assert set.union(*KEYS.values()) - set(report(tmp_path)) == {"transfer"}
    write_stages(tmp_path / "run")
    arguments = ["evaluate", "-c", str(tmp_path / "run" / "config.yaml"), "-w", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, "--part", "transfer"])
    assert isinstance(result.exception, InputError)
    assert "--set evaluate.other_domains.toys=out/toys" in str(result.exception)
    assert not (tmp_path / "run" / "evaluate").exists()


def test_users_that_are_too_many_for_the_catalogue_are_sampled_and_the_report_says_so(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "_MOST_SCORES", 12 * 300)  # 12 users of 300 items
    build(workdir, tmp_path, "accuracy")
    found = report(tmp_path)
    assert found["accuracy_users"]["test"] == {"measured": 12, "all": USERS}
    assert found["accuracy"]["test"]["intents"]["targets"] == 12
    table = (tmp_path / TABLE_FILE).read_text("utf-8")
    assert f"A random 12 of {USERS} users" in table


def test_users_are_encoded_a_few_at_a_time_and_the_ranks_are_the_same(
    workdir: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_in_turn, "_USERS_AT_ONCE", 7)
    seen: list[int] = []
    encode_some = users_in_turn.encode_users

    def counted(encoder: Any, cases: Any) -> Any:
        seen.append(len(cases))
        return encode_some(encoder, cases)

    monkeypatch.setattr(users_in_turn, "encode_users", counted)
    build(workdir, tmp_path, "accuracy", "cold")
    assert max(seen) == 7, "no more profiles are held at once"
    for part in ("accuracy", "cold"):
        assert report(tmp_path)[part] == report(whole)[part]


@pytest.mark.parametrize(("reply", "unanswered"), [(Reply("no"), False), (Reply(status=401), True)])
def test_the_command_asks_the_language_model_of_the_configuration_and_says_what_it_did_not_answer(
    tmp_path: Path, reply: Reply, unanswered: bool
) -> None:
    write_stages(tmp_path)
    with Endpoint() as endpoint:
        endpoint.answer(reply)
        settings = [f"evaluate.{name}={value}" for name, value in FEW.items()]
        settings.append(f"intents.language_model={{base_url: '{endpoint.base_url}', model: small}}")
        arguments = [
            "evaluate",
            "-c",
            str(tmp_path / "config.yaml"),
            "-w",
            str(tmp_path),
            "--part",
            "intents",
        ]
        arguments += [part for setting in settings for part in ("--set", setting)]
        result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["intents"]["model_detection"]
    assert (found["unanswered"] > 0) == unanswered
    assert (found["own"] is None) == unanswered
    assert ("have no answer" in result.stderr) == unanswered


def test_an_unknown_part_is_refused_by_the_command_and_the_configuration() -> None:
    result = CliRunner().invoke(app, ["evaluate", "-c", "demo", "--part", "beauty"])
    assert result.exit_code == 2
    assert "faithfulness" in result.output, "the message lists what there is"
    values = synthetic_config().model_dump(mode="json")
    for key, value in (("parts", ["beauty"]), ("parts", []), ("steering_users", 0)):
        with pytest.raises(InputError, match=f"evaluate.{key}"):
            parse_config({**values, "evaluate": {key: value}}, "test")


@pytest.mark.parametrize("strengths", [[0.5, 0.2], [0.0, 1.0], [0.5, 1.5], [0.5, 0.5]])
def test_strengths_must_rise_within_what_the_server_takes(strengths: list[float]) -> None:
    values = synthetic_config().model_dump(mode="json")
    with pytest.raises(InputError, match="must rise"):
        parse_config({**values, "evaluate": {"steering_strengths": strengths}}, "test")


def test_density_counts_every_intent(workdir: Path, whole: Path) -> None:
    space, _, _ = read_model(workdir / "train", synthetic_config().train)
    expected = (space.codes.toarray() > 0).mean(axis=0)
    np.testing.assert_allclose(report(whole)["dictionary_density"], expected, rtol=1e-5)
