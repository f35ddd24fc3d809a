"""What steering promises, for any user, any adjustments and any filter."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.bundle import Bundle
from saerec_ray.scoring import (
    SHIFT_LIMIT,
    TOTAL_SHIFT_LIMIT,
    Adjustment,
    Floats,
    Indices,
    Mode,
    apply_shifts,
    decompose,
    excluded_items,
    exposure,
    score_spread,
    shifts,
    top_items,
)
from saerec_server.ranking import Ranker
from tests.property.steering_cases import (
    adjustment_lists,
    histories,
    intents,
    masks,
    scores_of,
    strengths,
)

laws = settings(max_examples=120)
ROUNDING = 1e-5


@laws
@given(data=st.data())
def test_no_adjustment_changes_no_bit(bundle: Bundle, ranker: Ranker, data: st.DataObject) -> None:
    user = ranker.user(data.draw(histories(bundle)))
    scores = scores_of(ranker, user)
    steered = apply_shifts(scores, shifts(bundle.space, bundle.steering, scores, user.values, []))
    assert steered.tobytes() == scores.tobytes()


@laws
@given(data=st.data())
def test_the_order_of_adjustments_changes_no_bit(bundle: Bundle, ranker: Ranker, data: st.DataObject) -> None:
    user = ranker.user(data.draw(histories(bundle)))
    scores = scores_of(ranker, user)
    edits = data.draw(adjustment_lists(bundle))
    shuffled = data.draw(st.permutations(edits))
    one, other = (
        apply_shifts(scores, shifts(bundle.space, bundle.steering, scores, user.values, order))
        for order in (edits, shuffled)
    )
    assert one.tobytes() == other.tobytes()


@laws
@given(data=st.data())
def test_exposure_of_a_boosted_intent_never_falls_as_strength_rises(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    target = data.draw(intents(bundle))
    others = [edit for edit in data.draw(adjustment_lists(bundle, 5)) if edit.intent != target]
    others = _without_one_limited(others)
    weak, strong = sorted(data.draw(st.tuples(strengths, strengths)))
    count = data.draw(st.sampled_from([1, 5, 20]))
    mask = data.draw(masks(bundle))
    mask[excluded_items(bundle.space, others)] = False
    user = ranker.user(data.draw(histories(bundle)))
    lists, scores = [], []
    for strength in (weak, strong):
        edits = [*others, Adjustment(target, Mode.BOOST, strength)]
        steered = _steered(bundle, ranker, user, edits, mask)
        scores.append(steered)
        lists.append(top_items(steered, count))
    if _tied(bundle, target, lists, scores):
        return
    before, after = (exposure(bundle.space, target, items) for items in lists)
    assert after >= before - 1e-6 * max(1.0, before)


@laws
@given(data=st.data())
def test_exposure_of_an_avoided_or_suppressed_intent_never_rises_as_strength_rises(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    target = data.draw(intents(bundle))
    mode = data.draw(st.sampled_from([Mode.AVOID, Mode.SUPPRESS]))
    weak, strong = sorted(data.draw(st.tuples(strengths, strengths)))
    mask = data.draw(masks(bundle))
    user = ranker.user(data.draw(histories(bundle)))
    scores = [
        _steered(bundle, ranker, user, [Adjustment(target, mode, strength)], mask)
        for strength in (strong, weak)
    ]
    lists = [top_items(each, 20) for each in scores]
    if _tied(bundle, target, lists, scores):
        return
    after, before = (exposure(bundle.space, target, items) for items in lists)
    assert after <= before + 1e-6 * max(1.0, before)


@laws
@given(data=st.data())
def test_suppress_at_full_strength_leaves_exactly_nothing_of_a_positive_contribution(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    user = ranker.user(data.draw(histories(bundle)))
    scores = scores_of(ranker, user)
    item = data.draw(st.integers(0, len(bundle.items) - 1))
    carried, _ = bundle.space.code(item)
    if len(carried) == 0:
        return
    intent = int(data.draw(st.sampled_from(carried.tolist())))
    edit = Adjustment(intent, Mode.SUPPRESS, 1.0)
    (shift,) = shifts(bundle.space, bundle.steering, scores, user.values, [edit])
    parts = decompose(bundle.space, user.state, user.values, item, user.companions)
    contribution = parts.contributions[parts.intents == intent][0]
    change = shift.changes[shift.items == item][0]
    assert contribution + change == min(contribution, 0)


@laws
@given(data=st.data())
def test_no_score_moves_further_than_the_limits(bundle: Bundle, ranker: Ranker, data: st.DataObject) -> None:
    user = ranker.user(data.draw(histories(bundle)))
    scores = scores_of(ranker, user)
    edits = data.draw(adjustment_lists(bundle))
    spread = score_spread(scores)
    moved = np.zeros_like(scores)
    limited = 0
    for shift in shifts(bundle.space, bundle.steering, scores, user.values, edits):
        if shift.adjustment.mode is Mode.SUPPRESS:
            _, loadings = bundle.space.carriers(shift.adjustment.intent)
            most = max(float(user.values[shift.adjustment.intent]), 0.0) * loadings
            assert (np.abs(shift.changes) <= most + ROUNDING * spread).all()
        else:
            limited += 1
            assert np.abs(shift.changes).max(initial=0) <= SHIFT_LIMIT * spread * (1 + ROUNDING)
            moved[shift.items] += shift.changes
    assert np.abs(moved).max() <= limited * SHIFT_LIMIT * spread * (1 + ROUNDING)
    assert np.abs(moved).max() <= TOTAL_SHIFT_LIMIT * spread * (1 + ROUNDING)


@laws
@given(data=st.data())
def test_an_adjustment_acts_the_same_alone_and_in_company(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    user = ranker.user(data.draw(histories(bundle)))
    scores = scores_of(ranker, user)
    edits = data.draw(adjustment_lists(bundle))
    together = shifts(bundle.space, bundle.steering, scores, user.values, edits)
    for shift in together:
        (alone,) = shifts(bundle.space, bundle.steering, scores, user.values, [shift.adjustment])
        assert alone.changes.tobytes() == shift.changes.tobytes()


@laws
@given(data=st.data())
def test_an_excluded_intent_never_appears(bundle: Bundle, ranker: Ranker, data: st.DataObject) -> None:
    user = ranker.user(data.draw(histories(bundle, min_size=0)))
    edits = data.draw(adjustment_lists(bundle))
    ranking = ranker.rank(user, edits, data.draw(masks(bundle)), 50)
    for edit in edits:
        if edit.mode is Mode.EXCLUDE:
            assert exposure(bundle.space, edit.intent, ranking.items) == 0


def _steered(
    bundle: Bundle, ranker: Ranker, user: object, edits: list[Adjustment], mask: np.ndarray
) -> Floats:
    scores = scores_of(ranker, user)
    steered = apply_shifts(scores, shifts(bundle.space, bundle.steering, scores, user.values, edits))
    return np.where(mask, steered, np.float32(-np.inf))


def _without_one_limited(edits: list[Adjustment]) -> list[Adjustment]:
    """Leaves room for one more boost."""
    limited = [edit for edit in edits if edit.mode.limited]
    return [edit for edit in edits if edit not in limited[4:]]


def _tied(bundle: Bundle, intent: int, lists: list[Indices], scores: list[Floats]) -> bool:
    """Whether two items changed places only because their scores are equal up to rounding.

    Asserts that every other change of places goes to the item that carries more of the intent.
    """
    loading = np.zeros(len(bundle.items), dtype=np.float32)
    carriers, loadings = bundle.space.carriers(intent)
    loading[carriers] = loadings
    tied = False
    for gained in np.setdiff1d(lists[1], lists[0]):
        for lost in np.setdiff1d(lists[0], lists[1]):
            if loading[gained] > loading[lost]:
                continue
            gaps = [abs(float(each[gained]) - float(each[lost])) for each in scores]
            size = max(1.0, *(abs(float(each[gained])) for each in scores))
            assert max(gaps) <= ROUNDING * size, "an item with less of the intent was preferred"
            tied = True
    return tied
