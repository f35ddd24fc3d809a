"""Which entries of a training batch are active, as a list: what comes after costs as much as there are entries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_SAMPLE_STRIDE = 17  # odd, so that a sample of the flattened batch meets every latent of the usual widths
_SAMPLE_MARGIN = 1.25
_SHORT_KEYS = 2**16


class ActiveEntries(NamedTuple):
    """Positive activations of a batch that are large enough, ordered by row."""

    rows: Tensor  # (entries,), ascending
    latents: Tensor  # (entries,)
    values: Tensor  # (entries,), all positive, without gradient

    def at(self, places: Tensor) -> ActiveEntries:
        """Some of the entries, in the order given."""
        return ActiveEntries(*(each.index_select(0, places) for each in self))


def numpy_reads(tensor: Tensor) -> bool:
    """Whether numpy sees the numbers where they are: not on a GPU."""
    return tensor.device.type == "cpu"


def order_of(latents: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The stable order of latents (entries,), each less than `width`, and where each begins in it: (width,)."""
    if numpy_reads(latents) and width <= _SHORT_KEYS:
        # numpy sorts keys of 16 bits in linear time, torch those of any type by comparing.
        order = torch.from_numpy(np.argsort(latents.numpy().astype(np.uint16), kind="stable"))
    else:
        order = latents.argsort(stable=True)
    return order, _starts(latents.index_select(0, order), width)


def weighted_sums(rows: Tensor, places: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Sums of weights times the rows at places, one for each run of places from one start to the next.

    Rows (n, d), places and weights (entries,), ascending starts (runs,): (runs, d). An empty run gives zeros.
    """
    return F.embedding_bag(places, rows, starts, mode="sum", per_sample_weights=weights)


def sums_by_bag(rows: Tensor, places: Tensor, weights: Tensor, bags: Tensor, count: int) -> Tensor:
    """The same by ascending bag numbers, (entries,), from 0 to `count` - 1: (count, d)."""
    return weighted_sums(rows, places, weights, _starts(bags, count))


def _starts(ascending: Tensor, count: int) -> Tensor:
    """Where each number from 0 to `count` - 1 begins: (count,)."""
    return torch.searchsorted(ascending, torch.arange(count, device=ascending.device))


def entries_of_rows(p: Tensor, active: int) -> ActiveEntries:
    """The `active` largest positive ones of each row of pre-activations (batch, latents): TopK, arXiv 2406.04093.

    Of equal ones at the limit any are taken.
    """
    values, latents = p.topk(active, dim=1, sorted=False)
    rows = torch.arange(len(p), device=p.device).repeat_interleave(active)
    entries = ActiveEntries(rows, latents.flatten(), values.flatten())
    positive = entries.values > 0
    return entries if bool(positive.all()) else entries.at(positive.nonzero().flatten())


def entries_of_batch(p: Tensor, active: int) -> ActiveEntries:
    """The batch x `active` largest positive ones of pre-activations (batch, latents): BatchTopK, arXiv 2412.06410.

    Of equal ones at the limit any are taken. Within a row, latents ascend.
    """
    batch, width = p.shape
    places, values = _candidates(p.flatten(), batch * active)
    if len(values) > batch * active:
        kept = _in_order(values.topk(batch * active, sorted=False).indices, len(values))
        places, values = places.index_select(0, kept), values.index_select(0, kept)
    rows = torch.div(places, width, rounding_mode="floor")
    return ActiveEntries(rows, places - rows * width, values)


def _limit(values: Tensor, count: int) -> Tensor:
    """The value that `count` of them reach."""
    return values.topk(count, sorted=False).values.min()


def _in_order(places: Tensor, count: int) -> Tensor:
    """Different places below `count`, sorted; in linear time."""
    flags = torch.zeros(count, device=places.device).index_fill_(0, places, 1)
    return _places_from(flags, 1)


def _candidates(flat: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Places, ascending, and values of positive numbers, among them the `count` largest or all there are.

    Only numbers above a bound guessed from a sample are looked at; where the guess leaves too few, all are.
    """
    sample = flat[::_SAMPLE_STRIDE]
    wanted = round(_SAMPLE_MARGIN * count * len(sample) / len(flat)) + 16
    positive = torch.finfo(flat.dtype).tiny
    bound = max(float(_limit(sample, wanted)), positive) if wanted < len(sample) else positive
    places = _places_from(flat, bound)
    if len(places) < count and bound > positive:
        places = _places_from(flat, positive)
    return places, flat.index_select(0, places)


def _places_from(numbers: Tensor, bound: float) -> Tensor:
    """The places of numbers (n,) of at least the bound, ascending."""
    if numpy_reads(numbers):  # it takes a fraction of the time
        return torch.from_numpy(np.flatnonzero(numbers.numpy() >= bound))
    return (numbers >= bound).nonzero().flatten()
