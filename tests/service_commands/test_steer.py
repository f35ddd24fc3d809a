"""`saerec steer`: what is stored, previewed and dropped."""

from __future__ import annotations

from google.protobuf import timestamp_pb2

from saerec_ray.v1 import common_pb2
from saerec_ray.v1 import recommender_service_pb2 as recommender
from tests.command_line import Run
from tests.scripted_server import ScriptedServer
from tests.service_commands.answers import RAZOR, SHAMPOO


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


def test_what_an_intent_left_behind_that_the_dictionary_no_longer_has_can_be_dropped(
    server: ScriptedServer, run: Run
) -> None:
    server.answer("SteerIntents", recommender.SteerIntentsResponse())
    assert run("steer", "--user", "u1", "--clear", "--intent", "int-0000dead").code == 0
    (sent,) = server.requests["SteerIntents"]
    assert [each.intent_id for each in sent.adjustments] == ["int-0000dead"]
    assert "GetIntent" not in server.requests


def test_steer_without_changes_shows_what_is_stored(server: ScriptedServer, run: Run) -> None:
    server.answer("GetSteeringProfile", recommender.GetSteeringProfileResponse(profile=profile(2)))
    done = run("steer", "--user", "u1")
    assert "shampoo boost 0.5 2027-01-15 08:00 UTC" in done.flat
    assert "revision 2, etag etag-1" in done.flat
    assert "SteerIntents" not in server.requests
