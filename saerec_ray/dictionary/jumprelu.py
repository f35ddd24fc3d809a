"""JumpReLU (arXiv 2407.14435): every latent has a learnt threshold, and sparsity is a term of the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Jump(torch.autograd.Function):
    """z = p where p exceeds the threshold, else 0; and 1 where it does, else 0.

    The thresholds get the gradients of steps smoothed by a rectangle of the given width (bandwidth):
    -threshold / width for z and -1 / width for the step, where p is within half a width of the threshold.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, threshold: Tensor, width: float) -> tuple[Tensor, Tensor]:
        """From p (batch, latents) and thresholds themselves, not their logarithms, (latents,)."""
        open_ = p > threshold
        ctx.save_for_backward(p, threshold)
        ctx.width = width
        return p * open_, open_.to(p.dtype)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, codes_gradient: Tensor, step_gradient: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        """Gradients for p and the thresholds."""
        p, threshold = ctx.saved_tensors
        near = ((p - threshold).abs() < ctx.width / 2).to(p.dtype) / ctx.width
        on_threshold = -(near * (codes_gradient * threshold + step_gradient)).sum(dim=0)
        return codes_gradient * (p > threshold), on_threshold, None


def starting_threshold(width: int, active: int) -> float:
    """The threshold that lets `active` of `width` latents through when inputs are normal and scaled."""
    return float(torch.special.ndtri(torch.tensor(1 - active / width, dtype=torch.float64)))
