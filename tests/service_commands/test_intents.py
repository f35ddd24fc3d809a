"""Intents on the command line: listed and shown, and named by a label or a group file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saerec_ray.v1 import intent_service_pb2 as intents_api
from saerec_ray.v1 import recommender_service_pb2 as recommender
from tests.command_line import Run
from tests.scripted_server import ScriptedServer
from tests.service_commands.answers import GENTLE, RAZOR, SHAMPOO, ranking


def test_intents_are_listed_shown_and_searched(server: ScriptedServer, run: Run) -> None:
    listed = run("intents", "list", "--steerable")
    assert "gentle shampoo 0.91 12.5% active yes Oat [bold]Wash[/bold]" in listed.flat
    assert server.requests["ListIntents"][0].steerable_only

    shown = run("intents", "show", "razors")
    assert "Label razors & blades" in shown.flat
    assert "2.500 Oat [bold]Wash[/bold] i1" in shown.flat

    found = run("intents", "search", "shave")
    assert "0.75 razors & blades" in found.flat
    run("intents", "search", "--item", "i1", "--item", "i2")
    assert list(server.requests["SearchIntents"][-1].examples.item_ids) == ["i1", "i2"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--config", "no-such-preset"], "no-such-preset"), (["--workdir", "out"], "needs --config")],
)
def test_intents_without_a_call_is_the_stage(saerec: Run, arguments: list[str], complaint: str) -> None:
    done = saerec("intents", *arguments)
    assert (done.code, complaint in done.err) == (2, True)


def test_an_equal_label_wins_over_a_longer_one(server: ScriptedServer, run: Run) -> None:
    server.answer("Recommend", ranking(("a", 1.0)))
    run("recommend", "--user", "u1", "--boost", "Shampoo", "--no-explain")
    assert server.requests["Recommend"][0].steering.adjustments[0].intent_id == SHAMPOO


def write_group(folder: Path, *weights: float) -> Path:
    path = folder / "quality.json"
    members = [
        {"intent_id": f"int-{place:08x}", "label": "", "weight": weight}
        for place, weight in enumerate(weights, start=1)
    ]
    group = {"format": 1, "name": "high quality", "intents_version": "v", "supervised": False}
    path.write_text(json.dumps(group | {"held_out_auc": 0.7, "members": members}), "utf-8")
    return path


def test_a_group_file_stands_for_its_intents(server: ScriptedServer, run: Run, tmp_path: Path) -> None:
    server.answer("Recommend", ranking(("a", 1.0)))
    path = write_group(tmp_path, 1.0, 0.5)
    done = run("recommend", "--user", "u1", "--boost", f"@{path}", "--avoid", RAZOR, "--no-explain")
    assert done.code == 0
    assert "is the group “high quality”: 2 intents." in done.complaint
    sent = server.requests["Recommend"][0].steering.adjustments
    assert {each.intent_id: each.strength for each in sent} == {SHAMPOO: 1.0, GENTLE: 0.5, RAZOR: 1.0}
    run("recommend", "--user", "u1", "--suppress", f"@{path}=0.5", "--no-explain")
    sent = server.requests["Recommend"][1].steering.adjustments
    assert {each.intent_id: each.strength for each in sent} == {SHAMPOO: 0.5, GENTLE: 0.25}


def test_a_group_file_names_what_to_drop(server: ScriptedServer, run: Run, tmp_path: Path) -> None:
    server.answer("SteerIntents", recommender.SteerIntentsResponse())
    assert run("steer", "--user", "u", "--clear", "--intent", f"@{write_group(tmp_path, 1.0, 0.5)}").code == 0
    (sent,) = server.requests["SteerIntents"]
    assert {each.intent_id for each in sent.adjustments} == {SHAMPOO, GENTLE}


def test_of_a_group_to_boost_as_many_act_as_may(server: ScriptedServer, run: Run, tmp_path: Path) -> None:
    server.answer("Recommend", ranking(("a", 1.0)))
    server.answer(
        "GetIntent",
        lambda request: intents_api.GetIntentResponse(
            intent=intents_api.Intent(intent_id=request.intent_id, label=request.intent_id)
        ),
    )
    path = write_group(tmp_path, 0.3, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
    done = run("recommend", "--user", "u1", "--boost", f"@{path}", "--no-explain")
    assert "5 intents, the strongest 5 of 7" in done.complaint
    sent = server.requests["Recommend"][0].steering.adjustments
    assert [each.strength for each in sent] == [1.0, 0.9, 0.8, 0.7, 0.6]
    run("recommend", "--user", "u1", "--exclude", f"@{path}", "--no-explain")
    assert len(server.requests["Recommend"][1].steering.adjustments) == 7
