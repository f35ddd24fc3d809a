"""Calls that cannot be meant, that the server refuses, or that nobody answers: one sentence and an exit code."""

from __future__ import annotations

import socket

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2

from tests.command_line import Run
from tests.scripted_server import Refusal, ScriptedServer, invalid
from tests.service_commands.answers import RAZOR


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
