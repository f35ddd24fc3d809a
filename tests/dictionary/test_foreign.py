"""Items of another domain get the latents that the run would have given them, and nothing it could not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array, hstack

from saerec_ray.dictionary.adoption import recentred
from saerec_ray.dictionary.attributes import AttributeValue, attribute_codes
from saerec_ray.dictionary.concatenated import Dictionaries
from saerec_ray.dictionary.followed_phrases import PHRASE, followed_phrases, with_phrases
from saerec_ray.dictionary.foreign import ForeignReader, learnt_alone
from saerec_ray.dictionary.sae import Scaling
from saerec_ray.dictionary_settings import AttributesConfig, FollowedPhrasesConfig
from saerec_ray.errors import InputError
from tests.backbone.small_sets import Parts, sequences_of
from tests.synthetic import plain_dictionary
from tests.two_shops import TOYS

LENGTH, TEXT_LATENTS, TOGETHER = 24, 10, 4
RNG = np.random.default_rng(0)
NOT_CENTRED = plain_dictionary(RNG.normal(size=(TEXT_LATENTS, LENGTH)).astype(np.float32))
TEXT = replace(NOT_CENTRED, scaling=Scaling(RNG.normal(scale=0.05, size=LENGTH).astype(np.float32), 1.0))
SECOND = plain_dictionary(RNG.normal(size=(TOGETHER, 6)).astype(np.float32))
VECTORS = RNG.normal(size=(len(TOYS), LENGTH)).astype(np.float32)
TEXTS = [title for title, _ in TOYS]
BRANDS = [{"brand": [brand]} for _, brand in TOYS]
SETTINGS = AttributesConfig(
    weight=0.7,
    max_share=0.6,
    phrases=FollowedPhrasesConfig(min_items=3, max_share=0.4, min_lift=1.5, most_an_item=2),
)


def fans() -> list[Parts]:
    """Users who stay with one series of twelve toys."""
    rng = np.random.default_rng(5)
    walks = [(user % 4 * 12 + rng.permutation(12)[:8]).tolist() for user in range(120)]
    return [(walk[:6], walk[6:7], walk[7:]) for walk in walks]


@pytest.fixture(scope="module")
def phrases() -> list[str]:
    assert SETTINGS.phrases is not None
    return followed_phrases(SETTINGS.phrases, TEXTS, BRANDS, sequences_of(fans()))


@pytest.fixture(scope="module")
def home(phrases: list[str]) -> tuple[ForeignReader, csr_array]:
    """The reader of a run on the toys, and the codes that the run has for them, without co-occurrence."""
    values, exact = attribute_codes(SETTINGS, with_phrases(phrases, 2, TEXTS, BRANDS))
    nothing = csr_array((len(TOYS), TOGETHER), dtype=np.float32)
    own = csr_array(hstack([TEXT.encode(VECTORS), nothing, exact], format="csr"))
    return ForeignReader(Dictionaries(TEXT, SECOND, tuple(values)), 0.7, phrases, 2), own


def test_the_items_of_the_run_read_as_foreign_ones_get_the_codes_of_the_run(
    home: tuple[ForeignReader, csr_array],
) -> None:
    reader, own = home
    read = reader.codes(VECTORS, TEXTS, BRANDS, recentre=False)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read.toarray(), own.toarray())
    assert own[:, TEXT_LATENTS + TOGETHER :].nnz > 2 * len(TOYS), "or the test would say little"


def test_only_values_and_phrases_that_the_run_has_count_and_they_share_the_weight(
    home: tuple[ForeignReader, csr_array],
) -> None:
    reader, _ = home
    values = reader.dictionaries.attributes
    texts = ["a HELLO kitty mug", "a mug", "nothing of all this"]
    fields = [{"brand": ["Acme", "Unheard of"]}, {"maker": ["Acme"]}, {"brand": ["acme"]}]
    vectors = RNG.normal(size=(3, LENGTH)).astype(np.float32)
    exact = reader.codes(vectors, texts, fields, recentre=False)[:, reader.dictionaries.learnt :].toarray()
    carried = [{values[place] for place in np.flatnonzero(row)} for row in exact]
    assert carried[1:] == [set(), set()], "another field or another spelling is another value"
    assert AttributeValue("brand", "Acme") in carried[0]
    assert {value.attribute for value in carried[0]} == {"brand", PHRASE}
    np.testing.assert_allclose(exact[0][exact[0] > 0], 0.7 / np.sqrt(len(carried[0])), rtol=1e-6)


def test_nobody_took_a_foreign_item_with_one_of_the_run(home: tuple[ForeignReader, csr_array]) -> None:
    reader, _ = home
    read = reader.codes(VECTORS, TEXTS, BRANDS, recentre=True)
    assert read[:, TEXT_LATENTS : TEXT_LATENTS + TOGETHER].nnz == 0


def test_the_centre_is_that_of_the_foreign_texts_or_of_the_run_and_attributes_do_not_mind(
    home: tuple[ForeignReader, csr_array],
) -> None:
    reader, own = home
    moved = VECTORS + 3
    centred = reader.codes(moved, TEXTS, BRANDS, recentre=True)
    kept = reader.codes(moved, TEXTS, BRANDS, recentre=False)
    expected = recentred(TEXT, moved).encode(moved)
    np.testing.assert_array_equal(centred[:, :TEXT_LATENTS].toarray(), expected.toarray())
    np.testing.assert_array_equal(kept[:, :TEXT_LATENTS].toarray(), TEXT.encode(moved).toarray())
    assert abs(centred - kept).max() > 0.1
    for read in (centred, kept):
        np.testing.assert_array_equal(read[:, TEXT_LATENTS:].toarray(), own[:, TEXT_LATENTS:].toarray())


def test_a_dictionary_that_was_trained_without_centring_reads_foreign_texts_so_too() -> None:
    reader = ForeignReader(Dictionaries(NOT_CENTRED))
    read = reader.codes(VECTORS + 3, TEXTS, BRANDS, recentre=True)
    np.testing.assert_array_equal(read.toarray(), NOT_CENTRED.encode(VECTORS + 3).toarray())


def test_of_the_phrases_of_a_text_the_surest_count_even_where_they_have_no_latent(
    home: tuple[ForeignReader, csr_array], phrases: list[str]
) -> None:
    reader, _ = home
    text = "; ".join(phrases)
    held = with_phrases(phrases, 2, [text], [{}])
    assert held == [{PHRASE: phrases[:2]}]
    dictionaries = replace(
        reader.dictionaries, attributes=tuple(AttributeValue(PHRASE, each) for each in sorted(phrases[1:]))
    )
    narrow = replace(reader, dictionaries=dictionaries)
    read = narrow.codes(VECTORS[:1], [text], [{}], recentre=False)
    exact = read[:, dictionaries.learnt :].toarray()[0]
    assert [dictionaries.attributes[place].value for place in np.flatnonzero(exact)] == [phrases[1]]


def test_a_run_without_attributes_reads_texts_alone() -> None:
    read = ForeignReader(Dictionaries(TEXT)).codes(VECTORS, TEXTS, BRANDS, recentre=False)
    np.testing.assert_array_equal(read.toarray(), TEXT.encode(VECTORS).toarray())


def test_learnt_latents_alone_are_the_code_without_the_rest(home: tuple[ForeignReader, csr_array]) -> None:
    reader, own = home
    alone = learnt_alone(own, reader.dictionaries)
    assert alone.shape == own.shape
    learnt = reader.dictionaries.learnt
    np.testing.assert_array_equal(alone[:, :learnt].toarray(), own[:, :learnt].toarray())
    assert alone[:, learnt:].nnz == 0


def test_vectors_of_another_length_are_refused(home: tuple[ForeignReader, csr_array]) -> None:
    reader, _ = home
    with pytest.raises(InputError, match=r"reads vectors of 24 numbers.* have 7; embed them with"):
        reader.codes(np.ones((2, 7), np.float32), ["a", "b"], [{}, {}], recentre=True)
