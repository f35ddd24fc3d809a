"""The catalogue as a whole: planted intents get their names back, and every gate says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.config import IntentsConfig
from saerec_ray.intents.catalogue import Catalogue, Intent, stable_ids
from saerec_ray.intents.detection import split_halves
from tests.intents.planted import DIMENSION, TOPICS, Planted, encode, plant

TOPIC_COUNT = len(TOPICS)


def words(text: str) -> set[str]:
    return set(text.lower().replace(",", " ").split())


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant()


@pytest.fixture(scope="module")
def unattributed() -> Planted:
    return plant(attributes=False)


@pytest.fixture(scope="module")
def catalogue(planted: Planted) -> Catalogue:
    return planted.build()[0]


def topics_of(catalogue: Catalogue) -> list[Intent]:
    return catalogue.intents[:TOPIC_COUNT]


def test_planted_intents_are_published_under_words_of_their_topic(unattributed: Planted) -> None:
    catalogue, _, _ = unattributed.build()
    for intent, (name, more) in zip(topics_of(catalogue), TOPICS.items(), strict=True):
        assert intent.state == "active"
        assert words(intent.label) <= words(name) | words(more)
        assert words(intent.label) & words(name)
        assert intent.attribute is None
        assert intent.detection_auc is not None
        assert intent.detection_auc > 0.9


def test_an_attribute_that_coincides_becomes_evidence_and_name(catalogue: Catalogue) -> None:
    for intent, name in zip(topics_of(catalogue), TOPICS, strict=True):
        assert intent.attribute is not None
        assert (intent.attribute.attribute, intent.attribute.value) == ("category", name.title())
        assert intent.attribute.f1 == 1.0
        assert words(intent.label) & words(name)
        assert f"Category '{name.title()}' is " in intent.description


def test_latents_that_follow_nothing_are_not_published(catalogue: Catalogue) -> None:
    for intent in catalogue.intents[TOPIC_COUNT:]:
        assert intent.state == "unpublished"
        assert not intent.steerable
        assert not intent.published


def test_every_latent_has_one_entry_in_order_with_its_id(planted: Planted, catalogue: Catalogue) -> None:
    assert [intent.latent for intent in catalogue.intents] == list(range(planted.codes.shape[1]))
    assert [intent.intent_id for intent in catalogue.intents] == stable_ids(planted.decoder)


def test_counts_densities_and_top_items_are_those_of_the_codes(
    planted: Planted, catalogue: Catalogue
) -> None:
    dense = planted.codes.toarray()
    for intent in topics_of(catalogue):
        column = dense[:, intent.latent]
        assert intent.item_count == (column > 0).sum()
        assert intent.item_density == pytest.approx((column > 0).mean())
        assert intent.user_density == pytest.approx(planted.population.user_counts[intent.latent] / 50)
        strongest = np.argsort(-column)[:20]
        assert [top.item_id for top in intent.top_items] == [planted.items.ids[item] for item in strongest]
        assert [top.loading for top in intent.top_items] == pytest.approx(column[strongest].tolist())


def verdict(planted: Planted, latent: int, **settings: object) -> tuple[str, str]:
    intent = planted.build(IntentsConfig.model_validate(settings))[0].intents[latent]
    return intent.state, intent.verdict


def test_a_latent_that_passes_says_so(planted: Planted) -> None:
    assert verdict(planted, 0) == ("active", "published: all gates passed")


def test_a_latent_that_never_fires_says_so(planted: Planted) -> None:
    assert verdict(planted, planted.codes.shape[1] - 1) == ("unpublished", "never active")


def test_a_latent_on_too_few_items_says_on_how_many(planted: Planted) -> None:
    assert verdict(planted, 0, min_items=61) == ("unpublished", "active on 60 items, fewer than 61")
    assert verdict(planted, 0, min_items=60)[0] == "active"


def test_a_latent_on_too_many_items_says_what_share(planted: Planted) -> None:
    assert verdict(planted, 0, max_density=0.1) == ("unpublished", "active on 11% of items, more than 10%")


def test_a_latent_that_other_seeds_do_not_find_again_stays_unpublished_and_says_so(planted: Planted) -> None:
    values = np.full(planted.codes.shape[1], 0.9, dtype=np.float32)
    values[0] = 0.69
    shaky, firm = planted.build(stability=values)[0].intents[:2]
    assert (shaky.state, shaky.steerable) == ("unpublished", False)
    assert shaky.verdict == "other seeds do not find it again: stability 0.69, below 0.70"
    assert (firm.state, firm.verdict) == ("active", "published: all gates passed")
    assert (shaky.stability, firm.stability) == (pytest.approx(0.69), pytest.approx(0.9))
    lower = planted.build(IntentsConfig(min_stability=0.6), stability=values)[0].intents[0]
    assert lower.state == "active"


def test_where_one_seed_was_trained_stability_is_unknown_and_decides_nothing(catalogue: Catalogue) -> None:
    assert {intent.stability for intent in catalogue.intents} == {None}


def test_a_latent_whose_name_does_not_find_its_items_says_how_well_it_does(unattributed: Planted) -> None:
    mixed = unattributed.codes.tolil()
    mixed[np.random.default_rng(0).choice(len(unattributed.items), 50, replace=False), 0] = 1.0
    polluted = replace(unattributed, codes=csr_array(mixed))
    intent = polluted.build(IntentsConfig(min_detection_auc=0.95))[0].intents[0]
    assert intent.detection_auc is not None
    assert intent.state == "unpublished"
    assert intent.verdict == f"its name finds held-out items with AUC {intent.detection_auc:.2f}, below 0.95"
    lower = IntentsConfig(min_detection_auc=intent.detection_auc)
    assert polluted.build(lower)[0].intents[0].state == "active"


def test_a_latent_that_no_phrase_tells_from_others_says_so(planted: Planted) -> None:
    nameless = replace(
        planted,
        items=replace(planted.items, texts=[""] * len(planted.items), attributes=[{}] * len(planted.items)),
    )
    intent = nameless.build()[0].intents[0]
    assert (intent.label, intent.state) == ("unnamed", "unpublished")
    assert intent.verdict == "no phrase or attribute tells its items from others"
    assert intent.description == "60 items without a common name."


def test_a_latent_that_held_out_items_cannot_judge_says_so(planted: Planted) -> None:
    judging = split_halves(len(planted.items), 5)[1]
    few = planted.codes.tolil()
    few[np.intersect1d(judging, np.flatnonzero(planted.codes.toarray()[:, 0]))[4:], 0] = 0
    intent = replace(planted, codes=csr_array(few)).build(IntentsConfig(min_items=2))[0].intents[0]
    assert intent.label != "unnamed"
    assert intent.detection_auc is None
    assert intent.verdict == "too few held-out items to judge its name"
    assert intent.state == "unpublished"


def with_twins(planted: Planted, copies: int = 3) -> Planted:
    """The first latents again, so that several latents deserve the same name."""
    rng = np.random.default_rng(9)
    dense = planted.codes.toarray()
    twins = dense[:, :TOPIC_COUNT]
    codes = csr_array(
        np.hstack([dense, *[twins * (1 + 0.1 * copy) for copy in range(copies)]]).astype(np.float32)
    )
    bent = [
        planted.decoder[:TOPIC_COUNT] + 0.02 * rng.normal(size=(TOPIC_COUNT, DIMENSION))
        for _ in range(copies)
    ]
    decoder = np.vstack([planted.decoder, *bent]).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    widened = {
        name: np.concatenate([values, *[values[:TOPIC_COUNT]] * copies])
        for name, values in planted.population.arrays().items()
    }
    return replace(planted, codes=codes, decoder=decoder, population=replace(planted.population, **widened))


def test_no_two_published_intents_have_the_same_label(planted: Planted) -> None:
    catalogue, _, _ = with_twins(planted).build()
    labels = [intent.label.lower() for intent in catalogue.intents if intent.published]
    assert len(labels) == 4 * TOPIC_COUNT
    assert len(set(labels)) == len(labels)


def test_when_words_run_out_labels_are_numbered(planted: Planted) -> None:
    catalogue, _, _ = with_twins(planted, copies=8).build(IntentsConfig(max_terms=1))
    labels = [intent.label for intent in catalogue.intents if intent.published]
    assert len({label.lower() for label in labels}) == len(labels) == 9 * TOPIC_COUNT
    assert any(label.endswith(" (2)") for label in labels)


def test_search_vectors_are_of_label_and_terms_and_zero_without_a_name(planted: Planted) -> None:
    catalogue, vectors, _ = planted.build()
    for intent in catalogue.intents:
        if intent.terms or intent.attribute:
            expected = encode([". ".join([intent.label, *intent.terms])])[0]
            np.testing.assert_allclose(vectors[intent.latent], expected, atol=1e-6)
        else:
            assert not vectors[intent.latent].any()


def test_the_same_seed_gives_the_same_catalogue_and_version(planted: Planted, catalogue: Catalogue) -> None:
    assert planted.build()[0] == catalogue


def test_another_label_or_dictionary_is_another_version(planted: Planted, catalogue: Catalogue) -> None:
    relabelled = replace(
        planted,
        items=replace(
            planted.items,
            texts=[text.replace("polish", "varnish") for text in planted.items.texts],
            attributes=[{}] * len(planted.items),
        ),
    )
    turned = replace(planted, decoder=planted.decoder[:, ::-1].copy())
    versions = {each.build()[0].intents_version for each in (relabelled, turned)} | {
        catalogue.intents_version
    }
    assert len(versions) == 3


def test_names_are_found_in_one_half_of_the_items_and_judged_in_the_other(unattributed: Planted) -> None:
    """Were the judging half read for names, a word that only its texts have would become a label."""
    judging = set(split_halves(len(unattributed.items), 5)[1].tolist())
    texts = [
        f"{text}, secretword" if item in judging else text
        for item, text in enumerate(unattributed.items.texts)
    ]
    catalogue, _, _ = replace(unattributed, items=replace(unattributed.items, texts=texts)).build()
    assert not any(
        "secretword" in term.lower() for intent in catalogue.intents for term in [intent.label, *intent.terms]
    )


def test_the_summary_counts_and_its_control_is_worse_than_the_names(unattributed: Planted) -> None:
    catalogue, _, summary = unattributed.build()
    published = [intent for intent in catalogue.intents if intent.published]
    mass = np.asarray(unattributed.codes.sum(axis=0)).ravel()
    assert summary["latents"] == len(catalogue.intents)
    assert summary["published"] == len(published) >= TOPIC_COUNT
    assert summary["dead"] == 1
    assert summary["with_attribute"] == 0
    assert summary["mass_covered"] == pytest.approx(
        sum(mass[each.latent] for each in published) / mass.sum(), rel=1e-5
    )
    assert summary["detection_auc_mean_published"] == pytest.approx(
        np.mean([each.detection_auc for each in published])
    )
    assert summary["detection_auc_shuffled"] < 0.65 < 0.9 < summary["detection_auc_mean_published"]


def test_progress_is_told_up_to_the_end(planted: Planted) -> None:
    told: list[tuple[int, int]] = []
    planted.build(on_progress=lambda done, total: told.append((done, total)))
    assert told == [(step, 5) for step in range(1, 6)]
