"""Several seeds: the best is kept, and the others tell which of its latents are more than chance."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from saerec_ray.attempts import begin_attempt
from saerec_ray.config import ClusterConfig
from saerec_ray.dictionary.build import build_dictionary, train_on
from saerec_ray.dictionary.metrics import fraction_of_variance_unexplained
from saerec_ray.dictionary.sae import Dictionary, Floats, read_dictionary
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.dictionary.stability import (
    matched_cosines,
    read_stability,
    stability,
    stability_figures,
    write_stability,
)
from saerec_ray.dictionary.trainer import BEST_FOLDER, train_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.local_workers import LocalWorker, latest_checkpoint
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.dictionary.planted import planted_directions, planted_vectors

LOCAL = ClusterConfig(engine="local", gpus=False)
SETTINGS = DictionaryConfig(
    width=32, active=2, epochs=40, batch_size=128, learning_rate=5e-3, prefixes=[0.75, 1.0], seeds=3
)
SEED = 7


def rows(count: int, d: int, seed: int) -> Floats:
    return planted_directions(count, d, seed)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 5))
def test_partners_are_those_of_the_best_of_all_one_to_one_matchings(seed: int, count: int) -> None:
    first, second = rows(count, 3, seed), rows(count, 3, seed + 1)
    cosines = first @ second.T
    sums = {order: sum(cosines[row, column] for row, column in enumerate(order)) for order in
            permutations(range(count))}  # fmt: skip
    best = max(sums, key=lambda order: sums[order])
    assert matched_cosines(first, second).sum() == pytest.approx(sums[best], abs=1e-5)


def test_a_dictionary_with_its_latents_in_another_order_is_found_again_whole() -> None:
    decoder = rows(20, 16, 0)
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_allclose(stability(decoder, [decoder[order], decoder]), 1, atol=1e-6)


def test_a_latent_is_as_stable_as_the_seed_that_misses_it_most_and_numbers_stay_those_of_the_latents() -> (
    None
):
    decoder = rows(12, 64, 0)
    near, missed = decoder.copy(), decoder.copy()
    near[4] = (decoder[4] + 0.5 * rows(1, 64, 3)[0]) / np.linalg.norm(decoder[4] + 0.5 * rows(1, 64, 3)[0])
    missed[9] = rows(1, 64, 5)[0]
    values = stability(decoder, [near[::-1], missed])
    others = [latent for latent in range(12) if latent not in (4, 9)]
    np.testing.assert_allclose(values[others], 1, atol=1e-6)
    assert values[4] == pytest.approx(float(decoder[4] @ near[4]), abs=1e-6)
    assert values[9] == pytest.approx(float(decoder[9] @ missed[9]), abs=1e-6)
    assert values[9] < 0.7 < values[4] < 0.99


def test_the_figures_are_over_all_pairs_of_seeds() -> None:
    first, second = rows(10, 32, 0), rows(10, 32, 1)
    figures = stability_figures([first, first, second], np.array([0.9] * 7 + [0.1] * 3, dtype=np.float32))
    across = matched_cosines(first, second)
    assert figures["matched_cosine"] == pytest.approx((1 + 2 * across.mean()) / 3, abs=1e-6)
    assert figures["matched_share"] == pytest.approx((1 + 2 * (across >= 0.7).mean()) / 3)
    assert figures["stable_share"] == pytest.approx(0.7)


def test_stability_comes_back_from_its_file_and_is_nothing_without_one(tmp_path: Path) -> None:
    assert read_stability(tmp_path) is None
    values = np.linspace(0, 1, 5, dtype=np.float32)
    write_stability(values, tmp_path)
    read = read_stability(tmp_path)
    assert read is not None
    np.testing.assert_array_equal(read, values)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed")
    vectors, _ = planted_vectors(900, planted_directions(24, 32), 2)
    save_file({"embeddings": vectors}, folder / EMBEDDINGS_FILE)
    return folder


def build(embedded: Path, folder: Path, config: DictionaryConfig, **options: Any) -> dict[str, Any]:
    folder.mkdir()
    return build_dictionary(config, LOCAL, SEED, embedded, folder, folder / "runs", **options)


@pytest.fixture(scope="module")
def three(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("three") / "dictionary"
    logged: list[dict[str, Any]] = []
    metrics = build(embedded, folder, SETTINGS, on_log=logged.append)
    return folder, {**metrics, "logged": logged}


def alone(embedded: Path, folder: Path, seed: int) -> Dictionary:
    """One of the three trainings, run by itself on the split of all."""
    attempt = begin_attempt(folder / str(seed), "alone", {}, latest_checkpoint)
    parameters = {
        "embeddings": str(embedded),
        "config": SETTINGS.model_dump(mode="json"),
        "split_seed": SEED,
        "cold": [],
    }
    worker = LocalWorker(0, 1, torch.device("cpu"), attempt)
    train_dictionary(worker, parameters | {"seed": seed})
    checkpoint = latest_checkpoint(attempt.checkpoints)
    assert checkpoint is not None
    return read_dictionary(checkpoint / BEST_FOLDER)


def test_the_seed_with_the_lowest_error_on_items_to_choose_by_is_published(
    three: tuple[Path, dict[str, Any]], embedded: Path, tmp_path: Path
) -> None:
    folder, metrics = three
    errors = metrics["fvu_of_seeds"]
    assert len(set(errors)) == 3
    vectors, _ = planted_vectors(900, planted_directions(24, 32), 2)
    split = split_for_training(vectors, SETTINGS.held_out_share, SEED)
    published = read_dictionary(folder)
    own = metrics["best_seed"] - SEED
    assert metrics["fvu"] == pytest.approx(errors[own], rel=1e-5)
    assert fraction_of_variance_unexplained(published, vectors[split.held_out]) == pytest.approx(errors[own])
    by_itself = [
        fraction_of_variance_unexplained(alone(embedded, tmp_path, SEED + place), vectors[split.choosing])
        for place in range(3)
    ]
    assert own == int(np.argmin(by_itself))
    assert fraction_of_variance_unexplained(published, vectors[split.choosing]) == pytest.approx(
        min(by_itself)
    )


def test_most_planted_directions_are_found_by_every_seed_and_chance_latents_are_not(
    three: tuple[Path, dict[str, Any]],
) -> None:
    folder, metrics = three
    values = read_stability(folder)
    assert values is not None
    planted = (planted_directions(24, 32) @ read_dictionary(folder).decoder.T).max(axis=0) > 0.9
    assert planted.sum() >= 18
    assert (values[planted] > 0.7).mean() > 0.85
    assert values[~planted].mean() < values[planted].mean() - 0.2
    assert metrics["stable_share"] == pytest.approx((values >= 0.7).mean())


def test_progress_of_all_seeds_is_told_as_one(three: tuple[Path, dict[str, Any]]) -> None:
    logged = three[1]["logged"]
    epochs = [line["epoch"] for line in logged]
    assert epochs == list(range(1, len(epochs) + 1)), "one epoch a line, whichever seed it is of"
    assert SETTINGS.epochs < epochs[-1] <= 3 * SETTINGS.epochs
    assert {line["epochs"] for line in logged} == {3 * SETTINGS.epochs}


def test_the_cost_of_all_seeds_is_told(three: tuple[Path, dict[str, Any]]) -> None:
    metrics = three[1]
    assert metrics["training_seconds"] > 0
    samples = metrics["training_seconds"] * metrics["training_items_a_second"]
    assert samples == pytest.approx(metrics["logged"][-1]["epoch"] * (810 // 128 * 128), rel=0.05)
    assert 1 << 20 < metrics["training_peak_memory_bytes"] < 1 << 36


def test_one_seed_writes_no_stability_and_is_the_first_of_several(
    three: tuple[Path, dict[str, Any]], embedded: Path, tmp_path: Path
) -> None:
    metrics = build(embedded, tmp_path / "one", SETTINGS.model_copy(update={"seeds": 1}))
    assert read_stability(tmp_path / "one") is None
    assert "best_seed" not in metrics
    assert metrics["fvu"] == pytest.approx(three[1]["fvu_of_seeds"][0], rel=1e-5)


def test_figures_are_of_items_that_nothing_was_chosen_by(tmp_path: Path) -> None:
    """So the chosen seed is not always the one with the best figure: that would flatter it."""
    noise = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    save_file({"embeddings": noise}, tmp_path / EMBEDDINGS_FILE)
    short = DictionaryConfig(width=32, active=3, epochs=3, batch_size=64, seeds=4)
    beaten = []
    for seed in range(4):
        metrics = train_on(short, LOCAL, seed, tmp_path, tmp_path / "runs" / str(seed), "noise").metrics
        own = metrics["fvu_of_seeds"][metrics["best_seed"] - seed]
        assert metrics["fvu"] == pytest.approx(own, rel=1e-5)
        beaten.append(own > min(metrics["fvu_of_seeds"]))
    assert any(beaten)
