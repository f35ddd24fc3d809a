"""Products in bfloat16: the loss stays what it is, and everything that decides is in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from saerec_ray import precision
from saerec_ray.dictionary.sae import Scaling
from saerec_ray.dictionary.training import TrainingDictionary
from saerec_ray.dictionary_settings import DictionaryConfig
from tests.dictionary.test_trainer import best_of, config, finish, training, vectors
from tests.dictionary.test_training import ACTIVE, SOME_DEAD, D, bent_model, gradients, inputs

KINDS = ("topk", "batchtopk", "matryoshka", "jumprelu", "paper")
kinds = pytest.mark.parametrize("kind", KINDS)


def lower(kind: str, dtype: torch.dtype = torch.bfloat16) -> TrainingDictionary:
    model = bent_model(kind)
    model.product_dtype = dtype
    return model


@kinds
def test_the_loss_is_float32_and_close_to_that_of_float32_products(kind: str) -> None:
    exact, _, _ = bent_model(kind)(inputs(), ACTIVE, SOME_DEAD)
    loss, parts, _ = lower(kind)(inputs(), ACTIVE, SOME_DEAD)
    assert {loss.dtype, parts["fvu"].dtype, parts["auxiliary"].dtype} == {torch.float32}
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.02)
    assert float(loss.detach()) != float(exact.detach()), "the products were not in bfloat16"


@kinds
def test_gradients_are_float32_not_scaled_and_close_to_those_of_float32_products(kind: str) -> None:
    exact, found = gradients(bent_model(kind), SOME_DEAD), gradients(lower(kind), SOME_DEAD)
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), exact[name].flatten(), dim=0)
        if name == "log_threshold":  # of the few entries near thresholds, which rounding lets in and out
            continue
        assert float(cosine) > 0.98, name
        assert float(gradient.norm() / exact[name].norm()) == pytest.approx(1, rel=0.1), name


def test_products_in_the_precision_of_the_weights_are_left_as_they_are() -> None:
    exact = bent_model()(inputs(), ACTIVE, SOME_DEAD)[0]
    assert torch.equal(lower("batchtopk", torch.float32)(inputs(), ACTIVE, SOME_DEAD)[0], exact)
    assert bent_model().double()(inputs().double(), ACTIVE, SOME_DEAD)[0].dtype == torch.float64


@kinds
def test_what_is_exported_does_not_depend_on_the_precision_of_training_products(kind: str) -> None:
    """Inference computes in float32, so thresholds must be set on activations in float32."""
    scaling = Scaling(np.zeros(D, dtype=np.float32), 1.0)
    exact, found = bent_model(kind).export(scaling, inputs()), lower(kind).export(scaling, inputs())
    for name, values in exact.arrays().items():
        np.testing.assert_array_equal(values, found.arrays()[name], err_msg=name)


@pytest.mark.parametrize(
    ("wanted", "device", "has_instructions", "dtype"),
    [
        ("auto", "cpu", False, torch.float32),
        ("auto", "cpu", True, torch.bfloat16),
        ("auto", "cuda", False, torch.bfloat16),
        ("float32", "cuda", True, torch.float32),
        ("bfloat16", "cpu", False, torch.bfloat16),
    ],
)
def test_bfloat16_is_for_devices_that_compute_with_it_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: str, has_instructions: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: has_instructions)
    settings = DictionaryConfig(width=32, active=3, precision=wanted)
    assert TrainingDictionary(D, settings).to_compute_on(torch.device(device)).product_dtype == dtype


def test_a_training_with_products_in_bfloat16_learns_as_well(tmp_path: Path) -> None:
    settings = config("matryoshka", epochs=30, learning_rate=5e-3, precision="float32")
    exact = finish(training(tmp_path / "exact", settings))
    lower = finish(training(tmp_path / "lower", settings.model_copy(update={"precision": "bfloat16"})))
    assert lower.best_error == pytest.approx(exact.best_error, rel=0.1)
    assert lower.best_error != exact.best_error
    assert best_of(lower).encode(vectors()).nnz / 600 == pytest.approx(3, rel=0.15)
