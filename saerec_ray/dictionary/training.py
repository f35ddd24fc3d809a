"""The dictionary in training: loss, dead latents, decoder constraint, schedule."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saerec_ray.config import DictionaryConfig
from saerec_ray.dictionary.kinds import KINDS
from saerec_ray.dictionary.sae import Dictionary, Floats, Scaling, calibrated_threshold


class TrainingDictionary(nn.Module):
    """Encoder and decoder with their loss; `export` gives the Dictionary used everywhere else."""

    def __init__(self, d: int, config: DictionaryConfig, generator: torch.Generator | None = None) -> None:
        """Random directions of length d, drawn from the generator (a CPU one) or from torch's own."""
        super().__init__()
        self.config = config
        self.kind = KINDS[config.kind]
        self.prefixes = self.kind.prefixes(config)
        directions = F.normalize(torch.empty(config.width, d).normal_(generator=generator), dim=1)
        self.decoder = nn.Parameter(directions.clone())  # (latents, d), unit rows
        self.decoder_bias = nn.Parameter(torch.zeros(d))
        self.encoder = nn.Parameter(
            directions.clone()
        )  # untied: starts at the decoder, then goes its own way
        self.encoder_bias = nn.Parameter(torch.zeros(config.width))

    def activations(self, x: Tensor) -> Tensor:
        """p = ReLU(W x + b): (batch, latents)."""
        return F.relu(F.linear(x, self.encoder, self.encoder_bias))

    def forward(self, x: Tensor, active: int, dead: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The training loss of scaled inputs (batch, d) at the given sparsity.

        L = mean over prefixes of FVU + multi_k_weight (1 - cos at 4k) + auxiliary_weight * dead-latent loss.
        `dead` marks latents that have been silent, (latents,) bool. Returns the loss, its parts, and which
        latents fired, (latents,) bool.
        """
        activations = self.activations(x)
        codes = self.kind.select(activations, active)
        variance = x.square().sum()  # x is centred on the training mean
        reconstruction = x
        fractions = []
        for prefix in self.prefixes:
            reconstruction = codes[:, :prefix] @ self.decoder[:prefix] + self.decoder_bias
            fractions.append((x - reconstruction).square().sum() / variance)
        fvu = torch.stack(fractions).mean()
        loose = self.kind.select(activations, min(4 * self.config.active, self.config.width))
        loose_cosine = F.cosine_similarity(x, loose @ self.decoder + self.decoder_bias, dim=1).mean()
        auxiliary = self._auxiliary_loss(x - reconstruction, activations, dead)
        loss = (
            fvu + self.config.multi_k_weight * (1 - loose_cosine) + self.config.auxiliary_weight * auxiliary
        )
        parts = {"fvu": fractions[-1].detach(), "auxiliary": auxiliary.detach()}
        return loss, parts, (codes > 0).any(dim=0)

    def _auxiliary_loss(self, residual: Tensor, activations: Tensor, dead: Tensor) -> Tensor:
        """How badly the dead latents alone explain what the living left over (AuxK, arXiv 2406.04093).

        The decoder bias stays out of it: the residual is already centred. 0 when no latent is dead.
        """
        count = int(dead.sum())
        if count == 0:
            return residual.new_zeros(())
        wanted = min(max(2 * self.config.active, residual.shape[1] // 2), count)
        target = residual.detach()
        codes = keep_dead(activations, dead, wanted)
        error = (target - codes @ self.decoder).square().sum() / target.square().sum().clamp_min(1e-12)
        return error * min(count / wanted, 1.0)

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Removes the part of the decoder's gradient that would only change lengths; before the step."""
        if self.decoder.grad is not None:
            parallel = (self.decoder.grad * self.decoder).sum(dim=1, keepdim=True)
            self.decoder.grad -= parallel * self.decoder

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Sets the decoder rows to unit length; after the step."""
        self.decoder.copy_(F.normalize(self.decoder, dim=1))

    @torch.no_grad()
    def export(self, scaling: Scaling, x: Tensor) -> Dictionary:
        """The inference dictionary; `x` are scaled training inputs on which the threshold is set."""
        decoder = F.normalize(self.decoder, dim=1)
        most_active = self.kind.most_active(self.config)
        threshold = 0.0
        if self.kind.threshold_at_inference:
            activations = self.activations(x).cpu().numpy()
            threshold = calibrated_threshold(activations, self.config.active, most_active)
        return Dictionary(
            encoder=_array(self.encoder),
            encoder_bias=_array(self.encoder_bias),
            decoder=_array(decoder),
            decoder_bias=_array(self.decoder_bias),
            scaling=scaling,
            threshold=threshold,
            most_active=most_active,
        )


def keep_dead(activations: Tensor, dead: Tensor, count: int) -> Tensor:
    """The `count` largest activations of each row among dead latents: (batch, latents)."""
    values, places = activations.masked_fill(~dead, 0).topk(count, dim=1)
    return torch.zeros_like(activations).scatter(1, places, values)


def active_at(step: int, steps: int, config: DictionaryConfig) -> int:
    """How many latents may be active at a step: falls from 4k to k over the first steps."""
    annealed = config.anneal_share * steps
    if annealed == 0 or step >= annealed:
        return config.active
    return round(config.active * (4 - 3 * step / annealed))


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().float().cpu().numpy().copy()
