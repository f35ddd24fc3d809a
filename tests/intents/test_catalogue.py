"""The catalogue on disk and the ids of intents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.errors import StageError
from saerec_ray.intents.catalogue import CATALOGUE_FILE, read_catalogue, stable_ids, write_catalogue
from tests.intents.planted import plant


def directions(count: int = 40, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(st.permutations(range(12)))
@settings(max_examples=20)
def test_an_id_belongs_to_a_direction_wherever_it_stands(order: list[int]) -> None:
    rows = directions(12)
    ids = stable_ids(rows)
    assert stable_ids(rows[order]) == [ids[place] for place in order]
    assert stable_ids(rows[order[:5]]) == [ids[place] for place in order[:5]]


def test_an_id_is_eight_hexadecimal_digits_of_the_half_precision_direction() -> None:
    import hashlib

    rows = directions()
    expected = [f"int-{hashlib.sha256(row.astype(np.float16).tobytes()).hexdigest()[:8]}" for row in rows]
    assert stable_ids(rows) == expected
    assert stable_ids(rows * np.float32(1 + 1e-7)) == expected  # what another machine rounds differently


def test_another_direction_has_another_id() -> None:
    assert not set(stable_ids(directions(seed=0))) & set(stable_ids(directions(seed=1)))


def rows_with_ids_that_begin_alike() -> np.ndarray:
    """Five directions, two of which share the first eight digits of their hash: found among 200,000."""
    import hashlib

    rows = np.random.default_rng(0).normal(size=(200_000, 2)).astype(np.float16).astype(np.float32)
    seen: dict[str, int] = {}
    for place, row in enumerate(np.unique(rows, axis=0)):
        digest = hashlib.sha256(row.astype(np.float16).tobytes()).hexdigest()[:8]
        if digest in seen:
            unique = np.unique(rows, axis=0)
            return unique[[0, seen[digest], 1, place, 2]]
        seen[digest] = place
    raise AssertionError("no two of the directions begin alike")


def test_only_ids_that_would_be_equal_are_lengthened() -> None:
    """A catalogue must not lose all its ids because two of them begin alike."""
    rows = rows_with_ids_that_begin_alike()
    ids = stable_ids(rows)
    assert [len(each) for each in ids] == [12, 20, 12, 20, 12]
    assert ids[1][:12] == ids[3][:12]
    assert len(set(ids)) == 5
    assert [ids[0], ids[2], ids[4]] == stable_ids(rows[[0, 2, 4]])


def test_two_latents_with_one_direction_are_refused() -> None:
    rows = directions(4)
    rows[3] = rows[1]
    with pytest.raises(StageError, match="same decoder direction; train it again"):
        stable_ids(rows)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    catalogue, _, _ = plant(items_a_topic=20).build()
    write_catalogue(catalogue, tmp_path)
    assert read_catalogue(tmp_path) == catalogue
    assert {intent.intent_id: intent.latent for intent in catalogue.intents} == {
        intent_id: intent.latent for intent_id, intent in read_catalogue(tmp_path).by_id().items()
    }


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"latent": 0', '"latent": -1'),
        lambda text: text.replace('"label_source": "terms"', '"label_source": "guess"', 1),
        lambda text: text.replace('"intents_version"', '"version"'),
    ],
    ids=["empty", "cut", "latent below 0", "unknown source", "missing key"],
)
def test_a_damaged_catalogue_is_refused_in_one_sentence(tmp_path: Path, damage) -> None:
    catalogue, _, _ = plant(items_a_topic=20).build()
    write_catalogue(catalogue, tmp_path)
    path = tmp_path / CATALOGUE_FILE
    whole = path.read_text("utf-8")
    path.write_text(damage(whole), "utf-8")
    assert path.read_text("utf-8") != whole
    with pytest.raises(StageError, match="not a readable catalogue of intents") as refused:
        read_catalogue(tmp_path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_catalogue_that_is_not_text_or_not_there_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="not a readable catalogue"):
        read_catalogue(tmp_path)
    (tmp_path / CATALOGUE_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StageError, match="not a readable catalogue"):
        read_catalogue(tmp_path)
