"""Two dictionaries side by side: one row of latents, two spaces that know nothing of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.dictionary.concatenated import (
    Dictionaries,
    concatenated,
    read_arrays,
    read_dictionaries,
    spread,
    without_cooccurrence,
    write_cooccurrence,
)
from saerec_ray.dictionary.sae import DICTIONARY_FILE, Dictionary, Scaling, unit_rows, write_dictionary


def dictionary(latents: int, d: int, seed: int) -> Dictionary:
    rng = np.random.default_rng(seed)
    directions = unit_rows(rng.normal(size=(latents, d)).astype(np.float32))
    return Dictionary(
        encoder=directions,
        encoder_bias=np.zeros(latents, np.float32),
        decoder=directions,
        decoder_bias=np.zeros(d, np.float32),
        scaling=Scaling(np.zeros(d, np.float32), 1.0),
        threshold=0.1,
        most_active=2,
    )


TEXT, SECOND = dictionary(5, 7, 1), dictionary(3, 4, 2)
BOTH = Dictionaries(TEXT, SECOND)


def codes_of(items: int, latents: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ((rng.random((items, latents)) < 0.4) * rng.gamma(2, size=(items, latents))).astype(np.float32)


def test_directions_of_different_dictionaries_have_cosine_zero_and_the_others_stay() -> None:
    cosines = BOTH.decoder @ BOTH.decoder.T
    assert not cosines[:5, 5:].any()
    np.testing.assert_allclose(cosines[:5, :5], TEXT.decoder @ TEXT.decoder.T, atol=1e-6)
    np.testing.assert_allclose(cosines[5:, 5:], SECOND.decoder @ SECOND.decoder.T, atol=1e-6)
    assert BOTH.decoder.dtype == np.float32
    assert BOTH.width == len(BOTH.directions) == len(BOTH.decoder) == 8


def test_a_text_dictionary_alone_is_what_it_was() -> None:
    alone = Dictionaries(TEXT)
    assert alone.decoder is TEXT.decoder
    assert alone.width == 5


def test_both_come_back_from_a_folder_and_the_text_dictionary_keeps_its_names(tmp_path: Path) -> None:
    write_dictionary(TEXT, tmp_path)
    assert read_dictionaries(tmp_path).cooccurrence is None
    before, alone = (tmp_path / DICTIONARY_FILE).read_bytes(), read_arrays(tmp_path)
    write_cooccurrence(SECOND, tmp_path)
    assert (tmp_path / DICTIONARY_FILE).read_bytes() == before
    together = read_arrays(tmp_path)
    for name, values in alone.items():
        np.testing.assert_array_equal(together[name], values)
    read = read_dictionaries(tmp_path)
    assert read.cooccurrence is not None
    np.testing.assert_array_equal(read.text.encoder, TEXT.encoder)
    np.testing.assert_array_equal(read.cooccurrence.encoder, SECOND.encoder)
    assert read.cooccurrence.most_active == 2


@given(st.integers(1, 9), st.integers(0, 99), st.data())
def test_codes_go_to_their_items_and_no_others(items: int, seed: int, data: st.DataObject) -> None:
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, items - 1), min_size=1))), dtype=np.int64)
    some = codes_of(len(rows), 4, seed)
    everything = spread(csr_array(some), rows, items).toarray()
    np.testing.assert_array_equal(everything[rows], some)
    assert not np.delete(everything, rows, axis=0).any()


@given(st.integers(1, 9), st.integers(0, 99), st.data())
def test_marked_items_keep_the_codes_of_their_texts_alone(items: int, seed: int, data: st.DataObject) -> None:
    marked = np.array(data.draw(st.lists(st.booleans(), min_size=items, max_size=items)))
    text, second = codes_of(items, 5, seed), codes_of(items, 3, seed + 1)
    codes = concatenated(csr_array(text), csr_array(second))
    np.testing.assert_array_equal(codes.toarray(), np.hstack([text, second]))
    left = without_cooccurrence(codes, BOTH, marked).toarray()
    np.testing.assert_array_equal(left[:, :5], text)
    np.testing.assert_array_equal(left[:, 5:], np.where(marked[:, None], 0, second))
