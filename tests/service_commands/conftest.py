"""A server that answers from a script, and the command line that calls it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saerec_ray.v1 import intent_service_pb2 as intents_api
from tests.command_line import Outcome, Run
from tests.scripted_server import ScriptedServer
from tests.service_commands.answers import LABELS, RAZOR, intent


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
def run(server: ScriptedServer, saerec: Run) -> Run:
    """Runs a command that calls the server, or another target."""

    def command(*arguments: str, target: str = server.target) -> Outcome:
        return saerec(*arguments, "--target", target)

    return command
