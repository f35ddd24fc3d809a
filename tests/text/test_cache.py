"""The cache of vectors: nothing half-written is read, nothing of another model is taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saerec_ray.text.cache import EmbeddingCache, text_key, write_part

MODEL, OTHER_MODEL = "a" * 64, "b" * 64


def vectors(count: int, dimension: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def keys(*texts: str, model: str = MODEL) -> list[bytes]:
    return [text_key(model, text) for text in texts]


def test_a_vector_comes_back_bit_by_bit_under_the_key_of_its_text(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, MODEL)
    stored = vectors(3)
    write_part(cache.folder, keys("one", "two", "three"), stored)
    found = cache.lookup(keys("three", "one", "never stored"))
    assert set(found) == set(keys("three", "one"))
    np.testing.assert_array_equal(found[keys("three")[0]], stored[2])
    np.testing.assert_array_equal(found[keys("one")[0]], stored[0])


def test_parts_add_up(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, MODEL)
    for place, text in enumerate(("one", "two", "three")):
        write_part(cache.folder, keys(text), vectors(1, seed=place))
    found = EmbeddingCache(tmp_path, MODEL).lookup(keys("one", "two", "three"))
    np.testing.assert_array_equal(found[keys("two")[0]], vectors(1, seed=1)[0])
    assert len(found) == 3


def test_an_empty_cache_knows_nothing_and_an_empty_part_is_no_trouble(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, MODEL)
    assert cache.lookup(keys("one")) == {}
    write_part(cache.folder, [], vectors(0))
    write_part(cache.folder, keys("one"), vectors(1))
    assert set(cache.lookup(keys("one"))) == set(keys("one"))


def test_what_another_model_computed_is_not_taken(tmp_path: Path) -> None:
    write_part(EmbeddingCache(tmp_path, OTHER_MODEL).folder, keys("one", model=OTHER_MODEL), vectors(1))
    cache = EmbeddingCache(tmp_path, MODEL)
    assert cache.lookup(keys("one")) == {}
    assert keys("one") != keys("one", model=OTHER_MODEL)
    # Not even when somebody moves the files of one model into the folder of the other.
    for path in EmbeddingCache(tmp_path, OTHER_MODEL).folder.iterdir():
        path.rename(cache.folder / path.name)
    assert cache.lookup(keys("one")) == {}


def whole_part(folder: Path) -> bytes:
    write_part(folder, keys("one"), vectors(1))
    (path,) = folder.glob("*.parquet")
    content = path.read_bytes()
    path.unlink()
    return content


def damaged(folder: Path, how: str) -> None:
    path = folder / "damaged.parquet"
    content = whole_part(folder)
    key = pa.array(keys("one"), pa.binary(16))
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "other columns":
        pq.write_table(pa.table({"other": [1]}), path)
    elif how == "numbers instead of vectors":
        pq.write_table(pa.table({"key": key, "vector": [1.0]}), path)
    elif how == "missing vector":
        pq.write_table(pa.table({"key": key, "vector": pa.array([None], pa.list_(pa.float32(), 4))}), path)
    else:
        not_finite = np.array([[1, np.nan, 0, 0]], dtype=np.float32)
        write_part(folder, keys("one"), not_finite)


@pytest.mark.parametrize(
    "how",
    ["cut", "empty", "other columns", "numbers instead of vectors", "missing vector", "not finite"],
)
def test_a_damaged_part_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    cache = EmbeddingCache(tmp_path, MODEL)
    damaged(cache.folder, how)
    write_part(cache.folder, keys("two"), vectors(1))
    assert set(cache.lookup(keys("one", "two"))) == set(keys("two"))
    assert "Ignoring the" in caplog.text


WRITER = """
import sys
import numpy as np
from pathlib import Path
from saerec_ray.text.cache import EmbeddingCache, text_key, write_part

model = sys.argv[2]
cache = EmbeddingCache(Path(sys.argv[1]), model)
for part in range(100_000):
    texts = [f"{part}-{place}" for place in range(500)]
    write_part(cache.folder, [text_key(model, text) for text in texts], np.full((500, 64), part, np.float32))
    print(part, flush=True)
"""


def test_parts_finished_before_a_kill_are_there_whole(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), MODEL],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    written = [int(process.stdout.readline()) for _ in range(20)]
    time.sleep(0.003)  # somewhere within a write
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    cache = EmbeddingCache(tmp_path, MODEL)
    wanted = {part: keys(*(f"{part}-{place}" for place in range(500))) for part in written}
    found = cache.lookup(key for part in wanted.values() for key in part)
    for part, part_keys in wanted.items():
        assert all((found[key] == part).all() for key in part_keys)
    write_part(cache.folder, keys("after"), vectors(1))  # what the kill left behind is in nobody's way
    assert len(cache.lookup(keys("after"))) == 1
