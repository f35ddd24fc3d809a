"""Which events of a prepare stage a server is given, in which order, at which times; and what is counted instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from saerec_ray.errors import InputError, StageError
from saerec_server import prepared_histories
from saerec_server.limits import MAX_EVENT_AHEAD_SECONDS, MAX_HISTORY
from saerec_server.prepared_histories import LeftOut, Lot, PreparedHistories
from saerec_server.records import StoredEvent
from saerec_server.validation import MIN_TIMESTAMP
from tests.prepared_set import Histories, write_prepared

SECOND = 1_000_000
NOW = 1_800_000_000


def read(workdir: Path, histories: Histories) -> tuple[PreparedHistories, list[Lot]]:
    found = PreparedHistories(write_prepared(workdir, histories))
    return found, list(found.lots(NOW * SECOND))


def events(lots: list[Lot]) -> list[StoredEvent]:
    return [event for lot in lots for event in lot.events]


def what(lots: list[Lot]) -> list[tuple[str, str, int]]:
    return [(each.user_id, each.item_id, each.event_time // SECOND) for each in events(lots)]


def test_everything_people_did_is_given_the_held_out_items_too(tmp_path: Path) -> None:
    found, lots = read(tmp_path, {"u": [("a", 10), ("b", 10), ("c", 30)], "1.0": [("b", -5), ("a", 0)]})
    assert what(lots) == [
        ("u", "a", 10),
        ("u", "b", 10),
        ("u", "c", 30),
        ("1.0", "b", -5),
        ("1.0", "a", 0),
    ]
    assert found.left_out == LeftOut()
    assert {each.event_type for each in events(lots)} == {"import"}


def test_without_times_the_order_counts_from_the_first_second_of_1970(tmp_path: Path) -> None:
    met = [(f"i{place % 250}", None) for place in range(MAX_HISTORY + 3)]
    found, lots = read(tmp_path, {"u": met, "v": [("i3", None), ("i1", None)]})
    assert not found.timed
    assert what(lots)[0] == ("u", "i3", 3), (
        "places count from the first event, so that later data add to them"
    )
    assert what(lots)[-3:] == [("u", f"i{MAX_HISTORY + 2}", MAX_HISTORY + 2), ("v", "i3", 0), ("v", "i1", 1)]


def test_only_the_latest_that_a_server_reads_are_given(tmp_path: Path) -> None:
    met = [(f"i{place}", place) for place in range(MAX_HISTORY + 5)]
    found, lots = read(tmp_path, {"u": met, "v": met[:MAX_HISTORY]})
    assert [event.item_id for event in events(lots) if event.user_id == "u"] == [item for item, _ in met[5:]]
    assert found.left_out == LeftOut(older=5)


def test_what_the_api_refuses_is_counted_and_takes_no_place_of_others(tmp_path: Path) -> None:
    longest, too_long = "ü" * 128, "ü" * 128 + "x"
    latest = NOW + MAX_EVENT_AHEAD_SECONDS
    met = [("a", MIN_TIMESTAMP - 1), ("a", MIN_TIMESTAMP), ("tab\t", 5), ("b", latest), ("b", latest + 1)]
    found, lots = read(
        tmp_path,
        {
            too_long: [("a", 1), ("b", 2)],
            "line\nbreak": [("a", 1)],
            "": [("a", 1)],
            longest: [("a", 1)],
            "u": [*((f"i{place}", place) for place in range(MAX_HISTORY - 2)), *met],
            "future": [("b", latest * 1000)],  # milliseconds taken for seconds
        },
    )
    given = what(lots)
    assert given[0] == (longest, "a", 1)
    assert [each for each in given if each[0] == "u"][-1] == ("u", "b", latest)
    assert len(given) == 1 + MAX_HISTORY
    assert found.left_out == LeftOut(users=3, of_users=4, of_items=1, of_times=3, older=0)


def test_a_lot_has_whole_users_and_tells_how_many_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_histories, "LOT_EVENTS", 4)
    monkeypatch.setattr(prepared_histories, "_USERS_READ_AT_ONCE", 2)
    histories = {f"u{user}": [(f"i{place}", place) for place in range(3)] for user in range(7)}
    found, lots = read(tmp_path, {**histories, "": [("i0", 1)]})
    assert [len(lot.events) for lot in lots] == [6, 6, 6, 3]
    assert [lot.users_read for lot in lots] == [2, 4, 6, 8]
    assert [lot.events for lot in found.lots(NOW * SECOND)] == [lot.events for lot in lots], (
        "every time the same"
    )
    assert found.left_out == LeftOut(users=1, of_users=1)


def test_an_event_has_its_own_id_which_newer_data_keep(tmp_path: Path) -> None:
    histories = {"u": [("a", 1), ("a", 1), ("b", 1), ("a", 2)], "v": [("a", 1)], "u\x20": [("a", 1)]}
    ids = [each.event_id for each in events(read(tmp_path / "one", histories)[1])]
    assert len(set(ids)) == len(ids) == 6
    newer = {"new": [("c", 0)], **histories, "v": [("d", 0), ("a", 1), ("e", 2)]}
    again = [each.event_id for each in events(read(tmp_path / "two", newer)[1])]
    assert set(ids) < set(again)


def test_a_prepare_stage_that_is_not_there_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no finished prepare stage; run `saerec run` or"):
        PreparedHistories(tmp_path)
    write_prepared(tmp_path, {"u": [("a", 1)]})
    sequences = tmp_path / "prepare" / "sequences.parquet"
    content = sequences.read_bytes()
    sequences.write_bytes(content[:-1] + b"?")
    with pytest.raises(InputError, match="is damaged; run the prepare stage again"):
        PreparedHistories(tmp_path)
    sequences.unlink()
    with pytest.raises(InputError, match=r"prepare cannot be read: .*No such file"):
        PreparedHistories(tmp_path)
    (tmp_path / "prepare" / "stage.json").write_text("{")
    with pytest.raises(StageError, match="is damaged"):
        PreparedHistories(tmp_path)
