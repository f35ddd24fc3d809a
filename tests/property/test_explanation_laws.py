"""What explanations and filters promise, for any user."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.bundle import Bundle
from saerec_ray.evidence import COMPARED_ITEMS, LISTED_EVIDENCE, LISTED_INTENTS
from saerec_ray.scoring import Mode, apply_shifts, base_scores, shifts
from saerec_server.filters import AnyOf, Filter, InRange, NoneOf
from saerec_server.insight import explain_user, steering_effect
from saerec_server.ranking import Ranker
from saerec_server.registry import LoadedModel
from tests.property.steering_cases import adjustment_lists, histories, masks

laws = settings(max_examples=80)


@laws
@given(data=st.data())
def test_the_parts_of_every_explanation_add_up_to_the_score(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    user = ranker.user(data.draw(histories(bundle, min_size=0)))
    ranking = ranker.rank(user, data.draw(adjustment_lists(bundle)), data.draw(masks(bundle)), 20)
    for score, why in zip(ranking.scores, ranker.explain(ranking), strict=True):
        parts = (
            sum(reason.contribution for reason in why.intents)
            + why.other_intents
            + why.residual
            + why.companions
        )
        parts += why.bias + sum(change for _, change in why.steering)
        assert parts == pytest.approx(float(score), abs=1e-5 * max(1.0, abs(float(score))))
        assert len(why.intents) <= LISTED_INTENTS
        assert all(bundle.catalogue.intents[reason.intent].published for reason in why.intents)
        assert sum(each.share for each in why.evidence) <= 1 + 1e-5


@laws
@given(data=st.data())
def test_listed_are_the_intents_that_set_the_item_apart_from_the_best_whatever_the_steering(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    user, mask = ranker.user(data.draw(histories(bundle))), data.draw(masks(bundle))
    ranking = ranker.rank(user, data.draw(adjustment_lists(bundle)), mask, 5)
    scores = base_scores(bundle.space, user.state[None], user.values[None], user.companions)[0]
    best = sorted(np.flatnonzero(mask).tolist(), key=lambda item: -scores[item])[:COMPARED_ITEMS]
    codes = bundle.space.codes.toarray().astype(np.float64)
    for item, why in zip(ranking.items.tolist(), ranker.explain(ranking), strict=True):
        beyond = np.abs(user.values) * (codes[item] - codes[best].mean(axis=0))
        nameable = ranker.published & (codes[item] * user.values != 0)
        listed = [reason.intent for reason in why.intents]
        assert len(listed) == min(LISTED_INTENTS, nameable.sum())
        assert nameable[listed].all()
        np.testing.assert_allclose(
            [reason.contribution_vs_average for reason in why.intents],
            (user.values * (codes[item] - codes.mean(axis=0)))[listed],
            atol=1e-4,
        )
        np.testing.assert_allclose(
            np.sort(beyond[listed])[::-1], np.sort(beyond[nameable])[::-1][:LISTED_INTENTS], atol=1e-4
        )


@laws
@given(data=st.data())
def test_the_first_listed_intent_is_the_one_without_which_the_item_moves_furthest(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    user = ranker.user(data.draw(histories(bundle)))
    ranking = ranker.rank(user, data.draw(adjustment_lists(bundle)), data.draw(masks(bundle)), 10)
    for place, why in enumerate(ranker.explain(ranking), start=1):
        moved = [abs(reason.rank_without - place) for reason in why.intents]
        assert moved == sorted(moved, reverse=True)


@laws
@given(data=st.data())
def test_evidence_is_what_carries_the_listed_intents_that_speak_for_the_item(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    user = ranker.user(data.draw(histories(bundle)))
    ranking = ranker.rank(user, [], data.draw(masks(bundle)), 10)
    met = bundle.space.codes[user.history].toarray().astype(np.float64)
    for why in ranker.explain(ranking):
        reasons = {each.intent: each.contribution for each in why.intents if each.contribution > 0}
        shares = np.zeros(len(user.history))
        for intent, contribution in reasons.items():
            caused = user.weights * met[:, intent]
            if caused.sum() > 0:
                shares += contribution / sum(reasons.values()) * caused / caused.sum()
        assert [each.share for each in why.evidence] == pytest.approx(
            sorted(shares[shares > 0], reverse=True)[:LISTED_EVIDENCE], rel=1e-4
        )
        for each in why.evidence:
            assert each.share == pytest.approx(shares[each.place], rel=1e-4)


@laws
@given(data=st.data())
def test_rank_without_an_intent_equals_a_rank_computed_from_scratch(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    space = bundle.space
    user = ranker.user(data.draw(histories(bundle)))
    edits = data.draw(adjustment_lists(bundle))
    mask = data.draw(masks(bundle))
    ranking = ranker.rank(user, edits, mask, 3)
    for edit in edits:
        if edit.mode is Mode.EXCLUDE:
            mask = mask & ~np.isin(np.arange(len(mask)), space.carriers(edit.intent)[0])
    scores = base_scores(space, user.state[None], user.values[None], user.companions)[0]
    for item, why in zip(ranking.items, ranker.explain(ranking), strict=True):
        for reason in why.intents:
            silenced = user.values.copy()
            silenced[reason.intent] = 0
            oracle = base_scores(space, user.state[None], silenced[None], user.companions)[0].astype(
                np.float64
            )
            for shift in shifts(space, bundle.steering, scores, user.values, edits):
                if shift.adjustment.intent != reason.intent:
                    oracle[shift.items] += shift.changes
            slack = 1e-5 * max(1.0, abs(oracle[item]))
            surely_above = int((oracle[mask] > oracle[item] + slack).sum())
            perhaps_above = int((oracle[mask] >= oracle[item] - slack).sum()) - 1
            assert surely_above + 1 <= reason.rank_without <= perhaps_above + 1


@laws
@given(data=st.data())
def test_the_unsteered_rank_is_the_rank_in_the_list_without_steering(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    user = ranker.user(data.draw(histories(bundle, min_size=0)))
    edits, mask = data.draw(adjustment_lists(bundle)), data.draw(masks(bundle))
    steered = ranker.rank(user, edits, mask, 5)
    plain = ranker.rank(user, [], mask, len(bundle.items)).items.tolist()
    for item, why in zip(steered.items, ranker.explain(steered), strict=True):
        assert why.unsteered_rank == (plain.index(item) + 1 if edits else 0)


@laws
@given(data=st.data())
def test_filters_let_through_exactly_what_they_say(
    model: LoadedModel, attribute_values: dict[str, list[str]], data: st.DataObject
) -> None:
    items = model.bundle.items
    places = st.lists(st.integers(0, len(items) - 1), max_size=20)
    names = st.sampled_from(sorted(attribute_values))
    values = sorted({value for found in attribute_values.values() for value in found})
    chosen = st.lists(st.sampled_from([*values, "no such value"]), min_size=1, max_size=4)
    numbers = st.floats(-10, 60, allow_nan=False)
    condition = st.one_of(
        st.builds(AnyOf, names, chosen),
        st.builds(NoneOf, names, chosen),
        st.builds(InRange, names, numbers, numbers),
    )
    wanted = Filter(
        allowed=data.draw(st.none() | places),
        denied=data.draw(places),
        conditions=data.draw(st.lists(condition, max_size=3)),
    )
    seen = data.draw(places)
    mask = model.attributes.mask(wanted, seen)
    named = {*(wanted.allowed or ()), *wanted.denied, *seen}
    for item in sorted(named | set(range(0, len(items), max(1, len(items) // 300)))):
        expected = (wanted.allowed is None or item in wanted.allowed) and item not in (*wanted.denied, *seen)
        expected = expected and all(_holds(each, items.attributes[item]) for each in wanted.conditions)
        assert mask[item] == expected


@pytest.fixture(scope="module")
def attribute_values(bundle: Bundle) -> dict[str, list[str]]:
    """Some values of every attribute."""
    found: dict[str, dict[str, None]] = {}
    for attributes in bundle.items.attributes:
        for name, values in attributes.items():
            found.setdefault(name, {}).update(dict.fromkeys(values))
    if not found:
        pytest.skip("the bundle's items have no attributes")
    return {name: list(values)[:20] for name, values in found.items()}


@laws
@given(data=st.data())
def test_a_listing_holds_the_best_allowed_items_and_nothing_else(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    user = ranker.user(data.draw(histories(bundle)))
    edits = [edit for edit in data.draw(adjustment_lists(bundle)) if edit.mode is not Mode.EXCLUDE]
    mask = data.draw(masks(bundle))
    ranking = ranker.rank(user, edits, mask, 20)
    scores = base_scores(bundle.space, user.state[None], user.values[None], user.companions)[0]
    steered = apply_shifts(scores, shifts(bundle.space, bundle.steering, scores, user.values, edits))
    eligible = np.flatnonzero(mask)
    oracle = sorted(eligible.tolist(), key=lambda item: (-steered[item], item))[:20]
    assert ranking.items.tolist() == oracle


@laws
@given(data=st.data())
def test_a_user_is_explained_by_published_intents_significant_ones_first(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    history = data.draw(histories(bundle, min_size=0))
    user = ranker.user(history)
    edits = data.draw(adjustment_lists(bundle))
    insight = explain_user(ranker, user, history, history, edits, 10, 3)
    assert all(bundle.catalogue.intents[reason.intent].published for reason in insight.reasons)
    significant = [reason.verdict.value != "typical" for reason in insight.reasons]
    assert significant == sorted(significant, reverse=True)
    assert 0 <= insight.intent_share <= 1
    assert insight.fidelity <= 1
    for reason in insight.reasons:
        assert 0 <= reason.percentile <= 1
        assert reason.personal == (user.profile[reason.intent] > 0)
        for each in reason.evidence:
            loading = bundle.space.codes[[user.history[each.place]]].toarray()[0, reason.intent]
            share = user.weights[each.place] * loading / user.profile[reason.intent]
            assert each.share == pytest.approx(share, rel=1e-4)


@laws
@given(data=st.data())
def test_a_change_that_changes_nothing_has_no_effect(
    bundle: Bundle, ranker: Ranker, data: st.DataObject
) -> None:
    history = data.draw(histories(bundle, min_size=0))
    edits = data.draw(adjustment_lists(bundle))
    effect = steering_effect(ranker, ranker.user(history), history, edits, edits)
    assert effect.overlap == 1
    assert all(before == after for _, before, after in effect.exposures)


def _holds(condition: AnyOf | NoneOf | InRange, attributes: dict[str, list[str]]) -> bool:
    values = attributes.get(condition.attribute, [])
    if isinstance(condition, AnyOf):
        return any(value in condition.values for value in values)
    if isinstance(condition, NoneOf):
        return not any(value in condition.values for value in values)
    numbers = [float(value) for value in values if value.replace(".", "", 1).isdigit()]
    return any(condition.lowest <= number <= condition.highest for number in numbers)
