"""The codes of one training batch as a list of active entries, and gradients that touch only those.

A batch has few active entries, so everything after the encoder's product costs as much as there are entries,
not as much as there are latents. All gradients are exact.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_SAMPLE_STRIDE = 17  # odd, so that a sample of the flattened batch meets every latent of the usual widths
_SAMPLE_MARGIN = 1.25


@dataclass(frozen=True)
class ActiveEntries:
    """Active places of a batch, ordered by row and, within a row, by group.

    Groups add up: the reconstruction of group g is that of all entries in groups up to g. Matryoshka prefixes
    are such groups, and so are the entries that only looser codes have.
    """

    rows: Tensor  # (entries,)
    latents: Tensor  # (entries,)
    bags: Tensor  # row x groups + group: (entries,), ascending
    by_latent: Tensor  # order of the entries by latent: (entries,)
    latent_offsets: Tensor  # where each latent begins in that order: (latents,)
    batch: int
    groups: int

    @staticmethod
    def of(
        rows: Tensor, latents: Tensor, group: Tensor, batch: int, groups: int, width: int
    ) -> ActiveEntries:
        """Orders entries given in any order: rows, latents and groups, each (entries,)."""
        bags = rows * groups + group
        if groups > 1:
            bags, order = bags.sort(stable=True)
            rows, latents = rows[order], latents[order]
        sorted_latents, by_latent = latents.sort(stable=True)
        starts = torch.arange(width, device=latents.device)
        return ActiveEntries(
            rows, latents, bags, by_latent, torch.searchsorted(sorted_latents, starts), batch, groups
        )

    def decode(self, values: Tensor, decoder: Tensor) -> list[Tensor]:
        """For each group, the sum of decoder rows up to it, (batch, d), from values (entries,)."""
        starts = torch.arange(self.batch * self.groups, device=self.bags.device)
        offsets = torch.searchsorted(self.bags, starts)
        # The gradient of embedding_bag for the decoder is slow, so only that for the values is left to it.
        parts = F.embedding_bag(
            self.latents, decoder.detach(), offsets, mode="sum", per_sample_weights=values
        )
        parts = _DecoderGradient.apply(parts, decoder, values.detach(), self)  # type: ignore[no-untyped-call]
        return list(itertools.accumulate(parts.view(self.batch, self.groups, -1).unbind(dim=1)))

    def activations(self, dense: Tensor, x: Tensor, encoder: Tensor, bias: Tensor) -> Tensor:
        """The entries of ReLU(W x + b), (entries,), from its dense values without gradient."""
        given = dense[self.rows, self.latents]
        values: Tensor = _EncoderGradient.apply(given, x, encoder, bias, self)  # type: ignore[no-untyped-call]
        return values

    def sum_by_latent(self, rows: Tensor, places: Tensor, values: Tensor) -> Tensor:
        """For each latent, the sum of values times the rows at their places: (latents, d)."""
        order = self.by_latent
        return F.embedding_bag(
            places[order], rows, self.latent_offsets, mode="sum", per_sample_weights=values[order]
        )


class _DecoderGradient(torch.autograd.Function):
    """Passes reconstructions on, and gives the decoder its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        parts: Tensor,
        decoder: Tensor,  # noqa: ARG004 (takes the gradient)
        values: Tensor,
        entries: ActiveEntries,
    ) -> Tensor:
        ctx.save_for_backward(values)
        ctx.entries = entries
        return parts.view_as(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        entries: ActiveEntries = ctx.entries
        gradient = gradient.contiguous()
        return gradient, entries.sum_by_latent(gradient, entries.bags, values), None, None


class _EncoderGradient(torch.autograd.Function):
    """Passes positive activations on, and gives encoder and bias their gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        x: Tensor,
        encoder: Tensor,  # noqa: ARG004 (takes the gradient)
        bias: Tensor,  # noqa: ARG004 (takes the gradient)
        entries: ActiveEntries,
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.entries = entries
        return values.view_as(values)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, gradient: Tensor
    ) -> tuple[None, None, Tensor, Tensor, None]:
        (x,) = ctx.saved_tensors
        entries: ActiveEntries = ctx.entries
        width = len(entries.latent_offsets)
        bias_gradient = gradient.new_zeros(width).index_add_(0, entries.latents, gradient)
        return None, None, entries.sum_by_latent(x, entries.rows, gradient), bias_gradient, None


def largest_of_rows(activations: Tensor, counts: list[int]) -> list[Tensor]:
    """For each ascending count, the value that many of each row reach: (batch, 1)."""
    values = activations.topk(counts[-1], dim=1).values
    return [values[:, count - 1 : count] for count in counts]


def largest_of_batch(activations: Tensor, counts: list[int]) -> list[Tensor]:
    """For each ascending count, the value that rows x count entries of the batch reach: (1, 1).

    Activations are not negative. Only entries above a bound guessed from a sample are sorted; where the
    guess leaves too few, all are.
    """
    flat = activations.flatten()
    wanted = [min(count * len(activations), len(flat)) for count in counts]
    sample = flat[::_SAMPLE_STRIDE]
    reaching = round(_SAMPLE_MARGIN * wanted[-1] * len(sample) / len(flat)) + 16
    candidates = flat
    if reaching < len(sample):
        bound = sample.topk(reaching, sorted=False).values.min()
        above = flat[flat >= bound]
        if len(above) >= wanted[-1]:
            candidates = above
    limits: list[Tensor] = []
    for count in reversed(wanted):
        candidates = candidates.topk(count, sorted=False).values
        limits.insert(0, candidates.min().view(1, 1))
    return limits
