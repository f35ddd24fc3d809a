"""The loss of sparse codes and its exact gradients, from the active entries of a batch alone.

With codes z, nested prefixes g of the latents and looser codes z', of one row:

    r_g = x - c - sum over active latents in prefix g of z_m d_m          fvu_g = sum |r_g|^2 / sum |x|^2
    x'  = c + sum over latents active in the looser codes of z'_m d_m     cosine = mean of cos(x, x')

An entry's latent is part of some reconstructions of its row. The sum of the gradients of these is the same for all
latents that one prefix adds, and another for the looser codes. All gradients are products with such sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saerec_ray.dictionary.sparse_batch import ActiveEntries, order_of, sums_by_bag, weighted_sums

_SHORTEST = 1e-8
"""Length below which a reconstruction has no direction."""


def sparse_losses(
    x: Tensor,
    encoder: tuple[Tensor, Tensor],
    decoder: tuple[Tensor, Tensor],
    codes: ActiveEntries,
    prefix_ends: Tensor,
    looser: tuple[ActiveEntries, int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """FVU of each prefix (prefixes,), the mean cosine of looser codes (), and residuals (batch, d).

    `encoder` and `decoder` are weights (latents, d) and bias; all four get gradients, inputs x (batch, d) get none.
    Values of entries must be those of ReLU(W x + b); where there are several prefixes, the latents of a row ascend.
    `prefix_ends` ascend to the number of latents. `looser` are the looser codes of the first rows, and how many
    rows; without them the cosine is 0. The residuals are those of the whole width and have no gradient.
    """
    losses: tuple[Tensor, Tensor, Tensor] = _SparseLosses.apply(  # type: ignore[no-untyped-call]
        x, *encoder, *decoder, codes, prefix_ends, looser
    )
    return losses


class _SparseLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        encoder: Tensor,  # noqa: ARG004 (takes the gradient)
        encoder_bias: Tensor,  # noqa: ARG004 (takes the gradient)
        decoder: Tensor,
        decoder_bias: Tensor,
        codes: ActiveEntries,
        prefix_ends: Tensor,
        looser: tuple[ActiveEntries, int] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, prefixes = len(x), len(prefix_ends)
        bags = codes.rows
        if prefixes > 1:
            bags = bags * prefixes + torch.bucketize(codes.latents, prefix_ends, right=True)
        parts = sums_by_bag(decoder, codes.latents, codes.values, bags, batch * prefixes)
        residuals = parts.view(batch, prefixes, -1)  # becomes so in place, from sums of what each prefix adds
        left = x - decoder_bias
        for part in residuals.unbind(dim=1):
            left = torch.sub(left, part, out=part)
        total = torch.linalg.vector_norm(x).square()
        fvu = torch.linalg.vector_norm(residuals, dim=2).square().sum(dim=0) / total
        cosine = fvu.new_zeros(())
        towards_input: Tensor | None = None
        if looser is not None:
            entries, rows = looser
            whole = sums_by_bag(decoder, entries.latents, entries.values, entries.rows, rows) + decoder_bias
            cosine, towards_input = _mean_cosine(x[:rows], whole)
        ctx.save_for_backward(x, decoder, residuals, total, bags, towards_input)
        ctx.codes, ctx.looser = codes, looser
        ctx.mark_non_differentiable(left)
        return fvu, cosine, left

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, fvu_gradient: Tensor, cosine_gradient: Tensor, _: Tensor
    ) -> tuple[None, Tensor, Tensor, Tensor, Tensor, None, None, None]:
        x, decoder, residuals, total, bags, towards_input = ctx.saved_tensors
        rows, latents, values = ctx.codes
        batch, prefixes, d = residuals.shape
        sums = batch * prefixes + (0 if towards_input is None else len(towards_input))
        table = residuals.new_empty(sums, d)  # of rows and prefixes, then of the rows with looser codes
        of_prefixes = table[: batch * prefixes].view(batch, prefixes, d)
        scales = fvu_gradient * (-2 / total)
        torch.mul(residuals[:, -1], scales[-1], out=of_prefixes[:, -1])
        for prefix in reversed(range(prefixes - 1)):
            later = of_prefixes[:, prefix + 1]
            torch.addcmul(later, residuals[:, prefix], scales[prefix], out=of_prefixes[:, prefix])
        decoder_bias_gradient = of_prefixes[:, 0].sum(dim=0)
        if towards_input is not None:
            of_looser = torch.mul(towards_input, cosine_gradient, out=table[batch * prefixes :])
            decoder_bias_gradient += of_looser.sum(dim=0)
            looser: ActiveEntries = ctx.looser[0]
            bags = torch.cat([bags, looser.rows + batch * prefixes])
            rows, latents, values = (torch.cat(pair) for pair in zip(ctx.codes, looser, strict=True))
        value_gradient = _products(table, bags, decoder, latents)
        order, starts = order_of(latents, len(decoder))
        encoder_gradient, decoder_gradient = (
            weighted_sums(of, places.index_select(0, order), weights.index_select(0, order), starts)
            for of, places, weights in ((x, rows, value_gradient), (table, bags, values))
        )
        encoder_bias_gradient = value_gradient.new_zeros(len(decoder)).index_add_(0, latents, value_gradient)
        return (
            None,
            encoder_gradient,
            encoder_bias_gradient,
            decoder_gradient,
            decoder_bias_gradient,
            None,
            None,
            None,
        )


def _mean_cosine(x: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """The mean cosine of rows of x and `whole`, and its gradient for `whole`: (rows, d)."""
    lengths = torch.linalg.vector_norm(whole, dim=1).clamp_min(_SHORTEST)
    product = (torch.linalg.vector_norm(x, dim=1) * lengths).clamp_min(_SHORTEST)
    cosines = torch.linalg.vecdot(x, whole) / product
    share = (lengths > _SHORTEST) / len(x)  # one without direction cannot be turned
    on_x, on_whole = share / product, share * cosines / lengths.square()
    return cosines.mean(), torch.addcmul(x * on_x[:, None], whole, on_whole[:, None], value=-1)


def _products(left: Tensor, left_places: Tensor, right: Tensor, right_places: Tensor) -> Tensor:
    """Scalar products of rows of `left` and `right` at paired places: (entries,).

    The rows are not copied: this is the gradient that embedding_bag has for its weights.
    """
    products: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        left, right, right_places, left_places[:0], left_places, 0, -1
    )
    return products
