"""A group holds the steerable intents that stand for a concept, and says so when there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.intents.groups import MIN_SIMILARITY, MIN_WEIGHT_SHARE, group_from_items, group_from_text
from tests.intents.named_latents import intent, sparse_codes

INTENTS = [intent(f"int-0000000{latent}", latent) for latent in range(6)]


def latents_of(members: list) -> list[int]:
    return [member.intent.latent for member in members]


def test_a_text_finds_the_closest_names_weighted_by_how_far_they_can_be_trusted() -> None:
    intents = list(INTENTS)
    intents[1] = intents[1].model_copy(update={"detection_auc": 0.7})
    vectors = np.zeros((6, 3), dtype=np.float32)
    vectors[0] = [0.8, 0.6, 0]
    vectors[1] = [0.9, 0, np.sqrt(1 - 0.81)]
    vectors[2] = [0.2, 0.98, 0]
    members = group_from_text(intents, vectors, np.array([1, 0, 0], dtype=np.float32), 10)
    assert latents_of(members) == [0, 1]
    assert members[0].weight == 1
    assert members[1].weight == pytest.approx(0.9 * 0.4 / (0.8 * 0.8))


def test_a_name_that_was_never_judged_is_not_trusted() -> None:
    intents = [INTENTS[0].model_copy(update={"detection_auc": None})]
    one = np.array([[1, 0]], dtype=np.float32)
    assert group_from_text(intents, one, one[0], 5) == []


def test_a_name_that_is_right_by_construction_or_given_by_a_person_needs_no_judge() -> None:
    vectors = np.zeros((3, 2), dtype=np.float32)
    vectors[:, 0] = [1.0, 0.9, 0.8]
    text = np.array([1, 0], dtype=np.float32)
    sources = ["attribute", "human", "terms"]
    intents = [
        each.model_copy(update={"detection_auc": None, "label_source": source})
        for each, source in zip(INTENTS, sources, strict=False)
    ]
    members = group_from_text(intents, vectors, text, 5)
    assert latents_of(members) == [0, 1]
    assert [member.weight for member in members] == pytest.approx([1, 0.9])


def test_a_concept_the_dictionary_does_not_know_has_no_group() -> None:
    vectors = np.full((6, 2), [MIN_SIMILARITY - 0.05, 0.9], dtype=np.float32)
    assert group_from_text(INTENTS, vectors, np.array([1, 0], dtype=np.float32), 5) == []


def test_example_items_find_what_they_share_and_not_what_every_item_has() -> None:
    codes = np.zeros((100, 6))
    codes[:, 0] = 1  # every item
    codes[:10, 1] = codes[:10, 2] = 1
    codes[3, 3] = 5  # one odd example
    codes[50:, 4] = 1
    members = group_from_items(INTENTS, csr_array(codes.astype(np.float32)), list(range(10)), 10)
    assert set(latents_of(members)) == {1, 2}


@pytest.mark.parametrize("change", [{"steerable": False}, {"state": "blocked"}, {"state": "unpublished"}])
def test_only_steerable_intents_are_members(change: dict[str, object]) -> None:
    codes = np.zeros((20, 6))
    codes[:5, 1] = codes[:5, 2] = 1
    intents = list(INTENTS)
    intents[1] = intents[1].model_copy(update=change)
    assert latents_of(group_from_items(intents, csr_array(codes.astype(np.float32)), [0, 1], 5)) == [2]


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 6))
def test_weights_fall_from_one_and_no_weak_member_is_kept(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    codes = csr_array(sparse_codes(rng, 50, 6, 0.3).astype(np.float32))
    examples = rng.permutation(50)[:4].tolist()
    weights = [member.weight for member in group_from_items(INTENTS, codes, examples, size)]
    assert len(weights) <= size
    assert weights == sorted(weights, reverse=True)
    assert all(MIN_WEIGHT_SHARE <= weight <= 1 for weight in weights)
    assert not weights or weights[0] == 1
