"""The part `dictionary` on planted items: the ceiling for the planted dictionary, less for every control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from saerec_ray.backbone.validation import held_out
from saerec_ray.dictionary.sae import Scaling
from saerec_ray.evaluation.codings import NAMES
from saerec_ray.evaluation.dictionary_part import dictionary_headline, measure_dictionary_part
from saerec_ray.evaluation.dictionary_tables import coding_name, dictionary_lines
from tests.backbone.small_sets import sequences_of
from tests.evaluation.planted_dictionary import TOPICS, plant

PLANTED = plant()


def sequences() -> Any:
    """Users who stay with one topic, with one item held out for each split."""
    rng = np.random.default_rng(0)
    users = []
    for user in range(80):
        own = rng.permutation(np.flatnonzero(PLANTED.present[:, user % TOPICS])).tolist()
        users.append((own[:4], own[4:5], own[5:6]))
    return sequences_of(users)


def measure(coded: Any = PLANTED.coded, users: int = 200) -> dict[str, Any]:
    return measure_dictionary_part(coded, sequences(), users, 7, lambda _done, _total: None)


FOUND = measure()


def test_the_planted_dictionary_loses_nothing_and_every_control_much() -> None:
    assert FOUND["codings"]["dictionary"]["fvu"] < 1e-6
    for name in NAMES[1:]:
        assert FOUND["codings"][name]["fvu"] > 0.4
    for split in ("validation", "test"):
        codings = FOUND["recovered"][split]["codings"]
        assert codings["dictionary"]["recovered"]["10"] == pytest.approx(1, abs=0.02)
        assert codings["dictionary"]["overlap"] > 0.98
        for name in NAMES[1:]:
            assert codings[name]["recovered"]["20"] < 0.9
            assert codings[name]["overlap"] < 0.6


def test_items_are_split_as_they_were_for_training() -> None:
    assert (FOUND["train_items"], FOUND["held_out_items"], FOUND["latents"]) == (500, 50, TOPICS)
    assert sum(FOUND["densities"]["histogram"]["counts"]) == TOPICS
    assert FOUND["densities"]["dead_share"] == 0
    assert FOUND["directions"]["alignment"] == pytest.approx(1)


def test_users_are_bounded_and_every_split_is_measured() -> None:
    assert FOUND["recovered"]["test"]["users"] == 80
    few = measure(users=9)["recovered"]
    assert (few["validation"]["users"], few["test"]["users"]) == (9, 9)


def test_the_ranking_is_measured_on_held_out_items_alone_too() -> None:
    held = np.zeros(len(PLANTED.vectors), dtype=bool)
    held[PLANTED.coded.held_out] = True
    for split in ("validation", "test"):
        found = FOUND["recovered_held_out"][split]
        cases = held_out(sequences(), split)
        assert found["users"] == sum(held[targets].any() for targets in cases.targets) > 0
        assert found["codings"]["dictionary"]["recovered"]["10"] == pytest.approx(1, abs=0.02)
        assert found["ndcg"]["10"] > FOUND["recovered"][split]["ndcg"]["10"], "fewer items compete"
    lines = "\n".join(dictionary_lines(FOUND))
    assert "coding, test, held-out items alone" in lines


def test_progress_rises_to_the_end() -> None:
    steps: list[float] = []
    measure_dictionary_part(PLANTED.coded, sequences(), 5, 7, lambda done, total: steps.append(done / total))
    assert steps == sorted(steps)
    assert steps[-1] == 1


def test_a_dictionary_that_is_wide_enough_is_measured_denser_too() -> None:
    rng = np.random.default_rng(1)
    more = rng.normal(size=(64, 32)).astype(np.float32)
    more[:TOPICS] = PLANTED.directions
    more /= np.linalg.norm(more, axis=1, keepdims=True)
    wide = replace(PLANTED.dictionary, encoder=more, decoder=more, encoder_bias=np.zeros(64, np.float32))
    found = measure(replace(PLANTED.coded, dictionary=wide), users=5)
    assert {"dictionary_32", "pca_32"} <= set(found["recovered"]["test"]["codings"])
    assert coding_name("dictionary_32") == "dictionary at 32 an item"
    assert "PCA, 32 components" in "\n".join(dictionary_lines(found))


def test_stability_is_told_where_it_is_known() -> None:
    assert "stability" not in FOUND
    values = np.linspace(0.4, 1, TOPICS, dtype=np.float32)
    found = measure(replace(PLANTED.coded, stability=values), users=5)
    assert found["stability"] == {
        "mean": pytest.approx(0.7),
        "stable_share": pytest.approx((values >= 0.7).mean()),
    }
    assert "50% of latents; mean cosine 0.70" in "\n".join(dictionary_lines(found))


def test_a_dictionary_from_elsewhere_is_said_to_be_one() -> None:
    elsewhere = replace(
        PLANTED.coded,
        trained_here=False,
        dictionary=replace(PLANTED.dictionary, scaling=Scaling.fit(PLANTED.vectors)),
    )
    lines = "\n".join(dictionary_lines(measure(elsewhere, users=5)))
    assert "trained on other items" in lines
    assert "trained on other items" not in "\n".join(dictionary_lines(FOUND))


def test_headlines_are_of_held_out_items_and_test_users() -> None:
    assert dictionary_headline({"dictionary": FOUND}) == {
        "dictionary_fvu": FOUND["codings"]["dictionary"]["fvu"],
        "dictionary_ndcg_recovered": FOUND["recovered"]["test"]["codings"]["dictionary"]["recovered"]["10"],
    }
    assert dictionary_headline({}) == {}


def test_without_held_out_interactions_there_is_no_ranking_and_no_error() -> None:
    nobody = sequences_of([([1, 2, 3], [], [])])
    found = measure_dictionary_part(PLANTED.coded, nobody, 5, 7, lambda _done, _total: None)
    assert found["recovered"] == found["recovered_held_out"] == {}
    assert set(dictionary_headline({"dictionary": found})) == {"dictionary_fvu"}
    assert "Ranking recovered" not in "\n".join(dictionary_lines(found))
