"""Cold targets are ranked among all items and among each other, beside baselines that know as much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.backbone import validation
from saerec_ray.backbone.companions_by_text import with_new_items
from saerec_ray.backbone.validation import encode_users
from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.evaluation.cold import (
    ALONE,
    SCORERS,
    TEXTS,
    Scorer,
    cold_cases,
    cold_headline,
    measure_cold,
)
from saerec_ray.evaluation.cold_tables import cold_lines
from saerec_ray.evaluation.scored_users import scored_users
from saerec_ray.scoring import base_scores, decompose, intent_values, prior
from tests.backbone.small_sets import (
    ITEMS,
    Parts,
    frozen_of,
    grouped_users,
    sequences_of,
    small_encoder,
    text_vectors,
)

USERS = grouped_users()
SEQUENCES = sequences_of(USERS)
FROZEN = frozen_of(SEQUENCES)
COLD = np.zeros(ITEMS, dtype=bool)
COLD[::3] = True


def scorer(companion_weight: float = 0.0) -> Scorer:
    """A model that never met the cold items; with a weight it has companions, cold items by their texts."""
    counted = csr_array(FROZEN.companions * ~COLD[:, None] * ~COLD[None])
    frozen = replace(
        FROZEN, companions=with_new_items(counted, text_vectors(), (~COLD).astype(np.int64), ITEMS)
    )
    space, encoder = small_encoder(frozen)
    residuals, biases = space.residuals.copy(), space.biases.copy()
    residuals[COLD], biases[COLD] = 0, 0
    popularity = space.popularity.copy()
    popularity[COLD] = 0
    space = replace(
        space,
        residuals=residuals,
        biases=biases,
        popularity=popularity,
        companion_weight=companion_weight,
    )
    return Scorer(space, encoder, frozen)


def test_only_cold_test_targets_are_looked_for() -> None:
    users: list[Parts] = [([1, 2], [3], [4, 6]), ([1, 2], [3], [4]), ([6], [9], [12])]
    cases = cold_cases(sequences_of(users), COLD)
    assert cases.users.tolist() == [0, 2]
    assert [each.tolist() for each in cases.targets] == [[6], [12]]
    assert [each.tolist() for each in cases.histories] == [[1, 2, 3], [6, 9]]


def ranks_written_out(among: np.ndarray) -> list[int]:
    """Ranks of the cold targets, one user at a time, among the allowed items."""
    model = scorer()
    ranks = []
    cases = cold_cases(SEQUENCES, COLD)
    for history, targets in zip(cases.histories, cases.targets, strict=True):
        user = model.encoder.encode([history])
        values = intent_values(model.space, user.states, prior(user.profiles, FROZEN.prior))
        scores = base_scores(model.space, user.states, values, user.companions)[0]
        (target,) = targets
        rivals = [i for i in range(ITEMS) if among[i] and i not in history and i != target]
        better = [i for i in rivals if (-scores[i], i) < (-scores[target], target)]
        ranks.append(1 + len(better))
    return ranks


@pytest.mark.parametrize(("name", "among"), [("all", np.ones(ITEMS, dtype=bool)), ("cold", COLD)])
def test_the_model_is_ranked_as_written_out(name: str, among: np.ndarray) -> None:
    found = measure(text_vectors())
    ranks = ranks_written_out(among)
    assert found["targets"] == len(ranks) > 5
    assert found["cold_items"] == COLD.sum()
    assert found["models"]["intents"][name]["HR@10"] == pytest.approx(np.mean(np.array(ranks) <= 10))


def measure(vectors: np.ndarray) -> dict[str, Any]:
    return measure_cold(scorer(), SEQUENCES, vectors, COLD, seed=1)


def test_popularity_knows_nothing_of_cold_items_and_text_finds_them() -> None:
    found = measure(text_vectors())["models"]
    assert found["popularity"]["all"]["HR@10"] == 0
    assert len(TEXTS) == 6
    for name in TEXTS:
        assert found[name]["all"]["HR@10"] == 1  # ten items a group, all closer than any other
        assert found[name]["cold"]["MRR@10"] > found[name]["all"]["MRR@10"]


def test_centred_readings_are_those_of_vectors_less_the_mean_of_what_training_met() -> None:
    shared = np.concatenate([text_vectors(), np.where(COLD, 0.5, 2.0)[:, None]], axis=1)
    vectors = (shared / np.linalg.norm(shared, axis=1, keepdims=True)).astype(np.float32)
    found, moved = (
        measure(each)["models"] for each in (vectors, unit_rows(vectors - vectors[~COLD].mean(axis=0)))
    )
    for closeness in ("mean", "recent", "closest"):
        assert found[f"centred text {closeness}"] == moved[f"text {closeness}"]
        assert found[f"centred text {closeness}"] != found[f"text {closeness}"]


def test_the_best_reading_of_the_texts_is_what_the_model_is_judged_against() -> None:
    found = measure(text_vectors())
    for among in ("all", "cold"):
        rates = {name: row[among]["HR@10"] for name, row in found["models"].items() if name != "intents"}
        judged = found["against_best"][among]
        assert rates[judged["best"]] == max(rates.values())
        difference = found["models"]["intents"][among]["HR@10"] - max(rates.values())
        assert judged["HR@10_difference"] == pytest.approx(difference)
        low, high = judged["HR@10_difference_interval"]
        assert low <= judged["HR@10_difference"] <= high


def test_a_sample_is_measured_where_all_users_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_MOST_SCORES", 5 * ITEMS)
    found = measure(text_vectors())
    assert found["users"] == 5 < found["all_users"] == len(cold_cases(SEQUENCES, COLD))


def test_no_cold_target_is_no_error() -> None:
    found = measure_cold(scorer(), sequences_of([([1, 2], [4], [5])]), text_vectors(), COLD, 1)
    assert found == {"cold_items": int(COLD.sum()), "targets": 0, "users": 0, "all_users": 0}
    assert "0 of them are to be found" in "\n".join(cold_lines(found))


def test_a_cold_item_has_intents_and_companions_by_its_text_and_they_are_all_of_its_score() -> None:
    model = scorer(companion_weight=3.0)
    users = encode_users(model.encoder, cold_cases(SEQUENCES, COLD))
    seen = 0
    for user in scored_users(model.space, model.frozen.prior, users, np.arange(len(users.cases))):
        for item in np.flatnonzero(COLD):
            parts = decompose(model.space, user.state, user.values, int(item), user.companions)
            assert parts.residual == parts.bias == 0
            total = parts.contributions.sum() + parts.companions
            assert total == pytest.approx(user.scores[item], rel=1e-4, abs=1e-5)
            seen += parts.companions > 0
    assert seen > 5


def test_where_new_items_are_companions_by_text_the_model_is_measured_without_that_too() -> None:
    """Companions by texts that tell the group find cold items of the group."""
    model = scorer(companion_weight=30.0)
    found = measure_cold(model, SEQUENCES, text_vectors(), COLD, seed=1)["models"]
    plain = measure(text_vectors())["models"]
    assert set(found) == set(SCORERS)
    assert set(plain) == set(SCORERS) - {ALONE}
    assert found["intents"]["cold"]["NDCG@10"] > found[ALONE]["cold"]["NDCG@10"] + 0.1
    assert found[ALONE]["cold"] == plain["intents"]["cold"], "their order is that of their intents then"


def test_the_headlines_are_those_of_the_report() -> None:
    found = measure(text_vectors())
    headlines = cold_headline({"cold": found})
    measured = set(SCORERS) - {ALONE}
    assert set(headlines) == {f"cold_{name}_HR@10_{among}" for name in measured for among in ("all", "cold")}
    assert headlines["cold_text recent_HR@10_all"] == found["models"]["text recent"]["all"]["HR@10"]
    assert cold_headline({}) == {}


@pytest.mark.parametrize(
    ("interval", "said"), [([0.01, 0.03], "better"), ([-0.03, -0.01], "worse"), ([-0.01, 0.01], "no clear")]
)
def test_the_verdict_is_that_of_the_interval(interval: list[float], said: str) -> None:
    found = measure(text_vectors())
    found["against_best"]["all"] |= {"best": "text closest", "HR@10_difference_interval": interval}
    (line,) = [line for line in cold_lines(found) if line.startswith("Among all items")]
    assert said in line
    assert "text: closest item of the history" in line
