"""What sets the kinds of dictionary apart: how entries are chosen, learnt thresholds, a tied decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.dictionary import sparse_batch
from saerec_ray.dictionary.jumprelu import Jump, starting_threshold
from saerec_ray.dictionary.kinds import Choose
from saerec_ray.dictionary.sae import Dictionary, read_dictionary, write_dictionary
from saerec_ray.dictionary.sparse_batch import ActiveEntries, entries_of_batch, entries_of_rows, order_of
from saerec_ray.dictionary_settings import DictionaryConfig
from tests.dictionary.planted import planted_directions, planted_vectors
from tests.dictionary.test_trainer import best_of, finish, training

ITEMS = planted_vectors(900, planted_directions(24, 16), 3)[0]


def dense(entries: ActiveEntries, p: torch.Tensor) -> torch.Tensor:
    """The entries in their places, zero elsewhere."""
    found = torch.zeros_like(p)
    found[entries.rows, entries.latents] = entries.values
    return found


def reaching(p: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Pre-activations that are positive and reach the limit, zero elsewhere."""
    return p * ((p >= limit) & (p > 0))


def test_without_numpy_as_on_a_gpu_entries_and_their_order_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p = torch.empty(50, 40).normal_(generator=torch.Generator().manual_seed(0)) - 1
    with_numpy = entries_of_batch(p, 5)
    ordered = order_of(with_numpy.latents, 40)
    monkeypatch.setattr(sparse_batch, "numpy_reads", lambda _tensor: False)
    for found, expected in zip(entries_of_batch(p, 5), with_numpy, strict=True):
        assert torch.equal(found, expected)
    for found, expected in zip(order_of(with_numpy.latents, 40), ordered, strict=True):
        assert torch.equal(found, expected)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), active=st.integers(1, 24), silent=st.floats(-1.5, 2.5))
def test_the_entries_of_a_batch_are_those_of_sorting_it_whole(seed: int, active: int, silent: float) -> None:
    p = torch.empty(30, 40).normal_(generator=torch.Generator().manual_seed(seed)) - silent
    limit = p.flatten().sort(descending=True).values[30 * active - 1]
    assert torch.equal(dense(entries_of_batch(p, active), p), reaching(p, limit))


def test_a_sample_that_misleads_does_not_change_the_entries_of_a_batch() -> None:
    """All large values lie between the sampled places, or all at them."""
    for places in (slice(1, None, 17), slice(0, None, 17)):
        p = torch.rand(40 * 51, generator=torch.Generator().manual_seed(0))
        p[places] += 10
        limit = p.sort(descending=True).values[3 * 40 - 1]
        p = p.view(40, 51)
        assert torch.equal(dense(entries_of_batch(p, 3), p), reaching(p, limit))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), active=st.integers(1, 24), silent=st.floats(-1.5, 2.5))
def test_the_entries_of_rows_are_their_own_largest(seed: int, active: int, silent: float) -> None:
    p = torch.empty(30, 40).normal_(generator=torch.Generator().manual_seed(seed)) - silent
    limits = p.sort(dim=1, descending=True).values[:, active - 1 : active]
    assert torch.equal(dense(entries_of_rows(p, active), p), reaching(p, limits))


@pytest.mark.parametrize("choose", [entries_of_batch, entries_of_rows])
def test_entries_are_positive_and_ordered_by_row(choose: Choose) -> None:
    p = torch.empty(50, 40).normal_(generator=torch.Generator().manual_seed(0)) - 1
    p[7] = -1
    entries = choose(p, 12)
    assert (entries.values > 0).all()
    assert torch.equal(entries.rows, entries.rows.sort().values)
    assert 7 not in entries.rows


def test_a_batch_keeps_its_largest_activations_whatever_item_they_belong_to() -> None:
    p = torch.tensor([[9.0, 8.0, 7.0, 1.0], [2.0, 0.5, 0.0, 0.1], [0.0, -1.0, 0.0, 0.0]])
    assert dense(entries_of_batch(p, 1), p).tolist() == [[9, 8, 7, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    kept = dense(entries_of_batch(p, 3), p)
    torch.testing.assert_close(kept, p.relu())  # seven are positive; zeros are never active


@pytest.mark.parametrize("width", [300, 2**16, 2**16 + 100])
def test_entries_are_found_again_by_latent_at_any_width(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.cat([torch.randint(width, (500,), generator=generator), torch.tensor([width - 1])])
    order, starts = order_of(latents, width)
    assert sorted(order.tolist()) == list(range(501))
    ends = [*starts[1:].tolist(), 501]
    for latent in [0, *latents.tolist()]:
        run = order[starts[latent] : ends[latent]]
        assert run.tolist() == (latents == latent).nonzero().flatten().tolist()


def test_a_threshold_is_moved_by_the_inputs_near_it_as_the_paper_says() -> None:
    p = torch.tensor([[1.04, 3.0], [0.97, 1.99], [0.5, 2.02]], requires_grad=True)
    threshold = torch.tensor([1.0, 2.0], requires_grad=True)
    codes, steps = Jump.apply(p, threshold, 0.1)
    torch.testing.assert_close(codes, torch.tensor([[1.04, 3.0], [0.0, 0.0], [0.0, 2.02]]))
    torch.testing.assert_close(steps, torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]))
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    ((codes * weights).sum() + 7 * steps.sum()).backward()
    # -(threshold * gradient of z + gradient of the step) / bandwidth, summed over inputs within half of it.
    torch.testing.assert_close(
        threshold.grad, torch.tensor([-(1.0 * (1 + 3) + 2 * 7) / 0.1, -(2.0 * (4 + 6) + 2 * 7) / 0.1])
    )
    torch.testing.assert_close(p.grad, weights * (codes > 0))


def test_the_first_thresholds_let_about_as_many_latents_through_as_wanted() -> None:
    drawn = torch.empty(20_000, 64).normal_(generator=torch.Generator().manual_seed(0))
    assert float((drawn > starting_threshold(64, 4)).sum(dim=1).float().mean()) == pytest.approx(4, rel=0.05)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Dictionary]:
    settings = DictionaryConfig(
        kind="jumprelu", width=32, active=3, batch_size=128, epochs=60, learning_rate=5e-3, patience=100
    )
    run = finish(training(tmp_path_factory.mktemp("jumprelu"), settings, ITEMS))
    return run.average, best_of(run)


def test_learnt_thresholds_differ_and_reach_the_sparsity_asked_for(
    learnt: tuple[torch.nn.Module, Dictionary],
) -> None:
    _, dictionary = learnt
    assert isinstance(dictionary.threshold, np.ndarray)
    assert dictionary.threshold.shape == (32,)
    assert np.ptp(dictionary.threshold) > 0.01
    assert dictionary.encode(ITEMS[:-100]).nnz / (len(ITEMS) - 100) == pytest.approx(3, rel=0.15)


def test_inference_uses_the_thresholds_and_not_their_logarithms(
    learnt: tuple[torch.nn.Module, Dictionary],
) -> None:
    model, scaling = learnt[0], learnt[1].scaling
    scaled = torch.from_numpy(scaling.apply(ITEMS))
    last = model.export(scaling, scaled)  # type: ignore[operator]
    with torch.no_grad():
        factor = last.threshold / model.log_threshold.exp().numpy()  # type: ignore[operator]
        p = model.activations(scaled)  # type: ignore[operator]
        expected = Jump.apply(p, torch.from_numpy(last.threshold), 0.2)[0].numpy()
    np.testing.assert_allclose(factor, factor[0], rtol=1e-5)
    assert 0.7 < factor[0] < 1.4
    counts = (expected > 0).sum(axis=1)
    plain = (counts > 0) & (counts <= last.most_active)  # neither cut short nor given a latent
    assert plain.mean() > 0.9
    np.testing.assert_allclose(np.asarray(last.encode(ITEMS).todense())[plain], expected[plain], atol=1e-5)


def test_no_item_is_empty_and_none_has_too_many_latents_under_learnt_thresholds(
    learnt: tuple[torch.nn.Module, Dictionary],
) -> None:
    _, dictionary = learnt
    random = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    counts = np.diff(dictionary.encode(random).indptr)
    assert counts.min() >= 1
    assert counts.max() <= dictionary.most_active


def test_a_strong_latent_below_its_threshold_takes_no_place_from_a_weaker_one_above_its_own(
    learnt: tuple[torch.nn.Module, Dictionary],
) -> None:
    threshold = np.array([5, 0.1, 0.1, 9], dtype=np.float32)
    made = Dictionary(
        encoder=np.eye(4, dtype=np.float32),
        encoder_bias=np.array([4, 3, 2, 8], dtype=np.float32),
        decoder=np.eye(4, dtype=np.float32),
        decoder_bias=np.zeros(4, dtype=np.float32),
        scaling=type(learnt[1].scaling)(np.zeros(4, dtype=np.float32), 1.0),
        threshold=threshold,
        most_active=3,
    )
    codes = np.asarray(made.encode(np.zeros((1, 4), dtype=np.float32)).todense())
    np.testing.assert_allclose(codes, [[0, 3, 2, 8]])  # the strongest of all stays, below its threshold too


def test_thresholds_come_back_from_their_file_and_files_with_one_threshold_can_still_be_read(
    learnt: tuple[torch.nn.Module, Dictionary], tmp_path: Path
) -> None:
    _, dictionary = learnt
    write_dictionary(dictionary, tmp_path)
    read = read_dictionary(tmp_path)
    np.testing.assert_array_equal(read.threshold, dictionary.threshold)
    single = {**dictionary.arrays(), "threshold": np.array([0.7])}
    assert Dictionary.from_arrays(single).threshold == 0.7


def test_the_dictionary_of_the_paper_has_one_matrix_for_both_directions(tmp_path: Path) -> None:
    settings = DictionaryConfig(
        kind="paper", width=32, active=3, batch_size=128, epochs=40, learning_rate=5e-3, patience=100
    )
    run = training(tmp_path, settings, ITEMS)
    names = [name for name, _ in run.model.named_parameters()]
    assert sorted(names) == ["decoder", "decoder_bias", "encoder_bias"]
    found = best_of(finish(run))
    np.testing.assert_array_equal(found.encoder, found.decoder)
    assert np.diff(found.encode(ITEMS).indptr).max() == 3
    assert run.best_error < 0.3
