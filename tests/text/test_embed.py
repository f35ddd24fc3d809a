"""The embed stage: every item gets the vector of its own text, and no text is encoded twice."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saerec_ray.data.prepared import REVIEWS_FILE, REVIEWS_SCHEMA
from saerec_ray.errors import InputError, StageError
from saerec_ray.text import embed as stage
from saerec_ray.text.cache import write_part
from saerec_ray.text.embed import load_review_embeddings
from saerec_ray.text.encoder import TextEncoder
from tests.text.texts import MODEL, TEXTS, embed_texts

MANY = {f"item-{place}": f"{name} no. {place}" for place, name in enumerate(list(TEXTS.values()) * 60)}
"""300 texts: more than one chunk."""


def expected(texts: dict[str, str]) -> dict[str, np.ndarray]:
    vectors = TextEncoder(MODEL, "float32", device="cpu").encode(list(texts.values()))
    return dict(zip(texts, vectors, strict=True))


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return found.keys() == wanted.keys() and all(
        np.allclose(found[each], wanted[each], atol=1e-5) for each in found
    )


def test_every_item_gets_the_vector_of_its_own_text(tmp_path: Path) -> None:
    found, metrics = embed_texts(tmp_path, TEXTS)
    assert same(found, expected(TEXTS))
    assert (metrics["items"], metrics["encoded_now"], metrics["from_cache"]) == (5, 5, 0)
    assert (metrics["dimension"], metrics["model"], metrics["precision"]) == (384, MODEL, "float32")


def test_reviews_are_encoded_beside_the_items_they_are_about_and_cached_alike(tmp_path: Path) -> None:
    alone, _ = embed_texts(tmp_path / "alone", TEXTS)
    said = pa.table(
        {"item": pa.array([0, 0, 3], pa.int32()), "text": ["lovely red", TEXTS["tea"], "strong motor"]},
        schema=REVIEWS_SCHEMA,
    )
    (tmp_path / "prepare").mkdir()
    pq.write_table(said, tmp_path / "prepare" / REVIEWS_FILE)
    found, metrics = embed_texts(tmp_path, TEXTS)
    assert all((found[item] == alone[item]).all() for item in TEXTS)
    vectors, items = load_review_embeddings(tmp_path / "embed")
    assert items.tolist() == [0, 0, 3]
    encoder = TextEncoder(MODEL, "float32", device="cpu")
    np.testing.assert_allclose(vectors, encoder.encode(said["text"].to_pylist()), atol=1e-5)
    assert (metrics["items"], metrics["reviews"], metrics["encoded_now"]) == (5, 3, 7)
    assert embed_texts(tmp_path, TEXTS)[1]["encoded_now"] == 0


def test_without_reviews_none_are_found_and_nothing_of_them_is_written(tmp_path: Path) -> None:
    _, metrics = embed_texts(tmp_path, TEXTS)
    vectors, items = load_review_embeddings(tmp_path / "embed")
    assert (vectors.shape, items.shape) == ((0, 384), (0,))
    assert [path.name for path in (tmp_path / "embed").iterdir()] == ["embeddings.safetensors"]
    assert "reviews" not in metrics


def test_the_order_of_rows_does_not_decide_which_item_has_which_vector(tmp_path: Path) -> None:
    first, _ = embed_texts(tmp_path / "one", MANY)
    order = list(MANY)
    random.Random(0).shuffle(order)
    second, _ = embed_texts(tmp_path / "two", {item: MANY[item] for item in order})
    assert list(second) != list(first)
    assert same(second, first)


def test_a_second_run_encodes_only_new_texts_and_keeps_the_old_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = embed_texts(tmp_path, TEXTS)
    encoded: list[str] = []
    encode = TextEncoder.encode

    def recorded(self: TextEncoder, texts: list[str], batch_size: int = 64) -> np.ndarray:
        encoded.extend(texts)
        return encode(self, texts, batch_size)

    monkeypatch.setattr(TextEncoder, "encode", recorded)
    grown = {"new": "wool socks", **dict(reversed(TEXTS.items()))}
    second, metrics = embed_texts(tmp_path, grown)
    assert encoded == ["wool socks"]
    assert (metrics["encoded_now"], metrics["from_cache"]) == (1, 5)
    assert all((second[item] == first[item]).all() for item in TEXTS)
    third, metrics = embed_texts(tmp_path, grown)
    assert encoded == ["wool socks"]
    assert metrics["encoded_now"] == 0
    assert all((third[item] == second[item]).all() for item in grown)


def test_a_text_that_several_items_share_is_encoded_once(tmp_path: Path) -> None:
    found, metrics = embed_texts(tmp_path, {"a": "green tea", "b": "green tea", "c": "razor"})
    assert metrics["encoded_now"] == 2
    assert (found["a"] == found["b"]).all()


@pytest.mark.parametrize("change", [{"max_tokens": 8}, {"precision": "bfloat16"}])
def test_other_settings_of_the_model_do_not_take_old_vectors(
    tmp_path: Path, change: dict[str, object]
) -> None:
    embed_texts(tmp_path, TEXTS)
    _, metrics = embed_texts(tmp_path, TEXTS, **change)
    assert metrics["from_cache"] == 0


def test_chunks_finished_before_a_failure_are_not_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        encode = TextEncoder.encode
        chunks: list[int] = []

        def fails_at_the_second(self: TextEncoder, texts: list[str], batch_size: int = 64) -> np.ndarray:
            chunks.append(len(texts))
            if len(chunks) == 2:
                raise StageError("power cut")
            return encode(self, texts, batch_size)

        broken.setattr(TextEncoder, "encode", fails_at_the_second)
        with pytest.raises(StageError, match="power cut"):
            embed_texts(tmp_path, MANY)
    found, metrics = embed_texts(tmp_path, MANY)
    assert (metrics["from_cache"], metrics["encoded_now"]) == (256, 44)
    assert same(found, expected(MANY))


def test_progress_counts_the_texts_up_to_all_of_them(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    embed_texts(tmp_path, MANY, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(256, 300), (300, 300)]


def test_texts_without_a_vector_stop_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loses_one(folder: Path, keys: list[bytes], vectors: np.ndarray) -> None:
        write_part(folder, keys[1:], vectors[1:])

    monkeypatch.setattr(stage, "write_part", loses_one)
    with pytest.raises(StageError, match="1 texts got no vector; run the stage again"):
        embed_texts(tmp_path, TEXTS)


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_wrong_model_is_one_sentence_before_any_work_is_given_out(tmp_path: Path, engine: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded"):
        embed_texts(tmp_path, TEXTS, engine, model=str(tmp_path / "empty"))


@pytest.mark.ray
def test_actors_of_ray_data_give_every_item_the_vector_it_has_without_ray(tmp_path: Path) -> None:
    from saerec_ray.ray_connection import start_ray

    with start_ray():
        found, metrics = embed_texts(tmp_path, MANY, "ray", actors=2)
        assert metrics["encoded_now"] == len(MANY)
        # One new text: fewer texts than actors.
        grown = {**MANY, "new": "wool socks"}
        more, metrics = embed_texts(tmp_path, grown, "ray", actors=2)
        assert (metrics["encoded_now"], metrics["from_cache"]) == (1, len(MANY))
    assert same(found, expected(MANY))
    assert same(more, expected(grown))


@pytest.mark.ray
def test_a_gpu_of_the_cluster_counts_although_this_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray believes what it is told of a machine: the actor gets the place of a GPU and computes without one."""
    import ray

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr("saerec_ray.precision._cpu_has_bfloat16", lambda: False)
    ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        found, metrics = embed_texts(tmp_path, TEXTS, "ray", gpus=True, precision="auto")
        _, without = embed_texts(tmp_path, TEXTS, "ray", gpus=False, precision="auto")
    finally:
        ray.shutdown()
    assert found.keys() == TEXTS.keys()
    assert (metrics["precision"], without["precision"]) == ("bfloat16", "float32")
