"""D z_i for many items at once: a product of sparse codes with intent vectors, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csc_array, csr_array
from torch import Tensor


@dataclass(frozen=True)
class CodeProduct:
    """Sparse codes by item and by intent; fixed while the intent vectors are learned."""

    intents: Tensor  # (entries,) int64: item after item
    values: Tensor  # (entries,) float32: how strongly
    offsets: Tensor  # (items,) int64: where each item begins
    carriers: Tensor  # (entries,) int64: the items that carry an intent, intent after intent
    carrier_values: Tensor  # (entries,) float32
    carrier_offsets: Tensor  # (intents,) int64: where each intent begins

    @staticmethod
    def of(codes: csr_array) -> CodeProduct:
        """From codes (items, intents)."""
        columns = csc_array(codes)
        return CodeProduct(
            intents=torch.from_numpy(codes.indices.astype(np.int64)),
            values=torch.from_numpy(codes.data.astype(np.float32)),
            offsets=torch.from_numpy(codes.indptr[:-1].astype(np.int64)),
            carriers=torch.from_numpy(columns.indices.astype(np.int64)),
            carrier_values=torch.from_numpy(columns.data.astype(np.float32)),
            carrier_offsets=torch.from_numpy(columns.indptr[:-1].astype(np.int64)),
        )

    @staticmethod
    def of_padded(intents: Tensor, values: Tensor, intent_count: int) -> CodeProduct:
        """From codes of some items, both (items, most intents of an item), with value 0 where unused."""
        items, width = intents.shape
        ascending, order = intents.flatten().sort(stable=True)
        starts = torch.arange(intent_count, device=intents.device)
        return CodeProduct(
            intents=intents.flatten(),
            values=values.flatten(),
            offsets=torch.arange(items, device=intents.device) * width,
            carriers=order // width,
            carrier_values=values.flatten()[order],
            carrier_offsets=torch.searchsorted(ascending, starts),
        )

    def to(self, device: torch.device) -> CodeProduct:
        """The same on another device."""
        return CodeProduct(*(getattr(self, field.name).to(device) for field in fields(self)))

    def with_vectors(self, intent_vectors: Tensor) -> Tensor:
        """D z_i of every item, (items, d_model), from intent vectors (intents, d_model)."""
        result: Tensor = _Product.apply(intent_vectors, self)  # type: ignore[no-untyped-call]
        return result


class _Product(torch.autograd.Function):
    """The gradient is the product with the transpose; that of embedding_bag itself is ten times slower."""

    @staticmethod
    def forward(ctx: Any, intent_vectors: Tensor, product: CodeProduct) -> Tensor:
        ctx.product = product
        return _weighted_sums(product.intents, intent_vectors, product.offsets, product.values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        product: CodeProduct = ctx.product
        return _weighted_sums(
            product.carriers, gradient.contiguous(), product.carrier_offsets, product.carrier_values
        ), None


def _weighted_sums(rows: Tensor, vectors: Tensor, offsets: Tensor, values: Tensor) -> Tensor:
    return F.embedding_bag(rows, vectors, offsets, per_sample_weights=values, mode="sum")
