"""The softmax over a sample of the catalogue, for catalogues too large for the full one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Negatives:
    """Items drawn with replacement, shared by a batch."""

    items: Tensor  # (negatives,) int64
    log_expected: Tensor  # log of how often each was to be drawn: (negatives,) float32

    def to(self, device: torch.device) -> Negatives:
        """The same on another device."""
        return Negatives(self.items.to(device), self.log_expected.to(device))


class NegativeSampler:
    """Draws items in proportion to the square root of 1 + their interactions."""

    def __init__(self, interactions: npt.NDArray[np.floating]) -> None:
        """`interactions`: training interactions of each item, (items,)."""
        weights = np.sqrt(1 + interactions.astype(np.float64))
        self._shares = weights / weights.sum()
        self._bounds = np.cumsum(self._shares)
        self._bounds[-1] = 1.0

    def draw(self, count: int, key: Sequence[int]) -> Negatives:
        """`count` items that depend on the key alone, so that all workers and resumed runs draw alike."""
        places = np.random.default_rng(list(key)).random(count)
        items = np.searchsorted(self._bounds, places, side="right")
        return Negatives(
            torch.from_numpy(items.astype(np.int64)),
            torch.from_numpy(np.log(count * self._shares[items]).astype(np.float32)),
        )


def sampled_cross_entropy(
    target_logits: Tensor, negative_logits: Tensor, targets: Tensor, negatives: Negatives
) -> Tensor:
    """Mean cross-entropy with an unbiased estimate of the sum over all other items.

    sum over j != target of exp(s_j) is estimated by sum over drawn j != target of exp(s_j) / expected draws
    (logQ correction of the negatives alone; Bengio and Senecal 2008). `target_logits`: (batch,);
    `negative_logits`: (batch, negatives); `targets`: (batch,) item numbers.
    """
    corrected = negative_logits - negatives.log_expected
    hits = targets[:, None] == negatives.items[None, :]
    corrected = corrected.masked_fill(hits, -torch.inf)
    logits = torch.cat([target_logits[:, None], corrected], dim=1)
    return F.cross_entropy(logits, torch.zeros_like(targets))
