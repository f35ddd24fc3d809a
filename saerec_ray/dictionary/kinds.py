"""The kinds of sparse autoencoder: which latents stay active in training and which prefixes are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from saerec_ray.dictionary.sparse_batch import ActiveEntries, entries_of_batch, entries_of_rows
from saerec_ray.dictionary_settings import DictionaryConfig

Choose = Callable[[Tensor, int], ActiveEntries]


@dataclass(frozen=True)
class Kind:
    """One kind of dictionary, as the trainer sees it."""

    choose: Choose | None
    """Which entries of pre-activations (batch, latents) are active at a sparsity. None: thresholds are learnt."""
    nested: bool
    """Whether prefixes of the latents must reconstruct by themselves (Matryoshka, arXiv 2503.17547)."""
    inference: Literal["largest", "calibrated", "learnt"]
    """What makes a latent active at inference: being among the k largest of its item, exceeding one threshold
    set after training, or exceeding its own learnt one."""
    tied: bool = False
    """Whether the decoder is also the encoder."""

    def prefixes(self, config: DictionaryConfig) -> list[int]:
        """How many latents each trained prefix has, ascending; the last is the whole width."""
        if not self.nested:
            return [config.width]
        return sorted({max(1, round(share * config.width)) for share in config.prefixes})

    def most_active(self, config: DictionaryConfig) -> int:
        """The most latents an item may have at inference."""
        return config.active if self.inference == "largest" else 2 * config.active


def keep_top_of_rows(activations: Tensor, active: int) -> Tensor:
    """The `active` largest of each row where they are positive, zero elsewhere (TopK, arXiv 2406.04093)."""
    limit = activations.detach().topk(active, dim=1).values[:, -1:]
    return activations * ((activations >= limit) & (activations > 0))


KINDS: dict[str, Kind] = {
    "topk": Kind(entries_of_rows, nested=False, inference="largest"),
    "batchtopk": Kind(entries_of_batch, nested=False, inference="calibrated"),
    "matryoshka": Kind(entries_of_batch, nested=True, inference="calibrated"),
    "jumprelu": Kind(None, nested=False, inference="learnt"),
    "paper": Kind(entries_of_rows, nested=False, inference="largest", tied=True),
}
"""`jumprelu` is arXiv 2407.14435; `paper` is the tied TopK dictionary of SAERec (arXiv 2606.18897)."""
