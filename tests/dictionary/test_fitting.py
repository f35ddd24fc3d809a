"""The dictionary as a library: one line to train it, one to use it, and errors that say what to change."""

from __future__ import annotations

import doctest
import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

import saerec_ray.dictionary
from saerec_ray.dictionary import Dictionary, encode, fit, fitting, load, save
from saerec_ray.dictionary.build import train_on
from saerec_ray.dictionary.metrics import fraction_of_variance_unexplained
from saerec_ray.dictionary.sae import DICTIONARY_FILE, Floats, write_dictionary
from saerec_ray.errors import InputError
from saerec_ray.sources import LARGEST_SEED
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.dictionary.planted import best_cosines, planted_directions, planted_vectors

ROOT = Path(__file__).parents[2]
D = 16
SMALL: dict[str, Any] = {"width": 32, "active": 3, "batch_size": 128, "epochs": 3}
VECTORS = planted_vectors(300, planted_directions(24, D), 3)[0]


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    return fit(VECTORS, **SMALL)


def same(one: Dictionary, other: Dictionary) -> bool:
    arrays, others = one.arrays(), other.arrays()
    return all(np.array_equal(values, others[name]) for name, values in arrays.items())


def parquet(file: Path, values: pa.Array, column: str = "vector") -> Path:
    pq.write_table(pa.table({"id": pa.array(range(len(values))), column: values}), file)
    return file


def fixed(vectors: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def test_what_fit_returns_finds_the_directions_the_vectors_are_made_of() -> None:
    directions = planted_directions(24, 32)
    vectors, _ = planted_vectors(1200, directions, 2)
    settings = {"width": 32, "active": 2, "epochs": 60, "batch_size": 128, "learning_rate": 5e-3}
    found = fit(vectors, prefixes=[0.75, 1.0], **settings)
    assert (best_cosines(directions, found.decoder) > 0.85).mean() >= 0.8
    codes = encode(found, vectors)
    assert codes.shape == (1200, 32)
    assert codes.nnz / 1200 == pytest.approx(2, rel=0.15)
    assert np.square(codes.data).sum() / 1200 == pytest.approx(1, rel=0.05)


def test_array_parquet_file_folder_of_them_and_embed_folder_are_read_alike(
    dictionary: Dictionary, tmp_path: Path
) -> None:
    file = parquet(tmp_path / "vectors.parquet", fixed(VECTORS))
    listed = parquet(tmp_path / "listed.parquet", pa.array(VECTORS.tolist(), pa.list_(pa.float64())), "x")
    (tmp_path / "parts").mkdir()
    parquet(tmp_path / "parts" / "2.parquet", fixed(VECTORS[100:]))
    parquet(tmp_path / "parts" / "1.parquet", fixed(VECTORS[:100]))
    (tmp_path / "embed").mkdir()
    save_file({"embeddings": VECTORS}, tmp_path / "embed" / EMBEDDINGS_FILE)
    expected = encode(dictionary, VECTORS).toarray()
    for source, column in (
        (VECTORS.astype(np.float64), "vector"),
        (VECTORS.tolist(), "vector"),
        (file, "vector"),
        (str(file), "vector"),
        (listed, "x"),
        (tmp_path / "parts", "vector"),
        (tmp_path / "embed", "vector"),
    ):
        np.testing.assert_array_equal(encode(dictionary, source, column=column).toarray(), expected)
    assert same(fit(file, **SMALL), dictionary)


def test_the_same_call_gives_the_same_dictionary_and_another_seed_another(dictionary: Dictionary) -> None:
    assert same(fit(VECTORS, **SMALL), dictionary)
    assert not same(fit(VECTORS, seed=1, **SMALL), dictionary)


def test_what_was_saved_comes_back_and_is_the_file_of_the_dictionary_stage(
    dictionary: Dictionary, tmp_path: Path
) -> None:
    file = save(dictionary, tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / DICTIONARY_FILE
    assert same(load(tmp_path / "new" / "folder"), dictionary)
    assert same(load(save(dictionary, tmp_path / "one.safetensors")), dictionary)
    write_dictionary(dictionary, tmp_path)
    assert (tmp_path / DICTIONARY_FILE).read_bytes() == file.read_bytes()
    codes = encode(tmp_path / "one.safetensors", VECTORS)
    assert (codes != encode(dictionary, VECTORS)).nnz == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: VECTORS[0], r"must have the shape \(rows, dimensions\), neither 0; it has \(16,\)"),
        (lambda _: VECTORS[:0], r"neither 0; it has \(0, 16\)"),
        (lambda _: VECTORS[:, :0], r"neither 0; it has \(300, 0\)"),
        (lambda _: VECTORS[None], r"it has \(1, 300, 16\)"),
        (lambda _: [["a", "b"]], "must hold numbers; it holds <U1"),
        (lambda _: [[1.0, 2.0], [3.0]], "must be a table of numbers"),
        (lambda _: np.where(np.arange(300) == 7, np.nan, VECTORS.T).T, "not finite, first in row 7"),
        (
            lambda _: np.where(np.arange(300) == 9, 1e300, VECTORS.T.astype(float)).T,
            "not finite, first in row 9",
        ),
        (lambda _: np.ones((300, 4)), "All vectors are equal"),
        (
            lambda _: np.outer(np.arange(1, 301), VECTORS[0]),
            "have the same direction, so there is nothing to",
        ),
        (lambda _: np.repeat(VECTORS[:2], 150, axis=0), "have the same direction, so there is nothing to"),
        (lambda _: VECTORS[:, :1], "bring vectors of at least 2 numbers"),
        (lambda _: VECTORS[:6], "4 training items are too few for a dictionary of width 32; lower width or"),
        (lambda p: p / "nothing.parquet", "nothing.parquet does not exist"),
        (lambda p: p, "has neither embeddings.safetensors nor .parquet files"),
        (lambda p: parquet(p / "a.parquet", fixed(VECTORS), "z"), "no column 'vector'; it has id, z"),
        (lambda p: parquet(p / "a.parquet", pa.array(range(9))), "holds int64, not lists of numbers"),
        (lambda p: parquet(p / "a.parquet", pa.array([[1.0, 2], [3.0]])), "lists of one length in every row"),
        (lambda p: parquet(p / "a.parquet", pa.array([[1.0, 2], None])), "lists of one length in every row"),
        (lambda p: parquet(p / "a.parquet", pa.array([[1.0, None]])), "lists of one length in every row"),
        (lambda p: parquet(p / "a.parquet", pa.array([["a"], ["b"]])), "must hold numbers"),
    ],
)
def test_vectors_that_cannot_be_used_are_refused_in_one_sentence(
    make: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fit(make(tmp_path), **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e20, 1e30])
def test_how_long_vectors_are_makes_no_difference(factor: float, dictionary: Dictionary) -> None:
    scaled = VECTORS.astype(np.float64) * factor
    codes, expected = encode(fit(scaled, **SMALL), scaled), encode(dictionary, VECTORS)
    np.testing.assert_allclose(codes.toarray(), expected.toarray(), atol=1e-2)
    assert codes.nnz / len(VECTORS) == pytest.approx(expected.nnz / len(VECTORS), rel=0.02)


def test_a_file_that_is_no_parquet_and_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("id,vector", "utf-8")
    with pytest.raises(InputError, match=r"a\.parquet is not a readable Parquet file"):
        fit(tmp_path / "a.parquet")
    parquet(tmp_path / "a.parquet", fixed(VECTORS))
    parquet(tmp_path / "b.parquet", fixed(VECTORS[:, :4]))
    with pytest.raises(InputError, match="hold vectors of different lengths"):
        fit(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widht": 32}, "widht: Extra inputs are not permitted"),
        ({"width": 8, "active": 8}, "may be at most a quarter of width"),
        ({"kind": "dense"}, "kind: Input should be"),
        ({"source": "elsewhere"}, "source: set in a configuration of all stages only"),
        ({"attributes": {}, "cooccurrence": {}}, "attributes, cooccurrence: set in a configuration"),
        ({"batch_size": 2, "workers": 3}, r"batch_size \(2\) must be at least workers \(3\)"),
        ({"seed": -1}, "seed must be a whole number from 0 to 2147483647; it is -1"),
        ({"seed": 2**31}, "seed must be a whole number from 0 to 2147483647; it is 2147483648"),
    ],
)
def test_settings_that_cannot_be_used_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(VECTORS, **settings)


def test_vectors_of_another_length_and_dictionaries_that_are_none_are_refused(
    dictionary: Dictionary, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="reads vectors of 16 numbers, but these have 4"):
        encode(dictionary, VECTORS[:, :4])
    with pytest.raises(InputError, match="There is no dictionary at"):
        encode(tmp_path, VECTORS)
    (tmp_path / DICTIONARY_FILE).write_bytes(b"no tensors at all")
    with pytest.raises(InputError, match="does not hold a whole dictionary"):
        load(tmp_path)
    save_file({"encoder": VECTORS}, tmp_path / DICTIONARY_FILE)
    with pytest.raises(InputError, match="does not hold a whole dictionary"):
        load(tmp_path)


def test_a_stopped_call_is_gone_on_with_by_the_same_call_and_leaves_nothing(
    dictionary: Dictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_then_stop(*arguments: Any, **options: Any) -> None:
        train_on(*arguments, **options)
        raise KeyboardInterrupt

    first: list[int] = []
    again: list[int] = []
    monkeypatch.setattr(fitting, "train_on", train_then_stop)
    with pytest.raises(KeyboardInterrupt):
        fit(VECTORS, workdir=tmp_path, on_log=lambda values: first.append(values["epoch"]), **SMALL)
    monkeypatch.undo()
    assert first == [1, 2, 3]
    found = fit(VECTORS, workdir=tmp_path, on_log=lambda values: again.append(values["epoch"]), **SMALL)
    assert again == [], "all epochs were done before"
    assert same(found, dictionary)
    assert list(tmp_path.iterdir()) == []


def test_a_call_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 training items are too few"):
        fit(VECTORS[:6], workdir=tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_removed_does_not_take_the_dictionary_away(
    dictionary: Dictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker about to end may still be adding files to it."""
    rmdir = os.rmdir

    def rmdir_unless_in_use(path: str | os.PathLike[str], **options: Any) -> None:
        if Path(path).name.startswith("fit-"):
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir_unless_in_use)
    assert same(fit(VECTORS, workdir=tmp_path, **SMALL), dictionary)
    assert [path.name[:4] for path in tmp_path.iterdir()] == ["fit-"]


def test_the_largest_seed_trains() -> None:
    assert encode(fit(VECTORS, seed=LARGEST_SEED, seeds=2, **SMALL), VECTORS).nnz > 0


def test_two_processes_train_together(dictionary: Dictionary) -> None:
    found = fit(VECTORS, workers=2, gpus=False, **SMALL)
    assert encode(found, VECTORS).shape == (300, 32)
    assert not same(found, dictionary), "each takes its strongest latents from its own half of a batch"
    errors = [fraction_of_variance_unexplained(each, VECTORS) for each in (found, dictionary)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)


def test_other_vectors_settings_or_code_do_not_go_on_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {
        fitting._digest(vectors, fitting._config(settings, 1), seed)
        for vectors in (VECTORS, VECTORS + 1, VECTORS.reshape(600, 8))
        for settings in ({"width": 32}, {"width": 64})
        for seed in (1, 2)
    }
    assert len(digests) == 12
    monkeypatch.setattr(fitting, "sources_hash", lambda: "0" * 12)
    assert fitting._digest(VECTORS, fitting._config({"width": 32}, 1), 1) not in digests


def test_encoding_imports_neither_torch_nor_ray() -> None:
    code = (
        "import sys, numpy as np\n"
        "import saerec_ray.dictionary.sae\n"
        "from saerec_ray.dictionary import Dictionary, encode, load, save\n"
        "heavy = {'torch', 'ray', 'pyarrow', 'sentence_transformers', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_names_that_do_not_exist_are_missing_as_in_any_module() -> None:
    assert not hasattr(saerec_ray.dictionary, "fits")
    assert {"fit", "encode", "save", "load", "Dictionary"} == set(saerec_ray.dictionary.__all__)


def test_the_example_of_the_docstring_is_true() -> None:
    assert doctest.testmod(fitting) == doctest.TestResults(failed=0, attempted=5)


def test_the_example_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "dictionary.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    finished = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert re.fullmatch(r"\d\.\d latents an item\n", finished.stdout)
    assert set(load_file(tmp_path / "my-dictionary" / DICTIONARY_FILE)) >= {"encoder", "decoder", "threshold"}
