"""As sparse as asked for on items that were not trained on, and chosen at that sparsity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saerec_ray.attempts import begin_attempt
from saerec_ray.dictionary.metrics import fraction_of_variance_unexplained
from saerec_ray.dictionary.sae import Floats
from saerec_ray.dictionary.trainer import DictionaryTraining
from saerec_ray.local_workers import LocalWorker, latest_checkpoint
from tests.dictionary.test_trainer import best_of, config, finish

ACTIVE = 4
kinds = pytest.mark.parametrize("kind", ["batchtopk", "matryoshka", "jumprelu"])


def noise(items: int, seed: int) -> Floats:
    """Nothing to learn: what is known of training items says nothing of others."""
    return np.random.default_rng(seed).normal(size=(items, 24)).astype(np.float32)


TRAIN, CHOOSING, FRESH = noise(300, 0), noise(300, 1), noise(600, 2)


def trained(folder: Path, kind: str, epochs: int) -> DictionaryTraining:
    settings = config(
        kind, width=64, active=ACTIVE, epochs=epochs, batch_size=64, learning_rate=0.01, patience=5
    )
    attempt = begin_attempt(folder, "training", {}, latest_checkpoint)
    worker = LocalWorker(0, 1, torch.device("cpu"), attempt)
    return finish(DictionaryTraining(worker, settings, TRAIN, CHOOSING, seed=5))


@kinds
@pytest.mark.parametrize("epochs", [6, 60])
def test_items_never_seen_have_as_many_latents_as_asked_for(kind: str, epochs: int, tmp_path: Path) -> None:
    """However short the training, and although it knows its own items by heart."""
    found = best_of(trained(tmp_path, kind, epochs))
    assert found.encode(FRESH).nnz / len(FRESH) == pytest.approx(ACTIVE, rel=0.1)


def test_the_best_is_chosen_and_its_threshold_set_by_items_that_were_not_trained_on(tmp_path: Path) -> None:
    run = trained(tmp_path, "batchtopk", 60)
    found = best_of(run)
    assert found.encode(CHOOSING).nnz / len(CHOOSING) == pytest.approx(ACTIVE, rel=0.01)
    assert abs(found.encode(TRAIN).nnz / len(TRAIN) - ACTIVE) > 0.05 * ACTIVE
    mean = (TRAIN / np.linalg.norm(TRAIN, axis=1, keepdims=True)).mean(axis=0)
    assert run.best_error == pytest.approx(fraction_of_variance_unexplained(found, CHOOSING, mean))


def test_every_candidate_is_as_sparse_as_the_others(tmp_path: Path) -> None:
    """Thresholds that are learnt lag behind what is asked for; the denser early ones must not win by that."""
    settings = config("jumprelu", width=64, active=ACTIVE, epochs=20, batch_size=64)
    attempt = begin_attempt(tmp_path, "training", {}, latest_checkpoint)
    worker = LocalWorker(0, 1, torch.device("cpu"), attempt)
    run = DictionaryTraining(worker, settings, TRAIN, CHOOSING, seed=5)
    seen, export = [], run.average.export

    def watched(*given: object) -> object:
        seen.append(export(*given))  # type: ignore[arg-type]
        return seen[-1]

    run.average.export = watched  # type: ignore[assignment]
    finish(run)
    active = [each.encode(CHOOSING).nnz / len(CHOOSING) for each in seen]
    assert len(active) == 20
    np.testing.assert_allclose(active, ACTIVE, rtol=0.02)
