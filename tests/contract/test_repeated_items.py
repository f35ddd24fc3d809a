"""Items met more than once count as in training: the synthetic bundle keeps the first of a user's repeats."""

from __future__ import annotations

import time

import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.contract.asking import adjust, answer, event, met, write
from tests.contract.running import Api

STEPS = ("view", "add_to_cart", "purchase")


def buy(api: Api, bundle: Bundle, user: str, *items: int) -> None:
    """Every item is viewed, put into the cart and bought before the next one is."""
    start = int(time.time()) - 1_000
    each = [(item, step) for item in items for step in STEPS]
    api.events.WriteEvents(
        write(
            *(
                event(user, bundle.items.ids[item], event_type=step, event_time={"seconds": start + age})
                for age, (item, step) in enumerate(each)
            )
        )
    )


def test_three_steps_with_one_item_count_as_one_whatever_is_asked(
    api: Api, bundle: Bundle, user: str, steerable: list[str]
) -> None:
    once = f"{user} once"
    buy(api, bundle, user, 3, 1, 4)
    api.events.WriteEvents(write(*(event(once, bundle.items.ids[item]) for item in (3, 1, 4))))

    def recommended(who: str) -> messages.RecommendResponse:
        request = messages.RecommendRequest(
            user_id=who, page_size=100, view=messages.RECOMMEND_VIEW_EXPLAINED
        )
        return api.recommender.Recommend(request)

    def parts(who: str) -> list[tuple[float, list[tuple[str, float]], list[tuple[str, float]]]]:
        return [
            (
                item.explanation.companions_score,
                [(each.item_id, each.contribution) for each in item.explanation.companions],
                [(each.item_id, each.share) for each in item.explanation.evidence],
            )
            for item in recommended(who).items
        ]

    def explained(who: str) -> list[tuple[str, float, float, float]]:
        request = messages.ExplainUserRequest(user_id=who, max_intents=100)
        return [
            (each.intent_id, each.weight, each.log_lift, each.z_score)
            for each in api.recommender.ExplainUser(request).intents
        ]

    def previewed(who: str) -> list[tuple[str, float, float]]:
        request = messages.SteerIntentsRequest(
            user_id=who, adjustments=[adjust(steerable[0])], validate_only=True
        )
        effect = api.recommender.SteerIntents(request).effect
        return [(each.intent_id, each.before, each.after) for each in effect.exposures]

    assert answer(recommended(user)) == answer(recommended(once))
    assert parts(user) == parts(once)
    assert explained(user) == explained(once)
    assert previewed(user) == previewed(once)


def test_what_is_stored_and_what_is_given_are_one_history(api: Api, bundle: Bundle, user: str) -> None:
    buy(api, bundle, user, 3, 1)
    given = messages.RecommendRequest(user_id=user, history=met(bundle, 1, 5, 3, 5))
    once = messages.RecommendRequest(history=met(bundle, 3, 1, 5))
    assert answer(api.recommender.Recommend(given)) == answer(api.recommender.Recommend(once))


def test_repeats_push_no_item_out_of_what_the_model_reads(api: Api, bundle: Bundle) -> None:
    longest = bundle.config.train.max_length
    items = list(range(longest))
    request = messages.RecommendRequest(history=met(bundle, *items, *items[-5:] * 20))
    once = messages.RecommendRequest(history=met(bundle, *items))
    assert answer(api.recommender.Recommend(request)) == answer(api.recommender.Recommend(once))


def test_a_given_history_is_read_in_the_order_of_the_list_whatever_its_times_say(
    api: Api, bundle: Bundle
) -> None:
    history = met(bundle, 3, 1, 4)
    for age, interaction in enumerate(history):
        interaction.event_time.FromSeconds(1_700_000_000 - age)
    timed = api.recommender.Recommend(messages.RecommendRequest(history=history))
    assert answer(timed) == answer(
        api.recommender.Recommend(messages.RecommendRequest(history=met(bundle, 3, 1, 4)))
    )


@pytest.mark.parametrize("kind", ["dislike", "return"])
def test_the_type_and_value_of_an_event_do_not_count_yet(
    api: Api, bundle: Bundle, user: str, kind: str
) -> None:
    plain = f"{user} plain"
    item_id = bundle.items.ids[3]
    api.events.WriteEvents(write(event(user, item_id, event_type=kind, value=-1.0), event(plain, item_id)))
    found, expected = (
        answer(api.recommender.Recommend(messages.RecommendRequest(user_id=who))) for who in (user, plain)
    )
    assert found == expected
