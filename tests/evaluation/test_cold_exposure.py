"""How often new items are listed is a choice: the table says what it gives them and what it takes from others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.backbone.cold import without_cold
from saerec_ray.backbone.companions import without_items
from saerec_ray.backbone.validation import encode_users, held_out, model_ranks
from saerec_ray.evaluation import cold_exposure
from saerec_ray.evaluation.cold import cold_cases, measure_cold
from saerec_ray.evaluation.cold_exposure import AS_TEXT, EXPOSURES, NO_BIAS, NO_COMPANIONS, SERVED, TEXT
from saerec_ray.evaluation.cold_tables import cold_lines
from saerec_ray.evaluation.scored_users import scored_users
from saerec_ray.scoring import ItemSpace
from tests.backbone.small_sets import Parts, sequences_of, text_vectors
from tests.evaluation.test_cold import COLD, FROZEN, SEQUENCES, USERS, scorer

TIMES = tuple(f"{exposure:g}" for exposure in EXPOSURES)


def measure(bias: float = 0.0) -> dict[str, Any]:
    return measure_cold(scorer().with_bias(bias), SEQUENCES, text_vectors(), COLD, seed=1)


def places(space: ItemSpace) -> float:
    """The share of the first ten of all users with cold targets that cold items have, one user at a time."""
    model = scorer()
    users = encode_users(model.encoder, cold_cases(SEQUENCES, COLD))
    lists = [user.top(10) for user in scored_users(space, FROZEN.prior, users, range(len(users.cases)))]
    return float(np.mean([COLD[shown].sum() for shown in lists])) / 10


def test_only_new_items_get_another_bias() -> None:
    model = scorer()
    moved = model.with_bias(2.0)
    assert set(moved.space.biases[COLD].tolist()) == {2.0}
    assert (moved.space.biases[~COLD] == model.space.biases[~COLD]).all()


def test_the_rows_are_the_model_as_it_is_served_with_other_biases_and_the_best_reading_of_the_texts() -> None:
    found = measure(3.0)
    rows = found["exposure"]["rows"]
    assert set(rows) == {NO_BIAS, SERVED, *TIMES, AS_TEXT, TEXT}
    assert rows[SERVED]["bias"] == 3
    assert rows[SERVED]["cold"] == found["models"]["intents"]["all"]
    assert rows[NO_BIAS]["cold"] == measure()["models"]["intents"]["all"]
    assert rows[TEXT]["cold"] == found["models"][found["against_best"]["all"]["best"]]["all"]
    best = found["against_best"]["all"]
    assert rows[SERVED]["HR_difference"] == pytest.approx(best["HR@10_difference"])
    assert rows[SERVED]["HR_difference_interval"] == best["HR@10_difference_interval"]


def test_what_a_larger_bias_gives_new_items_it_takes_from_others() -> None:
    found = measure(3.0)
    rows = found["exposure"]["rows"]
    assert rows[SERVED]["cold"]["MRR@10"] > rows[NO_BIAS]["cold"]["MRR@10"]
    assert rows[SERVED]["others"]["MRR@10"] < rows[NO_BIAS]["others"]["MRR@10"]
    ordered = sorted((row for name, row in rows.items() if name != TEXT), key=lambda row: row["bias"])
    assert [row["places"] for row in ordered] == sorted(row["places"] for row in ordered)
    assert [row["cold"]["HR@10"] for row in ordered] == sorted(row["cold"]["HR@10"] for row in ordered)
    assert found["models"]["intents"]["cold"] == measure()["models"]["intents"]["cold"], "one bias for all"


def test_others_are_ranked_as_by_the_model_with_that_bias() -> None:
    rows = measure()["exposure"]["rows"]
    cases = held_out(SEQUENCES, "test")
    warm = cases.at(np.flatnonzero([not COLD[targets].any() for targets in cases.targets]))
    assert rows[NO_BIAS]["others"]["targets"] == len(warm) > 5
    for name in (NO_BIAS, *TIMES):
        model = scorer().with_bias(rows[name]["bias"])
        ranks = model_ranks(model.space, FROZEN.prior, encode_users(model.encoder, warm))
        assert rows[name]["others"]["HR@10"] == pytest.approx((ranks <= 10).mean())


def test_places_are_those_of_new_items_in_the_lists_of_the_users_with_cold_targets() -> None:
    rows = measure(0.5)["exposure"]["rows"]
    for name in (NO_BIAS, SERVED, *TIMES):
        assert rows[name]["places"] == pytest.approx(places(scorer().with_bias(rows[name]["bias"]).space))


def test_biases_list_new_items_as_often_as_their_rows_say_to_validation_users() -> None:
    rows = measure()["exposure"]["rows"]
    model = scorer()
    users = encode_users(model.encoder, held_out(without_cold(SEQUENCES, COLD), "validation"))
    for exposure in EXPOSURES:
        space = model.with_bias(rows[f"{exposure:g}"]["bias"] + 1e-4).space
        shown = [user.top(10) for user in scored_users(space, FROZEN.prior, users, range(len(users.cases)))]
        share = np.mean([COLD[each].mean() for each in shown])
        assert share >= min(exposure * COLD.mean(), 1) - 0.01


def test_at_the_places_of_the_text_new_items_have_as_many_places_as_the_text_gives_them() -> None:
    rows = measure(3.0)["exposure"]["rows"]
    assert rows[AS_TEXT]["places"] == pytest.approx(rows[TEXT]["places"], abs=0.005)
    assert rows[AS_TEXT]["bias"] != rows[SERVED]["bias"]


def test_without_companions_by_text_new_items_keep_the_places_that_are_served() -> None:
    """Companions by texts that tell the group find more with as many places."""
    model = scorer(companion_weight=30.0)
    rows = measure_cold(model, SEQUENCES, text_vectors(), COLD, seed=1)["exposure"]["rows"]
    alone, served = rows[NO_COMPANIONS], rows[SERVED]
    assert alone["places"] == pytest.approx(served["places"], abs=0.005)
    assert alone["bias"] > served["bias"] == 0
    assert alone["cold"]["NDCG@10"] < served["cold"]["NDCG@10"] - 0.05
    bare = model.with_bias(alone["bias"])
    users = encode_users(model.encoder, cold_cases(SEQUENCES, COLD))
    strengths = csr_array(users.companions * ~COLD[None])
    ranks = model_ranks(bare.space, FROZEN.prior, replace(users, companions=strengths))
    assert alone["cold"]["HR@10"] == pytest.approx((ranks <= 10).mean())


def test_where_companions_by_text_were_never_found_no_row_claims_to_be_without_them() -> None:
    model = scorer(companion_weight=30.0)
    assert model.space.companions is not None
    counted = without_items(model.space.companions, COLD)
    older = replace(model, space=replace(model.space, companions=counted))
    assert model.has_companions_by_text
    assert not older.has_companions_by_text
    found = measure_cold(older, SEQUENCES, text_vectors(), COLD, seed=1)
    assert NO_COMPANIONS not in found["exposure"]["rows"]
    assert "closest texts" not in "\n".join(cold_lines(found))
    assert "closest texts" in "\n".join(cold_lines(measure_cold(model, SEQUENCES, text_vectors(), COLD, 1)))


def test_no_row_is_compared_at_equal_places_with_one_that_has_none() -> None:
    model = scorer(companion_weight=30.0).with_bias(-1000.0)
    rows = measure_cold(model, SEQUENCES, text_vectors(), COLD, seed=1)["exposure"]["rows"]
    assert rows[SERVED]["places"] == 0
    assert NO_COMPANIONS not in rows
    assert AS_TEXT in rows


def test_a_random_sample_of_the_others_is_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_exposure, "USERS", 5)
    found = measure()["exposure"]
    assert found["others"] == found["rows"][SERVED]["others"]["targets"] == 5


def test_without_validation_users_no_bias_is_chosen() -> None:
    users: list[Parts] = [(train, [], test) for train, _, test in USERS]
    found = measure_cold(scorer(), sequences_of(users), text_vectors(), COLD, 1)
    assert set(found["exposure"]["rows"]) == {NO_BIAS, SERVED, AS_TEXT, TEXT}


def test_where_all_targets_are_cold_there_are_no_others_to_take_from() -> None:
    users: list[Parts] = [([1, 2], [3], [6]), ([1, 2, 4], [5], [9])]
    found = measure_cold(scorer(), sequences_of(users), text_vectors(), COLD, 1)
    assert found["exposure"]["others"] == 0
    assert any("Others: 0 users" in line for line in cold_lines(found))


def test_the_table_has_a_line_a_row_with_the_interval_of_the_difference_to_the_text() -> None:
    found = measure(3.0)
    low, high = found["exposure"]["rows"][SERVED]["HR_difference_interval"]
    (line,) = [line for line in cold_lines(found) if line.startswith("| intents, as served |")]
    assert "| 3.000 |" in line
    assert f"({low:+.4f} to {high:+.4f})" in line
    assert sum(line.startswith("| intents,") for line in cold_lines(found)) == 3 + len(TIMES)
