"""Lists against histories: nothing where the shares are alike, and the intents that are missing come first."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation import list_against_history as module
from saerec_ray.evaluation.list_against_history import LISTS, list_against_history
from saerec_ray.evaluation.side_effects import divergence
from saerec_ray.intents.population import Population, activation_mass, measure_population, shrunk_shares
from saerec_ray.scoring import ItemSpace
from tests.evaluation.toy_models import Toy, held, no_prior, random_toy

INTENTS = 4


def population_of(toy: Toy) -> Population:
    histories = toy.users.cases.histories
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    items = toy.space.item_count
    return measure_population(toy.space.codes, users, np.concatenate(histories), [[]] * items)


def one_intent_each(liked: int, shown: int) -> Toy:
    """200 items with one intent each; one user met many items of `liked` and is shown those of `shown`."""
    codes = csr_array(np.eye(INTENTS, dtype=np.float32)[np.arange(200) % INTENTS])
    space = ItemSpace(
        codes=codes,
        intent_vectors=np.eye(INTENTS, dtype=np.float32),
        residuals=np.zeros((200, INTENTS), dtype=np.float32),
        biases=np.zeros(200, dtype=np.float32),
        popularity=np.arange(200, dtype=np.float32),
        prior_weight=0.0,
    )
    histories = [np.flatnonzero(np.arange(200) % INTENTS == each)[:25] for each in (liked, 0, 1, 2, 3)]
    states = np.zeros((5, INTENTS), dtype=np.float32)
    states[0, shown] = states[1, 0] = states[2, 1] = states[3, 2] = states[4, 3] = 5
    users = EncodedUsers(
        held(histories, [[0]] * 5),
        states,
        np.zeros((5, INTENTS), dtype=np.float32),
        csr_array((5, 200), dtype=np.float32),
    )
    return Toy(space, no_prior(INTENTS), users)


def measure(toy: Toy, labels: dict[int, str], count: int = 100) -> dict[str, dict[str, dict[str, float]]]:
    return list_against_history(toy.space, toy.table, toy.users, population_of(toy), labels, count, 1)


def test_the_divergence_is_that_of_the_list_from_the_profile_both_drawn_towards_the_population() -> None:
    toy = random_toy(3)
    population = population_of(toy)
    expected = []
    for user in toy.scored():
        profile = shrunk_shares(activation_mass(toy.space.codes, user.history), population)
        mass = toy.space.codes[user.top(20)].toarray().sum(axis=0, dtype=np.float64)
        extra = 10 * population.mean_item_mass
        shares = (mass + extra * population.shares) / (mass.sum() + extra)
        assert profile.sum() == pytest.approx(1)
        expected.append(divergence(profile, shares))
    found = measure(toy, {})
    assert found["users"] == len(expected)
    assert found["lists"]["own list"]["median"] == pytest.approx(np.median(expected))
    assert found["lists"]["own list"]["p90"] == pytest.approx(np.percentile(expected, 90))


def test_own_lists_are_closer_than_those_of_others_where_people_get_what_they_like() -> None:
    found = measure(one_intent_each(liked=0, shown=0), {})
    assert list(found["lists"]) == list(LISTS)
    own, other, popular = (found["lists"][name]["median"] for name in LISTS)
    assert own < popular
    assert own < other


def test_what_lists_leave_out_and_what_they_show_too_much_is_named() -> None:
    toy = one_intent_each(liked=2, shown=3)
    alone = Toy(
        toy.space,
        toy.table,
        EncodedUsers(
            toy.users.cases.at(np.array([0])),
            toy.users.states[:1],
            toy.users.profiles[:1],
            toy.users.companions[[0]],
        ),
    )
    population = population_of(toy)
    labels = {intent: f"intent {intent}" for intent in range(INTENTS)}
    found = list_against_history(alone.space, alone.table, alone.users, population, labels, 5, 1)
    assert found["intents"][0]["label"] == "intent 2"
    assert found["intents"][0]["share_of_histories"] > 0.5
    assert found["intents"][0]["share_of_lists"] < 0.2
    assert found["too_much"][0]["label"] == "intent 3"
    assert found["too_much"][0]["share_of_lists"] > 0.5
    terms = {row["label"]: row["term"] for row in (*found["intents"], *found["too_much"])}
    assert sum(terms.values()) == pytest.approx(found["lists"]["own list"]["median"])
    unnamed = list_against_history(alone.space, alone.table, alone.users, population, {3: "x"}, 5, 1)
    assert unnamed["intents"] == [], "only names that people see are listed"


def test_of_many_intents_the_largest_differences_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = one_intent_each(liked=2, shown=3)
    users = EncodedUsers(
        toy.users.cases.at(np.array([0])),
        toy.users.states[:1],
        toy.users.profiles[:1],
        toy.users.companions[[0]],
    )
    monkeypatch.setattr(module, "SHOWN_INTENTS", 1)
    labels = {intent: f"intent {intent}" for intent in range(INTENTS)}
    found = list_against_history(toy.space, toy.table, users, population_of(toy), labels, 5, 1)
    assert [row["label"] for row in found["intents"]] == ["intent 2"]
    assert [row["label"] for row in found["too_much"]] == ["intent 3"]


def test_every_user_is_in_the_histogram_and_only_so_many_are_measured() -> None:
    toy = random_toy(5)
    found = measure(toy, {}, count=4)
    assert found["users"] == 4
    for row in found["lists"].values():
        assert sum(row["histogram"]) == 4
    assert found == measure(toy, {}, count=4)
