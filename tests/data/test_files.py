"""Files that cannot be read at all: one clear sentence, and from the command exit code 2 without a traceback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saerec_ray.data.files import existing_file, text_lines
from saerec_ray.errors import InputError
from tests.data.sources import problem, table_source, write

ROWS = [("ann", "1", 1), ("ann", "2", 2), ("ann", "3", 3)]
Damage = Callable[[Path], dict[str, Any]]


def with_file(folder: Path, name: str, content: bytes, key: str = "interactions") -> dict[str, Any]:
    path = folder / name
    path.write_bytes(content)
    return {**table_source(folder, ROWS), key: str(path)}


def packed(folder: Path) -> bytes:
    """The interactions of a longer source, gzipped."""
    table_source(folder, [(f"u{number}", "1", number) for number in range(5000)])
    return gzip.compress((folder / "interactions.csv").read_bytes())


def missing(folder: Path) -> dict[str, Any]:
    return {**table_source(folder, ROWS), "interactions": str(folder / "nowhere.csv")}


def empty(folder: Path) -> dict[str, Any]:
    return with_file(folder, "empty.csv", b"")


def only_a_header(folder: Path) -> dict[str, Any]:
    return with_file(folder, "header.csv", b"user_id,item_id,timestamp\n")


def only_an_item_header(folder: Path) -> dict[str, Any]:
    return with_file(folder, "goods.csv", b"item_id,title\n", "items")


def packed_nothing(folder: Path) -> dict[str, Any]:
    return with_file(folder, "nothing.csv.gz", gzip.compress(b""))


def truncated(folder: Path) -> dict[str, Any]:
    return with_file(folder, "cut.csv.gz", packed(folder)[:-200])


def damaged(folder: Path) -> dict[str, Any]:
    data = bytearray(packed(folder))
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    return with_file(folder, "damaged.csv.gz", bytes(data))


def wrong_checksum(folder: Path) -> dict[str, Any]:
    return with_file(folder, "sum.csv.gz", packed(folder)[:-8] + b"\x00" * 8)


def not_packed(folder: Path) -> dict[str, Any]:
    return with_file(folder, "plain.csv.gz", b"user_id,item_id,timestamp\n")


def utf_16(folder: Path) -> dict[str, Any]:
    return with_file(folder, "wide.csv", "user_id,item_id,timestamp\nann,1,1\n".encode("utf-16"))


def a_folder(folder: Path) -> dict[str, Any]:
    return {**table_source(folder, ROWS), "interactions": str(folder)}


def wrong_columns(folder: Path) -> dict[str, Any]:
    return {**table_source(folder, ROWS), "user_column": "customer"}


def blank(folder: Path) -> dict[str, Any]:
    return with_file(folder, "blank.csv", b"\n\n\n")


SENTENCES: list[tuple[Damage, str]] = [
    (missing, "nowhere.csv does not exist."),
    (empty, "empty.csv is empty."),
    (blank, "blank.csv is empty."),
    (only_a_header, "header.csv has no usable row."),
    (only_an_item_header, "goods.csv has no usable item."),
    (packed_nothing, "nothing.csv.gz is empty."),
    (truncated, "cut.csv.gz is cut off: its gzip stream has no end. Fetch it again."),
    (damaged, "damaged.csv.gz is not a valid gzip file: "),
    (wrong_checksum, "sum.csv.gz is not a valid gzip file: "),
    (not_packed, "plain.csv.gz is not a valid gzip file: "),
    (utf_16, "wide.csv is not UTF-8 text; convert it first"),
    (a_folder, "is a folder, not a file."),
    (wrong_columns, "has no column customer; it has user_id, item_id, timestamp."),
]


@pytest.mark.parametrize(("damage", "sentence"), SENTENCES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_wrong_with_a_file_is_one_sentence_that_names_it(
    tmp_path: Path, damage: Damage, sentence: str
) -> None:
    assert sentence in problem(tmp_path, damage(tmp_path))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root reads every file, so the answer of the system is played."""
    path = write(tmp_path / "secret.csv", b"user_id\n")
    assert existing_file(path) == path
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=r"secret\.csv may not be read by this user"):
        existing_file(path)


def test_lines_keep_their_numbers_over_blank_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "lines.txt", b"\xef\xbb\xbfone\r\n\n  \t\nfour \xff\nfive")
    assert list(text_lines(path)) == [(1, "one"), (4, "four \ufffd"), (5, "five")]


def test_latin_1_is_read_as_such(tmp_path: Path) -> None:
    path = write(tmp_path / "lines.txt", "Amélie\n".encode("latin-1"))
    assert list(text_lines(path, "latin-1")) == [(1, "Amélie")]


def saerec_prepare(folder: Path, source: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the real command in a process of its own."""
    settings = {"prepare": {"source": source, "user_core": 1, "item_core": 1}}
    write(folder / "config.yaml", json.dumps(settings))  # JSON is YAML too
    return subprocess.run(
        [
            *(sys.executable, "-m", "saerec_ray", "prepare"),
            *("-c", str(folder / "config.yaml"), "-w", str(folder / "out"), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


def duplicates(folder: Path) -> dict[str, Any]:
    return with_file(folder, "goods.csv", b"item_id,title\n1,a\n1,b\n", "items")


def bad_row(folder: Path) -> dict[str, Any]:
    return with_file(folder, "bad.csv", b"user_id,item_id,timestamp\nann,\xff,1\n")


@pytest.mark.parametrize(
    ("damage", "arguments", "sentence"),
    [
        (truncated, (), "cut.csv.gz is cut off"),
        (wrong_columns, (), "has no column customer"),
        (duplicates, (), "one item id more than once with different content: '1' on lines 2 and 3"),
        (
            lambda folder: with_file(folder, "bad.csv", b"user_id,item_id,timestamp\nann,\xff,1\n"),
            ("--strict",),
            "line 2",
        ),
    ],
    ids=["truncated", "wrong columns", "duplicates", "strict"],
)
def test_the_command_ends_with_the_sentence_and_exit_code_2(
    tmp_path: Path, damage: Damage, arguments: tuple[str, ...], sentence: str
) -> None:
    finished = saerec_prepare(tmp_path, damage(tmp_path), *arguments)
    assert finished.returncode == 2, finished.stderr
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr
    assert not (tmp_path / "out" / "prepare").exists()


def test_the_command_prepares_a_good_source(tmp_path: Path) -> None:
    finished = saerec_prepare(tmp_path, table_source(tmp_path, ROWS))
    assert finished.returncode == 0, finished.stderr
    written = {path.name for path in (tmp_path / "out" / "prepare").iterdir()}
    assert {"items.parquet", "sequences.parquet", "rejected.parquet", "stage.json"} <= written
