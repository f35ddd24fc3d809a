"""The table of outcomes: read with any two columns, refused with the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from saerec_ray.errors import InputError
from saerec_ray.intents.outcome_file import read_outcome

IDS = ["a", "b", "c", "d"]


def write(folder: Path, text: str, name: str = "outcome.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_the_other_column_is_the_outcome(tmp_path: Path) -> None:
    read = read_outcome(write(tmp_path, "rate,item_id\n0.5,c\n-2,a\n"), IDS, "item_id", None)
    assert (read.items.tolist(), read.values.tolist(), read.unknown) == ([2, 0], [0.5, -2.0], [])


def test_of_several_columns_one_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "sku\tviews\trate\nb\t9\t0.25\n\nd\t8\t1e-3\n", "outcome.tsv")
    read = read_outcome(path, IDS, "sku", "rate")
    assert (read.items.tolist(), read.values.tolist()) == ([1, 3], [0.25, 0.001])


def test_a_few_unknown_items_are_left_out_and_told(tmp_path: Path) -> None:
    read = read_outcome(write(tmp_path, "\ufeffitem_id,x\na,1\nz,2\nb,3\n"), IDS, "item_id", None)
    assert (read.items.tolist(), read.unknown) == ([0, 1], ["z"])


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("", None, "has no column item_id, only: nothing"),
        ("id,x\na,1\n", None, "has no column item_id, only: id, x; give --item-column"),
        ("item_id,x,y\na,1,2\n", None, "has 2 columns beside item_id; say which with --value-column"),
        ("item_id\na\n", None, "has 0 columns beside item_id"),
        ("item_id,x\na,1\n", "y", "has no other column y, only: x"),
        ("item_id,x\na,1\n", "item_id", "has no other column item_id"),
        ("item_id,x\n", None, "has no row below its header"),
        ("item_id,x\na,1\nb,much\n", None, "line 3: the outcome much is not a finite number"),
        ("item_id,x\na,\n", None, r"line 2: the outcome \(empty\) is not"),
        ("item_id,x\na,nan\n", None, "line 2: the outcome nan is not a finite number"),
        ("item_id,x\na,1\nb\n", None, "line 3: 1 columns, the header has 2"),
        ("item_id,x\na,1\nb,2\na,3\n", None, "line 4: item a is there twice"),
        ("item_id,x\na,1\ny,2\nz,3\n", None, "2 of the 3 item ids in .* are not in the catalogue: y, z"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_what_is_wrong(
    tmp_path: Path, text: str, column: str | None, problem: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=problem) as refused:
        read_outcome(path, IDS, "item_id", column)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_outcome(tmp_path / "nothing.csv", IDS, "item_id", None)
    (tmp_path / "bytes.csv").write_bytes(b"item_id,x\n\xff\xfe,1\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_outcome(tmp_path / "bytes.csv", IDS, "item_id", None)
