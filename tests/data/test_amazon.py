"""Amazon Reviews of 2014, 2018 and 2023, in the formats their publishers wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saerec_ray.data.prepared import read_items, read_sequences
from tests.data.sources import json_lines, problem, run, sequences, write

DAY = 86_400
START = 1_400_000_000


def reviews(release: int) -> list[dict[str, Any]]:
    """Two reviewers of three products, newest first."""
    rows = [
        (user, asin, START + day * DAY)
        for user in ("A1", "A2")
        for day, asin in ((2, "B3"), (1, "B2"), (0, "B1"))
    ]
    if release == 2023:
        return [
            {
                "rating": 5.0,
                "title": "Such a lovely scent",
                "text": "This spray is really nice.",
                "images": [],
                "asin": f"child of {asin}",
                "parent_asin": asin,
                "user_id": user,
                "timestamp": time * 1000 + 721,
                "helpful_vote": 0,
                "verified_purchase": True,
            }
            for user, asin, time in rows
        ]
    return [
        {
            "reviewerID": user,
            "asin": asin,
            "reviewerName": "J. McDonald",
            "reviewText": "I bought this for my husband.",
            "overall": 5.0,
            "summary": "Heavenly",
            "unixReviewTime": time,
            "reviewTime": "09 13, 2009",
        }
        for user, asin, time in rows
    ]


METADATA: dict[int, list[dict[str, Any]]] = {
    2014: [
        {
            "asin": "B1",
            "title": "Girls Ballet Tutu &amp; Wand",
            "brand": "Coxlures",
            "description": "A <b>pink</b> tutu.\n",
            "price": 3.17,
            "categories": [["Beauty", "Costumes"], ["Beauty", "Gifts"]],
        },
        {"asin": "B2", "title": "Shampoo", "categories": [["Beauty", "Hair"]]},
        {"asin": "B3", "description": "no title", "categories": [["Beauty"]]},
    ],
    2018: [
        {
            "asin": "B1",
            "title": "Girls Ballet Tutu &amp; Wand",
            "brand": "Coxlures",
            "description": ["A <b>pink</b> tutu.", ""],
            "feature": ["Soft", "Washable"],
            "category": ["Beauty", "Costumes"],
            "rank": "19,963 in Shoes",
        },
        {"asin": "B2", "title": "Shampoo", "brand": "", "category": ["Beauty", "Hair"], "description": []},
        {"asin": "B3", "title": "", "description": ["no title"], "category": ["Beauty"]},
    ],
    2023: [
        {
            "main_category": "All Beauty",
            "title": "Girls Ballet Tutu &amp; Wand",
            "average_rating": 4.8,
            "features": ["Soft", "Washable"],
            "description": ["A <b>pink</b> tutu."],
            "price": None,
            "store": "Coxlures",
            "categories": ["Beauty", "Costumes"],
            "details": {"Item Form": "Powder"},
            "parent_asin": "B1",
        },
        {"title": "Shampoo", "store": None, "categories": ["Beauty", "Hair"], "parent_asin": "B2"},
        {"title": None, "description": ["no title"], "categories": ["Beauty"], "parent_asin": "B3"},
    ],
}


def source(folder: Path, release: int, packed: str = ".gz") -> dict[str, Any]:
    return {
        "format": "amazon",
        "release": release,
        "reviews": str(write(folder / f"reviews.json{packed}", json_lines(reviews(release)))),
        "metadata": str(write(folder / f"meta.json{packed}", json_lines(METADATA[release]))),
    }


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("release", [2014, 2018, 2023])
def test_every_release_is_read(tmp_path: Path, release: int, packed: str) -> None:
    out, metrics = run(tmp_path, source(tmp_path, release, packed))
    assert sequences(out) == {"A1": ["B1", "B2", "B3"], "A2": ["B1", "B2", "B3"]}
    found = read_sequences(out)
    assert found.times is not None
    assert found.times.tolist() == [START, START + DAY, START + 2 * DAY] * 2
    assert (metrics["rows_read"], metrics["rejected"]) == (6, {})


@pytest.mark.parametrize("release", [2014, 2018, 2023])
def test_texts_tell_title_brand_category_and_description_without_markup(tmp_path: Path, release: int) -> None:
    items = read_items(run(tmp_path, source(tmp_path, release))[0])
    assert items.titles == ["Girls Ballet Tutu & Wand", "Shampoo", ""]
    gifts = " > Gifts" if release == 2014 else ""
    features = "" if release == 2014 else " Soft Washable"
    assert items.texts == [
        f"Girls Ballet Tutu & Wand. Brand: Coxlures. Category: Beauty > Costumes{gifts}. A pink tutu.{features}",
        "Shampoo. Category: Beauty > Hair",
        "Category: Beauty. no title",
    ]


@pytest.mark.parametrize("release", [2014, 2018, 2023])
def test_a_category_that_all_items_share_is_no_attribute(tmp_path: Path, release: int) -> None:
    items = read_items(run(tmp_path, source(tmp_path, release))[0])
    first = ["Costumes", "Gifts"] if release == 2014 else ["Costumes"]
    assert items.attributes == [{"category": first, "brand": ["Coxlures"]}, {"category": ["Hair"]}, {}]


def test_metadata_of_2014_may_be_python_literals(tmp_path: Path) -> None:
    given = source(tmp_path, 2014)
    expected = read_items(run(tmp_path, given)[0])
    write(Path(given["metadata"]), "".join(f"{record!r}\n" for record in METADATA[2014]))
    assert read_items(run(tmp_path, given)[0]) == expected


def test_a_literal_that_would_run_code_is_a_rejected_row(tmp_path: Path) -> None:
    given = source(tmp_path, 2014)
    proof = tmp_path / "ran"
    harmful = f"{{'asin': __import__('pathlib').Path({str(proof)!r}).touch()}}"
    write(Path(given["metadata"]), json_lines(METADATA[2014]) + harmful + "\n")
    _, metrics = run(tmp_path, given)
    assert not proof.exists()
    assert metrics["rejected"] == {
        "meta.json.gz: the row is not a JSON object": {"count": 1, "first_lines": [4]}
    }


def test_long_descriptions_are_cut(tmp_path: Path) -> None:
    given = source(tmp_path, 2018)
    records = [{**record, "description": ["word " * 5000]} for record in METADATA[2018]]
    write(Path(given["metadata"]), json_lines(records))
    assert max(map(len, read_items(run(tmp_path, given)[0]).texts)) < 1200


@pytest.mark.parametrize(
    ("written", "told", "missing"), [(2018, 2023, "user_id"), (2023, 2014, "reviewerID")]
)
def test_the_wrong_release_is_told_by_the_missing_fields(
    tmp_path: Path, written: int, told: int, missing: str
) -> None:
    message = problem(tmp_path, {**source(tmp_path, written), "release": told})
    assert f"has no column {missing}" in message
    assert "it has " in message


def test_bad_reviews_and_bad_metadata_are_counted_apart(tmp_path: Path) -> None:
    given = source(tmp_path, 2023, packed="")
    late = {**reviews(2023)[0], "timestamp": 10**17}
    with Path(given["reviews"]).open("ab") as handle:
        handle.write(b'{"user_id": "\xff", "parent_asin": "B1", "rating": 1.0, "timestamp": 1}\n')
        handle.write(json.dumps(late).encode() + b"\n{broken\n")
    with Path(given["metadata"]).open("ab") as handle:
        handle.write(b'{"parent_asin": "B4", "title": "\xff"}\n{"title": "no id"}\n7\n')
    _, metrics = run(tmp_path, given)
    assert {reason: entry["first_lines"] for reason, entry in metrics["rejected"].items()} == {
        "meta.json: an item cannot be used: the id is missing": [5],
        "meta.json: the row is not a JSON object": [6],
        "meta.json: the row is not valid UTF-8": [4],
        "reviews.json: the row is not a JSON object with the fields that are read": [9],
        "reviews.json: the row is not valid UTF-8": [7],
        "reviews.json: the time is beyond the year 9999; it must be in seconds since 1970": [8],
    }
    assert metrics["rows_read"] == 9


def test_an_object_where_text_should_be_rejects_the_item(tmp_path: Path) -> None:
    given = source(tmp_path, 2023, packed="")
    with Path(given["metadata"]).open("a") as handle:
        handle.write(json.dumps({"parent_asin": "B4", "title": "Comb", "description": {"en": "x"}}))
    _, metrics = run(tmp_path, given)
    assert metrics["rejected"] == {
        "meta.json: the field description holds an object, which cannot be read as text": {
            "count": 1,
            "first_lines": [4],
        }
    }


def test_low_ratings_are_left_out(tmp_path: Path) -> None:
    given = source(tmp_path, 2014)
    rated = [{**row, "overall": 1.0 if row["reviewerID"] == "A2" else 4.0} for row in reviews(2014)]
    write(Path(given["reviews"]), json_lines(rated))
    out, metrics = run(tmp_path, given, min_rating=4)
    assert list(sequences(out)) == ["A1"]
    assert metrics["rated_too_low"] == 3
