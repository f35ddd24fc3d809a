"""Verdicts on items: rates against counts by hand, and thresholds that are the best of all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.evaluation.verdicts import Rates, balanced_threshold, summary


def test_rates_are_those_of_counting() -> None:
    found = Rates.of(np.array([True, True, True, False]), np.array([True, False]))
    assert found.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found.f1 == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert Rates.of(np.array([False]), np.array([False])) == Rates(0.5, 0.0)


def test_the_summary_counts_labels_at_seven_tenths_as_good() -> None:
    found = summary([Rates(0.7, 0.6), Rates(0.69, 0.2), Rates(1.0, 1.0)])
    assert found["balanced_accuracy"] == pytest.approx(2.39 / 3)
    assert found["median"] == pytest.approx(0.7)
    assert found["good_share"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(0.6)


scores = st.lists(st.integers(-5, 5), min_size=1, max_size=12).map(lambda each: np.array(each, np.float32))


@given(positives=scores, negatives=scores)
def test_no_threshold_is_better_than_the_one_chosen(positives, negatives) -> None:  # type: ignore[no-untyped-def]
    def balanced(limit: float) -> float:
        return round(Rates.of(positives >= limit, negatives >= limit).balanced_accuracy, 9)

    chosen = balanced_threshold(positives, negatives)
    reached = [(balanced(limit), limit) for limit in range(-5, 6) if limit in {*positives, *negatives}]
    assert (balanced(chosen), chosen) == max(reached)
