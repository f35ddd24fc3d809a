"""Probes find an attribute in the features that have it, and nothing in the features of other items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.metrics import f1_score as reference_f1
from sklearn.metrics import roc_auc_score

from saerec_ray.evaluation.probing import (
    MIN_ON_A_SIDE,
    MIN_POSITIVES,
    Attributes,
    Split,
    dense_probes,
    f1_score,
    f1_threshold,
    fit_probe,
    mean_differences,
    probed_attributes,
    probing_report,
    sparse_probes,
)
from tests.evaluation.planted_dictionary import ITEMS, TOPICS, plant

PLANTED = plant()
SPLIT = Split(np.arange(0, 400), np.arange(400, ITEMS))
CODES = PLANTED.dictionary.encode(PLANTED.vectors)
OTHERS = CODES[np.random.default_rng(5).permutation(ITEMS)]


def attributes(count: int = 6) -> Attributes:
    return probed_attributes(PLANTED.items.attributes, SPLIT, count, seed=1)


def nothing() -> None:
    return None


def test_only_values_with_enough_items_on_both_sides_are_probed_for() -> None:
    rows: list[dict[str, list[str]]] = [{"brand": []} for _ in range(ITEMS)]
    for item in range(MIN_POSITIVES):
        rows[12 * item]["brand"].append("enough")
        rows[item]["brand"].append("in training alone")
    for item in range(MIN_POSITIVES - 1):
        rows[12 * item + 1]["brand"].append("too few")
    for item in range(ITEMS - 20):
        rows[item]["brand"].append("nearly all")
    found = probed_attributes(rows, SPLIT, 10, seed=0)
    assert found.names == [("brand", "enough")]
    assert found.possible == 1
    assert found.members.sum() == MIN_POSITIVES
    assert found.members[SPLIT.test].sum() >= MIN_ON_A_SIDE


def test_a_bounded_number_of_values_is_drawn_by_the_seed() -> None:
    assert attributes(6).possible == TOPICS
    assert len(attributes(6)) == 6
    assert attributes(6).names == attributes(6).names
    other = probed_attributes(PLANTED.items.attributes, SPLIT, 6, seed=2)
    assert other.names != attributes(6).names
    topic = int(attributes(6).names[0][1].removeprefix("topic"))
    np.testing.assert_array_equal(attributes(6).members[:, 0], PLANTED.present[:, topic])


def test_differences_are_those_of_the_means_in_deviations_for_dense_and_sparse_features() -> None:
    dense = CODES.toarray()
    dense[:, 3] = 0
    members = attributes().members
    train = dense[SPLIT.train].astype(np.float64)
    for value in range(members.shape[1]):
        inside = members[SPLIT.train, value]
        gap = np.abs(train[inside].mean(axis=0) - train[~inside].mean(axis=0))
        deviation = train.std(axis=0)
        expected = np.divide(gap, deviation, out=np.zeros_like(gap), where=deviation > 0)
        for features in (dense, csr_array(dense)):
            found = mean_differences(features, members, SPLIT.train)[value]
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_unit_of_a_feature_does_not_decide_which_is_chosen() -> None:
    scaled = CODES.toarray() * np.logspace(-3, 3, TOPICS).astype(np.float32)
    ours = mean_differences(CODES.toarray(), attributes().members, SPLIT.train).argmax(axis=1)
    theirs = mean_differences(scaled, attributes().members, SPLIT.train).argmax(axis=1)
    np.testing.assert_array_equal(ours, theirs)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_threshold_has_the_best_f1_of_all(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=np.float64)
    positive = np.array([each for _, each in pairs])
    chosen = f1_score(scores >= f1_threshold(scores, positive), positive)
    assert chosen == pytest.approx(max(f1_score(scores >= each, positive) for each in scores))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_f1_is_that_of_the_reference(pairs: list[tuple[bool, bool]]) -> None:
    called, positive = (np.array(each) for each in zip(*pairs, strict=True))
    assert f1_score(called, positive) == pytest.approx(reference_f1(positive, called, zero_division=0))


def test_a_probe_is_measured_on_the_items_it_did_not_learn_from() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(ITEMS) < 0.3
    columns = (positive[:, None] * 1.0 + rng.normal(size=(ITEMS, 3))).astype(np.float32)
    probe = fit_probe(columns, positive, SPLIT)
    scores = columns[SPLIT.test] @ probe.weights
    assert probe.auc == pytest.approx(roc_auc_score(positive[SPLIT.test], scores), abs=1e-6)


def test_a_probe_cannot_learn_from_the_items_it_is_measured_on() -> None:
    """A hundred columns of noise: a probe that saw the test items would tell them by heart."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(ITEMS, 100)).astype(np.float32)
    probe = fit_probe(noise, rng.random(ITEMS) < 0.4, SPLIT)
    assert probe.auc == pytest.approx(0.5, abs=0.12)


def test_the_planted_dictionary_tells_every_attribute_by_one_latent_and_the_controls_do_not() -> None:
    probed = attributes()
    own = sparse_probes(CODES, probed, SPLIT, nothing)
    assert own["1"]["auc"] == pytest.approx(1)
    assert own["1"]["f1"] > 0.98, "a weaker positive than any in training may be missed"
    shuffled = sparse_probes(OTHERS, probed, SPLIT, nothing)
    assert shuffled["1"]["auc"] == pytest.approx(0.5, abs=0.08)
    assert shuffled["5"]["auc"] == pytest.approx(0.5, abs=0.08)
    raw = sparse_probes(PLANTED.vectors, probed, SPLIT, nothing)
    assert shuffled["1"]["auc"] < raw["1"]["auc"] < 0.95
    assert raw["1"]["auc"] < raw["2"]["auc"] < raw["5"]["auc"] < 1


def test_the_report_has_every_coding_beside_the_bound_and_ticks_for_each_fit() -> None:
    probed, ticks = attributes(3), []
    dense = dense_probes(PLANTED.vectors, probed, SPLIT, lambda: ticks.append("dense"))
    found = probing_report(
        {"dictionary": CODES, "permuted": OTHERS}, dense, probed, SPLIT, lambda: ticks.append("sparse")
    )
    assert found["dense"]["auc"] > 0.99
    assert found["gap"] == pytest.approx(found["dense"]["auc"] - found["codings"]["dictionary"]["5"]["auc"])
    assert found["gap"] < 0.01
    assert (found["attributes"], found["of_attributes"]) == (3, TOPICS)
    assert (ticks.count("dense"), ticks.count("sparse")) == (3, 6)
