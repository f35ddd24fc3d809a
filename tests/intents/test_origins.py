"""Intents of two dictionaries in one catalogue: each says where it was found, and is named from texts alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from saerec_ray.config import IntentsConfig
from saerec_ray.dictionary.concatenated import concatenated, write_cooccurrence
from saerec_ray.dictionary.sae import Dictionary, Scaling, write_codes
from saerec_ray.intents.catalogue import Catalogue, read_catalogue
from saerec_ray.intents.detection import split_halves
from saerec_ray.intents.identity import NamedLatents, item_keys
from saerec_ray.intents.naming import directions_of_carriers
from saerec_ray.intents.stage import build_intents
from tests.intents.planted import TOPICS, Planted, encode, plant
from tests.intents.stage_folders import write_stages

SEED = 5
SECOND = [3, 1, 0]
"""The topic of each latent of the second dictionary."""
LENGTH = 4


def second_dictionary(seed: int = 8) -> Dictionary:
    directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(LENGTH, LENGTH)))[0][: len(SECOND)]
    return Dictionary(
        encoder=directions.astype(np.float32),
        encoder_bias=np.zeros(len(SECOND), np.float32),
        decoder=directions.astype(np.float32),
        decoder_bias=np.zeros(LENGTH, np.float32),
        scaling=Scaling(np.zeros(LENGTH, np.float32), 1.0),
        threshold=0.5,
        most_active=8,
    )


def write_both(catalogue: Planted, workdir: Path, seed: int = 8) -> csr_array:
    """The folders of a run whose second dictionary fires on items of the topics in SECOND; returns all codes."""
    write_stages(catalogue, workdir)
    write_cooccurrence(second_dictionary(seed), workdir / "dictionary")
    codes = concatenated(catalogue.codes, csr_array(catalogue.codes[:, SECOND]))
    write_codes(codes, workdir / "dictionary")
    return codes


def build(workdir: Path, **options: object) -> tuple[dict[str, object], Catalogue]:
    (workdir / "intents").mkdir(exist_ok=True)
    folders = [workdir / name for name in ("prepare", "embed", "dictionary", "intents")]
    metrics = build_intents(IntentsConfig(), SEED, *folders, encode, **options)  # type: ignore[arg-type]
    return metrics, read_catalogue(workdir / "intents")


@pytest.fixture(scope="module")
def shop() -> Planted:
    return plant()


@pytest.fixture(scope="module")
def workdir(shop: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    write_both(shop, folder)
    return folder


@pytest.fixture(scope="module")
def built(workdir: Path) -> tuple[dict[str, object], Catalogue]:
    return build(workdir)


def test_every_intent_says_where_it_was_found(
    shop: Planted, built: tuple[dict[str, object], Catalogue]
) -> None:
    texts = shop.codes.shape[1]
    origins = [intent.dictionary for intent in built[1].intents]
    assert origins == ["text"] * texts + ["cooccurrence"] * len(SECOND)
    assert built[0]["text_latents"] == texts
    assert built[0]["cooccurrence_latents"] == len(SECOND)


def test_latents_of_co_occurrence_are_named_by_the_texts_of_their_items(
    shop: Planted, built: tuple[dict[str, object], Catalogue]
) -> None:
    for place, topic in enumerate(SECOND):
        intent = built[1].intents[shop.codes.shape[1] + place]
        words = " ".join([intent.label, *intent.terms]).lower()
        assert any(word in words for word in list(TOPICS)[topic].split()), words
        assert intent.published
    assert built[0]["cooccurrence_published"] == len(SECOND)
    assert built[0]["cooccurrence_detection_auc_published"] == pytest.approx(
        np.mean([intent.detection_auc for intent in built[1].intents[-len(SECOND) :]])
    )


def test_text_intents_keep_ids_and_names_when_a_second_dictionary_joins(
    shop: Planted, built: tuple[dict[str, object], Catalogue], tmp_path: Path
) -> None:
    write_stages(shop, tmp_path)
    metrics, alone = build(tmp_path)
    together = built[1].intents[: len(alone.intents)]
    assert [(each.intent_id, each.label) for each in together] == [
        (each.intent_id, each.label) for each in alone.intents
    ]
    assert {intent.dictionary for intent in alone.intents} == {"text"}
    assert "cooccurrence_latents" not in metrics
    assert built[1].intents_version != alone.intents_version


def test_parents_are_of_the_same_dictionary(shop: Planted, workdir: Path) -> None:
    codes = shop.codes.toarray()
    nested = codes[:, SECOND].copy()
    nested[:, 2] = nested[:, 0] * (np.arange(len(nested)) % 2)  # the third fires on half of the first's items
    write_codes(concatenated(shop.codes, csr_array(nested)), workdir / "dictionary")
    texts = shop.codes.shape[1]
    _, catalogue = build(workdir, prefixes=[[texts], [1, len(SECOND)]])
    write_codes(concatenated(shop.codes, csr_array(codes[:, SECOND])), workdir / "dictionary")
    parents = {intent.latent: intent.parent_id for intent in catalogue.intents if intent.parent_id}
    origin = {intent.intent_id: intent.dictionary for intent in catalogue.intents}
    assert all(origin[parent] == catalogue.intents[latent].dictionary for latent, parent in parents.items())
    assert parents.get(texts + 2) == catalogue.intents[texts].intent_id


def test_ids_are_carried_over_for_each_dictionary_by_itself(
    shop: Planted, built: tuple[dict[str, object], Catalogue], tmp_path: Path
) -> None:
    """The vectors of co-occurrence are turned by every change of the data, so only items tell latents again."""
    codes = write_both(shop, tmp_path, seed=99)
    renamed = [each.model_copy(update={"intent_id": f"int-{each.latent:08x}"}) for each in built[1].intents]
    before = NamedLatents(
        decoder=shop.decoder,
        codes=codes,
        items=item_keys(shop.items),
        catalogue=Catalogue(intents_version="before", intents=renamed),
    )
    _, again = build(tmp_path, previous=before)
    for intent in again.intents[-len(SECOND) :]:
        assert intent.intent_id == f"int-{intent.latent:08x}"
    for intent in again.intents:
        if intent.item_count:
            assert intent.intent_id == f"int-{intent.latent:08x}"


def test_a_latent_is_seen_from_the_items_that_carry_it() -> None:
    embeddings = np.eye(4, dtype=np.float32)
    codes = csr_array(np.array([[2, 0, 0], [0, 1, 0], [0, 3, 0], [0, 0, 0]], dtype=np.float32))
    mean = np.full(4, 0.25, dtype=np.float32)
    found = directions_of_carriers(codes, embeddings, mean)
    expected = np.array([[1, 0, 0, 0], [0, 0.25, 0.75, 0]]) - 0.25
    np.testing.assert_allclose(
        found[:2], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6
    )
    assert not found[2].any(), "nothing carries it"


def test_items_that_judge_a_name_have_no_part_in_it(shop: Planted) -> None:
    from saerec_ray.dictionary.concatenated import Dictionaries
    from saerec_ray.intents.origins import directions_in_texts

    text = Dictionary(
        encoder=shop.decoder,
        encoder_bias=np.zeros(len(shop.decoder), np.float32),
        decoder=shop.decoder,
        decoder_bias=np.zeros(shop.decoder.shape[1], np.float32),
        scaling=Scaling(shop.mean, 1.0),
        threshold=0.5,
        most_active=8,
    )
    codes = concatenated(shop.codes, csr_array(shop.codes[:, SECOND]))
    both = Dictionaries(text, second_dictionary())
    changed = shop.embeddings.copy()
    changed[split_halves(len(changed), SEED)[1]] *= -1
    np.testing.assert_array_equal(
        directions_in_texts(both, codes, shop.embeddings, SEED),
        directions_in_texts(both, codes, changed, SEED),
    )
