"""Recommend, over a real socket."""

from __future__ import annotations

import numpy as np
import pytest

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.bundle import Bundle
from saerec_ray.scoring import (
    COMPANION_DECAY,
    Adjustment,
    Mode,
    apply_shifts,
    base_scores,
    intent_values,
    prior,
    shifts,
    top_items,
)
from saerec_ray.v1 import common_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.contract.asking import BOOST, EXCLUDE, SUPPRESS, adjust, answer, event, ids, met, total, write
from tests.contract.running import Api

EXPLAINED = messages.RECOMMEND_VIEW_EXPLAINED


def random_request(
    bundle: Bundle, steerable: list[str], rng: np.random.Generator
) -> messages.RecommendRequest:
    history = rng.integers(len(bundle.items), size=rng.integers(1, 25)).tolist()
    modes = [BOOST, SUPPRESS, EXCLUDE, common_pb2.ADJUSTMENT_MODE_AVOID]
    chosen = rng.choice(steerable, size=rng.integers(0, 4), replace=False)
    return messages.RecommendRequest(
        history=met(bundle, *history),
        page_size=20,
        steering=messages.InlineSteering(
            adjustments=[
                adjust(str(intent_id), int(rng.choice(modes)), float(rng.uniform(0.01, 1)))
                for intent_id in chosen
            ]
        ),
    )


def test_the_parts_of_1000_random_explained_items_add_up_to_their_basic_scores(
    api: Api, bundle: Bundle, steerable: list[str]
) -> None:
    rng = np.random.default_rng(1)
    checked = 0
    while checked < 1000:
        request = random_request(bundle, steerable, rng)
        basic = api.recommender.Recommend(request)
        request.view = EXPLAINED
        explained = api.recommender.Recommend(request)
        assert answer(explained) == answer(basic)
        for plain, item in zip(basic.items, explained.items, strict=True):
            assert abs(plain.score - total(item)) <= 1e-5 * max(1.0, abs(plain.score))
            assert not plain.HasField("explanation")
        checked += len(basic.items)


def test_companions_name_the_history_items_with_the_most_and_no_more_than_the_part_itself(
    api: Api, bundle: Bundle
) -> None:
    rng = np.random.default_rng(8)
    space = bundle.space
    assert space.companions is not None
    index = {item_id: place for place, item_id in enumerate(bundle.items.ids)}
    several = 0
    for _ in range(20):
        history = rng.choice(len(bundle.items), size=8, replace=False).tolist()
        request = messages.RecommendRequest(history=met(bundle, *history), page_size=20, view=EXPLAINED)
        for item in api.recommender.Recommend(request).items:
            parts = {
                bundle.items.ids[one]: space.companion_weight
                * COMPANION_DECAY**age
                * float(space.companions[one, index[item.item_id]])
                for age, one in enumerate(history[::-1])
            }
            expected = sorted((part for part in parts.values() if part > 0), reverse=True)
            found = item.explanation.companions
            assert [each.contribution for each in found] == pytest.approx(expected[:3], rel=1e-5)
            assert item.explanation.companions_score == pytest.approx(sum(expected), rel=1e-5)
            for each in found:
                assert each.contribution == pytest.approx(parts[each.item_id], rel=1e-5)
                assert each.title == bundle.items.titles[index[each.item_id]]
            several += len(found) > 1
    assert several, "or the order was never put to the test"


def test_companions_of_an_item_that_nobody_took_are_said_to_be_judged_by_texts(
    api: Api, bundle: Bundle
) -> None:
    popularity = bundle.space.popularity
    index = {item_id: place for place, item_id in enumerate(bundle.items.ids)}
    new = np.flatnonzero(popularity == 0).tolist()
    said = set()
    for start in range(0, len(bundle.items) - 8, 8):
        history = met(bundle, *range(start, start + 8))
        request = messages.RecommendRequest(history=history, view=EXPLAINED)
        for chosen in (new, [item for item in range(len(bundle.items)) if item not in new]):
            del request.filter.allow_item_ids[:]
            request.filter.allow_item_ids.extend(bundle.items.ids[item] for item in chosen)
            request.page_size = 50
            for item in api.recommender.Recommend(request).items:
                why = item.explanation
                has_companions = why.companions_score > 0
                assert why.companions_by_text == (has_companions and popularity[index[item.item_id]] == 0)
                said.add((has_companions, why.companions_by_text))
    assert said == {(False, False), (True, False), (True, True)}


def test_online_equals_offline(api: Api, bundle: Bundle, steerable: list[str]) -> None:
    rng = np.random.default_rng(2)
    encoder = UserEncoder(bundle.config.train, bundle.backbone, bundle.space, bundle.prior)
    latent = {each.intent_id: each.latent for each in bundle.catalogue.intents}
    index = {item_id: place for place, item_id in enumerate(bundle.items.ids)}
    modes = {BOOST: Mode.BOOST, SUPPRESS: Mode.SUPPRESS, common_pb2.ADJUSTMENT_MODE_AVOID: Mode.AVOID}
    for _ in range(30):
        request = random_request(bundle, steerable, rng)
        request.filter.seen_policy = messages.SEEN_POLICY_ALLOW
        kept = [each for each in request.steering.adjustments if each.mode != EXCLUDE]
        del request.steering.adjustments[:]
        request.steering.adjustments.extend(kept)
        first = dict.fromkeys(each.item_id for each in request.history)  # prepare.repeats of the bundle
        history = np.array([index[item_id] for item_id in first])
        encoded = encoder.encode([history])
        values = intent_values(bundle.space, encoded.states, prior(encoded.profiles, bundle.prior))
        scores = base_scores(bundle.space, encoded.states, values, encoded.companions)[0]
        edits = [Adjustment(latent[each.intent_id], modes[each.mode], each.strength) for each in kept]
        offline = apply_shifts(scores, shifts(bundle.space, bundle.steering, scores, values[0], edits))
        best = top_items(offline, 20)
        response = api.recommender.Recommend(request)
        assert ids(response) == [bundle.items.ids[item] for item in best]
        np.testing.assert_allclose([item.score for item in response.items], offline[best], atol=1e-5)


def test_the_same_request_gives_the_same_bits(api: Api, bundle: Bundle) -> None:
    request = messages.RecommendRequest(history=met(bundle, 1, 2, 3))
    first, second = (api.recommender.Recommend(request) for _ in range(2))
    assert answer(first) == answer(second)
    assert first.recommendation_id != second.recommendation_id


def test_an_answer_names_its_versions_and_titles(api: Api, bundle: Bundle) -> None:
    response = api.recommender.Recommend(messages.RecommendRequest(history=met(bundle, 1)))
    assert response.version.model_version == bundle.manifest.model_version
    assert response.version.intents_version == bundle.manifest.intents_version
    assert response.version.catalog_version == bundle.manifest.catalog_version
    assert all(item.title for item in response.items)
    assert {item.source for item in response.items} == {messages.ITEM_SOURCE_PERSONALIZED}
    assert response.next_page_token == ""


@pytest.mark.parametrize(("asked", "given"), [(0, 20), (1, 1), (199, 199), (200, 200), (201, 200)])
def test_the_page_size_has_a_default_and_is_cut(api: Api, bundle: Bundle, asked: int, given: int) -> None:
    request = messages.RecommendRequest(history=met(bundle, 1), page_size=asked)
    assert len(api.recommender.Recommend(request).items) == given


def test_seen_items_come_back_only_when_allowed(api: Api, bundle: Bundle) -> None:
    everything = messages.RecommendRequest(history=met(bundle, 1), page_size=200)
    favourites = ids(api.recommender.Recommend(everything))[:5]
    request = messages.RecommendRequest(
        history=[common_pb2.Interaction(item_id=item_id) for item_id in favourites],
        filter=messages.ItemFilter(allow_item_ids=favourites),
    )
    assert ids(api.recommender.Recommend(request)) == []
    request.filter.seen_policy = messages.SEEN_POLICY_ALLOW
    assert sorted(ids(api.recommender.Recommend(request))) == sorted(favourites)


def test_filters_hold_together(api: Api, bundle: Bundle) -> None:
    request = messages.RecommendRequest(
        history=met(bundle, 1),
        page_size=200,
        filter=messages.ItemFilter(
            deny_item_ids=["item-0040"],
            conditions=[
                {"attribute": "colour", "any_of": {"values": ["red", "green"]}},
                {"attribute": "category", "none_of": {"values": ["soap"]}},
                {"attribute": "price", "range": {"min": 10, "max": 40}},
            ],
        ),
    )
    found = set(ids(api.recommender.Recommend(request)))
    expected = {
        item_id
        for item_id, values in zip(bundle.items.ids, bundle.items.attributes, strict=True)
        if values["colour"][0] in ("red", "green")
        and values["category"][0] != "soap"
        and 10 <= int(values["price"][0]) <= 40
        and item_id not in ("item-0040", bundle.items.ids[1])
    }
    assert found == expected


def test_unknown_items_are_named_not_refused(api: Api, bundle: Bundle) -> None:
    request = messages.RecommendRequest(
        history=[*met(bundle, 1), common_pb2.Interaction(item_id="gone")],
        filter=messages.ItemFilter(deny_item_ids=["lost", "gone"]),
    )
    response = api.recommender.Recommend(request)
    assert list(response.unknown_item_ids) == ["gone", "lost"]
    assert answer(response) == answer(
        api.recommender.Recommend(messages.RecommendRequest(history=met(bundle, 1)))
    )


def test_an_allow_list_of_unknown_items_gives_an_empty_page(api: Api, bundle: Bundle) -> None:
    request = messages.RecommendRequest(
        history=met(bundle, 1), filter=messages.ItemFilter(allow_item_ids=["gone"])
    )
    assert ids(api.recommender.Recommend(request)) == []


def test_a_user_without_history_gets_popular_items(api: Api, bundle: Bundle, user: str) -> None:
    response = api.recommender.Recommend(messages.RecommendRequest(user_id=user, page_size=5, view=EXPLAINED))
    best = top_items(bundle.space.popularity, 5)
    assert ids(response) == [bundle.items.ids[item] for item in best]
    assert {item.source for item in response.items} == {messages.ITEM_SOURCE_POPULAR}
    assert list(response.degradations) == [messages.DEGRADATION_POPULARITY_ONLY]
    for item, place in zip(response.items, best, strict=True):
        assert item.score == item.explanation.bias_score == pytest.approx(bundle.space.popularity[place])
        assert len(item.explanation.intents) == 0


def test_steering_acts_on_a_user_without_history(
    api: Api, bundle: Bundle, user: str, steerable: list[str]
) -> None:
    request = messages.RecommendRequest(user_id=user, page_size=20, view=EXPLAINED)
    request.steering.adjustments.append(adjust(steerable[0]))
    response = api.recommender.Recommend(request)
    lifted = [item for item in response.items if item.explanation.steering[0].contribution > 0]
    assert lifted
    for item in response.items:
        assert item.score == pytest.approx(total(item), abs=1e-5)


def test_stored_history_is_read_by_the_next_call(api: Api, bundle: Bundle, user: str) -> None:
    item_ids = [bundle.items.ids[item] for item in (3, 1, 4)]
    api.events.WriteEvents(write(*(event(user, item_id) for item_id in item_ids)))
    stored = api.recommender.Recommend(messages.RecommendRequest(user_id=user))
    given = api.recommender.Recommend(messages.RecommendRequest(history=met(bundle, 3, 1, 4)))
    assert answer(stored) == answer(given)


@pytest.mark.parametrize(
    ("mode", "read"),
    [
        (messages.HISTORY_MODE_UNSPECIFIED, [3, 1, 4, 5]),
        (messages.HISTORY_MODE_APPEND, [3, 1, 4, 5]),
        (messages.HISTORY_MODE_REQUEST_ONLY, [5]),
    ],
)
def test_history_modes_say_what_is_read(
    api: Api, bundle: Bundle, user: str, mode: messages.HistoryMode.ValueType, read: list[int]
) -> None:
    api.events.WriteEvents(write(*(event(user, bundle.items.ids[item]) for item in (3, 1, 4))))
    request = messages.RecommendRequest(user_id=user, history=met(bundle, 5), history_mode=mode)
    expected = messages.RecommendRequest(history=met(bundle, *read))
    assert answer(api.recommender.Recommend(request)) == answer(api.recommender.Recommend(expected))


def test_evidence_names_history_items_with_their_time_and_share(api: Api, bundle: Bundle) -> None:
    history = met(bundle, 3, 1, 4)
    for age, interaction in enumerate(history):
        interaction.event_time.FromSeconds(1_700_000_000 + age)
    request = messages.RecommendRequest(history=history, view=EXPLAINED, page_size=50)
    times = {each.item_id: each.event_time.seconds for each in history}
    found = [each for item in api.recommender.Recommend(request).items for each in item.explanation.evidence]
    assert found
    for each in found:
        assert each.event_time.seconds == times[each.item_id]
        assert 0 < each.share <= 1
        assert each.title


def test_unpublished_intents_are_never_named(api: Api, bundle: Bundle) -> None:
    published = {each.intent_id for each in bundle.catalogue.intents if each.published}
    request = messages.RecommendRequest(history=met(bundle, 3, 1, 4), view=EXPLAINED, page_size=200)
    named = {
        reason.intent_id
        for item in api.recommender.Recommend(request).items
        for reason in item.explanation.intents
    }
    assert named
    assert named <= published
