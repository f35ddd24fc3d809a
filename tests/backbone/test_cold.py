"""Cold items have no part in training, and are scored by their codes alone afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from saerec_ray.backbone.build import BASELINE_FILE, build_backbone, read_model
from saerec_ray.backbone.cold import WarmCatalogue, draw_cold_items, read_cold_items, without_cold
from saerec_ray.backbone.frozen import read_frozen
from saerec_ray.config import ClusterConfig
from saerec_ray.data.prepared import read_sequences
from saerec_ray.dictionary.concatenated import concatenated, write_cooccurrence
from saerec_ray.dictionary.sae import read_codes, read_dictionary, write_codes
from saerec_ray.errors import InputError
from saerec_ray.intents.stage import POPULATION_FILE
from tests.backbone.small_sets import (
    INTENTS,
    ITEMS,
    Parts,
    any_users,
    frozen_of,
    grouped_users,
    population_of,
    sequences_of,
    small_settings,
)
from tests.backbone.test_build import stage_folders, write_stages

SEQUENCES = sequences_of(grouped_users())


@given(items=st.integers(2, 500), share=st.floats(0, 0.9), seed=st.integers(0, 1000))
def test_the_share_asked_for_is_cold_and_the_same_for_a_seed(items: int, share: float, seed: int) -> None:
    if round(share * items) >= items:
        return
    cold = draw_cold_items(items, share, seed)
    assert cold.sum() == round(share * items)
    np.testing.assert_array_equal(cold, draw_cold_items(items, share, seed))


def test_seeds_draw_different_items() -> None:
    assert (draw_cold_items(100, 0.2, 1) != draw_cold_items(100, 0.2, 2)).any()


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"cold_share 0\.99 leaves none of 3 items"):
        draw_cold_items(3, 0.99, 1)


@settings(max_examples=60)
@given(users=any_users(), seed=st.integers(0, 1000))
def test_every_part_of_every_user_loses_its_cold_items_and_nothing_else(
    users: list[Parts], seed: int
) -> None:
    sequences = sequences_of(users)
    cold = np.random.default_rng(seed).random(max([*sequences.items.tolist(), 0]) + 1) < 0.4
    expected = sequences_of(
        [tuple([item for item in part if not cold[item]] for part in parts) for parts in users]  # type: ignore[misc]
    )
    found = without_cold(sequences, cold)
    for name in ("items", "offsets", "train_lengths", "validation_lengths"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert found.user_ids == expected.user_ids


def test_what_training_reads_has_no_trace_of_cold_items(tmp_path: Path) -> None:
    frozen = frozen_of(SEQUENCES)
    cold = draw_cold_items(ITEMS, 0.25, 3)
    warm = WarmCatalogue.write(tmp_path / "warm", SEQUENCES, frozen, cold)
    kept = np.flatnonzero(~cold)
    read, side = read_sequences(warm.folder), read_frozen(warm.folder, intents=True)
    np.testing.assert_array_equal(kept[read.items], without_cold(SEQUENCES, cold).items)
    assert side.codes.shape[0] == len(side.popularity) == len(kept)
    np.testing.assert_array_equal(side.codes.toarray(), frozen.codes.toarray()[kept])
    np.testing.assert_array_equal(side.popularity, frozen.popularity[kept])


def test_cold_items_have_codes_of_texts_alone(tmp_path: Path) -> None:
    """What people take together says nothing of an item that nobody has met."""
    write_stages(tmp_path, SEQUENCES)
    second = replace(read_dictionary(tmp_path / "dictionary"), decoder=np.eye(3, dtype=np.float32))
    write_cooccurrence(second, tmp_path / "dictionary")
    text = read_codes(tmp_path / "dictionary")
    codes = concatenated(text, csr_array(np.ones((ITEMS, 3), np.float32)))
    write_codes(codes, tmp_path / "dictionary")
    population = population_of(SEQUENCES, codes)
    scalars = {name: np.array([float(getattr(population, name))]) for name in ("users", "mean_item_mass")}
    save_file({**population.arrays(), **scalars}, tmp_path / "intents" / POPULATION_FILE)
    build_backbone(
        small_settings(epochs=1, cold_share=0.25),
        ClusterConfig(engine="local", max_failures=0, gpus=False),
        7,
        **stage_folders(tmp_path),
    )
    space, _, frozen = read_model(tmp_path / "train", small_settings())
    cold = read_cold_items(tmp_path / "train")
    assert cold is not None
    assert 0 < cold.sum() < ITEMS
    for found in (space.codes.toarray(), frozen.codes.toarray()):
        np.testing.assert_array_equal(found[:, :INTENTS], text.toarray())
        np.testing.assert_array_equal(found[:, INTENTS:], np.where(cold[:, None], 0, np.ones((ITEMS, 3))))
    assert len(space.intent_vectors) == INTENTS + 3


def test_learned_rows_return_to_their_items_and_cold_ones_are_zero(tmp_path: Path) -> None:
    cold = np.array([False, True, False, False, True])
    state = {
        "items.residuals": torch.arange(1.0, 7).view(3, 2),
        "items.biases": torch.tensor([1.0, 2.0, 3.0]),
        "items.intent_vectors": torch.ones(4, 2),
    }
    whole = WarmCatalogue(tmp_path, cold).whole(state)
    assert whole["items.residuals"].tolist() == [[1, 2], [0, 0], [3, 4], [5, 6], [0, 0]]
    assert whole["items.biases"].tolist() == [1, 0, 2, 3, 0]
    assert whole["items.intent_vectors"] is state["items.intent_vectors"]


def test_a_training_with_cold_items_and_without_companions_scores_them_by_their_codes_alone(
    tmp_path: Path,
) -> None:
    write_stages(tmp_path, SEQUENCES)
    config = small_settings(cold_share=0.25, epochs=1, baseline=True)
    folder = tmp_path / "train"
    build_backbone(
        config,
        ClusterConfig(engine="local"),
        7,
        **stage_folders(tmp_path),
    )
    cold = read_cold_items(folder)
    assert cold is not None
    assert cold.sum() == ITEMS // 4
    space, _, _ = read_model(folder, config)
    assert (space.residuals[cold] == 0).all()
    assert len(np.unique(space.biases[cold])) == 1
    assert (space.popularity[cold] == 0).all()
    assert (space.residuals[~cold] != 0).any(axis=1).all()
    np.testing.assert_allclose(
        space.item_vectors[cold], (space.codes @ space.intent_vectors)[cold], atol=1e-6
    )
    assert np.abs(space.item_vectors[cold]).sum(axis=1).all(), "every cold item still has its intents"
    assert (folder / BASELINE_FILE).exists()
    plain, _, _ = read_model(folder, config, baseline=True)
    assert (plain.item_vectors[cold] == 0).all()


def test_without_cold_items_nothing_is_recorded(tmp_path: Path) -> None:
    assert read_cold_items(tmp_path) is None
