"""The tensors of a bundle: where each one lies, its type and its shape, and what may not be in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from scipy.sparse import csr_array

from saerec_ray.errors import BundleError

ITEM_TENSORS = "items.safetensors"
INTENT_TENSORS = "intents.safetensors"
BACKBONE_TENSORS = "backbone.safetensors"
DICTIONARY_TENSORS = "dictionary.safetensors"
TENSOR_FILES = (ITEM_TENSORS, INTENT_TENSORS, BACKBONE_TENSORS, DICTIONARY_TENSORS)

Tensors = dict[str, npt.NDArray[Any]]

POPULATION_ARRAYS = ("shares", "means", "deviations", "activation_rates", "user_counts", "evenness")
_INTEGERS = {
    "code_offsets": np.int64,
    "code_intents": np.int32,
    "companion_offsets": np.int64,
    "companion_items": np.int32,
}
"""Tensors of items and intents that are not float32."""
_INTENT_ROWS = (
    "inverse_document_frequency",
    "public",
    "targets",
    "spreads",
    "loading_caps",
    *(f"population_{name}" for name in POPULATION_ARRAYS),
)


def read_tensors(path: Path) -> Tensors:
    """All the tensors of one file, by name."""
    with safe_open(path, framework="numpy") as archive:
        return {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 (not a dict)


def companion_tensors(companions: csr_array) -> Tensors:
    """The rates of companions, (items, items) sparse by rows, as the tensors that are written."""
    return {
        "companion_offsets": companions.indptr.astype(np.int64),
        "companion_items": companions.indices.astype(np.int32),
        "companion_rates": companions.data,
    }


def read_companions(item: Tensors) -> csr_array | None:
    """The rates of companions, (items, items) sparse by rows; None where the score has none."""
    if "companion_rates" not in item:
        return None
    items = len(item["companion_offsets"]) - 1
    return csr_array(
        (item["companion_rates"], item["companion_items"], item["companion_offsets"]), shape=(items, items)
    )


def check_tensors(tensors: dict[str, Tensors], items: int, intents: int) -> None:
    """Raises BundleError, naming the tensor, where one is missing, not finite, or of another shape or type."""
    for name, content in tensors.items():
        for key, values in content.items():
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise BundleError(
                    f"The bundle is refused: {key} in {name} holds numbers that are not finite."
                )
    try:
        expected = _expected_tensors(tensors, items, intents)
        for key, (content, shape) in expected.items():
            if content[key].shape != shape:
                raise BundleError(
                    f"The bundle is refused: {key} has shape {content[key].shape} instead of {shape}."
                )
            if content[key].dtype != _INTEGERS.get(key, np.float32):
                raise BundleError(f"The bundle is refused: {key} holds numbers of type {content[key].dtype}.")
    except (KeyError, IndexError) as error:
        raise BundleError(
            f"The bundle is refused: a tensor is missing or has too few dimensions: {error}."
        ) from error
    _check_sparse(tensors[ITEM_TENSORS], items, intents)


def _check_sparse(item: Tensors, items: int, intents: int) -> None:
    if not is_sparse(item["code_offsets"], item["code_intents"], intents):
        raise BundleError("The bundle is refused: the item codes point outside the catalogue of intents.")
    if (item["code_values"] < 0).any():
        raise BundleError("The bundle is refused: item codes must not be negative.")
    if "companion_rates" in item:
        if not is_sparse(item["companion_offsets"], item["companion_items"], items):
            raise BundleError("The bundle is refused: companions point outside the catalogue.")
        if (item["companion_rates"] < 0).any():
            raise BundleError("The bundle is refused: rates of companions must not be negative.")


def _expected_tensors(
    tensors: dict[str, Tensors], items: int, intents: int
) -> dict[str, tuple[Tensors, tuple[int, ...]]]:
    """Where each tensor of items and intents must be, and its shape."""
    item, intent = tensors[ITEM_TENSORS], tensors[INTENT_TENSORS]
    d_model = intent["intent_vectors"].shape[1]
    stored = item["code_intents"].size
    expected: dict[str, tuple[Tensors, tuple[int, ...]]] = {
        "code_offsets": (item, (items + 1,)),
        "code_intents": (item, (stored,)),
        "code_values": (item, (stored,)),
        "residuals": (item, (items, d_model)),
        "biases": (item, (items,)),
        "popularity": (item, (items,)),
        "intent_vectors": (intent, (intents, d_model)),
        "value_quantiles": (intent, (max(2, len(intent["value_quantiles"])), intents)),
        "label_vectors": (intent, (intents, tensors[DICTIONARY_TENSORS]["decoder"].shape[1])),
        **dict.fromkeys(_INTENT_ROWS, (intent, (intents,))),
    }
    if any(key.startswith("companion_") for key in item):
        pairs = item["companion_items"].size
        expected |= {
            "companion_offsets": (item, (items + 1,)),
            "companion_items": (item, (pairs,)),
            "companion_rates": (item, (pairs,)),
        }
    return expected


def is_sparse(offsets: npt.NDArray[Any], columns: npt.NDArray[Any], width: int) -> bool:
    """Whether the offsets rise from 0 to the number of entries, and all columns are below the width."""
    in_range = len(columns) == 0 or (columns.min() >= 0 and columns.max() < width)
    rising = offsets[0] == 0 and offsets[-1] == len(columns) and bool((np.diff(offsets) >= 0).all())
    return bool(in_range and rising)
