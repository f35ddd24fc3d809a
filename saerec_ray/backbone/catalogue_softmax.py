"""The cross-entropy over the whole catalogue: most of the work and of the memory traffic of a step.

Written out, it needs each logit in memory once, in the precision of the product, where the autograd of logits, bias
and cross-entropy keeps several copies of all of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LOGITS_AT_ONCE = 1 << 23
"""32 MiB of float32: where a batch has more, its rows take turns."""


def catalogue_cross_entropy(
    states: Tensor, vectors: Tensor, biases: Tensor, targets: Tensor, dtype: torch.dtype
) -> Tensor:
    """The mean over a batch of log sum_j exp s_j - s_target, with s_j = h . e_j + b_j over all items j.

    `states`: (batch, d_model); `vectors`: (items, d_model); `biases`: (items,); `targets`: (batch,) item numbers.
    `dtype` is that of the inner products and of the products in the gradient; the rest is float32.
    """
    result: Tensor = _CatalogueCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, vectors, biases, targets, dtype
    )
    return result


class _CatalogueCrossEntropy(torch.autograd.Function):
    """The gradient of a logit is its softmax, less 1 for the target; it takes the logit's place in memory."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, vectors: Tensor, biases: Tensor, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        states, vectors = states.to(dtype), vectors.to(dtype)
        batch, items = len(states), len(vectors)
        gradients = states.new_empty(batch, items)
        of_biases = torch.zeros_like(biases)
        loss = biases.new_zeros(())
        rows_at_once = max(1, _LOGITS_AT_ONCE // items)
        for start in range(0, batch, rows_at_once):
            rows = slice(start, start + rows_at_once)
            own = targets[rows, None]  # (rows, 1)
            torch.mm(states[rows], vectors.T, out=gradients[rows])
            logits = gradients[rows].float() if dtype != torch.float32 else gradients[rows]
            logits.add_(biases)
            of_targets = logits.gather(1, own)
            highest = logits.amax(dim=1, keepdim=True)
            exponentials = logits.sub_(highest).exp_()
            sums = exponentials.sum(dim=1, keepdim=True)
            loss += (sums.log() + highest - of_targets).sum()
            softmax = exponentials.div_(sums)
            softmax.scatter_add_(1, own, softmax.new_full((1, 1), -1.0).expand_as(own))
            of_biases += softmax.sum(dim=0)
            if dtype != torch.float32:
                gradients[rows] = softmax
        ctx.save_for_backward(states, vectors, gradients, of_biases)
        return loss / batch

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
        states, vectors, gradients, of_biases = ctx.saved_tensors
        share = gradient / len(states)
        return (
            torch.mm(gradients, vectors).float() * share,
            torch.mm(gradients.T, states).float() * share,
            of_biases * share,
            None,
            None,
        )
