"""New directions for dead latents that no item reaches: the loss for dead latents gives them no gradient.

That loss sees dead latents through a ReLU. One whose pre-activation is negative on every item would stay dead
for good, so it starts again from what the dictionary explains worst.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from saerec_ray.dictionary.jumprelu import starting_threshold
from saerec_ray.dictionary.training import TrainingDictionary

_CHUNK = 8192
_ALIKE = 0.5
"""Cosine of two residuals above which the worse explained one alone gets a latent."""
_CANDIDATES = 4
"""Residuals looked at for each latent."""


@torch.no_grad()
def unreachable(model: TrainingDictionary, dead: Tensor, x: Tensor) -> Tensor:
    """Indices of the dead latents, (latents,) bool, that are not activated by any scaled input, (items, d)."""
    latents = dead.nonzero(as_tuple=True)[0]
    if len(latents) == 0:
        return latents
    weights, bias = model.encoder[latents], model.encoder_bias[latents]
    highest = torch.full_like(bias, -math.inf)
    for part in torch.split(x, _CHUNK):
        highest = torch.maximum(highest, F.linear(part, weights, bias).amax(dim=0))
    return latents[highest <= 0]


@torch.no_grad()
def worst_residuals(model: TrainingDictionary, x: Tensor, count: int) -> Tensor:
    """Unit residuals x - x' of up to `count` of the worst explained inputs, none much like another: (found, d).

    Codes are the `active` largest activations of each item, whatever the kind.
    """
    parts = []
    for part in torch.split(x, _CHUNK):
        values, latents = model.activations(part).topk(model.config.active, dim=1)
        codes = F.embedding_bag(latents, model.decoder, mode="sum", per_sample_weights=values)
        parts.append(part - codes - model.decoder_bias)
    residuals = torch.cat(parts)
    lengths = residuals.square().sum(dim=1)
    places = lengths.topk(min(_CANDIDATES * count, len(x))).indices
    candidates = F.normalize(residuals[places], dim=1)
    alike = (candidates @ candidates.T > _ALIKE).cpu()
    chosen: list[int] = []
    for place in range(len(candidates)):
        if len(chosen) < count and not alike[place, chosen].any():
            chosen.append(place)
    return candidates[chosen]


@torch.no_grad()
def point_anew(model: TrainingDictionary, latents: Tensor, directions: Tensor) -> None:
    """Gives latents, (n,), unit directions, (n, d), as encoder and decoder, without bias, as at the start."""
    model.decoder[latents] = directions
    model.encoder[latents] = directions
    model.encoder_bias[latents] = 0
    if model.kind.inference == "learnt":
        model.log_threshold[latents] = math.log(starting_threshold(model.config.width, model.config.active))


def of_latents(model: TrainingDictionary) -> list[torch.nn.Parameter]:
    """The parameters with a row or number for each latent."""
    return [value for name, value in model.named_parameters() if name != "decoder_bias"]


@torch.no_grad()
def forget(optimiser: torch.optim.Optimizer, model: TrainingDictionary, latents: Tensor) -> None:
    """Clears what the optimiser remembers of the gradients of these latents."""
    for parameter in of_latents(model):
        for remembered in optimiser.state.get(parameter, {}).values():
            if remembered.shape == parameter.shape:
                remembered[latents] = 0
