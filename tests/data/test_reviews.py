"""Review texts: of training interactions alone, a few an item, the same few every time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from saerec_ray.data.prepared import REVIEWS_FILE, read_items, read_reviews
from tests.data.sources import json_lines, problem, run, sequences, table_source, write

DAY = 86_400
START = 1_400_000_000
USERS, ITEMS = 6, 5


def review(user: int, item: int, day: int, text: str | None = None, **more: Any) -> dict[str, Any]:
    said = f"user {user} on item {item}, day {day}" if text is None else text
    row = {"reviewerID": f"u{user}", "asin": f"i{item}", "overall": 5.0, "unixReviewTime": START + day * DAY}
    return {**row, "reviewText": said, **more}


def shop() -> list[dict[str, Any]]:
    """Every user meets all items in turn, so that days 3 and 4 of each are held out."""
    return [review(user, (user + day) % ITEMS, day) for user in range(USERS) for day in range(ITEMS)]


def amazon(folder: Path, rows: list[dict[str, Any]], release: int = 2014) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    if release == 2023:
        rows = [
            {
                "user_id": row["reviewerID"],
                "parent_asin": row["asin"],
                "asin": "child",
                "rating": row["overall"],
                "timestamp": row["unixReviewTime"] * 1000 + 7,
                "text": row["reviewText"],
                "title": "never read",
            }
            for row in rows
        ]
    metadata = [
        {"asin": f"i{item}", "parent_asin": f"i{item}", "title": f"item {item}"} for item in range(ITEMS)
    ]
    write(folder / "reviews.json", json_lines(rows))
    write(folder / "metadata.json", json_lines(metadata))
    return {
        "format": "amazon",
        "release": release,
        "reviews": str(folder / "reviews.json"),
        "metadata": str(folder / "metadata.json"),
    }


def reviews_of(folder: Path, rows: list[dict[str, Any]], release: int = 2014, **settings: Any) -> set[Any]:
    """(item id, text) of what the stage kept."""
    out, metrics = run(folder, amazon(folder, rows, release), **{"reviews_per_item": 99} | settings)
    found, ids = read_reviews(out), read_items(out).ids
    assert found is not None
    assert found.items.tolist() == sorted(found.items)
    assert metrics["reviews"] == len(found.texts)
    assert metrics["items_with_reviews"] == len(set(found.items))
    return {(ids[item], text) for item, text in zip(found.items, found.texts, strict=True)}


@pytest.mark.parametrize("release", [2014, 2018, 2023])
@pytest.mark.parametrize("split", ["leave-one-out", "time"])
def test_exactly_the_reviews_of_training_interactions_are_kept(
    tmp_path: Path, release: int, split: str
) -> None:
    expected = {(row["asin"], row["reviewText"]) for row in shop() if row["unixReviewTime"] < START + 3 * DAY}
    found = reviews_of(tmp_path, shop(), release, split=split, validation_share=0.2, test_share=0.2)
    assert found == expected


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def written(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> dict[str, bytes]:
    out, _ = run(folder, amazon(folder, rows), **{"reviews_per_item": 2} | settings)
    found = files(out)
    shutil.rmtree(out)
    return found


@pytest.mark.parametrize("day", range(ITEMS))
def test_another_text_of_a_held_out_review_changes_no_byte_and_of_a_training_review_it_does(
    tmp_path: Path, day: int
) -> None:
    before = written(tmp_path, shop(), reviews_per_item=9)
    changed = shop()
    for row in changed:
        if row["unixReviewTime"] == START + day * DAY:
            row["reviewText"] = "something nobody may know"
    after = written(tmp_path, changed, reviews_per_item=9)
    different = {name for name in before if before[name] != after[name]}
    assert different == ({REVIEWS_FILE} if day < 3 else set())


def test_of_equal_times_and_repeats_the_held_out_one_is_never_read(tmp_path: Path) -> None:
    """The same user, item and second: only the place in the file tells them apart."""
    rows = [review(0, 0, 1, f"number {number}") for number in range(5)]
    found = reviews_of(tmp_path, rows, repeats="keep")
    assert {text for _, text in found} == {"number 0", "number 1", "number 2"}


def test_of_many_reviews_the_same_few_are_kept_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    rows = shop()
    few = reviews_of(tmp_path / "a", rows, reviews_per_item=2)
    assert reviews_of(tmp_path / "b", rows[::-1], reviews_per_item=2) == few
    everything = reviews_of(tmp_path / "c", rows)
    for item in {item for item, _ in everything}:
        kept = {each for each in few if each[0] == item}
        assert len(kept) == min(2, len({each for each in everything if each[0] == item}))
    assert few < everything


def test_texts_lose_their_markup_are_cut_and_count_once_and_empty_ones_do_not_count(tmp_path: Path) -> None:
    texts = ["<b>soft</b> &amp;  warm", "soft & warm", "", "   ", "long " * 400, None]
    rows = [
        {**review(user, item, day), "reviewText": text}
        for user, text in enumerate(texts)
        for day, item in enumerate((0, 1, 2))
    ]
    rows[-1].pop("reviewText")
    found = {text for item, text in reviews_of(tmp_path, rows) if item == "i0"}
    assert found == {"soft & warm", ("long " * 200).strip()}


def test_reviews_rated_too_low_to_be_interactions_are_not_read(tmp_path: Path) -> None:
    rows = [row if row["asin"] != "i1" else {**row, "overall": 1.0} for row in shop()]
    assert not {item for item, _ in reviews_of(tmp_path, rows, min_rating=3.0)} & {"i1"}


def test_without_reviews_no_file_is_written_and_the_others_are_the_same(tmp_path: Path) -> None:
    having, without = written(tmp_path, shop()), written(tmp_path, shop(), reviews_per_item=0)
    assert set(having) - set(without) == {REVIEWS_FILE}
    assert all(having[name] == content for name, content in without.items())
    out, _ = run(tmp_path, amazon(tmp_path, shop()))
    assert read_reviews(out) is None
    assert sequences(out)


def test_a_source_without_reviews_is_refused(tmp_path: Path) -> None:
    source = table_source(tmp_path, [("u", "i", 1)])
    assert "a source of format table has no reviews" in problem(tmp_path, source, reviews_per_item=3)


def test_a_file_whose_reviews_have_no_text_is_refused(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "reviewText"} for row in shop()]
    assert "reviewText" in problem(tmp_path, amazon(tmp_path, rows), reviews_per_item=3)
