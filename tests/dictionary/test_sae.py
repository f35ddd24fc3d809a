"""The dictionary at inference: codes that depend on the item alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.dictionary.kinds import KINDS, keep_top_of_rows
from saerec_ray.dictionary.sae import (
    Dictionary,
    Floats,
    Scaling,
    calibrated_threshold,
    read_codes,
    read_dictionary,
    unit_rows,
    with_scaled_codes,
    write_codes,
    write_dictionary,
)
from saerec_ray.dictionary.sparse_batch import entries_of_batch
from saerec_ray.dictionary.training import TrainingDictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import StageError

CONFIGS = {
    kind: DictionaryConfig(kind=kind, width=48, active=4) for kind in ("topk", "batchtopk", "matryoshka")
}
D = 20


def vectors(items: int = 200, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(items, D)) + 0.5).astype(np.float32)


def exported(kind: str, seed: int = 0) -> tuple[TrainingDictionary, Dictionary]:
    """An untrained model with bent weights, and what it exports."""
    torch.manual_seed(seed)
    model = TrainingDictionary(D, CONFIGS[kind])
    with torch.no_grad():
        model.encoder += 0.1 * torch.randn_like(model.encoder)
        model.encoder_bias += 0.1 * torch.randn_like(model.encoder_bias)
        model.decoder *= 3  # export must not rely on what training left
        model.decoder_bias += 0.1 * torch.randn_like(model.decoder_bias)
    scaling = Scaling.fit(vectors())
    return model, model.export(scaling, torch.from_numpy(scaling.apply(vectors())))


kinds = pytest.mark.parametrize("kind", list(CONFIGS))


def test_inputs_are_centred_on_the_training_mean_with_unit_mean_square() -> None:
    scaled = Scaling.fit(vectors()).apply(vectors())
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    assert np.square(scaled).mean() == pytest.approx(1, rel=1e-5)


def test_scaling_leaves_its_input_as_it_is_and_can_be_undone() -> None:
    given_vectors = vectors()
    kept = given_vectors.copy()
    scaling = Scaling.fit(given_vectors)
    back = scaling.invert(scaling.apply(given_vectors))
    np.testing.assert_array_equal(given_vectors, kept)
    np.testing.assert_allclose(back, unit_rows(given_vectors), atol=1e-6)


def test_the_length_of_a_vector_does_not_matter_and_an_empty_one_is_no_trouble() -> None:
    scaling = Scaling.fit(vectors())
    np.testing.assert_allclose(scaling.apply(vectors() * 7), scaling.apply(vectors()), atol=1e-5)
    assert np.isfinite(scaling.apply(np.zeros((1, D), dtype=np.float32))).all()


def test_equal_embeddings_are_refused_because_there_is_nothing_to_learn() -> None:
    with pytest.raises(StageError, match="equal"):
        Scaling.fit(np.ones((10, 4), dtype=np.float32))


@kinds
def test_decoder_rows_have_unit_length(kind: str) -> None:
    _, dictionary = exported(kind)
    np.testing.assert_allclose(np.linalg.norm(dictionary.decoder, axis=1), 1, atol=1e-6)


@kinds
def test_codes_are_positive_and_no_item_has_more_than_the_most_or_none_at_all(kind: str) -> None:
    _, dictionary = exported(kind)
    codes = dictionary.encode(vectors(500, seed=1))
    counts = np.diff(codes.indptr)
    assert (codes.data > 0).all()
    assert counts.max() <= dictionary.most_active < dictionary.width
    assert counts.min() >= 1


@kinds
def test_the_training_items_have_as_many_latents_as_asked_for_on_average(kind: str) -> None:
    _, dictionary = exported(kind)
    assert dictionary.encode(vectors()).nnz / 200 == pytest.approx(4, abs=0.1)


@kinds
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40))
def test_an_item_has_the_same_code_alone_and_in_any_batch(kind: str, seed: int, size: int) -> None:
    _, dictionary = exported(kind)
    batch = vectors(size, seed)
    together = np.asarray(dictionary.encode(batch).todense())
    for row in range(size):
        alone = np.asarray(dictionary.encode(batch[row : row + 1]).todense())[0]
        np.testing.assert_array_equal(alone, together[row])


@pytest.mark.parametrize("size", [1, 2, 7, 25, 75, 128])
def test_codes_are_the_same_to_the_last_digit_whatever_the_size_of_the_batch(size: int) -> None:
    """In sizes that are used, where matrix products of float32 differ by their shape."""
    rng = np.random.default_rng(0)
    weights, x = (rng.normal(size=(rows, 384)).astype(np.float32) for rows in (512, 2_000))
    nothing = np.zeros(384, dtype=np.float32)
    dictionary = Dictionary(
        weights, np.zeros(512, dtype=np.float32), weights, nothing, Scaling(nothing, 1.0), 5.0, 16
    )
    assert (dictionary.encode(x[:size]) != dictionary.encode(x)[:size]).nnz == 0


def test_strong_company_does_not_silence_an_item_as_it_would_in_training() -> None:
    """Training keeps the largest of the whole batch; inference must not."""
    _, dictionary = exported("batchtopk")
    x = dictionary.scaling.apply(vectors(20, seed=3))
    activations = torch.from_numpy(np.maximum(x @ dictionary.encoder.T + dictionary.encoder_bias, 0))
    strong = activations.clone()
    strong[1:] *= 100
    assert 0 not in entries_of_batch(strong, 4).rows
    code = np.asarray(dictionary.encode(vectors(20, seed=3)).todense())[0]
    assert (code > 0).any()


@kinds
def test_inference_agrees_with_the_rule_written_out_for_each_item(kind: str) -> None:
    model, dictionary = exported(kind)
    batch = vectors(60, seed=4)
    with torch.no_grad():
        activations = model.activations(torch.from_numpy(dictionary.scaling.apply(batch))).numpy()
    codes = np.asarray(dictionary.encode(batch).todense())
    for row, values in enumerate(activations):
        strongest = sorted(range(48), key=lambda latent: -values[latent])[: dictionary.most_active]
        expected = np.zeros(48)
        for place, latent in enumerate(strongest):
            if values[latent] > dictionary.threshold or (place == 0 and values[latent] > 0):
                expected[latent] = values[latent]
        np.testing.assert_allclose(codes[row], expected, atol=1e-5)


def test_inference_of_topk_equals_its_training_forward() -> None:
    model, dictionary = exported("topk")
    batch = vectors(60, seed=5)
    with torch.no_grad():
        scaled = torch.from_numpy(dictionary.scaling.apply(batch))
        codes = keep_top_of_rows(model.activations(scaled), 4)
        unit_decoder = model.decoder / model.decoder.norm(dim=1, keepdim=True)
        reconstruction = codes @ unit_decoder + model.decoder_bias
    np.testing.assert_allclose(np.asarray(dictionary.encode(batch).todense()), codes.numpy(), atol=1e-5)
    np.testing.assert_allclose(dictionary.decode(dictionary.encode(batch)), reconstruction.numpy(), atol=1e-5)


def test_scaled_codes_have_unit_mean_square_length_and_decode_to_the_same() -> None:
    _, dictionary = exported("matryoshka")
    scaled = with_scaled_codes(dictionary, vectors())
    assert np.square(scaled.encode(vectors()).data).sum() / 200 == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(scaled.reconstruct(vectors()), dictionary.reconstruct(vectors()), atol=1e-5)
    assert with_scaled_codes(scaled, vectors()).code_scale == pytest.approx(scaled.code_scale)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), active=st.integers(1, 8), most=st.integers(1, 16))
def test_the_threshold_lets_through_as_many_as_asked_for(seed: int, active: int, most: int) -> None:
    activations = np.random.default_rng(seed).gamma(1.0, size=(50, 16)).astype(np.float32)
    threshold = calibrated_threshold(activations, active, most)
    largest = -np.sort(-activations, axis=1)[:, :most]
    assert abs(int((largest > threshold).sum()) - min(active * 50, largest.size)) <= 1


def test_the_threshold_is_never_negative_and_zero_when_few_latents_react() -> None:
    activations = np.zeros((10, 16), dtype=np.float32)
    activations[:, 3] = 1
    assert calibrated_threshold(activations, active=4, most_active=8) == 0


def test_an_item_has_no_latents_only_where_no_latent_reacts_to_it_at_all() -> None:
    _, dictionary = exported("batchtopk")
    drawn = np.random.default_rng(1).normal(size=(5000, vectors().shape[1])).astype(np.float32)
    quiet = replace(dictionary, encoder_bias=dictionary.encoder_bias - 2, threshold=100.0)
    reacts = (quiet.scaling.apply(drawn) @ quiet.encoder.T + quiet.encoder_bias > 0).any(axis=1)
    assert 0 < reacts.sum() < len(drawn)
    np.testing.assert_array_equal(np.diff(quiet.encode(drawn).indptr), reacts.astype(int))


@pytest.mark.parametrize("factor", [1e-30, 1e-6, 1e6, 1e30])
def test_unit_rows_are_the_same_however_long_rows_were(factor: float) -> None:
    scaled = (vectors().astype(np.float64) * factor).astype(np.float32)
    np.testing.assert_allclose(unit_rows(scaled), unit_rows(vectors()), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(unit_rows(scaled), axis=1), 1, atol=1e-6)


def test_more_items_than_one_chunk_are_encoded_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    _, dictionary = exported("batchtopk")
    whole = dictionary.encode(vectors(50))
    monkeypatch.setattr("saerec_ray.dictionary.sae._CHUNK", 7)
    parts = dictionary.encode(vectors(50))
    np.testing.assert_allclose(np.asarray(parts.todense()), np.asarray(whole.todense()), atol=1e-5)


def test_prefixes_of_a_matryoshka_dictionary_nest_and_end_with_the_whole() -> None:
    config = DictionaryConfig(kind="matryoshka", width=64, active=4, prefixes=[1 / 16, 1 / 4, 1.0])
    assert KINDS["matryoshka"].prefixes(config) == [4, 16, 64]
    assert KINDS["batchtopk"].prefixes(config) == [64]


def test_a_dictionary_and_its_codes_come_back_from_their_files_unchanged(tmp_path: Path) -> None:
    _, dictionary = exported("matryoshka")
    dictionary = with_scaled_codes(replace(dictionary, threshold=0.1 + 0.2), vectors())
    codes = dictionary.encode(vectors())
    write_dictionary(dictionary, tmp_path)
    write_codes(codes, tmp_path)
    read, read_back = read_dictionary(tmp_path), read_codes(tmp_path)
    for name, values in dictionary.arrays().items():
        np.testing.assert_array_equal(read.arrays()[name], values)
    assert read_back.shape == codes.shape
    np.testing.assert_array_equal(np.asarray(read_back.todense()), np.asarray(codes.todense()))
