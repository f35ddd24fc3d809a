"""Steering by a concept: groups come from learnt intents and example items, and lists are measured by the attribute."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.validation import encode_users
from saerec_ray.evaluation.concept_steering import EXAMPLES, Concept, concept_steering, draw_concepts
from saerec_ray.evaluation.scored_users import ScoredUser, sample_cases
from saerec_ray.evaluation.segments import FEWEST_RUNS, Population
from saerec_ray.evaluation.steering_tables import concept_lines
from saerec_ray.intents.catalogue import AttributeMatch, Catalogue
from saerec_ray.scoring import (
    MAX_LIMITED_ADJUSTMENTS,
    Adjustment,
    Mode,
    apply_shifts,
    rank_of,
    shifts,
    top_items,
)
from tests.evaluation.toy_models import AveragingEncoder, Toy, random_toy
from tests.synthetic import _catalogue

ITEMS = 400
EXACT = 11
"""The intent that stands for the value Oils; all others are learnt."""


def with_exact_intent(toy: Toy, **changes: Any) -> Catalogue:
    decoder = np.random.default_rng(0).normal(size=(toy.space.intent_count, 8)).astype(np.float32)
    whole = _catalogue(decoder, toy.space.codes, [f"item-{index}" for index in range(ITEMS)])
    oils = AttributeMatch(attribute="category", value="Oils", lift=5.0, f1=1.0, auc=1.0, q_value=0.0)
    intents = [
        each.model_copy(
            update={"state": "active", "steerable": True}
            | ({"dictionary": "attributes", "attribute": oils} if each.latent == EXACT else {})
            | changes
        )
        for each in whole.intents
    ]
    return Catalogue(intents_version="v", intents=intents)


def attributes(counts: dict[str, int]) -> list[dict[str, list[str]]]:
    """So many items of each value, scattered; the others have none."""
    order = iter(np.random.default_rng(1).permutation(ITEMS).tolist())
    found: list[dict[str, list[str]]] = [{} for _ in range(ITEMS)]
    for value, count in counts.items():
        for _ in range(count):
            found[next(order)] = {"category": [value]}
    return found


def test_values_of_too_few_or_too_many_items_are_no_concepts() -> None:
    toy = random_toy(1, items=ITEMS)
    counts = {"Oils": 60, "Few": 2 * EXAMPLES - 1, "Many": ITEMS // 5 + 1, "Lotions": 2 * EXAMPLES}
    concepts = draw_concepts(with_exact_intent(toy), toy.space, attributes(counts), 9, seed=0)
    assert {each.name for each in concepts} == {"category: Oils", "category: Lotions"}
    assert {each.name: int(each.carriers.sum()) for each in concepts} == {
        "category: Oils": 60,
        "category: Lotions": 2 * EXAMPLES,
    }


def test_a_group_is_of_learnt_intents_and_the_exact_one_stands_beside_it() -> None:
    toy = random_toy(1, items=ITEMS)
    concepts = draw_concepts(
        with_exact_intent(toy), toy.space, attributes({"Oils": 60, "Lotions": 50}), 9, seed=0
    )
    by_name = {each.name: each for each in concepts}
    for concept in concepts:
        group = concept.edits["group"]
        assert 2 <= len(group) <= MAX_LIMITED_ADJUSTMENTS
        assert all(edit.mode is Mode.BOOST and edit.intent != EXACT for edit in group)
        assert concept.edits["single"] == group[:1]
        assert group[0].strength == 1
    assert by_name["category: Oils"].edits["exact"] == [Adjustment(EXACT, Mode.BOOST)]
    assert "exact" not in by_name["category: Lotions"].edits


def test_intents_that_nobody_may_steer_are_in_no_group() -> None:
    toy = random_toy(1, items=ITEMS)
    hidden = with_exact_intent(toy, steerable=False)
    assert draw_concepts(hidden, toy.space, attributes({"Oils": 60}), 9, seed=0) == []


def boosted(toy: Toy, user: ScoredUser, edits: list[Adjustment], strength: float) -> np.ndarray:
    """The scores a server would rank by."""
    scaled = [Adjustment(edit.intent, edit.mode, edit.strength * strength) for edit in edits]
    made = shifts(toy.space, toy.steering, user.scores, user.values, scaled) if strength else []
    return user.eligible(apply_shifts(user.scores, made))


def found_at(allowed: np.ndarray, target: int) -> float:
    rank = rank_of(allowed, target)
    return 1 / np.log2(rank + 1) if rank <= 20 else 0.0


def test_the_figures_are_those_of_the_lists_a_server_would_show() -> None:
    base = random_toy(5, items=ITEMS, users=60)
    encoder = cast(UserEncoder, AveragingEncoder(base.space))
    toy = Toy(base.space, base.table, encode_users(encoder, base.users.cases))
    carriers = np.random.default_rng(3).random(ITEMS) < 0.5
    group = [Adjustment(2, Mode.BOOST, 1.0), Adjustment(7, Mode.BOOST, 0.4)]
    concept = Concept("kind: made up", carriers, {"single": group[:1], "group": group})
    found = concept_steering(
        toy.space,
        toy.table,
        toy.steering,
        toy.users,
        [concept],
        [0.5, 1.0],
        count=40,
        seed=0,
        population=Population(toy.users.cases, encoder, 99),
    )
    assert (found["users"], found["strengths"], found["paired"]) == (40, [0.0, 0.5, 1.0], {})
    everybody = toy.scored()
    sampled = [everybody[case] for case in sample_cases(toy.users, 40, 0)]
    segment = [user for user in everybody if carriers[user.targets].any()]
    assert 15 < len(segment) < 60
    for rule, edits in concept.edits.items():
        summary = found["rules"][rule]
        assert summary["segment_runs"] == len(segment), "of all users, whether they were sampled or not"
        start = 0.0
        for step, strength in enumerate(found["strengths"]):
            lists = [(user, boosted(toy, user, edits, strength)) for user in sampled]
            shares = [carriers[top_items(allowed, 20)].mean() for _, allowed in lists]
            total = sum(found_at(allowed, int(user.targets[0])) for user, allowed in lists)
            start = start or total
            of_segment = [
                found_at(boosted(toy, user, edits, strength), int(user.targets[0])) for user in segment
            ]
            assert summary["attribute_share"][step] == pytest.approx(np.mean(shares))
            assert summary["ndcg_segment"][step] == pytest.approx(np.mean(of_segment))
            assert summary["ndcg_loss"][step] == pytest.approx(1 - total / start)
        assert summary["overlap"][0] == 1
    assert found["rules"]["single"]["attribute_share"] != found["rules"]["group"]["attribute_share"]


def test_the_table_shows_every_rule_and_again_the_concepts_with_an_intent_of_their_own() -> None:
    toy = random_toy(1, items=ITEMS)
    concepts = draw_concepts(
        with_exact_intent(toy), toy.space, attributes({"Oils": 60, "Lotions": 50}), 9, seed=0
    )
    found = concept_steering(toy.space, toy.table, toy.steering, toy.users, concepts, [1.0], 3, seed=0)
    lines = concept_lines(found)
    assert lines[0].startswith("2 attribute values of 40 items and more; 1 have an intent of their own")
    for name, times in (("strongest learnt intent", 2), ("intent of the attribute itself", 2)):
        assert sum(f"| {name} | 1 |" in line for line in lines) == times
    share = found["rules"]["group"]["attribute_share"][1]
    assert any(line.startswith(f"| group of learnt intents | 1 | {share:.3f} |") for line in lines)
    assert found["paired"]["single"]["concepts"] == 1
    row = found["rules"]["group"]
    for runs, cell in ((FEWEST_RUNS - 1, "–"), (FEWEST_RUNS, "0.1250")):
        row |= {"segment_runs": runs, "ndcg_segment": [0.1, 0.125]}
        (line,) = [each for each in concept_lines(found)[:10] if "| group of learnt intents | 1 |" in each]
        assert line.endswith(f"| {cell} | {runs} | {row['overlap'][1]:.2f} |")
    assert "second table" in lines[0]
    alike = concept_steering(toy.space, toy.table, toy.steering, toy.users, concepts[:1], [1.0], 3, seed=0)
    assert sum("| strongest learnt intent | 1 |" in line for line in concept_lines(alike)) == 1
    assert "second table" not in concept_lines(alike)[0], "where there is none, none is promised"
