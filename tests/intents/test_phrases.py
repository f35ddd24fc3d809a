"""Key phrases of an intent: how they are scored, and which of them are kept."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.intents.phrases import MIN_Z_SCORE, log_odds, order_phrases, shortlist_phrases
from saerec_ray.text.phrases import PhraseCounts


def unit(*rows: list[float]) -> np.ndarray:
    matrix = np.array(rows, dtype=np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def z_score(y: float, x: float, size_y: float, size_x: float, prior: float, total: float) -> float:
    """One phrase after Monroe, Colaresi and Quinn (2008), equations 16, 19 and 22, prior alpha of total alpha_0."""
    odds_y = math.log((y + prior) / (size_y + total - y - prior))
    odds_x = math.log((x + prior) / (size_x + total - x - prior))
    return (odds_y - odds_x) / math.sqrt(1 / (y + prior) + 1 / (x + prior))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_log_odds_are_the_published_formula_with_a_prior_of_500_background_phrases(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive, negative = rng.gamma(1.0, 5.0, (2, 3, 7)).astype(np.float32)
    background = rng.integers(1, 50, 7).astype(np.float32)
    prior = [500 * float(each) / float(background.sum()) + 0.001 for each in background]
    expected = [
        [
            z_score(
                positive[f, p], negative[f, p], positive[f].sum(), negative[f].sum(), prior[p], sum(prior)
            )
            for p in range(7)
        ]
        for f in range(3)
    ]
    np.testing.assert_allclose(log_odds(positive, negative, background), expected, rtol=2e-3, atol=2e-3)


def test_log_odds_change_sign_when_the_sides_change_places() -> None:
    rng = np.random.default_rng(1)
    positive, negative = rng.gamma(1.0, 5.0, (2, 2, 5)).astype(np.float32)
    background = positive.sum(axis=0) + negative.sum(axis=0)
    np.testing.assert_allclose(
        log_odds(positive, negative, background), -log_odds(negative, positive, background), atol=1e-4
    )


def counted(rows: list[list[int]], others: int = 2000) -> PhraseCounts:
    """The given phrases, and others spread evenly over the texts: the prior is meant for many phrases."""
    counts = np.zeros((len(rows), len(rows[0]) + others), dtype=np.float32)
    counts[:, : len(rows[0])] = rows
    places = np.arange(others)
    for copy in range(10):
        counts[(places + copy * len(rows) // 10) % len(rows), len(rows[0]) + places] = 1
    return PhraseCounts([f"p{place}" for place in range(counts.shape[1])], csr_array(counts))


def test_the_shortlist_has_the_significant_phrases_best_first() -> None:
    # p0 in all thirty positives, p1 in twenty of them and no negative, p2 in half of either side.
    rows = [[1, place < 20, place % 2] for place in range(30)] + [[0, 0, place % 2] for place in range(90)]
    positives = csr_array(np.r_[np.ones(30), np.zeros(90)][None].astype(np.float32))
    negatives = csr_array(np.r_[np.zeros(30), np.ones(90)][None].astype(np.float32))
    counts = counted(rows)
    chosen = shortlist_phrases(counts, positives, negatives)
    assert chosen == [[0, 1]]
    assert shortlist_phrases(counts, positives, negatives, size=1) == [[0]]
    background = np.asarray(counts.counts.sum(axis=0)).ravel()
    scores = log_odds(positives @ counts.counts.toarray(), negatives @ counts.counts.toarray(), background)[0]
    assert scores[1] > MIN_Z_SCORE > scores[2]


def test_one_item_alone_names_nothing_however_strongly_it_carries_the_latent() -> None:
    rows = [[1, 1]] + [[0, 1]] * 4 + [[0, 0]] * 45
    weights = np.array([4.0, 0.25, 0.25, 0.25, 0.25] + [0.0] * 45, dtype=np.float32)  # they sum to 5 items
    negatives = np.array([0.0] * 5 + [1.0] * 45, dtype=np.float32)
    chosen = shortlist_phrases(counted(rows), csr_array(weights[None]), csr_array(negatives[None]))
    assert chosen == [[1]]


def test_without_phrases_every_shortlist_is_empty() -> None:
    empty = PhraseCounts([], csr_array((3, 0), dtype=np.float32))
    weights = csr_array(np.ones((2, 3), dtype=np.float32))
    assert shortlist_phrases(empty, weights, weights) == [[], []]


def test_phrases_are_taken_by_closeness_to_the_direction() -> None:
    vectors = unit([1, 0.2], [1, 0.9], [1, 0.5])
    direction = np.array([1, 0], dtype=np.float32)
    assert order_phrases(vectors, direction, np.zeros(2, dtype=np.float32), 1) == [0]


def test_a_phrase_like_one_already_taken_comes_after_a_different_one() -> None:
    # The second is nearly the first; the third is a little further from the direction, on its other side.
    vectors = unit([1, 0.30, 0], [1, 0.31, 0], [1, -0.5, 0.3])
    direction = np.array([1, 0, 0], dtype=np.float32)
    assert order_phrases(vectors, direction, np.zeros(3, dtype=np.float32), 3) == [0, 2, 1]


def test_closeness_is_measured_from_the_mean_of_the_embeddings() -> None:
    mean = np.array([0.9, 0], dtype=np.float32)
    vectors = unit(
        [1, 1], [1, 0.3]
    )  # from the origin the first is closer to the direction, from the mean the second
    direction = np.array([0, 1], dtype=np.float32)
    assert order_phrases(vectors, direction, mean, 1) == [1]
    assert order_phrases(vectors, direction, 0 * mean, 1) == [0]


def test_a_phrase_less_than_half_as_close_as_the_closest_is_left_out() -> None:
    vectors = unit([1, 0], [0.3, 1])
    assert order_phrases(vectors, np.array([1, 0], dtype=np.float32), np.zeros(2, dtype=np.float32), 2) == [0]


def test_when_no_phrase_points_the_way_of_the_latent_none_is_taken() -> None:
    vectors = unit([-1, 0.1], [-1, 0.5])
    assert order_phrases(vectors, np.array([1, 0], dtype=np.float32), np.zeros(2, dtype=np.float32), 2) == []
