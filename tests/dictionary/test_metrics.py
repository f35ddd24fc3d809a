"""The metrics of a dictionary against formulas written out in float64, and its controls."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_array

from saerec_ray.dictionary import metrics
from saerec_ray.dictionary.metrics import (
    PrincipalComponents,
    activation_counts,
    fraction_of_variance_unexplained,
    measure_dictionary,
    random_dictionary,
    variance_unexplained,
)
from saerec_ray.dictionary.sae import Dictionary, Floats, Scaling, calibrated_threshold, unit_rows

D, WIDTH = 10, 24


def vectors(items: int, seed: int, shift: float = 0.7, spread: float = 1.0) -> Floats:
    """Vectors whose mean is far from zero and whose spread differs between dimensions."""
    rng = np.random.default_rng(seed)
    return (spread * rng.normal(size=(items, D)) * np.linspace(0.3, 1.5, D) + shift).astype(np.float32)


TRAIN, HELD_OUT = vectors(300, 0), vectors(80, 1, shift=0.2)


def dictionary(**changes: Any) -> Dictionary:
    rng = np.random.default_rng(2)
    directions = unit_rows(rng.normal(size=(WIDTH, D)).astype(np.float32))
    return replace(
        Dictionary(
            encoder=directions * 0.8,
            encoder_bias=rng.normal(size=WIDTH).astype(np.float32) * 0.1,
            decoder=directions,
            decoder_bias=rng.normal(size=D).astype(np.float32) * 0.1,
            scaling=Scaling.fit(TRAIN),
            threshold=0.9,
            most_active=6,
        ),
        **changes,
    )


def written_fvu(made: Dictionary, items: Floats) -> float:
    """sum |x - x'|^2 / sum |x - training mean|^2 in the space of unit vectors, item by item."""
    unit = items.astype(np.float64) / np.linalg.norm(items.astype(np.float64), axis=1, keepdims=True)
    train = TRAIN.astype(np.float64) / np.linalg.norm(TRAIN.astype(np.float64), axis=1, keepdims=True)
    mean = train.mean(axis=0)
    factor = 1 / np.sqrt(((train - mean) ** 2).mean())
    error = variance = 0.0
    for row in unit:
        scaled = (row - mean) * factor
        activations = np.maximum(made.encoder.astype(np.float64) @ scaled + made.encoder_bias, 0)
        largest = np.argsort(-activations)[: made.most_active]
        reconstruction = made.decoder_bias.astype(np.float64)
        for place, latent in enumerate(largest):
            if activations[latent] > made.threshold or (place == 0 and activations[latent] > 0):
                reconstruction = reconstruction + activations[latent] * made.decoder[latent]
        error += ((row - (reconstruction / factor + mean)) ** 2).sum()
        variance += ((row - mean) ** 2).sum()
    return float(error / variance)


@pytest.mark.parametrize("items", [TRAIN, HELD_OUT], ids=["training", "held-out"])
def test_unexplained_variance_is_taken_about_the_training_mean_over_the_whole_split(items: Floats) -> None:
    made = dictionary()
    assert fraction_of_variance_unexplained(made, items) == pytest.approx(written_fvu(made, items), rel=1e-4)


def test_without_centring_variance_is_still_that_about_the_training_mean() -> None:
    """About zero the mean itself would count as explained, and every dictionary would look good."""
    shifted = TRAIN + 3.0 * np.eye(1, TRAIN.shape[1], dtype=np.float32)
    made = replace(dictionary(), scaling=Scaling.fit(shifted, centre=False))
    assert not made.scaling.mean.any()
    mean = unit_rows(shifted).mean(axis=0)
    unit, back = unit_rows(shifted), made.reconstruct(shifted)
    expected = np.square(unit - back).sum() / np.square(unit - mean).sum()
    assert fraction_of_variance_unexplained(made, shifted, mean) == pytest.approx(float(expected), rel=1e-3)
    assert fraction_of_variance_unexplained(made, shifted) < expected / 2


def test_unexplained_variance_is_no_mean_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items near the mean have little variance: a mean of ratios would give them the weight of the others."""
    mixed = np.concatenate([vectors(40, 3, spread=0.05), vectors(40, 4, spread=2.0)])
    made = dictionary()
    parts = [fraction_of_variance_unexplained(made, mixed[s]) for s in (slice(0, 40), slice(40, 80))]
    monkeypatch.setattr("saerec_ray.dictionary.sae._CHUNK", 7)
    whole = fraction_of_variance_unexplained(made, mixed)
    assert whole == pytest.approx(written_fvu(made, mixed), rel=1e-4)
    assert abs(whole - np.mean(parts)) > 0.05


def test_a_dictionary_that_says_the_mean_leaves_everything_unexplained() -> None:
    silent = dictionary(
        encoder_bias=np.full(WIDTH, -100, np.float32), decoder_bias=np.zeros(D, dtype=np.float32)
    )
    assert fraction_of_variance_unexplained(silent, HELD_OUT) == pytest.approx(1, rel=1e-6)


def test_the_items_themselves_leave_nothing_unexplained_and_the_mean_everything() -> None:
    mean = unit_rows(TRAIN).mean(axis=0)
    assert variance_unexplained(unit_rows(HELD_OUT), HELD_OUT, mean) == pytest.approx(0, abs=1e-12)
    everywhere = np.broadcast_to(mean, HELD_OUT.shape)
    assert variance_unexplained(everywhere, HELD_OUT, mean) == pytest.approx(1, rel=1e-6)


def test_what_reconstructions_leave_unexplained_is_the_training_metric_of_their_dictionary() -> None:
    made = dictionary()
    ours = variance_unexplained(made.reconstruct(HELD_OUT), HELD_OUT, made.scaling.mean)
    assert ours == pytest.approx(fraction_of_variance_unexplained(made, HELD_OUT), rel=1e-4)


@pytest.mark.parametrize("components", [1, 3, D])
def test_the_control_is_the_pca_of_numpy_fitted_on_training_items(components: int) -> None:
    train = unit_rows(TRAIN + np.linspace(0, 0.4, D, dtype=np.float32)).astype(np.float64)
    held_out = unit_rows(HELD_OUT).astype(np.float64)
    mean = train.mean(axis=0)
    _, _, directions = np.linalg.svd(train - mean, full_matrices=False)
    kept, centred = directions[:components], held_out - mean
    made = PrincipalComponents.fit(train.astype(np.float32)).first(components)
    back = made.reconstruct(HELD_OUT)
    np.testing.assert_allclose(back, centred @ kept.T @ kept + mean, atol=1e-5)
    np.testing.assert_allclose(np.abs(made.encode(HELD_OUT)), np.abs(centred @ kept.T), atol=1e-5)
    expected = ((centred - centred @ kept.T @ kept) ** 2).sum() / (centred**2).sum()
    assert variance_unexplained(back, HELD_OUT, made.mean) == pytest.approx(expected, abs=1e-6)


def test_the_random_dictionary_is_as_sparse_as_the_one_it_is_compared_with() -> None:
    control = random_dictionary(dictionary(), TRAIN, active=3, seed=0)
    assert control.encode(TRAIN).nnz / len(TRAIN) == pytest.approx(3, rel=0.1)
    np.testing.assert_allclose(np.linalg.norm(control.decoder, axis=1), 1, atol=1e-6)
    assert not np.allclose(control.decoder, random_dictionary(dictionary(), TRAIN, 3, seed=1).decoder)


def test_the_random_dictionary_of_a_catalogue_of_usual_size_is_calibrated_on_all_of_it() -> None:
    made = dictionary()
    control = random_dictionary(made, TRAIN, active=3, seed=4)
    directions = unit_rows(np.random.default_rng(4).normal(size=made.decoder.shape).astype(np.float32))
    activations = np.maximum(made.scaling.apply(TRAIN) @ directions.T, 0)
    np.testing.assert_array_equal(control.decoder, directions)
    assert control.threshold == calibrated_threshold(activations, 3, made.most_active)


def test_the_random_dictionary_of_a_large_catalogue_needs_no_more_memory_and_is_as_sparse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One activation of every item and latent would be 16 GB for a million items and 4096 latents."""
    monkeypatch.setattr(metrics, "MOST_CALIBRATED", 1000)
    items = vectors(40_000, 5)
    tracemalloc.start()
    try:
        control = random_dictionary(dictionary(), items, active=3, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < items.shape[0] * WIDTH * 4 / 4, "a quarter of the activations of all items"
    assert control.encode(items).nnz / len(items) == pytest.approx(3, rel=0.1)
    assert random_dictionary(dictionary(), items, 3, seed=0).threshold == control.threshold


def test_activations_are_counted_for_every_latent_also_for_those_without_any() -> None:
    codes = csr_array(np.array([[0, 2, 0, 1], [0, 1, 0, 0]], dtype=np.float32))
    assert activation_counts(codes).tolist() == [0, 2, 0, 1]


def written_codes(made: Dictionary, items: Floats) -> npt.NDArray[Any]:
    return np.asarray(made.encode(items).todense())


def test_counts_and_shares_are_those_of_the_codes() -> None:
    encoder = dictionary().encoder.copy()
    encoder[[3, 8]] = 0  # silent on every item
    bias = dictionary().encoder_bias.copy()
    bias[[3, 8]] = -1
    bias[5] = 50  # active on every item
    decoder = dictionary().decoder.copy()
    decoder[11] = decoder[10]
    made = dictionary(encoder=encoder, encoder_bias=bias, decoder=decoder)
    measured = measure_dictionary(made, TRAIN, HELD_OUT, active=3, seed=0)
    train, held_out = written_codes(made, TRAIN), written_codes(made, HELD_OUT)
    assert measured["dead_share"] == pytest.approx((train.max(axis=0) == 0).mean())
    assert measured["dead_share"] >= 2 / WIDTH
    assert measured["dense_share"] == pytest.approx(((train > 0).mean(axis=0) > 0.2).mean())
    assert measured["dense_share"] >= 1 / WIDTH
    assert measured["redundant_share"] == pytest.approx(2 / WIDTH)
    counts = (held_out > 0).sum(axis=1)
    assert measured["l0"] == pytest.approx(counts.mean())
    components = PrincipalComponents.fit(TRAIN).first(round(counts.mean()))
    error = variance_unexplained(components.reconstruct(HELD_OUT), HELD_OUT, components.mean)
    assert measured["fvu_pca_same_nonzeros"] == pytest.approx(error)
    assert measured["l0_p95"] == pytest.approx(np.percentile(counts, 95))
    assert measured["items_without_latents"] == 0
    assert (measured["train_items"], measured["held_out_items"]) == (300, 80)


def test_cosines_are_those_of_unit_vectors_before_centring() -> None:
    made = dictionary()
    back = made.reconstruct(HELD_OUT).astype(np.float64)
    cosines = (HELD_OUT * back).sum(axis=1) / np.linalg.norm(HELD_OUT, axis=1) / np.linalg.norm(back, axis=1)
    assert measure_dictionary(made, TRAIN, HELD_OUT, 3, 0)["cosine"] == pytest.approx(
        cosines.mean(), abs=1e-5
    )


def test_measuring_changes_neither_the_vectors_nor_the_dictionary_and_gives_the_same_twice() -> None:
    made = dictionary()
    kept = {name: values.copy() for name, values in made.arrays().items()}
    train, held_out = TRAIN.copy(), HELD_OUT.copy()
    first = measure_dictionary(made, train, held_out, 3, 0)
    assert measure_dictionary(made, train, held_out, 3, 0) == first
    np.testing.assert_array_equal(train, TRAIN)
    np.testing.assert_array_equal(held_out, HELD_OUT)
    for name, values in made.arrays().items():
        np.testing.assert_array_equal(values, kept[name])
