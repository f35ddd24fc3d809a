"""The commands that call a server, run like a person runs them, against a server that answers from a script."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from google.rpc import error_details_pb2

from saerec_ray import cli
from saerec_ray.v1 import common_pb2
from saerec_ray.v1 import intent_service_pb2 as intents_api
from saerec_ray.v1 import recommender_service_pb2 as recommender
from tests.scripted_server import Refusal, ScriptedServer, invalid

SHAMPOO, GENTLE, RAZOR = "int-00000001", "int-00000002", "int-00000003"
LABELS = {SHAMPOO: "shampoo", GENTLE: "gentle shampoo", RAZOR: "razors & blades"}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def flat(self) -> str:
        """Standard output without the wrapping of tables."""
        return re.sub(r"[\s│┃]+", " ", self.out)

    @property
    def complaint(self) -> str:
        return re.sub(r"\s+", " ", self.err)


Run = Callable[..., Outcome]


def intent(intent_id: str) -> intents_api.Intent:
    return intents_api.Intent(
        intent_id=intent_id,
        label=LABELS[intent_id],
        description="Items of this kind.",
        label_source=intents_api.LABEL_SOURCE_TERMS,
        label_confidence=0.91,
        state=intents_api.INTENT_STATE_ACTIVE,
        steerable=True,
        density=0.125,
        top_items=[intents_api.ItemLoading(item_id="i1", loading=2.5, title="Oat [bold]Wash[/bold]")],
        top_terms=["wash", "hair"],
    )


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        running.answer(
            "ListIntents",
            intents_api.ListIntentsResponse(intents=[intent(each) for each in LABELS], total_size=3),
        )
        running.answer(
            "GetIntent", lambda request: intents_api.GetIntentResponse(intent=intent(request.intent_id))
        )
        running.answer(
            "SearchIntents",
            intents_api.SearchIntentsResponse(
                matches=[intents_api.IntentMatch(intent=intent(RAZOR), score=0.75)]
            ),
        )
        yield running


@pytest.fixture
def run(server: ScriptedServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str, target: str = server.target) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["saerec", *arguments, "--target", target])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), output.out, output.err)

    return command


def explained_answer() -> recommender.RecommendResponse:
    return recommender.RecommendResponse(
        recommendation_id="r1",
        items=[
            recommender.RecommendedItem(
                item_id="i7",
                title="Rose Wash",
                score=1.75,
                explanation=recommender.ItemExplanation(
                    intents=[
                        recommender.IntentContribution(intent_id=SHAMPOO, label="shampoo", contribution=1.25)
                    ],
                    other_intents_score=0.125,
                    residual_score=-0.125,
                    bias_score=0.25,
                    steering=[recommender.SteeringContribution(intent_id=RAZOR, contribution=0.25)],
                    unsteered_rank=4,
                    evidence=[recommender.Evidence(item_id="i2", title="Oat Wash", share=0.6)],
                ),
            )
        ],
        unknown_item_ids=["nowhere"],
        skipped_adjustments=[
            recommender.SkippedAdjustment(
                intent_id="int-0000000f", reason=common_pb2.ERROR_REASON_UNKNOWN_INTENT
            )
        ],
    )


def ranking(*items: tuple[str, float]) -> recommender.RecommendResponse:
    return recommender.RecommendResponse(
        items=[recommender.RecommendedItem(item_id=each, score=score) for each, score in items]
    )


def test_recommend_shows_items_the_parts_of_their_scores_and_the_evidence(
    server: ScriptedServer, run: Run
) -> None:
    server.answer("Recommend", explained_answer())
    done = run("recommend", "--user", "u1", "--count", "5", "--boost", "razors=0.25")

    assert done.code == 0
    for part in ("Rose Wash i7", "1.750", "+1.250 shampoo", "+0.125 other intents", "-0.125 what people"):
        assert part in done.flat
    assert "+0.250 steering of razors & blades" in done.flat
    assert "because of Oat Wash (60%)" in done.flat
    assert "without steering at rank 4" in done.flat
    assert "Not in the catalogue: nowhere." in done.flat
    assert "Not applied: int-0000000f: the serving dictionary does not have it." in done.flat
    (sent,) = server.requests["Recommend"]
    assert (sent.user_id, sent.page_size, sent.view) == ("u1", 5, recommender.RECOMMEND_VIEW_EXPLAINED)
    (boost,) = sent.steering.adjustments
    assert (boost.intent_id, boost.strength) == (RAZOR, 0.25)
    assert not sent.steering.ignore_profile


def test_json_is_the_answer_and_nothing_else(server: ScriptedServer, run: Run) -> None:
    server.answer("Recommend", explained_answer())
    done = run("recommend", "--user", "u1", "--suppress", "razors", "--json")
    answer = json.loads(done.out)
    assert answer["items"][0]["explanation"]["intents"][0]["intent_id"] == SHAMPOO
    assert "razors is “razors & blades” (int-00000003)." in done.complaint


def test_filters_and_history_reach_the_server(server: ScriptedServer, run: Run) -> None:
    server.answer("Recommend", ranking(("a", 1.0)))
    run(
        "recommend", "--history", "h1", "--history", "h2", "--allow", "a", "--deny", "b", "--seen",
        "--where", "brand=x", "--where", "brand=y=z", "--where", "type!=w", "--no-explain",
    )  # fmt: skip
    (sent,) = server.requests["Recommend"]
    assert [entry.item_id for entry in sent.history] == ["h1", "h2"]
    assert (list(sent.filter.allow_item_ids), list(sent.filter.deny_item_ids)) == (["a"], ["b"])
    brand, kind = sent.filter.conditions
    assert (brand.attribute, list(brand.any_of.values)) == ("brand", ["x", "y=z"])
    assert (kind.attribute, list(kind.none_of.values)) == ("type", ["w"])
    assert sent.filter.seen_policy == recommender.SEEN_POLICY_ALLOW
    assert sent.view == recommender.RECOMMEND_VIEW_BASIC


def test_compare_shows_how_items_move(server: ScriptedServer, run: Run) -> None:
    server.answer(
        "Recommend",
        ranking(("a", 3.0), ("b", 2.0), ("c", 1.0)),
        ranking(("c", 3.5), ("a", 3.0), ("d", 2.5)),
    )
    done = run("recommend", "--user", "u1", "--boost", SHAMPOO, "--compare", "--count", "3")

    before, after = server.requests["Recommend"]
    assert not before.steering.adjustments
    assert not before.steering.ignore_profile
    assert before.page_size == 200
    assert [each.intent_id for each in after.steering.adjustments] == [SHAMPOO]
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in done.out.splitlines() if line.startswith("│")]
    assert rows == [
        ["1", "a", "3.000", "c", "3.500", "↑ 2", "+2.500"],
        ["2", "b", "2.000", "a", "3.000", "↓ 1", "+0.000"],
        ["3", "c", "1.000", "d", "2.500", "from below 3"],
    ]
    assert "2 of 3 items stay on the page." in done.flat


def test_compare_without_adjustments_shows_what_the_stored_ones_do(server: ScriptedServer, run: Run) -> None:
    server.answer("Recommend", ranking(("a", 3.0)), ranking(("b", 3.5)))
    answer = json.loads(run("recommend", "--user", "u1", "--compare", "--json").out)
    before, after = server.requests["Recommend"]
    assert (before.steering.ignore_profile, after.steering.ignore_profile) == (True, False)
    assert answer["before"]["items"][0]["item_id"] == "a"
    assert answer["after"]["items"][0]["item_id"] == "b"


def test_explain_shows_what_is_over_and_under_represented(server: ScriptedServer, run: Run) -> None:
    def user_intent(intent_id: str, representation: int, lift: float) -> recommender.UserIntent:
        return recommender.UserIntent(
            intent_id=intent_id,
            label=LABELS[intent_id],
            origin=recommender.INTENT_ORIGIN_PERSONAL,
            base_weight=0.5,
            weight=0.75 if lift > 0 else 0.5,
            log_lift=lift,
            z_score=4 * lift,
            representation=representation,
            evidence=[recommender.Evidence(item_id="i2", title="Oat Wash", share=0.6)] if lift > 0 else [],
        )

    server.answer(
        "ExplainUser",
        recommender.ExplainUserResponse(
            intents=[
                user_intent(SHAMPOO, recommender.REPRESENTATION_OVER, 1.5),
                user_intent(RAZOR, recommender.REPRESENTATION_UNDER, -0.5),
            ],
            intent_share=0.62,
            fidelity=0.8,
        ),
    )
    done = run("explain", "--user", "u1", "--count", "2", "--evidence", "1")
    assert re.search(r"shampoo over \+1\.50 \+6\.0 0\.50 → 0\.75 Oat Wash \(60%\)", done.flat)
    assert re.search(rf"{SHAMPOO} own history", done.flat), "the whole id, to be copied"
    rows = [line for line in done.out.splitlines() if line.startswith("│")]
    assert rows
    assert all(line.endswith("│") for line in rows), "a table fits into the width of the terminal"
    assert re.search(r"razors & blades under -0\.50 -2\.0 0\.50", done.flat)
    assert "62%" in done.flat
    (sent,) = server.requests["ExplainUser"]
    assert (sent.max_intents, sent.max_evidence) == (2, 1)


def profile(revision: int) -> recommender.SteeringProfile:
    return recommender.SteeringProfile(
        user_id="u1",
        revision=revision,
        etag="etag-1",
        adjustments=[
            recommender.StoredAdjustment(
                adjustment=common_pb2.IntentAdjustment(
                    intent_id=SHAMPOO, mode=common_pb2.ADJUSTMENT_MODE_BOOST, strength=0.5
                ),
                expire_time=timestamp_pb2.Timestamp(seconds=1_800_000_000),
                actor="unauthenticated",
                reason="asked [red]for[/red]",
            )
        ],
    )


def written() -> recommender.SteerIntentsResponse:
    return recommender.SteerIntentsResponse(
        profile=profile(3),
        effect=recommender.SteeringEffect(
            overlap=0.85,
            exposures=[recommender.ExposureChange(intent_id=SHAMPOO, before=0.1, after=0.25)],
        ),
    )


def test_steer_stores_and_shows_the_effect(server: ScriptedServer, run: Run) -> None:
    server.answer("SteerIntents", written())
    done = run(
        "steer",
        "--user",
        "u1",
        "--boost",
        f"{SHAMPOO}=0.5",
        "--ttl",
        "2w",
        "--etag",
        "etag-0",
        "--reason",
        "r",
    )
    assert done.code == 0
    assert "Stored as revision 3." in done.err
    assert "boost 0.5 2027-01-15 08:00 UTC unauthenticated asked [red]for[/red]" in done.flat
    assert "revision 3, etag etag-1" in done.flat
    assert "0.1000 0.2500 +0.1500" in done.flat
    assert "85% of the page stays." in done.flat
    (sent,) = server.requests["SteerIntents"]
    assert (sent.mode, sent.ttl.seconds) == (recommender.STEER_MODE_MERGE, 14 * 86_400)
    assert (sent.etag, sent.reason, sent.validate_only) == ("etag-0", "r", False)


def test_a_preview_stores_nothing(server: ScriptedServer, run: Run) -> None:
    server.answer("SteerIntents", written())
    done = run("steer", "--user", "u1", "--exclude", "razors", "--replace", "--preview")
    assert "Preview: nothing was stored." in done.err
    (sent,) = server.requests["SteerIntents"]
    assert (sent.mode, sent.validate_only) == (recommender.STEER_MODE_REPLACE, True)


def test_clear_drops_what_is_named_or_everything(server: ScriptedServer, run: Run) -> None:
    server.answer("SteerIntents", recommender.SteerIntentsResponse())
    run("steer", "--user", "u1", "--clear", "--intent", "razors")
    run("steer", "--user", "u1", "--clear")
    named, everything = server.requests["SteerIntents"]
    assert named.mode == everything.mode == recommender.STEER_MODE_CLEAR
    assert [each.intent_id for each in named.adjustments] == [RAZOR]
    assert not everything.adjustments


def test_steer_without_changes_shows_what_is_stored(server: ScriptedServer, run: Run) -> None:
    server.answer("GetSteeringProfile", recommender.GetSteeringProfileResponse(profile=profile(2)))
    done = run("steer", "--user", "u1")
    assert "shampoo boost 0.5 2027-01-15 08:00 UTC" in done.flat
    assert "revision 2, etag etag-1" in done.flat
    assert "SteerIntents" not in server.requests


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
def test_intents_without_a_call_is_the_stage(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["saerec", "intents", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, complaint in capsys.readouterr().err) == (2, True)


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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["recommend", "--user", "u", "--boost", "@nothing.json"], "nothing.json cannot be read"),
        (["recommend", "--user", "u", "--boost", "sham"], "sham fits 2 intents"),
        (
            ["recommend", "--user", "u", "--boost", "shave"],
            "The closest are: “razors & blades” (int-00000003)",
        ),
        (["recommend", "--user", "u", "--boost", "razors=2"], "above 0 and at most 1"),
        (["recommend", "--user", "u", "--boost", "razors=much"], "above 0 and at most 1"),
        (["recommend", "--user", "u", "--exclude", "razors=0.5"], "takes no strength"),
        (["recommend", "--user", "u", "--boost", "razors", "--avoid", RAZOR], "adjusted already"),
        (["recommend", "--user", "u", "--boost", " "], "name of an intent is empty"),
        (["recommend", "--user", "u", "--where", "brand"], "ATTRIBUTE=VALUE"),
        (["recommend", "--user", "bad\udcff"], "not valid UTF-8"),
        (["steer", "--user", "u", "--merge", "--clear"], "only one of"),
        (["steer", "--user", "u", "--intent", "razors"], "give --clear too"),
        (["steer", "--user", "u", "--clear", "--boost", "razors"], "--clear takes --intent only"),
        (["steer", "--user", "u", "--merge"], "needs at least one of"),
        (
            ["steer", "--user", "u", "--boost", "razors", "--ttl", "soon"],
            "--ttl soon must be at most 6 digits and a unit",
        ),
        (
            ["steer", "--user", "u", "--boost", "razors", "--ttl", "9999999w"],
            "--ttl 9999999w must be at most 6 digits",
        ),
        (["intents", "search"], "either words or --item"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(run: Run, arguments: list[str], complaint: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert complaint in done.complaint
    assert "Traceback" not in done.err
    assert done.out == ""


def test_an_answer_with_violations_names_each_field(server: ScriptedServer, run: Run) -> None:
    server.answer("Recommend", invalid(user_id="must not be empty", history="is too long"))
    done = run("recommend")
    assert done.code == 2
    assert "refused the request: user_id must not be empty; history is too long." in done.complaint


def test_codes_of_the_server_become_exit_codes(server: ScriptedServer, run: Run) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2))
    stale = error_details_pb2.ErrorInfo(reason="ETAG_MISMATCH", domain="saerec-ray")
    cases = [
        (Refusal(grpc.StatusCode.NOT_FOUND, "No such intent."), 2, "No such intent."),
        (Refusal(grpc.StatusCode.FAILED_PRECONDITION, "Not steerable"), 2, "Not steerable."),
        (Refusal(grpc.StatusCode.ABORTED, "It changed.", (stale,)), 2, "Read it again"),
        (Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many.", (retry,)), 1, "Try again in 2.0 seconds."),
        (Refusal(grpc.StatusCode.INTERNAL, "trace abc"), 1, "INTERNAL: trace abc."),
        (Refusal(grpc.StatusCode.UNIMPLEMENTED, "no"), 1, "does not offer this call"),
        (Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "late"), 1, "did not answer within 20 seconds"),
    ]
    for refusal, code, complaint in cases:
        server.answer("GetIntent", refusal)
        done = run("intents", "show", RAZOR)
        assert (done.code, complaint in done.complaint) == (code, True), done.err


def test_no_server_is_one_sentence_and_code_1(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        done = run("explain", "--user", "u", target=f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.code == 1
    assert "No server answers at 127.0.0.1:" in done.complaint


def test_titles_cannot_steer_the_terminal(server: ScriptedServer, run: Run) -> None:
    answer = ranking(("a", 1.0))
    answer.items[0].title = "nice\x1b[2J\x07item"
    server.answer("Recommend", answer)
    done = run("recommend", "--user", "u", "--no-explain")
    assert "\x1b" not in done.out
    assert "nice [2J item" in done.flat


def test_a_missing_extra_is_one_sentence_that_names_it() -> None:
    script = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['saerec', '--help'];"
        "from saerec_ray.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'saerec-ray[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stage_without_its_extra_names_the_package_and_the_extra() -> None:
    script = (
        "import sys; sys.modules['polars'] = None; sys.modules['pydantic'] = None;"
        "sys.argv = ['saerec', 'run', '--config', 'demo'];"
        "from saerec_ray.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == ("saerec run needs the package pydantic: pip install 'saerec-ray[train]'.")
