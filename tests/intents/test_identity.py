"""Ids outlive a retraining: an intent that is still there keeps its id, one that is gone names successors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from saerec_ray.config import ClusterConfig
from saerec_ray.data.prepared import PreparedItems
from saerec_ray.dictionary.build import build_dictionary
from saerec_ray.dictionary.sae import read_codes, read_dictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.intents.catalogue import Catalogue, stable_ids
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.identity import (
    MATCH_THRESHOLD,
    MIN_SHARED_ITEMS,
    SUCCESSOR_THRESHOLD,
    NamedLatents,
    assign,
    carry_over,
    code_correlations,
    direction_cosines,
    inherited_edits,
    item_keys,
    match_latents,
)
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.intents.named_latents import intent, named, sparse_codes

ITEMS, LATENTS, WIDTH = 200, 12, 32


def permuted(latents: NamedLatents, order: np.ndarray) -> NamedLatents:
    """The same dictionary with its latents in another order and ids of its own."""
    moved = named(latents.decoder[order], latents.codes.toarray()[:, order], version="v2")
    fresh = [
        each.model_copy(update={"intent_id": f"int-{latent:08x}"})
        for latent, each in enumerate(moved.catalogue.intents)
    ]
    return replace(moved, catalogue=Catalogue(intents_version="v2", intents=fresh))


def dictionary(seed: int, items: int = ITEMS, first_item: int = 0) -> NamedLatents:
    rng = np.random.default_rng(seed)
    return named(rng.normal(size=(LATENTS, WIDTH)), sparse_codes(rng, items, LATENTS), first_item=first_item)


def carried(old: NamedLatents, new: NamedLatents) -> Catalogue:
    return carry_over(old, new, match_latents(old, new))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_ids_follow_latents_into_any_order(seed: int) -> None:
    old = dictionary(seed)
    order = np.random.default_rng(seed).permutation(LATENTS)
    catalogue = carried(old, permuted(old, order))
    assert [each.intent_id for each in catalogue.intents] == [
        old.catalogue.intents[latent].intent_id for latent in order
    ]
    assert [each.latent for each in catalogue.intents] == list(range(LATENTS))
    assert catalogue.deprecated == []


@settings(max_examples=25)
@given(seeds=st.lists(st.integers(0, 10_000), min_size=3, max_size=5, unique=True))
def test_no_id_is_ever_used_twice_and_no_visible_one_is_lost(seeds: list[int]) -> None:
    current = dictionary(seeds[0])
    known = {each.intent_id for each in current.catalogue.intents}
    for seed in seeds[1:]:
        rng = np.random.default_rng(seed)
        kept = rng.permutation(LATENTS)[: LATENTS // 2]
        other = dictionary(seed)
        decoder, codes = other.decoder.copy(), other.codes.toarray()
        decoder[: len(kept)], codes[:, : len(kept)] = (
            current.decoder[kept],
            current.codes.toarray()[:, kept],
        )
        new = named(decoder, codes, version=f"v{seed}")
        catalogue = carried(current, new)
        live = [each.intent_id for each in catalogue.intents]
        gone = [each.intent_id for each in catalogue.deprecated]
        assert len(set(live + gone)) == len(live) + len(gone)
        assert known <= set(live + gone)
        known |= set(live)
        current = replace(new, catalogue=catalogue)


def test_an_intent_without_a_match_is_deprecated_and_names_the_closest_published_ones() -> None:
    similarity = np.full((3, 3), 0.1, dtype=np.float32)
    similarity[0, 0] = 0.95
    similarity[1] = [0.55, 0.65, 0.68]
    rng = np.random.default_rng(1)
    old = named(rng.normal(size=(3, 4)), sparse_codes(rng, 80, 3))
    new_intents = [
        intent("int-000000a0", 0),
        intent("int-000000a1", 1, state="unpublished", steerable=False),
        intent("int-000000a2", 2),
    ]
    new = named(rng.normal(size=(3, 4)), sparse_codes(rng, 80, 3), new_intents, version="v2")
    catalogue = carry_over(old, new, assign(similarity))
    ids = [each.intent_id for each in old.catalogue.intents]
    assert [each.intent_id for each in catalogue.intents] == [ids[0], "int-000000a1", "int-000000a2"]
    entries = {each.intent_id: each for each in catalogue.deprecated}
    assert set(entries) == set(ids[1:])
    assert entries[ids[1]].successors == ["int-000000a2", ids[0]]  # closest first, never an unpublished one
    assert entries[ids[1]].last_version == "v1"
    assert entries[ids[1]].label == old.catalogue.intents[1].label
    assert entries[ids[2]].successors == []  # nothing reaches the threshold


def test_an_intent_nobody_could_see_leaves_no_entry() -> None:
    rng = np.random.default_rng(2)
    hidden = [intent(f"int-0000000{latent}", latent, state="unpublished") for latent in range(3)]
    old = named(rng.normal(size=(3, 8)), sparse_codes(rng, 80, 3), hidden)
    assert carried(old, named(rng.normal(size=(3, 8)), sparse_codes(rng, 80, 3))).deprecated == []


def test_an_intent_that_failed_a_gate_is_deprecated_and_comes_back_under_its_id() -> None:
    first = dictionary(3)
    failed = [
        each.model_copy(update={"state": "unpublished"}) if each.latent == 0 else each
        for each in first.catalogue.intents
    ]
    again = replace(first, catalogue=Catalogue(intents_version="v2", intents=failed))
    second = carried(first, again)
    wanted = first.catalogue.intents[0].intent_id
    assert second.intents[0].intent_id == wanted
    assert [each.intent_id for each in second.deprecated] == [wanted]
    third = carried(replace(again, catalogue=second), first)
    assert third.intents[0].intent_id == wanted
    assert third.deprecated == []


def test_a_successor_that_is_gone_gives_way_to_its_own_successors() -> None:
    rng = np.random.default_rng(4)
    second = named(rng.normal(size=(2, 8)), sparse_codes(rng, 80, 2), version="v2")
    heir, stays = (each.intent_id for each in second.catalogue.intents)
    first_entry = carry_over(
        named(rng.normal(size=(1, 8)), sparse_codes(rng, 80, 1), [intent("int-00000001", 0)]),
        second,
        assign(np.array([[0.6, 0.5]], dtype=np.float32)),
    )
    assert first_entry.deprecated[0].successors == [heir, stays]
    third = named(
        rng.normal(size=(2, 8)),
        sparse_codes(rng, 80, 2),
        [intent("int-000000b0", 0), intent("int-000000b1", 1)],
        version="v3",
    )
    similarity = np.array([[0.6, 0.1], [0.1, 0.9]], dtype=np.float32)
    catalogue = carry_over(replace(second, catalogue=first_entry), third, assign(similarity))
    entries = {each.intent_id: each.successors for each in catalogue.deprecated}
    assert entries == {heir: ["int-000000b0"], "int-00000001": ["int-000000b0", stays]}


def test_what_people_decided_elsewhere_goes_on_with_the_id() -> None:
    old = dictionary(5)
    edit = Edit(label="Gifts for her")
    decided = list(old.catalogue.intents)
    decided[1] = decided[1].model_copy(update={"inherited_edit": edit})
    decided[2] = decided[2].model_copy(update={"edit": edit})  # by an overlay, which is asked itself
    old = replace(old, catalogue=Catalogue(intents_version="v1", intents=decided))
    order = np.arange(LATENTS)[::-1]
    matching = match_latents(old, permuted(old, order))
    ids = [old.catalogue.intents[latent].intent_id for latent in order]
    assert inherited_edits(old.catalogue, ids, matching) == {decided[1].intent_id: edit}
    nothing = assign(np.zeros((LATENTS, LATENTS), dtype=np.float32))
    assert inherited_edits(old.catalogue, ids, nothing) == {}


def test_a_dictionary_that_comes_back_has_its_old_ids_again() -> None:
    """Someone tries another seed, and goes back."""
    first, other = dictionary(21), dictionary(22)
    away = replace(other, catalogue=carried(first, other))
    assert {each.intent_id for each in away.catalogue.deprecated} == {
        each.intent_id for each in first.catalogue.intents
    }
    back = carried(away, first)
    assert [each.intent_id for each in back.intents] == [each.intent_id for each in first.catalogue.intents]


def test_a_blocked_intent_that_is_gone_is_not_shown_as_deprecated() -> None:
    rng = np.random.default_rng(11)
    old = named(rng.normal(size=(2, 8)), sparse_codes(rng, 80, 2))
    hidden, shown = old.catalogue.intents
    blocked = hidden.model_copy(update={"state": "blocked", "steerable": False})
    old = replace(old, catalogue=Catalogue(intents_version="v1", intents=[blocked, shown]))
    new = named(rng.normal(size=(1, 8)), sparse_codes(rng, 80, 1), [intent("int-000000c1", 0)])
    catalogue = carry_over(old, new, assign(np.zeros((2, 1), dtype=np.float32)))
    assert [entry.intent_id for entry in catalogue.deprecated] == [shown.intent_id]


def test_parents_are_named_by_the_carried_ids() -> None:
    old = dictionary(6)
    new = permuted(old, np.arange(LATENTS))
    intents = list(new.catalogue.intents)
    intents[3] = intents[3].model_copy(update={"parent_id": intents[0].intent_id})
    catalogue = carried(old, replace(new, catalogue=Catalogue(intents_version="v2", intents=intents)))
    assert catalogue.intents[3].parent_id == old.catalogue.intents[0].intent_id


def test_a_new_latent_never_gets_an_id_that_stood_for_another_intent() -> None:
    rng = np.random.default_rng(7)
    old = named(rng.normal(size=(2, 8)), sparse_codes(rng, 80, 2))
    taken = old.catalogue.intents[1].intent_id
    new = named(
        rng.normal(size=(2, 8)), sparse_codes(rng, 80, 2), [intent(taken, 0), intent("int-000000c1", 1)]
    )
    catalogue = carry_over(old, new, assign(np.zeros((2, 2), dtype=np.float32)))
    assert catalogue.intents[0].intent_id not in {each.intent_id for each in old.catalogue.intents}
    assert catalogue.intents[1].intent_id == "int-000000c1"


def test_the_version_changes_with_the_ids() -> None:
    old, new = dictionary(8), dictionary(9)
    assert carried(old, new).intents_version != new.catalogue.intents_version
    assert carried(old, new).intents_version == carried(old, new).intents_version


def test_correlations_and_cosines_agree_with_numpy() -> None:
    rng = np.random.default_rng(10)
    old, new = sparse_codes(rng, 60, 5), sparse_codes(rng, 60, 4)
    old[:, 2] = 0
    found = code_correlations(csr_array(old), csr_array(new))
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.nan_to_num(np.corrcoef(old.T, new.T)[:5, 5:])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    a, b = rng.normal(size=(3, 7)), rng.normal(size=(2, 7))
    b[0] = 0
    cosines = direction_cosines(a.astype(np.float32), b.astype(np.float32))
    assert cosines[0, 0] == 0
    assert cosines[0, 1] == pytest.approx(a[0] @ b[1] / np.linalg.norm(a[0]) / np.linalg.norm(b[1]), abs=1e-6)


def test_the_same_direction_on_other_items_is_not_the_same_intent() -> None:
    rng = np.random.default_rng(11)
    old = named(rng.normal(size=(4, WIDTH)), sparse_codes(rng, ITEMS, 4))
    new = named(old.decoder, sparse_codes(rng, ITEMS, 4))
    assert match_latents(old, new).new_of_old == {}


def test_codes_alone_decide_under_another_language_model() -> None:
    rng = np.random.default_rng(12)
    old = dictionary(12)
    other = named(rng.normal(size=(LATENTS, 2 * WIDTH)), old.codes.toarray()[:, ::-1])
    assert match_latents(old, other).new_of_old == {row: LATENTS - 1 - row for row in range(LATENTS)}


def test_directions_alone_decide_on_another_catalogue() -> None:
    old = dictionary(13)
    elsewhere = named(
        old.decoder[::-1], dictionary(14).codes.toarray(), first_item=ITEMS - MIN_SHARED_ITEMS + 1
    )
    assert match_latents(old, elsewhere).new_of_old == {row: LATENTS - 1 - row for row in range(LATENTS)}


def test_items_of_two_catalogues_that_number_theirs_from_one_are_not_shared() -> None:
    def catalogue(what: str) -> PreparedItems:
        ids = [str(number) for number in range(1, ITEMS + 1)]
        return PreparedItems(ids, ids, [f"{what} {each}" for each in ids], [{}] * ITEMS)

    old = replace(dictionary(16), items=item_keys(catalogue("soap")))
    elsewhere = named(old.decoder, dictionary(17).codes.toarray())
    for what, same in (("toy", range(LATENTS)), ("soap", ())):
        found = match_latents(old, replace(elsewhere, items=item_keys(catalogue(what))))
        assert found.new_of_old == {row: row for row in same}, (
            "directions decide, unless the items are the same"
        )


def with_second(latents: NamedLatents, codes: np.ndarray) -> NamedLatents:
    """The same with a second dictionary of co-occurrence, which has codes and no directions of texts."""
    together = csr_array(np.hstack([latents.codes.toarray(), codes]).astype(np.float32))
    more = [
        intent(f"int-c{place:07x}", latents.codes.shape[1] + place, dictionary="cooccurrence")
        for place in range(codes.shape[1])
    ]
    catalogue = latents.catalogue.model_copy(update={"intents": [*latents.catalogue.intents, *more]})
    return replace(latents, codes=together, catalogue=catalogue)


def test_latents_of_co_occurrence_are_matched_by_their_items_and_among_themselves() -> None:
    old = dictionary(31)
    rng = np.random.default_rng(32)
    second = sparse_codes(rng, ITEMS, 5)
    second[:, 4] = old.codes.toarray()[:, 0]  # fires just where a text latent does
    order = np.array([3, 0, 4, 1, 2])
    new = with_second(permuted(old, rng.permutation(LATENTS)), second[:, order])
    before = with_second(old, second)
    matching = match_latents(before, new)
    assert matching.similarity.shape == (LATENTS + 5, LATENTS + 5)
    assert not matching.similarity[:LATENTS, LATENTS:].any()
    assert not matching.similarity[LATENTS:, :LATENTS].any()
    assert {
        old_one - LATENTS: new_one - LATENTS
        for old_one, new_one in matching.new_of_old.items()
        if old_one >= LATENTS
    } == {int(origin): place for place, origin in enumerate(order)}
    found = carried(before, new)
    assert [each.intent_id for each in found.intents[LATENTS:]] == [f"int-c{place:07x}" for place in order]


def test_a_second_dictionary_changes_nothing_for_text_latents() -> None:
    old, new = dictionary(33), dictionary(34)
    alone = match_latents(old, new)
    rng = np.random.default_rng(35)
    together = match_latents(
        with_second(old, sparse_codes(rng, ITEMS, 5)), with_second(new, sparse_codes(rng, ITEMS, 4))
    )
    np.testing.assert_array_equal(together.similarity[:LATENTS, :LATENTS], alone.similarity)
    assert {row: column for row, column in together.new_of_old.items() if row < LATENTS} == alone.new_of_old


def test_intents_of_a_second_dictionary_that_is_gone_are_deprecated_as_what_they_were() -> None:
    old = dictionary(36)
    before = with_second(old, sparse_codes(np.random.default_rng(37), ITEMS, 2))
    gone = carried(before, permuted(old, np.arange(LATENTS))).deprecated
    assert [(each.intent_id, each.dictionary, each.successors) for each in gone] == [
        ("int-c0000000", "cooccurrence", []),
        ("int-c0000001", "cooccurrence", []),
    ]


def test_an_id_of_co_occurrence_that_stood_for_another_intent_is_not_used_again() -> None:
    codes = sparse_codes(np.random.default_rng(38), ITEMS, 4)
    before, new = with_second(dictionary(39), codes[:, :2]), with_second(dictionary(39), codes[:, 2:])
    ids = [each.intent_id for each in carried(before, new).intents]
    assert len(set(ids)) == len(ids)
    assert not {"int-c0000000", "int-c0000001"} & set(ids), "both stood for other intents"


def test_nothing_matches_when_nothing_can_be_compared() -> None:
    rng = np.random.default_rng(15)
    old = dictionary(15)
    other = named(rng.normal(size=(LATENTS, 2 * WIDTH)), old.codes.toarray(), first_item=10 * ITEMS)
    matching = match_latents(old, other)
    assert matching.new_of_old == {}
    assert matching.match_share() == 0


def planted_vectors(seed: int, items: int = 1000, directions: int = 32, width: int = 40) -> np.ndarray:
    """Unit vectors that are sums of a few planted directions, with a little noise: (items, width)."""
    rng = np.random.default_rng(seed)
    planted = rng.normal(size=(directions, width))
    planted /= np.linalg.norm(planted, axis=1, keepdims=True)
    active = rng.random((items, directions)) < 3 / directions
    active[np.arange(items), rng.integers(directions, size=items)] = True
    vectors = (active * rng.uniform(0.6, 1.4, size=active.shape)) @ planted
    vectors += rng.normal(scale=0.02, size=vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def retrained(folder: Path, seed: int, vectors: Path) -> NamedLatents:
    """A dictionary trained from this seed; latents that next to no item carries are not published."""
    folder.mkdir()
    config = DictionaryConfig(
        width=40, active=3, epochs=45, batch_size=64, learning_rate=6e-3, average_decay=0.98
    )
    build_dictionary(config, ClusterConfig(engine="local"), seed, vectors, folder, folder / "runs")
    decoder, codes = read_dictionary(folder).decoder, read_codes(folder)
    counts = np.bincount(codes.indices, minlength=config.width)
    intents = [
        intent(each, latent, state="active" if counts[latent] >= 5 else "unpublished")
        for latent, each in enumerate(stable_ids(decoder))
    ]
    return named(decoder, codes.toarray(), intents, version=f"v{seed}")


def test_over_five_retrainings_nine_of_ten_intents_keep_their_id_or_name_a_successor(tmp_path: Path) -> None:
    save_file({"embeddings": planted_vectors(0)}, tmp_path / EMBEDDINGS_FILE)
    current = retrained(tmp_path / "seed 0", 0, tmp_path)
    for seed in range(1, 6):
        fresh = retrained(tmp_path / f"seed {seed}", seed, tmp_path)
        catalogue = carried(current, fresh)
        published = {each.intent_id for each in catalogue.intents if each.published}
        followed = published | {each.intent_id for each in catalogue.deprecated if each.successors}
        top = sorted(
            (each for each in current.catalogue.intents if each.published), key=lambda each: -each.item_count
        )[:200]
        assert len(top) >= 30
        assert np.mean([each.intent_id in published for each in top]) >= 0.7
        assert np.mean([each.intent_id in followed for each in top]) >= 0.9
        current = replace(fresh, catalogue=catalogue)


def test_the_thresholds_are_in_order() -> None:
    assert 0 < SUCCESSOR_THRESHOLD < MATCH_THRESHOLD <= 1
