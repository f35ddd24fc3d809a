"""Commands against a server behind TLS that wants a token, as deploy/envoy.yaml makes it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from saerec_ray.v1 import intent_service_pb2 as intents_api
from saerec_ray.v1 import recommender_service_pb2 as recommender
from tests.command_line import Run
from tests.scripted_server import Refusal, ScriptedServer
from tests.service_commands.answers import RAZOR, intent, ranking

ROOT = Path(__file__).parents[2]
TOKEN = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmVk"
COMMANDS = [
    ["recommend", "--user", "u"],
    ["explain", "--user", "u"],
    ["steer", "--user", "u"],
    ["intents", "list"],
    ["intents", "show", RAZOR],
    ["intents", "search", "razor"],
]


def certificate(folder: Path, name: str) -> Path:
    """A certificate of this machine by its own authority, NAME.pem, with its key in NAME.key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    path = folder / f"{name}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / f"{name}.key")),
            *("-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file to trust, which is the certificate of the server."""
    return certificate(tmp_path_factory.mktemp("tls"), "served")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of another authority."""
    return certificate(tmp_path_factory.mktemp("other"), "stranger")


@pytest.fixture
def server(ca: Path) -> Iterator[ScriptedServer]:
    with ScriptedServer(certificate=(ca.with_suffix(".key").read_bytes(), ca.read_bytes())) as running:
        running.answer("Recommend", ranking(("i1", 1.0)))
        running.answer("ExplainUser", recommender.ExplainUserResponse())
        running.answer("GetSteeringProfile", recommender.GetSteeringProfileResponse())
        running.answer("ListIntents", intents_api.ListIntentsResponse(intents=[intent(RAZOR)]))
        running.answer("GetIntent", intents_api.GetIntentResponse(intent=intent(RAZOR)))
        running.answer("SearchIntents", intents_api.SearchIntentsResponse())
        yield running


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_goes_over_tls_with_the_token_of_the_variable(
    server: ScriptedServer, saerec: Run, ca: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("SAEREC_TOKEN", f"{TOKEN}\n")
    done = saerec(*command, "--target", server.target, "--ca", ca, "--token-env", "SAEREC_TOKEN")
    assert done.code == 0, done.err
    assert {each["authorization"] for each in server.metadata} == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.out + done.err


def test_without_a_token_none_is_sent(server: ScriptedServer, saerec: Run, ca: Path) -> None:
    done = saerec("recommend", "--user", "u", "--target", server.target, "--tls", "--ca", ca)
    assert done.code == 0, done.err
    assert all("authorization" not in each for each in server.metadata)


def test_a_certificate_of_nobody_trusted_gets_no_call_and_no_token(
    server: ScriptedServer, saerec: Run, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAEREC_TOKEN", TOKEN)
    for trusted in (["--tls"], ["--ca", stranger]):
        done = saerec(
            "recommend", "--user", "u", "--target", server.target, *trusted, "--token-env", "SAEREC_TOKEN"
        )
        assert done.code == 1
        assert "with a certificate for that host which is trusted: see --target and --ca." in done.complaint
    assert server.metadata == []


def test_a_server_behind_tls_called_without_it_is_told_with_what_to_do(
    server: ScriptedServer, saerec: Run
) -> None:
    done = saerec("recommend", "--user", "u", "--target", server.target)
    assert (done.code, "One behind TLS needs --tls." in done.complaint) == (1, True)


def test_a_token_that_is_refused_is_told_with_what_to_do(
    server: ScriptedServer, saerec: Run, ca: Path
) -> None:
    server.answer("Recommend", Refusal(grpc.StatusCode.UNAUTHENTICATED, "Jwt is missing"))
    done = saerec("recommend", "--user", "u", "--target", server.target, "--ca", ca)
    assert done.code == 1
    assert "wants a token that it accepts: see --token-env. It said: Jwt is missing." in done.complaint


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--token-env", "SAEREC_TOKEN"], "--token-env needs --tls or --ca"),
        (["--tls", "--token-env", "NOT_SET"], "--token-env NOT_SET: there is no such environment variable"),
        (["--tls", "--token-env", "EMPTY"], "--token-env EMPTY: there is no such environment variable"),
        (["--tls", "--token-env", "TWO_LINES"], "--token-env TWO_LINES: what the variable holds is no token"),
        (["--ca", "nothing.pem"], "--ca nothing.pem cannot be read: No such file"),
        (["--ca", str(ROOT / "README.md")], "README.md holds no certificate in PEM form"),
    ],
)
def test_options_that_cannot_be_meant_are_one_sentence_and_code_2(
    saerec: Run, monkeypatch: pytest.MonkeyPatch, options: list[str], complaint: str
) -> None:
    for name, value in {"SAEREC_TOKEN": TOKEN, "EMPTY": " ", "TWO_LINES": "canary\ntwo"}.items():
        monkeypatch.setenv(name, value)
    done = saerec("recommend", "--user", "u", *options)
    assert (done.code, complaint in done.complaint, done.out) == (2, True, ""), done.err
    assert "canary" not in done.err


def test_the_snippet_of_the_page_runs(server: ScriptedServer, ca: Path) -> None:
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for written, here in {"saerec.example:8443": server.target, '"ca.pem"': repr(str(ca))}.items():
        assert written in snippet
        snippet = snippet.replace(written, here)
    snippet = f"from saerec_ray import _calls\n_calls.RECOMMEND_SECONDS = 20.0\n{snippet}"
    environment = {**os.environ, "SAEREC_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert server.metadata[0]["authorization"] == f"Bearer {TOKEN}"
