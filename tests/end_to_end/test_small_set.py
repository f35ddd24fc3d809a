"""From ratings to steered, explained recommendations: the stages on Ray, a server process, the client."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.bundle import Bundle, load_bundle
from saerec_ray.client import Client, event
from saerec_ray.data.prepared import PreparedSequences, read_sequences
from saerec_ray.pipeline import STAGE_NAMES
from saerec_ray.scoring import Floats, base_scores, intent_values, prior, top_items
from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.contract.asking import total
from tests.contract.process import server_process
from tests.small_run import run_small

pytestmark = pytest.mark.ray

USERS = 50
ITEMS_EACH = 20
PATIENCE = 60.0  # seconds a call may take on a busy machine
CLOSE = 1e-5


@pytest.fixture(scope="module")
def bundle(trained_bundle: Path) -> Bundle:
    return load_bundle(trained_bundle)


@pytest.fixture(scope="module")
def histories(trained_workdir: Path, bundle: Bundle) -> list[list[str]]:
    """What some users met in training, as item ids."""
    sequences: PreparedSequences = read_sequences(trained_workdir / "prepare")
    chosen = random.Random(5).sample(range(len(sequences)), USERS)
    return [[bundle.items.ids[item] for item in sequences.train(user)[-100:]] for user in chosen]


@pytest.fixture(scope="module")
def client(trained_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    state = tmp_path_factory.mktemp("state") / "state.db"
    with (
        server_process(trained_bundle, state) as server,
        Client(f"127.0.0.1:{server.port}") as connected,
    ):
        yield connected


def offline_scores(bundle: Bundle, history: list[str]) -> Floats:
    """Scores of the whole catalogue computed from the bundle alone, without the server."""
    index = {item_id: place for place, item_id in enumerate(bundle.items.ids)}
    encoder = UserEncoder(bundle.config.train, bundle.backbone, bundle.space, bundle.prior)
    user = encoder.encode([np.array([index[item_id] for item_id in history], dtype=np.int64)])
    values = intent_values(bundle.space, user.states, prior(user.profiles, bundle.prior))
    return base_scores(bundle.space, user.states, values, user.companions)[0]


def test_every_stage_leaves_a_manifest_with_seed_versions_and_hashes(trained_workdir: Path) -> None:
    before: datetime | None = None
    seconds: dict[str, float] = {}
    for stage in STAGE_NAMES:
        manifest = json.loads((trained_workdir / stage / "stage.json").read_text("utf-8"))
        assert manifest["seed"] == 11
        assert {"python", "torch"} <= set(manifest["versions"])
        assert manifest["files"]
        seconds[stage], finished = manifest["seconds"], datetime.fromisoformat(manifest["finished"])
        if before is not None:
            whole_seconds = (finished - before).total_seconds()
            assert seconds[stage] < whole_seconds + 1.01, "it began when the one before had finished"
        before = finished
    assert seconds["train"] > 1, "two workers of Ray do not even start in that time"
    assert not list((trained_workdir / ".runs").glob("*")), "checkpoints of finished stages are removed"


def test_running_again_skips_every_stage(trained_workdir: Path, trained_bundle: Path) -> None:
    before = (trained_bundle / "manifest.json").read_bytes()
    again = run_small(trained_workdir)
    assert again.returncode == 0, again.stderr
    assert (again.stdout + again.stderr).count("unchanged, skipped") == len(STAGE_NAMES)
    assert (trained_bundle / "manifest.json").read_bytes() == before


def test_training_learns_more_than_popularity_and_explanations_are_complete(trained_workdir: Path) -> None:
    report = json.loads((trained_workdir / "evaluate" / "report.json").read_text("utf-8"))
    test = report["accuracy"]["test"]
    assert set(test) == {"intents", "no intents", "popularity"}
    assert test["intents"]["NDCG@10"] > test["popularity"]["NDCG@10"]
    assert report["explanations"]["completeness_error"] <= CLOSE


def test_the_parts_of_a_thousand_answers_add_up_to_the_served_scores(
    client: Client, bundle: Bundle, histories: list[list[str]]
) -> None:
    chance = random.Random(6)
    answers = 0
    for history in histories:
        asked = chance.sample(bundle.items.ids, ITEMS_EACH)
        basic, explained = (
            client.recommend(
                history=history,
                allow=asked,
                allow_seen=True,
                page_size=ITEMS_EACH,
                explained=view,
                timeout=PATIENCE,
            )
            for view in (False, True)
        )
        assert [(item.item_id, item.score) for item in basic.items] == [
            (item.item_id, item.score) for item in explained.items
        ]
        for plain, item in zip(basic.items, explained.items, strict=True):
            assert total(item) == pytest.approx(plain.score, rel=CLOSE, abs=CLOSE)
            answers += 1
    assert answers == USERS * ITEMS_EACH == 1000


def test_the_server_ranks_and_scores_as_the_bundle_does_offline(
    client: Client, bundle: Bundle, histories: list[list[str]]
) -> None:
    for history in histories:
        served = client.recommend(history=history, allow_seen=True, page_size=200, timeout=PATIENCE)
        scores = offline_scores(bundle, history)
        expected = top_items(scores, 200)
        assert [item.item_id for item in served.items] == [bundle.items.ids[item] for item in expected]
        np.testing.assert_allclose(
            [item.score for item in served.items], scores[expected], rtol=CLOSE, atol=CLOSE
        )


def test_stored_events_answer_like_the_same_history_in_the_request(
    client: Client, histories: list[list[str]]
) -> None:
    history = histories[0]
    now = datetime.now(UTC)
    written = client.write_events(
        [
            event("stored", item_id, event_time=now - timedelta(minutes=len(history) - place))
            for place, item_id in enumerate(history)
        ],
        timeout=PATIENCE,
    )
    stored = client.recommend("stored", at_least_as_fresh=written.consistency_token, timeout=PATIENCE)
    asked = client.recommend(history=history, timeout=PATIENCE)
    assert _answer(stored) == _answer(asked)


def test_steering_changes_the_list_and_clearing_brings_back_the_same_bits(
    client: Client, bundle: Bundle, histories: list[list[str]]
) -> None:
    history = histories[1]
    before = client.recommend("steered", history=history, explained=True, timeout=PATIENCE)
    listed = [intent for item in before.items for intent in item.explanation.intents]
    driving = next(intent.intent_id for intent in listed if intent.contribution > 0)
    client.steer("steered", suppress={driving: 1.0}, timeout=PATIENCE)
    after = client.recommend("steered", history=history, explained=True, timeout=PATIENCE)
    assert _answer(after) != _answer(before)
    for item in after.items:
        steered = [each.contribution for each in item.explanation.steering if each.intent_id == driving]
        own = [each.contribution for each in item.explanation.intents if each.intent_id == driving]
        assert sum(own) + sum(steered) == pytest.approx(0, abs=CLOSE)
    client.steer("steered", mode="clear", timeout=PATIENCE)
    assert _answer(client.recommend("steered", history=history, timeout=PATIENCE)) == _answer(before)


def _answer(response: messages.RecommendResponse) -> list[tuple[str, float]]:
    return [(item.item_id, item.score) for item in response.items]
