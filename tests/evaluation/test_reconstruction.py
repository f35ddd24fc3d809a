"""Reconstruction, sparsity and latents of a dictionary against formulas written out, and their limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from saerec_ray.dictionary.metrics import PrincipalComponents, variance_unexplained
from saerec_ray.dictionary.sae import Dictionary, Floats, Scaling, unit_rows
from saerec_ray.evaluation.codings import codings
from saerec_ray.evaluation.reconstruction import (
    DENSITY_BINS,
    gini,
    latent_densities,
    latent_directions,
    measure_codings,
    nonzeros,
    recalibrated,
    variance_curve,
)
from tests.evaluation.planted_dictionary import ACTIVE, TOPICS, D, plant

PLANTED = plant()
TRAIN, HELD = PLANTED.vectors[:500], PLANTED.vectors[500:]
MEAN = TRAIN.mean(axis=0)


def noisy(seed: int = 2) -> Dictionary:
    """A dictionary that has learned nothing in particular, centred on the training items."""
    rng = np.random.default_rng(seed)
    directions = unit_rows(rng.normal(size=(TOPICS, D)).astype(np.float32))
    return replace(
        PLANTED.dictionary,
        encoder=directions,
        decoder=directions,
        scaling=Scaling.fit(TRAIN),
        threshold=0.8,
        encoder_bias=(0.1 * rng.normal(size=TOPICS)).astype(np.float32),
    )


def component_error(count: int) -> float:
    """What so many principal components of the training items leave unexplained of the others."""
    found = PrincipalComponents.fit(TRAIN).first(count)
    return variance_unexplained(found.reconstruct(HELD), HELD, MEAN)


def test_the_planted_dictionary_is_at_the_ceiling_and_its_controls_are_not() -> None:
    found = measure_codings(codings(PLANTED.dictionary, TRAIN, ACTIVE, 3), MEAN, TRAIN, HELD)
    own = found["dictionary"]
    assert own["fvu"] < 1e-6
    assert own["cosine"] == pytest.approx(1, abs=1e-5)
    assert own["reconstruction_bias"] == pytest.approx(1, abs=1e-4)
    assert own["nonzeros"] == ACTIVE
    assert own["features"] == TOPICS
    for name in ("pca", "k_means", "random_dictionary"):
        assert 0.4 < found[name]["fvu"] < 1.05, name
    assert found["pca"]["fvu"] == pytest.approx(component_error(ACTIVE), abs=1e-6)
    assert found["k_means"]["nonzeros"] == 1


def test_short_reconstructions_have_a_bias_above_one() -> None:
    class Half:
        def encode(self, vectors: Floats) -> Floats:
            return vectors

        def reconstruct(self, vectors: Floats) -> Floats:
            return np.asarray(MEAN + 0.5 * (unit_rows(vectors) - MEAN))

    found = measure_codings({"half": Half()}, MEAN, TRAIN, HELD)["half"]
    assert found["reconstruction_bias"] == pytest.approx(2, rel=1e-4)
    assert found["fvu"] == pytest.approx(0.25, rel=1e-4)


def test_numbers_of_an_item_are_counted_in_dense_and_sparse_features() -> None:
    dense = np.array([[0, 1, 2], [0, 0, 3]], dtype=np.float32)
    assert nonzeros(dense) == nonzeros(csr_array(dense)) == 1.5


@pytest.mark.parametrize("active", [2, 4, 8])
def test_a_recalibrated_dictionary_is_as_sparse_as_asked_and_has_the_same_weights(active: int) -> None:
    made = noisy()
    changed = recalibrated(made, TRAIN, active)
    assert changed.encode(TRAIN).nnz / len(TRAIN) == pytest.approx(active, rel=0.15)
    np.testing.assert_array_equal(changed.encoder, made.encoder)
    assert changed.most_active == 2 * active


def test_thresholds_of_single_latents_keep_their_proportions() -> None:
    own = np.linspace(0.3, 1.2, TOPICS).astype(np.float32)
    changed = recalibrated(replace(noisy(), threshold=own), TRAIN, 3)
    ratio = np.asarray(changed.threshold) / own
    assert ratio.max() == pytest.approx(ratio.min(), rel=1e-5)
    assert changed.encode(TRAIN).nnz / len(TRAIN) == pytest.approx(3, rel=0.25)


def test_a_dictionary_of_the_largest_latents_stays_one() -> None:
    changed = recalibrated(replace(noisy(), threshold=0.0), TRAIN, 5)
    counts = np.diff(changed.encode(TRAIN).indptr)
    assert counts.max() == 5
    assert changed.threshold == 0.0


def test_the_curve_has_a_point_for_each_sparsity_the_width_allows() -> None:
    points = variance_curve(PLANTED.dictionary, TRAIN, TRAIN, HELD, seed=1, actives=(1, 2, 3, 16))
    assert [point["active"] for point in points] == [1, 2, 3], "32 of 24 latents would be too many"
    errors = [point["fvu"] for point in points]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02
    for point in points:
        assert point["fvu_pca"] == pytest.approx(component_error(round(point["l0"])), abs=1e-6)
        assert point["fvu"] < point["fvu_pca"]
        assert point["fvu"] < point["fvu_random_dictionary"]


@given(st.lists(st.floats(0.001, 1e3), min_size=1, max_size=30), st.floats(0.01, 100))
def test_gini_is_the_mean_difference_of_pairs_and_does_not_depend_on_the_unit(
    values: list[float], unit: float
) -> None:
    array = np.array(values)
    written = np.abs(array[:, None] - array[None]).mean() / (2 * array.mean())
    assert gini(array) == pytest.approx(written, abs=1e-9)
    assert gini(array * unit) == pytest.approx(gini(array), abs=1e-9)


def test_gini_of_one_owner_is_nearly_one_and_of_none_zero() -> None:
    assert gini([0] * 99 + [5]) == pytest.approx(0.99)
    assert gini([0, 0]) == 0


def codes_with_counts(counts: list[int], items: int) -> csr_array:
    dense: npt.NDArray[np.float32] = np.zeros((items, len(counts)), dtype=np.float32)
    for latent, count in enumerate(counts):
        dense[:count, latent] = 1.0
    return csr_array(dense)


def test_densities_count_dead_and_dense_latents_and_all_others_stand_in_the_histogram() -> None:
    found = latent_densities(
        codes_with_counts([0, 1, 10, 50, 100], 100), codes_with_counts([0, 0, 3, 3, 3], 9)
    )
    assert found["dead_share"] == pytest.approx(1 / 5)
    assert found["dead_share_held_out"] == pytest.approx(2 / 5)
    assert found["dense_limit"] == 0.2
    assert found["dense_share"] == pytest.approx(2 / 5)
    counts = found["histogram"]["counts"]
    assert len(counts) == DENSITY_BINS
    assert sum(counts) == 4
    edges = np.linspace(found["histogram"]["low"], 0, DENSITY_BINS + 1)
    place = int(np.flatnonzero(counts)[1])
    assert edges[place] <= np.log10(0.1) + 1e-9 <= edges[place + 1] + 1e-9


def test_directions_say_what_points_the_same_way() -> None:
    decoder = np.eye(6, 8, dtype=np.float32)
    decoder[5] = decoder[4]
    encoder = 3 * decoder
    encoder[0] = np.eye(8, dtype=np.float32)[7]
    made = replace(PLANTED.dictionary, encoder=encoder, decoder=decoder)
    found = latent_directions(made, seed=0)
    assert found["alignment"] == pytest.approx(5 / 6)
    assert found["redundant_share"] == pytest.approx(2 / 6)
    assert found["nearest"] == pytest.approx(2 / 6)
    assert 0 < found["nearest_random"] < 1
