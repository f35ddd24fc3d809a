"""The judge: which items it is shown, and that only a true label does better than chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.intents.detection import (
    MIN_POSITIVES,
    NEGATIVES,
    POSITIVES,
    Examples,
    draw_examples,
    judge,
    split_halves,
)
from tests.intents.planted import TOPICS, encode, plant


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_vectors(items: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(items, 24)))


@pytest.mark.parametrize("items", [1, 2, 7, 100])
def test_every_item_is_in_one_half_and_the_halves_are_of_equal_size(items: int) -> None:
    first, second = split_halves(items, seed=3)
    assert sorted([*first, *second]) == list(range(items))
    assert abs(len(first) - len(second)) <= 1


def test_another_seed_gives_other_halves_and_the_same_seed_the_same() -> None:
    first = split_halves(100, seed=3)[0]
    assert first.tolist() == split_halves(100, seed=3)[0].tolist()
    assert first.tolist() != split_halves(100, seed=4)[0].tolist()


def test_positives_come_in_equal_numbers_from_every_tenth_of_the_activations() -> None:
    activations = (
        np.random.default_rng(1).permutation(np.r_[np.arange(1, 201), np.zeros(300)]).astype(np.float32)
    )
    (examples,) = draw_examples(csr_array(activations[:, None]), random_vectors(500), np.arange(500), seed=0)
    tenths = ((activations[examples.positives] - 1) // 20).tolist()
    assert [tenths.count(tenth) for tenth in range(10)] == [5] * 10
    assert len(set(examples.positives)) == POSITIVES


def test_with_few_carriers_all_of_them_are_positives() -> None:
    activations = np.r_[np.ones(7), np.zeros(93)].astype(np.float32)
    (examples,) = draw_examples(csr_array(activations[:, None]), random_vectors(100), np.arange(100), seed=0)
    assert sorted(examples.positives) == list(range(7))


def test_half_of_the_negatives_are_the_nearest_items_that_do_not_carry_it() -> None:
    vectors = random_vectors(400)
    activations = np.r_[np.ones(60), np.zeros(340)].astype(np.float32)
    (examples,) = draw_examples(csr_array(activations[:, None]), vectors, np.arange(400), seed=0)
    centre = vectors[:60].mean(axis=0)
    nearest = 60 + np.argsort(-(vectors[60:] @ centre))[: NEGATIVES // 2]
    assert set(nearest) <= set(examples.negatives)
    assert len(set(examples.negatives)) == NEGATIVES
    assert not set(examples.negatives) & set(range(60))


def test_examples_are_items_of_the_given_half_alone() -> None:
    codes = csr_array((np.random.default_rng(0).random((300, 4)) < 0.3).astype(np.float32))
    half = split_halves(300, seed=1)[1]
    drawn = draw_examples(codes, random_vectors(300), half, seed=0)
    assert len(drawn) == 4
    for examples in drawn:
        assert examples.judgeable
        assert set(examples.positives) | set(examples.negatives) <= set(half)


@pytest.mark.parametrize("carriers", [0, 1, 4, 99, 100])
def test_too_few_on_either_side_cannot_be_judged(carriers: int) -> None:
    activations = np.r_[np.ones(carriers), np.zeros(100 - carriers)].astype(np.float32)
    (examples,) = draw_examples(csr_array(activations[:, None]), random_vectors(100), np.arange(100), seed=0)
    assert not examples.judgeable


def test_as_few_as_the_least_number_can_be_judged() -> None:
    activations = np.r_[np.ones(MIN_POSITIVES), np.zeros(95)].astype(np.float32)
    (examples,) = draw_examples(csr_array(activations[:, None]), random_vectors(100), np.arange(100), seed=0)
    assert examples.judgeable


def test_the_score_of_a_label_is_the_share_of_pairs_it_ranks_rightly() -> None:
    vectors = unit(np.array([[1, 0], [1, 1], [1, 0.5], [0, 1]]))
    examples = Examples(np.array([0, 1]), np.array([2, 3]))
    label = np.array([1, 0], dtype=np.float32)  # ranks items 0, 2, 1, 3: three of four pairs are right
    assert judge(label, examples, vectors) == 0.75
    assert judge(-label, examples, vectors) == 0.25


def test_random_labels_score_about_one_half() -> None:
    rng = np.random.default_rng(0)
    codes = csr_array((rng.random((600, 30)) < 0.2).astype(np.float32))
    vectors = random_vectors(600)
    drawn = draw_examples(codes, vectors, np.arange(600), seed=0)
    labels = unit(rng.normal(size=(20, 24)))
    scores = [judge(label, examples, vectors) for examples in drawn for label in labels]
    # Hard negatives are near the positives' mean, random labels know nothing of it: no side is favoured.
    assert np.mean(scores) == pytest.approx(0.5, abs=0.02)


def test_a_true_name_scores_high_and_the_names_of_other_topics_do_not() -> None:
    planted = plant()
    drawn = draw_examples(planted.codes, planted.embeddings, split_halves(len(planted.items), 0)[1], seed=0)
    names = encode(list(TOPICS))
    scores = np.array(
        [[judge(name, drawn[topic], planted.embeddings) for name in names] for topic in range(6)]
    )
    own = np.eye(6, dtype=bool)
    assert scores[own].min() > 0.9
    assert scores[~own].mean() < 0.6
