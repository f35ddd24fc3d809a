"""A server that was given the histories of a run: it knows these users as if their history came with the call."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.v1 import event_service_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server.history_import import import_histories
from saerec_server.settings import ServerSettings
from tests.contract.asking import answer, event, ids, met, write
from tests.contract.running import Api, running, settings_of
from tests.prepared_set import write_prepared

ITEMS = {f"u{user}": [(7 * user + 3 * step) % 300 for step in range(30)] for user in range(40)}
"""More than the 20 that the model of the bundle reads."""
LONG_AGO = 1_000_000_000


@pytest.fixture
def settings(bundle_folder: Path, tmp_path: Path) -> ServerSettings:
    return settings_of(bundle_folder, state=tmp_path / "state.sqlite")


@pytest.fixture
def own(settings: ServerSettings) -> Iterator[Api]:
    """A server with a state of its own."""
    with running(settings) as api:
        yield api


def workdir_of(folder: Path, bundle: Bundle, *, timed: bool = True) -> Path:
    """A prepare stage with the items of the bundle."""
    histories = {
        user: [
            (bundle.items.ids[item], LONG_AGO + step if timed else None) for step, item in enumerate(items)
        ]
        for user, items in ITEMS.items()
    }
    return write_prepared(folder, histories, bundle.items.ids)


def brought(workdir: Path, settings: ServerSettings) -> str:
    return import_histories(workdir, settings.state_path, lambda *_: None, dry_run=False)


def stored(user: str) -> messages.RecommendRequest:
    return messages.RecommendRequest(user_id=user, view=messages.RECOMMEND_VIEW_EXPLAINED)


def sent(bundle: Bundle, *items: int) -> messages.RecommendRequest:
    return messages.RecommendRequest(history=met(bundle, *items), view=messages.RECOMMEND_VIEW_EXPLAINED)


@pytest.mark.parametrize("timed", [True, False], ids=["with times", "in order"])
def test_an_imported_user_gets_the_answer_of_the_same_history_in_the_request(
    own: Api, bundle: Bundle, settings: ServerSettings, tmp_path: Path, timed: bool
) -> None:
    unknown = own.recommender.Recommend(stored("u5"))
    assert messages.DEGRADATION_POPULARITY_ONLY in unknown.degradations
    workdir = workdir_of(tmp_path / "out", bundle, timed=timed)
    assert brought(workdir, settings).startswith("1,200 events of 40 users are written into ")
    for user in ("u0", "u5", "u39"):
        known, expected = (
            own.recommender.Recommend(request) for request in (stored(user), sent(bundle, *ITEMS[user]))
        )
        assert answer(known) == answer(expected)
        assert not known.degradations
        for one, other in zip(known.items, expected.items, strict=True):
            assert one.explanation.intents[0].contribution == other.explanation.intents[0].contribution
            assert [each.item_id for each in one.explanation.evidence] == [
                each.item_id for each in other.explanation.evidence
            ]
        explained = own.recommender.ExplainUser(messages.ExplainUserRequest(user_id=user))
        by_request = own.recommender.ExplainUser(
            messages.ExplainUserRequest(history=met(bundle, *ITEMS[user]))
        )
        assert [(each.intent_id, each.weight, each.log_lift) for each in explained.intents] == [
            (each.intent_id, each.weight, each.log_lift) for each in by_request.intents
        ]


def test_importing_again_changes_no_answer(
    own: Api, bundle: Bundle, settings: ServerSettings, tmp_path: Path
) -> None:
    workdir = workdir_of(tmp_path / "out", bundle)
    brought(workdir, settings)
    before = answer(own.recommender.Recommend(stored("u7")))
    assert "left out: 1,200 that were there already." in brought(workdir, settings)
    assert answer(own.recommender.Recommend(stored("u7"))) == before
    erased = own.events.DeleteUserData(event_service_pb2.DeleteUserDataRequest(user_id="u7"))
    assert erased.event_count == 30


@pytest.mark.parametrize("timed", [True, False], ids=["with times", "in order"])
def test_what_the_server_was_told_before_stays_newer(
    own: Api, bundle: Bundle, settings: ServerSettings, tmp_path: Path, timed: bool
) -> None:
    items = bundle.items.ids
    own.events.WriteEvents(write(event("u5", items[290]), event("u5", items[291])))
    brought(workdir_of(tmp_path / "out", bundle, timed=timed), settings)
    own.events.WriteEvents(write(event("u5", items[292])))
    assert answer(own.recommender.Recommend(stored("u5"))) == answer(
        own.recommender.Recommend(sent(bundle, *ITEMS["u5"], 290, 291, 292))
    )


def test_what_the_server_was_told_and_the_data_hold_too_counts_once(
    own: Api, bundle: Bundle, settings: ServerSettings, tmp_path: Path
) -> None:
    second = int(time.time()) - 86_400
    told = event("u", bundle.items.ids[3])
    told.event_time.FromNanoseconds(second * 10**9 + 123_000_000)
    own.events.WriteEvents(write(told))
    exported = write_prepared(
        tmp_path / "out", {"u": [("item-0002", second - 5), ("item-0003", second)]}, bundle.items.ids
    )
    assert brought(exported, settings) == (
        f"1 event of 1 user is written into {settings.state_path}; left out: 1 that were there already."
    )
    assert answer(own.recommender.Recommend(stored("u"))) == answer(
        own.recommender.Recommend(sent(bundle, 2, 3))
    )


def test_a_server_goes_on_writing_and_answering_beside_an_import(
    own: Api, bundle: Bundle, settings: ServerSettings, tmp_path: Path
) -> None:
    workdir = workdir_of(tmp_path / "out", bundle)
    written, failures, stop = [0], [], threading.Event()

    def keep_writing() -> None:
        try:
            while not stop.is_set():
                number = written[0]
                own.events.WriteEvents(write(event(f"live{number % 3}", bundle.items.ids[number % 300])))
                assert ids(own.recommender.Recommend(stored("live0")))
                written[0] += 1
        except Exception as error:  # noqa: BLE001 (raised again in the test's thread)
            failures.append(error)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    while not written[0] and writer.is_alive():
        time.sleep(0.01)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("saerec_server.prepared_histories.LOT_EVENTS", 30)
        brought(workdir, settings)
    stop.set()
    writer.join()
    assert not failures
    with sqlite3.connect(settings.state_path) as connection:
        counts = dict(
            connection.execute("SELECT user_id LIKE 'live%', count(*) FROM events GROUP BY 1").fetchall()
        )
    connection.close()
    assert counts == {1: written[0], 0: 40 * 30}
    assert answer(own.recommender.Recommend(stored("u39"))) == answer(
        own.recommender.Recommend(sent(bundle, *ITEMS["u39"]))
    )
