"""Attribute values an intent coincides with: figures by hand, and few false ones among many tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control

from saerec_ray.intents import attributes
from saerec_ray.intents.attributes import AttributeValues, adjusted, auc_from_ranks, match_attributes


def values_of(colours: list[list[str]]) -> AttributeValues:
    return AttributeValues.collect([{"colour": each} for each in colours])


def column(*activations: float) -> csr_array:
    return csr_array(np.array(activations, dtype=np.float32)[:, None])


def everything(count: int) -> np.ndarray:
    return np.arange(count)


def test_only_values_that_enough_items_have_and_some_lack_are_tested() -> None:
    colours = [["all", "five"]] * 5 + [["all", "four"]] * 4 + [["all"]] * 3
    values = values_of(colours)
    assert values.names == [("colour", "five")]
    assert values.members.toarray().ravel().tolist() == [1.0] * 5 + [0.0] * 7


def test_a_value_listed_twice_for_an_item_counts_once() -> None:
    values = values_of([["red", "red"]] * 5 + [[]] * 5)
    assert values.members.sum() == 5


def test_lift_f1_auc_and_q_value_of_a_match_are_what_one_computes_by_hand() -> None:
    # 20 items, 8 red, 6 carry the latent; 5 of the 6 are red.
    colours = [["red"]] * 8 + [["blue"]] * 12
    activations = [0.9, 0.8, 0.7, 0.6, 0.5, 0, 0, 0] + [0.55] + [0] * 11
    match = match_attributes(values_of(colours), column(*activations), everything(20), 0.05)[0]
    assert match is not None
    assert (match.attribute, match.value) == ("colour", "red")
    assert match.lift == pytest.approx(5 / (6 * 8 / 20))
    assert match.f1 == pytest.approx(2 * 5 / (6 + 8))
    # Of 8 x 12 pairs: four reds beat all 12, one beats 11, three tie with 11 and lose against one.
    assert match.auc == pytest.approx((4 * 12 + 11 + 3 * 11 / 2) / 96)
    tail = (math.comb(8, 5) * math.comb(12, 1) + math.comb(8, 6)) / math.comb(20, 6)
    assert match.q_value == pytest.approx(2 * tail)  # the better of two tests, after Benjamini and Hochberg


def test_of_several_accepted_values_the_one_with_the_highest_f1_is_taken() -> None:
    both = [{"colour": ["red"], "shape": ["round"]}] * 8
    rows = [
        *both,
        *[{"colour": ["red"], "shape": ["square"]}] * 4,
        *[{"colour": ["blue"], "shape": ["square"]}] * 18,
    ]
    match = match_attributes(
        AttributeValues.collect(rows), column(*[1] * 8, *[0] * 22), everything(30), 0.05
    )[0]
    assert match is not None
    assert (match.value, match.f1) == ("round", 1.0)


def test_a_significant_value_that_coincides_too_little_is_no_match() -> None:
    # 20 of 200 items carry it, 15 of them among the 100 red ones: significant, yet F1 and AUC are low.
    colours = [["red"]] * 100 + [["blue"]] * 100
    activations = [1.0] * 15 + [0.0] * 85 + [1.0] * 3 + [0.0] * 97
    assert match_attributes(values_of(colours), column(*activations), everything(200), 0.05) == [None]


def test_a_high_auc_makes_up_for_a_low_f1() -> None:
    # A rare value at the top of a frequent latent.
    colours = [["red"]] * 6 + [["blue"]] * 294
    activations = [2.0] * 6 + [1.0] * 54 + [0.0] * 240
    match = match_attributes(values_of(colours), column(*activations), everything(300), 0.05)[0]
    assert match is not None
    assert match.value == "red"
    assert match.f1 < attributes.MIN_F1
    assert match.auc == 1.0


def test_items_that_are_not_given_decide_nothing() -> None:
    colours = [["red"]] * 20 + [["blue"]] * 20
    activations = [1.0] * 10 + [0.0] * 30
    hidden = np.r_[10:40]  # without the items that carry it
    assert match_attributes(values_of(colours), column(*activations), hidden, 0.05) == [None]


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 1.0]), max_size=30), st.integers(0, 20))
def test_q_values_are_those_of_all_tests_though_pairs_without_items_are_left_out(
    p_values: list[float], others: int
) -> None:
    known = np.array(p_values, dtype=np.float64)
    found = adjusted(known, len(known) + others)
    every = np.concatenate([known, np.ones(others)])
    assert found == pytest.approx(false_discovery_control(every)[: len(known)] if len(every) else every)


def test_without_attributes_nothing_matches() -> None:
    values = AttributeValues.collect([{}] * 10)
    assert (
        match_attributes(values, csr_array(np.ones((10, 3), dtype=np.float32)), everything(10), 0.05)
        == [None] * 3
    )


def random_catalogue(seed: int) -> tuple[AttributeValues, csr_array, np.ndarray]:
    """Six colours over 240 items; the first six latents follow one each, fourteen follow nothing."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(6, size=240)
    active = rng.random((240, 20)) < 0.15
    for each in range(6):
        active[:, each] = rng.random(240) < np.where(colour == each, 0.8, 0.03)
    codes = csr_array((active * rng.gamma(2.0, size=active.shape)).astype(np.float32))
    return values_of([[f"colour {each}"] for each in colour]), codes, colour


def test_shuffled_activations_rarely_give_any_significant_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is true, the false-discovery rate is the chance of any discovery: 5 of 100 catalogues."""
    monkeypatch.setattr(attributes, "MIN_F1", 0.0)  # significance alone decides
    with_discovery = 0
    for seed in range(100):
        values, codes, _ = random_catalogue(seed)
        shuffled = codes[np.random.default_rng(1000 + seed).permutation(240)]
        with_discovery += any(match_attributes(values, shuffled, everything(240), 0.05))
    assert with_discovery <= 10  # the binomial chance of more than 10 of 100 at 5% is about 1%


def test_among_true_ones_the_share_of_false_matches_stays_below_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attributes, "MIN_F1", 0.0)
    false_shares = []
    for seed in range(40):
        values, codes, _ = random_catalogue(seed)
        matches = match_attributes(values, codes, everything(240), 0.05)
        assert [match and match.value for match in matches[:6]] == [f"colour {each}" for each in range(6)]
        false = sum(match is not None for match in matches[6:])
        false_shares.append(false / (6 + false))
    assert np.mean(false_shares) <= 0.07


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.data())
@settings(max_examples=80)
def test_auc_is_the_share_of_pairs_in_which_the_positive_is_ahead(
    scores: list[int], data: st.DataObject
) -> None:
    from scipy.stats import rankdata

    count = data.draw(st.integers(1, len(scores) - 1))
    pairs = [(p, n) for p in scores[:count] for n in scores[count:]]
    expected = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)
    assert auc_from_ranks(rankdata(scores), np.arange(count)) == pytest.approx(expected)


@pytest.mark.parametrize("positives", [[], [0, 1, 2]])
def test_auc_without_positives_or_without_negatives_is_chance(positives: list[int]) -> None:
    assert auc_from_ranks(np.array([1.0, 2.0, 3.0]), np.array(positives, dtype=np.int64)) == 0.5
