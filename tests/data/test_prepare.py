"""The stage as a whole: order, repeats, ratings, cores, splits and metrics of a prepared set."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.data.prepared import ITEMS_FILE, SEQUENCES_FILE, read_items, read_sequences
from saerec_ray.errors import InputError
from tests.data.sources import csv_lines, prepared, problem, run, sequences, table_source, write

REPEATING = [
    ("ann", item, time) for item, time in [("a", 4), ("b", 1), ("a", 2), ("c", 3), ("b", 5), ("a", 6)]
]


@pytest.mark.parametrize(
    ("repeats", "expected"),
    [
        ("keep", ["b", "a", "c", "a", "b", "a"]),
        ("first", ["b", "a", "c"]),
        ("last", ["c", "b", "a"]),
    ],
)
def test_repeats_are_kept_as_asked(tmp_path: Path, repeats: str, expected: list[str]) -> None:
    out, metrics = run(tmp_path, table_source(tmp_path, REPEATING), repeats=repeats)
    assert sequences(out) == {"ann": expected}
    assert metrics["repeats_dropped"] == 6 - len(expected)


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [("ann", item, 7) for item in "dbca"]
    assert prepared(tmp_path, table_source(tmp_path, rows)) == {"ann": list("dbca")}


def test_users_come_in_the_order_of_their_first_row_and_items_in_that_of_the_catalogue(
    tmp_path: Path,
) -> None:
    rows = [
        ("zoe", "a", 9),
        ("ann", "b", 1),
        ("zoe", "b", 1),
        ("ann", "c", 2),
        ("zoe", "c", 2),
        ("ann", "a", 3),
    ]
    out, _ = run(tmp_path, table_source(tmp_path, rows, items=["c", "unseen", "a", "b"]))
    assert sequences(out) == {"zoe": ["b", "c", "a"], "ann": ["b", "c", "a"]}
    assert list(sequences(out)) == ["zoe", "ann"]
    assert read_items(out).ids == ["c", "a", "b"]


def test_low_ratings_are_left_out(tmp_path: Path) -> None:
    given = {**table_source(tmp_path, REPEATING), "rating_column": "stars"}
    rows = [("ann", item, time, time) for item, time in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]]
    write(tmp_path / "interactions.csv", csv_lines("user_id,item_id,timestamp,stars", rows))
    write(tmp_path / "items.csv", csv_lines("item_id,title", [(item, item) for item in "abcde"]))
    out, metrics = run(tmp_path, given, min_rating=3)
    assert sequences(out) == {"ann": ["c", "d", "e"]}
    assert metrics["rated_too_low"] == 2
    assert "No interaction is rated 6.0 or higher" in problem(tmp_path, given, min_rating=6)


def test_ratings_are_needed_only_where_they_are_read(tmp_path: Path) -> None:
    given = {**table_source(tmp_path, REPEATING), "rating_column": "stars"}
    rows = [
        ("ann", "a", 1, 5),
        ("ann", "b", 2, ""),
        ("ann", "c", 3, "good"),
        *(("ann", i, 4, 4) for i in "de"),
    ]
    write(tmp_path / "interactions.csv", csv_lines("user_id,item_id,timestamp,stars", rows))
    write(tmp_path / "items.csv", csv_lines("item_id,title", [(item, item) for item in "abcde"]))
    out, metrics = run(tmp_path, given)
    assert sequences(out) == {"ann": list("abcde")}
    assert metrics["rejected"] == {}
    out, metrics = run(tmp_path, given, min_rating=1)
    assert sequences(out) == {"ann": list("ade")}
    assert metrics["rejected"] == {
        "interactions.csv: the rating is not a number": {"count": 2, "first_lines": [3, 4]}
    }


def test_a_rating_column_that_is_not_there_is_named_whether_it_is_read_or_not(tmp_path: Path) -> None:
    given = {**table_source(tmp_path, REPEATING), "rating_column": "stars"}
    assert "has no column stars" in problem(tmp_path, given)
    assert "has no column stars" in problem(tmp_path, given, min_rating=1)


def test_a_least_rating_without_ratings_is_refused(tmp_path: Path) -> None:
    assert "the source has no ratings" in problem(tmp_path, table_source(tmp_path, REPEATING), min_rating=3)


def test_cores_count_after_repeats_are_gone(tmp_path: Path) -> None:
    rows = [(user, item, 1) for user in ("u", "v") for item in "abc"] + [
        ("w", "a", time) for time in range(9)
    ]
    out, metrics = run(tmp_path, table_source(tmp_path, rows), user_core=3, item_core=2)
    assert sequences(out) == {"u": list("abc"), "v": list("abc")}
    assert (metrics["repeats_dropped"], metrics["dropped_by_core"], metrics["core_rounds"]) == (8, 1, 1)


def test_without_a_core_of_items_those_that_nobody_took_are_in_the_catalogue(tmp_path: Path) -> None:
    rows = [("u", item, time) for time, item in enumerate("bdf")]
    given = table_source(tmp_path, rows, items=list("abcdef"))
    out, metrics = run(tmp_path, given, item_core=0)
    assert metrics["items"] == 6
    assert pl.read_parquet(out / ITEMS_FILE)["item_id"].to_list() == list("abcdef")
    assert sequences(out) == {"u": ["b", "d", "f"]}
    assert run(tmp_path, given, item_core=1)[1]["items"] == 3


def test_a_core_that_nothing_survives_is_named(tmp_path: Path) -> None:
    message = problem(tmp_path, table_source(tmp_path, REPEATING), user_core=50)
    assert "Nothing is left of 3 interactions when every user needs 50" in message
    assert "lower prepare.user_core" in message


def test_a_time_split_of_a_source_without_times_is_refused(tmp_path: Path) -> None:
    given = {**table_source(tmp_path, REPEATING), "time_column": None}
    assert "A time split needs the time of every interaction" in problem(tmp_path, given, split="time")


def test_the_metrics_count_the_set(tmp_path: Path) -> None:
    rows = [("u", item, time) for time, item in enumerate("abcd")] + [("v", item, 1) for item in "abc"]
    out, metrics = run(tmp_path, table_source(tmp_path, rows, items=list("abcdef")))
    assert (metrics["users"], metrics["items"], metrics["interactions"]) == (2, 4, 7)
    assert metrics["density"] == pytest.approx(7 / 8)
    assert (metrics["mean_length"], metrics["max_length"]) == (3.5, 4)
    assert metrics["items_without_attributes"] == 4
    assert pl.read_parquet(out / ITEMS_FILE)["item_index"].to_list() == [0, 1, 2, 3]
    assert pl.read_parquet(out / SEQUENCES_FILE)["train_length"].to_list() == [2, 1]


def oracle(
    rows: list[tuple[str, str, int]], repeats: str, user_core: int, item_core: int
) -> dict[str, list[tuple[str, int]]]:
    """The prepared set, written out: order, then repeats, then cores."""
    users = list(dict.fromkeys(user for user, _, _ in rows))
    histories = {
        user: sorted(((item, time) for who, item, time in rows if who == user), key=lambda met: met[1])
        for user in users
    }
    for user, history in histories.items():
        if repeats != "keep":
            met = history if repeats == "first" else history[::-1]
            once = list({item: (item, time) for item, time in reversed(met)}.values())
            places = [met.index(entry) for entry in once]
            kept = [met[place] for place in sorted(places)]
            histories[user] = kept if repeats == "first" else kept[::-1]
    while True:
        counts: dict[str, int] = {}
        for history in histories.values():
            for item, _ in history:
                counts[item] = counts.get(item, 0) + 1
        after = {
            user: [entry for entry in history if counts[entry[0]] >= item_core]
            for user, history in histories.items()
            if len(history) >= user_core
        }
        after = {user: history for user, history in after.items() if history}
        if after == histories:
            return after
        histories = after


interactions = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cat", "dan"]), st.sampled_from("abcdef"), st.integers(0, 99)),
    min_size=1,
    max_size=40,
    unique_by=lambda row: (row[0], row[2]),
)


@settings(max_examples=60)
@given(interactions, st.sampled_from(["keep", "first", "last"]), st.integers(1, 3), st.integers(1, 3))
def test_every_small_set_is_prepared_as_the_oracle_says(
    rows: list[tuple[str, str, int]], repeats: str, user_core: int, item_core: int
) -> None:
    expected = oracle(rows, repeats, user_core, item_core)
    limits: dict[str, Any] = {"repeats": repeats, "user_core": user_core, "item_core": item_core}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = table_source(folder, rows)
        if max(map(len, expected.values()), default=0) < 3:
            with pytest.raises(InputError):
                run(folder, source, **limits)
            return
        out, _ = run(folder, source, **limits)
        assert sequences(out) == {user: [item for item, _ in met] for user, met in expected.items()}
        found = read_sequences(out)
        assert found.times is not None
        assert found.times.tolist() == [time for met in expected.values() for _, time in met]
        for user, (user_id, met) in enumerate(expected.items()):
            assert found.user_ids[user] == user_id
            assert found.train_lengths[user] == (len(met) - 2 if len(met) >= 3 else len(met))


timed = st.lists(
    st.tuples(st.sampled_from(["ann", "bob", "cat", "dan"]), st.sampled_from("abcdef"), st.integers(0, 999)),
    min_size=20,
    max_size=60,
    unique_by=lambda row: row[2],
)


@settings(max_examples=40)
@given(timed)
def test_a_time_split_on_disk_holds_nothing_later_than_the_test_period(
    rows: list[tuple[str, str, int]],
) -> None:
    shares: dict[str, Any] = {"validation_share": 0.2, "test_share": 0.2}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out, _ = run(folder, table_source(folder, rows), split="time", repeats="keep", **shares)
        found = read_sequences(out)
        assert found.times is not None
        places = np.arange(len(found.items)) - found.offsets[:-1].repeat(np.diff(found.offsets))
        train = places < found.train_lengths.repeat(np.diff(found.offsets))
        test = places >= found.validation_lengths.repeat(np.diff(found.offsets))
        validation = ~train & ~test
        assert found.times[train].max() < found.times[validation].min()
        assert found.times[validation].max() < found.times[test].min()
