"""A dictionary from elsewhere reads new items by its own rule, and is not trained on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from saerec_ray.dictionary.adoption import adopt_dictionary, recentred, unexplained_about_own_mean
from saerec_ray.dictionary.sae import Dictionary, Scaling, read_codes, read_dictionary, unit_rows
from saerec_ray.dictionary.stability import read_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError
from saerec_ray.text.embed import EMBEDDINGS_FILE

D, LATENTS, ITEMS = 12, 6, 80


def foreign() -> Dictionary:
    rng = np.random.default_rng(1)
    directions = unit_rows(rng.normal(size=(LATENTS, D)).astype(np.float32))
    return Dictionary(
        encoder=directions,
        encoder_bias=np.zeros(LATENTS, np.float32),
        decoder=directions,
        decoder_bias=np.zeros(D, np.float32),
        scaling=Scaling(rng.normal(scale=0.2, size=D).astype(np.float32), 3.0),
        threshold=0.3,
        most_active=4,
        code_scale=17.0,
    )


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    folder = tmp_path / "embed"
    folder.mkdir()
    vectors = unit_rows(np.random.default_rng(2).normal(size=(ITEMS, D)).astype(np.float32) + 0.5)
    save_file({"embeddings": vectors}, folder / EMBEDDINGS_FILE)
    return folder


def vectors_of(embedded: Path) -> np.ndarray:
    from saerec_ray.text.embed import load_embeddings

    return load_embeddings(embedded)


def test_the_weights_stay_and_only_the_scale_of_the_codes_is_set_anew(embedded: Path, tmp_path: Path) -> None:
    metrics = adopt_dictionary(
        DictionaryConfig(width=8, active=2, recentre=False), foreign(), embedded, tmp_path
    )
    taken, codes = read_dictionary(tmp_path), read_codes(tmp_path)
    for name in ("encoder", "encoder_bias", "decoder", "decoder_bias"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(foreign(), name))
    np.testing.assert_array_equal(taken.scaling.mean, foreign().scaling.mean)
    assert (taken.threshold, taken.most_active) == (0.3, 4)
    own = foreign().encode(vectors_of(embedded))
    np.testing.assert_allclose(
        codes.toarray(), own.toarray() * (taken.code_scale / foreign().code_scale), rtol=1e-5
    )
    assert np.square(codes.data).sum() / ITEMS == pytest.approx(1, rel=1e-4)
    assert metrics["items"] == ITEMS
    assert metrics["l0"] == codes.nnz / ITEMS
    assert metrics["dead_share"] == np.mean(np.bincount(codes.indices, minlength=LATENTS) == 0)
    assert metrics["fvu"] == pytest.approx(
        unexplained_about_own_mean(foreign(), vectors_of(embedded)), rel=1e-4
    )


def test_the_stability_of_its_latents_comes_along(embedded: Path, tmp_path: Path) -> None:
    config, values = DictionaryConfig(width=8, active=2), np.linspace(0, 1, LATENTS, dtype=np.float32)
    adopt_dictionary(config, foreign(), embedded, tmp_path)
    assert read_stability(tmp_path) is None
    adopt_dictionary(config, foreign(), embedded, tmp_path, values)
    read = read_stability(tmp_path)
    assert read is not None
    np.testing.assert_array_equal(read, values)


def test_centred_anew_the_mean_item_lies_at_the_origin(embedded: Path, tmp_path: Path) -> None:
    config = DictionaryConfig(width=8, active=2)
    adopt_dictionary(config, foreign(), embedded, tmp_path)
    taken, vectors = read_dictionary(tmp_path), vectors_of(embedded)
    np.testing.assert_allclose(taken.scaling.apply(vectors).mean(axis=0), 0, atol=1e-5)
    assert taken.scaling.factor == foreign().scaling.factor
    np.testing.assert_allclose(taken.scaling.mean, recentred(foreign(), vectors).scaling.mean)


def test_a_dictionary_that_was_trained_without_centring_is_not_centred_either(
    embedded: Path, tmp_path: Path
) -> None:
    plain = replace(foreign(), scaling=Scaling(np.zeros(D, np.float32), 3.0))
    adopt_dictionary(DictionaryConfig(width=8, active=2), plain, embedded, tmp_path)
    assert not read_dictionary(tmp_path).scaling.mean.any()


def test_vectors_of_another_length_are_refused_in_one_sentence(tmp_path: Path) -> None:
    save_file({"embeddings": np.eye(D + 1, dtype=np.float32)}, tmp_path / EMBEDDINGS_FILE)
    config = DictionaryConfig(width=8, active=2, source=Path("beauty"))
    with pytest.raises(InputError, match="beauty reads vectors of 12 numbers, but the texts here have 13"):
        adopt_dictionary(config, foreign(), tmp_path, tmp_path)


def test_unexplained_variance_is_the_formula(embedded: Path) -> None:
    vectors, dictionary = vectors_of(embedded), foreign()
    errors = ((vectors - dictionary.reconstruct(vectors)) ** 2).sum()
    spread = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    assert unexplained_about_own_mean(dictionary, vectors) == pytest.approx(errors / spread, rel=1e-4)
