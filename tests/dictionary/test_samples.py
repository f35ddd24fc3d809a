"""Texts and reviews as samples: an item's are on one side, and its code is their weighted mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from saerec_ray.config import ClusterConfig
from saerec_ray.dictionary import trainer
from saerec_ray.dictionary.adoption import adopt_dictionary
from saerec_ray.dictionary.build import build_dictionary
from saerec_ray.dictionary.sae import (
    DICTIONARY_FILE,
    Floats,
    read_codes,
    read_dictionary,
    unit_rows,
)
from saerec_ray.dictionary.samples import (
    Samples,
    item_codes,
    keep_largest,
    load_samples,
    with_scaled_item_codes,
)
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError
from saerec_ray.text.embed import EMBEDDINGS_FILE, REVIEW_EMBEDDINGS_FILE
from tests.dictionary.planted import planted_directions, planted_vectors
from tests.dictionary.test_metrics import D, dictionary

LOCAL = ClusterConfig(engine="local", gpus=False)
SETTINGS = DictionaryConfig(width=32, active=3, epochs=6, batch_size=128, prefixes=[0.5, 1.0])
SEED = 3
ITEMS = 300


def drawn(count: int, seed: int, d: int = D) -> Floats:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, d)).astype(np.float32) + 0.3)


def samples(items: list[int], count: int = 6) -> Samples:
    """The texts of `count` items, then a review about each of `items`."""
    return Samples(drawn(count + len(items), 0), np.concatenate([np.arange(count), items]).astype(int), count)


def write_embedded(folder: Path, reviews: dict[int, Floats] | None = None) -> Path:
    folder.mkdir()
    texts, _ = planted_vectors(ITEMS, planted_directions(24, 16), 3)
    save_file({"embeddings": texts}, folder / EMBEDDINGS_FILE)
    if reviews is not None:
        items = np.repeat(list(reviews), [len(each) for each in reviews.values()]).astype(np.int32)
        vectors = np.concatenate(list(reviews.values()))
        save_file({"embeddings": vectors, "items": items}, folder / REVIEW_EMBEDDINGS_FILE)
    return folder


def some_reviews() -> dict[int, Floats]:
    return {item: drawn(1 + item % 3, item, 16) for item in range(0, ITEMS, 2)}


def build(embedded: Path, folder: Path, **options: Any) -> dict[str, Any]:
    folder.mkdir()
    return build_dictionary(SETTINGS, LOCAL, SEED, embedded, folder, folder / "runs", **options)


@settings(max_examples=60)
@given(reviews=st.lists(st.integers(0, 5), max_size=9).map(sorted), scale=st.sampled_from([1.0, 0.25]))
def test_the_code_of_an_item_is_half_its_text_and_half_all_its_reviews(
    reviews: list[int], scale: float
) -> None:
    made, given_samples = dictionary(most_active=24, code_scale=scale), samples(reviews)
    each = made.encode(given_samples.vectors).toarray().astype(np.float64)
    found = item_codes(made, given_samples).toarray()
    for item in range(6):
        said = [each[6 + place] for place, about in enumerate(reviews) if about == item]
        expected = (each[item] + sum(said) / len(said)) / 2 if said else each[item]
        np.testing.assert_allclose(found[item], expected, atol=1e-5)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), most=st.integers(0, 6))
def test_of_each_code_the_largest_entries_stay_as_they_are(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    dense = np.round(rng.random((7, 9)), 1) * (rng.random((7, 9)) < 0.6)
    kept = keep_largest(csr_array(dense), most).toarray()
    for row, found in zip(dense, kept, strict=True):
        order = np.argsort(-row, kind="stable")[:most]
        expected = np.zeros_like(row)
        expected[order] = row[order]
        np.testing.assert_array_equal(found, expected)


def test_a_code_has_no_more_latents_with_reviews_than_without() -> None:
    made = dictionary()
    codes = item_codes(made, samples([1, 1, 2, 4, 4, 4]))
    assert np.diff(codes.indptr).max() == made.most_active
    assert codes.has_sorted_indices


def test_without_reviews_codes_and_scale_are_exactly_those_of_the_texts() -> None:
    made, given_samples = dictionary(), samples([])
    assert (item_codes(made, given_samples) != made.encode(given_samples.texts)).nnz == 0
    assert len(given_samples.vectors) == given_samples.count


def test_the_scale_makes_the_codes_of_items_as_long_as_the_backbone_expects() -> None:
    given_samples, train = samples([0, 0, 3, 5]), np.array([0, 1, 3])
    scaled = with_scaled_item_codes(dictionary(code_scale=7.0), given_samples, train)
    codes = item_codes(scaled, given_samples).toarray()[train]
    assert np.square(codes).sum() / 3 == pytest.approx(1, rel=1e-5)


def test_all_samples_of_an_item_are_on_its_side() -> None:
    given_samples = samples([0, 0, 2, 5])
    assert given_samples.of(np.array([0, 5])).tolist() == [0, 5, 6, 7, 9]
    assert given_samples.of(np.array([1, 2, 3, 4])).tolist() == [1, 2, 3, 4, 8]


def test_training_learns_from_the_reviews_of_training_items_and_from_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Floats, Floats]] = []

    class Recorded(trainer.DictionaryTraining):
        def __init__(self, worker: Any, config: Any, train: Floats, choosing: Floats, seed: int) -> None:
            seen.append((train, choosing))
            super().__init__(worker, config, train, choosing, seed)

    monkeypatch.setattr(trainer, "DictionaryTraining", Recorded)
    embedded = write_embedded(tmp_path / "embed", some_reviews())
    build(embedded, tmp_path / "dictionary")
    texts = load_file(embedded / EMBEDDINGS_FILE)["embeddings"]
    split = split_for_training(texts, SETTINGS.held_out_share, SEED)
    for items, found in zip((split.train, split.choosing), seen[0], strict=True):
        said = [some_reviews()[int(item)] for item in items if int(item) in some_reviews()]
        np.testing.assert_array_equal(found, np.concatenate([texts[items], *said]))


def test_the_stage_writes_codes_of_texts_and_reviews_and_figures_of_both(tmp_path: Path) -> None:
    embedded = write_embedded(tmp_path / "embed", some_reviews())
    metrics = build(embedded, tmp_path / "dictionary")
    made, codes = read_dictionary(tmp_path / "dictionary"), read_codes(tmp_path / "dictionary")
    expected = item_codes(made, load_samples(embedded))
    assert (codes != expected).nnz == 0
    assert (codes != made.encode(load_samples(embedded).texts)).nnz > 0
    assert metrics["reviews"] == sum(map(len, some_reviews().values()))
    assert metrics["l0_item_codes"] == pytest.approx(codes.nnz / ITEMS)
    assert 0 < metrics["fvu_reviews"] < 2
    assert [metrics[name] for name in ("train_items", "choosing_items", "held_out_items")] == [270, 15, 15]


def test_nothing_is_learnt_of_items_that_training_must_not_know(tmp_path: Path) -> None:
    """Neither their texts nor their reviews decide the dictionary; their codes are those of their texts."""
    cold = np.arange(0, ITEMS, 4)
    embedded = write_embedded(tmp_path / "a", some_reviews())
    changed = {item: -vectors if item in cold else vectors for item, vectors in some_reviews().items()}
    other = write_embedded(tmp_path / "b", changed)
    texts = load_samples(embedded).texts.copy()
    texts[cold, 1:] *= -1  # the first number stays, so that the same items are held out
    save_file({"embeddings": texts}, other / EMBEDDINGS_FILE)
    for source, name in ((embedded, "one"), (other, "two")):
        build(source, tmp_path / name, cold=cold.tolist())
    one, two = ((tmp_path / name / DICTIONARY_FILE).read_bytes() for name in ("one", "two"))
    assert one == two
    dictionary = read_dictionary(tmp_path / "one")
    for source, name in ((embedded, "one"), (other, "two")):
        own = load_samples(source).texts[cold]
        assert (read_codes(tmp_path / name)[cold] != dictionary.encode(own)).nnz == 0
    rest = np.setdiff1d(np.arange(ITEMS), cold)
    assert (read_codes(tmp_path / "one")[rest] != read_codes(tmp_path / "two")[rest]).nnz == 0


def test_where_no_known_item_is_left_to_choose_by_it_says_what_to_change(tmp_path: Path) -> None:
    embedded = write_embedded(tmp_path / "embed")
    split = split_for_training(load_samples(embedded).texts, SETTINGS.held_out_share, SEED)
    with pytest.raises(InputError, match=r"train\.cold_share keeps out all items .*; lower it"):
        build(embedded, tmp_path / "dictionary", cold=split.choosing.tolist())
    with pytest.raises(InputError, match="training items are too few"):
        build(embedded, tmp_path / "few", cold=split.train[5:].tolist())


def test_items_that_training_must_not_know_decide_neither_mean_nor_scale_of_a_dictionary_from_elsewhere(
    tmp_path: Path,
) -> None:
    build(write_embedded(tmp_path / "source-items"), tmp_path / "source")
    cold = np.arange(0, ITEMS, 4)
    settings_ = SETTINGS.model_copy(update={"source": tmp_path / "source", "recentre": True})
    found = []
    for name, factor in (("one", 1), ("two", -1)):
        embedded = write_embedded(tmp_path / f"{name}-items")
        texts = load_samples(embedded).texts.copy()
        texts[cold] *= factor
        save_file({"embeddings": texts}, embedded / EMBEDDINGS_FILE)
        (tmp_path / name).mkdir()
        source = read_dictionary(tmp_path / "source")
        adopt_dictionary(settings_, source, embedded, tmp_path / name, cold=cold.tolist())
        found.append((tmp_path / name / DICTIONARY_FILE).read_bytes())
    assert found[0] == found[1]


def test_a_dictionary_from_elsewhere_reads_reviews_by_the_same_formula(tmp_path: Path) -> None:
    embedded = write_embedded(tmp_path / "embed", some_reviews())
    build(write_embedded(tmp_path / "other"), tmp_path / "source")
    source = replace(read_dictionary(tmp_path / "source"), code_scale=3.0)
    adopt_dictionary(SETTINGS, source, embedded, tmp_path, cold=[2])
    taken = read_dictionary(tmp_path)
    assert (read_codes(tmp_path) != item_codes(taken, load_samples(embedded, [2]))).nnz == 0
    known = read_codes(tmp_path)[np.arange(ITEMS) != 2]
    assert np.square(known.data).sum() / (ITEMS - 1) == pytest.approx(1, rel=1e-4)


def test_without_centring_figures_of_reviews_and_seeds_are_still_about_the_training_mean(
    tmp_path: Path,
) -> None:
    """About zero the mean itself would count as explained."""
    shift = 3 * np.eye(1, 16, dtype=np.float32)
    texts = unit_rows(planted_vectors(ITEMS, planted_directions(24, 16), 3)[0] + shift)
    reviews = {item: unit_rows(texts[[item]] + 0.3 * drawn(1, item, 16)) for item in range(ITEMS)}
    embedded = write_embedded(tmp_path / "embed", reviews)
    save_file({"embeddings": texts}, embedded / EMBEDDINGS_FILE)
    settings = SETTINGS.model_copy(update={"centre": False, "seeds": 2})
    (tmp_path / "dictionary").mkdir()
    metrics = build_dictionary(settings, LOCAL, SEED, embedded, tmp_path / "dictionary", tmp_path / "runs")
    made, given_samples = read_dictionary(tmp_path / "dictionary"), load_samples(embedded)
    split = split_for_training(texts, SETTINGS.held_out_share, SEED)
    mean = unit_rows(given_samples.vectors[given_samples.of(split.train)]).mean(axis=0)
    measured = given_samples.of(split.held_out)

    def written(places: npt.NDArray[np.int64]) -> float:
        unit = unit_rows(given_samples.vectors[places])
        left = np.square(unit - made.reconstruct(given_samples.vectors[places])).sum()
        return float(left / np.square(unit - mean).sum())

    own = metrics["fvu_of_seeds"][metrics["best_seed"] - SEED]
    assert own == pytest.approx(written(measured), rel=1e-3)
    assert metrics["fvu_reviews"] == pytest.approx(written(measured[measured >= ITEMS]), rel=1e-3)
