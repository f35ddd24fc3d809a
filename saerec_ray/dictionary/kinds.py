"""The kinds of sparse autoencoder: which latents stay active in training and which prefixes are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from saerec_ray.config import DictionaryConfig


@dataclass(frozen=True)
class Kind:
    """One kind of dictionary, as the trainer sees it."""

    select: Callable[[Tensor, int], Tensor]
    """Keeps the active entries of non-negative activations (batch, latents), zeroes the others."""
    nested: bool
    """Whether prefixes of the latents must reconstruct by themselves (Matryoshka, arXiv 2503.17547)."""
    threshold_at_inference: bool
    """Whether inference uses a fixed threshold; otherwise the k largest of each item."""

    def prefixes(self, config: DictionaryConfig) -> list[int]:
        """How many latents each trained prefix has, ascending; the last is the whole width."""
        if not self.nested:
            return [config.width]
        return sorted({max(1, round(share * config.width)) for share in config.prefixes})

    def most_active(self, config: DictionaryConfig) -> int:
        """The most latents an item may have at inference."""
        return 2 * config.active if self.threshold_at_inference else config.active


def keep_top_of_rows(activations: Tensor, active: int) -> Tensor:
    """The `active` largest of each row (TopK, arXiv 2406.04093)."""
    values, places = activations.topk(active, dim=1)
    return torch.zeros_like(activations).scatter(1, places, values)


def keep_top_of_batch(activations: Tensor, active: int) -> Tensor:
    """The rows x `active` largest of the whole batch (BatchTopK, arXiv 2412.06410)."""
    count = active * len(activations)
    threshold = activations.detach().flatten().topk(count, sorted=False).values.min()
    return activations * ((activations >= threshold) & (activations > 0))


KINDS: dict[str, Kind] = {
    "topk": Kind(keep_top_of_rows, nested=False, threshold_at_inference=False),
    "batchtopk": Kind(keep_top_of_batch, nested=False, threshold_at_inference=True),
    "matryoshka": Kind(keep_top_of_batch, nested=True, threshold_at_inference=True),
}
