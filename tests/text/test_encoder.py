"""The text encoder with a real model: unit vectors, one result a text, and errors a person can act on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from saerec_ray.errors import InputError, StageError
from saerec_ray.text import encoder as encoding
from saerec_ray.text.encoder import TextEncoder, model_fingerprint, model_location
from tests.text.texts import MODEL, TEXTS


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(MODEL, "float32", device="cpu")


def test_texts_become_unit_vectors_of_the_models_dimension(encoder: TextEncoder) -> None:
    vectors = encoder.encode([*TEXTS.values(), ""])
    assert vectors.shape == (len(TEXTS) + 1, encoder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_similar_texts_are_closer_than_different_ones(encoder: TextEncoder) -> None:
    first, second, razor, drill, tea = encoder.encode(list(TEXTS.values()))
    assert first @ second > max(first @ drill, first @ tea, razor @ tea) + 0.2


def test_a_text_has_one_vector_whatever_it_is_encoded_with(encoder: TextEncoder) -> None:
    texts = list(TEXTS.values())
    together = encoder.encode(texts, batch_size=3)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_texts_give_no_vectors(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_texts_are_cut_after_the_given_number_of_tokens(encoder: TextEncoder) -> None:
    short = TextEncoder(MODEL, "float32", max_tokens=8, device="cpu")
    beginning = "one two three four five six"  # and two tokens for begin and end
    np.testing.assert_allclose(*short.encode([beginning, beginning + " seven eight"]), atol=1e-6)
    assert not np.allclose(*encoder.encode([beginning, beginning + " seven eight"]), atol=1e-3)


def test_bfloat16_gives_nearly_the_same_vectors_and_unit_length(encoder: TextEncoder) -> None:
    texts = list(TEXTS.values())
    rounded = TextEncoder(MODEL, "bfloat16", device="cpu").encode(texts)
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-6)
    assert (rounded * encoder.encode(texts)).sum(axis=1).min() > 0.99


def test_numbers_that_are_not_finite_are_refused_with_advice() -> None:
    broken = TextEncoder(MODEL, "float32", device="cpu")
    with torch.no_grad():
        next(broken._model.parameters()).fill_(float("nan"))
    with pytest.raises(StageError, match=r"not finite; try embed.precision: float32"):
        broken.encode(["text"])


def test_the_fingerprint_changes_with_everything_that_changes_vectors(tmp_path: Path) -> None:
    location = Path(model_location(MODEL))
    copy = tmp_path / "copy"
    shutil.copytree(location, copy)
    base = model_fingerprint("m", str(copy), "float32", None)
    assert model_fingerprint("m", str(location), "float32", None) == base  # where it is does not matter
    others = {
        model_fingerprint("n", str(copy), "float32", None),
        model_fingerprint("m", str(copy), "bfloat16", None),
        model_fingerprint("m", str(copy), "float32", 32),
    }
    settings = copy / "1_Pooling" / "config.json"
    settings.write_text(settings.read_text("utf-8") + " ", "utf-8")
    others.add(model_fingerprint("m", str(copy), "float32", None))
    weights = copy / "model.safetensors"
    with weights.open("r+b") as handle:
        handle.seek(-1, 2)
        last = handle.read(1)
        handle.seek(-1, 2)
        handle.write(bytes([last[0] ^ 1]))
    others.add(model_fingerprint("m", str(copy), "float32", None))
    assert len(others | {base}) == 6


def test_a_model_nobody_has_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"cannot be loaded\. HF_HUB_OFFLINE is set") as refused:
        TextEncoder(str(tmp_path / "empty"))
    assert MODEL in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_packaged_model_that_is_not_installed_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(encoding.PACKAGED_MODELS, "some-model", "module_that_is_not_there")
    with pytest.raises(InputError, match="some-model is not installed: pip install some-model"):
        model_location("some-model")


def test_a_name_that_is_no_packaged_model_is_left_to_sentence_transformers() -> None:
    assert model_location("organisation/model") == "organisation/model"
