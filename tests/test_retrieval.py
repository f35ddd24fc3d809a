"""Candidates with a certificate: when it says exact, the list is the one over the whole catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.bundle import Bundle
from saerec_ray.retrieval import Listing, Query, Retriever
from saerec_ray.scoring import Adjustment, Floats, ItemSpace, Mode, companion_strengths, intent_values
from tests.synthetic import load_synthetic_bundle

ITEMS = 300
ALONE = csr_array((1, ITEMS), dtype=np.float32)
"""c_u of a user whose history has no companions."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_synthetic_bundle(tmp_path_factory.mktemp("retrieval") / "bundle")


@pytest.fixture(scope="module")
def whole(bundle: Bundle) -> Retriever:
    return Retriever(bundle.space, bundle.steering)


@pytest.fixture(scope="module")
def pooled(bundle: Bundle) -> Retriever:
    return Retriever(bundle.space, bundle.steering, exact_limit=0, pool_size=8, posting_size=4)


@st.composite
def queries(draw: st.DrawFn, space: ItemSpace) -> Query:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 0.3, 1.0, 4.0]))
    state = (scale * rng.normal(size=space.residuals.shape[1])).astype(np.float32)
    prior = (rng.random(space.intent_count) * (rng.random(space.intent_count) < 0.1)).astype(np.float32)
    modes = draw(st.lists(st.sampled_from(list(Mode)), max_size=3))
    chosen = rng.permutation(space.intent_count)
    return Query(
        state=state,
        prior=prior,
        values=intent_values(space, state[None], prior[None])[0],
        adjustments=[
            Adjustment(int(chosen[place]), mode, float(rng.uniform(0.05, 1)))
            for place, mode in enumerate(modes)
        ],
        eligible=rng.random(space.item_count) < draw(st.sampled_from([1.0, 0.8, 0.2, 0.05])),
        count=draw(st.sampled_from([1, 5, 20])),
        companions=companion_strengths(space, [rng.permutation(space.item_count)[: rng.integers(0, 9)]]),
    )


@settings(max_examples=400)
@given(data=st.data())
def test_a_list_certified_exact_equals_the_list_over_the_whole_catalogue(
    bundle: Bundle, whole: Retriever, pooled: Retriever, data: st.DataObject
) -> None:
    query = data.draw(queries(bundle.space))
    found, expected = pooled.rank(query), whole.rank(query)
    assert expected.exact
    if found.exact:
        _assert_same(found, expected)


def test_the_certificate_is_granted_for_a_good_share_of_queries_and_refused_for_some(
    bundle: Bundle, pooled: Retriever
) -> None:
    rng = np.random.default_rng(3)
    granted = []
    for _ in range(200):
        state = rng.normal(scale=0.1, size=bundle.space.residuals.shape[1]).astype(np.float32)
        prior = (
            rng.random(bundle.space.intent_count) * (rng.random(bundle.space.intent_count) < 0.1)
        ).astype(np.float32)
        values = intent_values(bundle.space, state[None], prior[None])[0]
        boost = Adjustment(int(rng.integers(bundle.space.intent_count)), Mode.BOOST, 1.0)
        everything = np.ones(bundle.space.item_count, dtype=bool)
        granted.append(pooled.rank(Query(state, prior, values, [boost], everything, 3, ALONE)).exact)
    assert 0.2 < np.mean(granted) < 1


def test_a_boost_reaches_items_that_the_dense_candidates_miss(bundle: Bundle) -> None:
    # Item 80 is the only carrier of intent 3 and far below the dense candidates.
    space = bundle.space
    codes = np.zeros((space.item_count, space.intent_count), dtype=np.float32)
    codes[80, 3] = 1.0
    falling = ItemSpace(
        codes=csr_array(codes),
        intent_vectors=np.zeros_like(space.intent_vectors),
        residuals=np.zeros_like(space.residuals),
        biases=np.linspace(1.0, 0.0, space.item_count, dtype=np.float32),
        popularity=space.popularity,
        prior_weight=0.0,
    )
    pooled = Retriever(falling, bundle.steering, exact_limit=0, pool_size=10, posting_size=5)
    nothing = np.zeros(space.intent_count, dtype=np.float32)
    state = np.zeros(space.residuals.shape[1], dtype=np.float32)
    everything = np.ones(space.item_count, dtype=bool)
    boost = [Adjustment(3, Mode.BOOST, 1.0)]
    found = pooled.rank(Query(state, nothing, nothing, boost, everything, 5))
    assert found.items.tolist() == [80, 0, 1, 2, 3]
    assert found.exact


def test_filters_act_inside_the_search_not_after_it(bundle: Bundle, pooled: Retriever) -> None:
    rng = np.random.default_rng(5)
    state = rng.normal(size=bundle.space.residuals.shape[1]).astype(np.float32)
    prior = np.zeros(bundle.space.intent_count, dtype=np.float32)
    values = intent_values(bundle.space, state[None], prior[None])[0]
    everything = np.ones(bundle.space.item_count, dtype=bool)
    best = pooled.rank(Query(state, prior, values, [], everything, 100, ALONE)).items
    everything[best] = False
    listed = pooled.rank(Query(state, prior, values, [], everything, 100, ALONE)).items
    assert len(listed) == 100
    assert not np.isin(listed, best).any()


def test_no_eligible_item_gives_an_empty_list(bundle: Bundle, whole: Retriever, pooled: Retriever) -> None:
    nothing = np.zeros(bundle.space.intent_count, dtype=np.float32)
    state = np.zeros(bundle.space.residuals.shape[1], dtype=np.float32)
    nobody = np.zeros(bundle.space.item_count, dtype=bool)
    for retriever in (whole, pooled):
        listing = retriever.rank(Query(state, nothing, nothing, [], nobody, 10, ALONE))
        assert len(listing.items) == 0
        assert listing.exact


def _assert_same(found: Listing, expected: Listing) -> None:
    """The same scores, and the same items where scores differ by more than rounding."""
    assert len(found.items) == len(expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
    scores: Floats = expected.scores
    for place in np.flatnonzero(found.items != expected.items):
        near = np.delete(scores, place)
        assert (np.abs(near - scores[place]) < 1e-4).any() or place == len(scores) - 1
