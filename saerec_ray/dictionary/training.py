"""The dictionary in training: loss, dead latents, decoder constraint, schedule."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saerec_ray.dictionary.jumprelu import Jump, starting_threshold
from saerec_ray.dictionary.kinds import KINDS, Limits, keep_top_of_rows
from saerec_ray.dictionary.sae import Dictionary, Floats, Scaling, calibrated_threshold
from saerec_ray.dictionary.sparse_batch import ActiveEntries
from saerec_ray.dictionary_settings import DictionaryConfig

_CHUNK = 8192


class TrainingDictionary(nn.Module):
    """Encoder and decoder with their loss; `export` gives the Dictionary used everywhere else."""

    def __init__(self, d: int, config: DictionaryConfig, generator: torch.Generator | None = None) -> None:
        """Random directions of length d, drawn from the generator (a CPU one) or from torch's own."""
        super().__init__()
        self.config = config
        self.kind = KINDS[config.kind]
        self.prefixes = self.kind.prefixes(config)
        self.product_dtype = torch.float32  # of the products of the loss; everything else is float32 always
        directions = F.normalize(torch.empty(config.width, d).normal_(generator=generator), dim=1)
        self.decoder = nn.Parameter(directions.clone())  # (latents, d), unit rows
        self.decoder_bias = nn.Parameter(torch.zeros(d))
        # Untied, it starts at the decoder, then goes its own way.
        self.encoder = self.decoder if self.kind.tied else nn.Parameter(directions.clone())
        self.encoder_bias = nn.Parameter(torch.zeros(config.width))
        if self.kind.inference == "learnt":
            start = starting_threshold(config.width, config.active)
            # Their logarithms are learnt, so that thresholds stay positive.
            self.log_threshold = nn.Parameter(torch.full((config.width,), math.log(start)))
        self.prefix_ends: Tensor
        self.register_buffer("prefix_ends", torch.tensor(self.prefixes), persistent=False)

    def to_compute_on(self, device: torch.device) -> TrainingDictionary:
        """Chooses the type of the products by the configuration and the device; returns itself."""
        wanted = self.config.precision
        lower = wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda")
        self.product_dtype = torch.bfloat16 if lower else torch.float32
        return self

    def activations(self, x: Tensor) -> Tensor:
        """p = ReLU(W x + b): (batch, latents)."""
        return F.relu(F.linear(x, self.encoder, self.encoder_bias))

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + b, computed in `product_dtype`, in the type of x."""
        lower = self.product_dtype != torch.float32
        with torch.autocast(x.device.type, self.product_dtype, enabled=lower):
            return F.linear(x, weight, bias).to(x.dtype)

    def forward(self, x: Tensor, active: int, dead: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The training loss of scaled inputs (batch, d) at the given sparsity.

        L = mean over prefixes of FVU + multi_k_weight (1 - cos at 4k) + auxiliary_weight * dead-latent loss,
        and with learnt thresholds + sparsity_weight (L0 / active - 1)^2 in place of the cosine.
        `dead` marks latents that have been silent, (latents,) bool. Returns the loss, its parts, and which
        latents fired, (latents,) bool.
        """
        if self.kind.limits is None:
            fvu, extra, residual, fired = self._learnt_thresholds(x, active)
        else:
            fvu, extra, residual, fired = self._largest(x, active, self.kind.limits)
        auxiliary = self._auxiliary_loss(residual, x, dead)
        loss = fvu.mean() + extra + self.config.auxiliary_weight * auxiliary
        return loss, {"fvu": fvu[-1].detach(), "auxiliary": auxiliary.detach()}, fired

    def _largest(self, x: Tensor, active: int, limits: Limits) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """FVU of each prefix, the weighted loss of looser codes, the residual, and which latents fired."""
        with torch.no_grad():
            activations = F.relu(self._product(x, self.encoder, self.encoder_bias))
            loose = min(4 * self.config.active, self.config.width) if self.config.multi_k_weight else active
            if loose < active:
                raise ValueError(f"active ({active}) may be at most {loose}")
            found = limits(activations, [active, loose] if loose > active else [active])
            rows, latents = ((activations >= found[-1]) & (activations > 0)).nonzero(as_tuple=True)
            tight = activations[rows, latents] >= found[0].expand(len(x), 1)[rows, 0]
            # Groups: the latents each prefix adds, then what only the looser codes have.
            group = torch.bucketize(latents, self.prefix_ends, right=True)
            group = torch.where(tight, group, len(self.prefixes))
            groups = len(self.prefixes) + (loose > active)
            fired = torch.zeros(self.config.width, dtype=torch.bool, device=x.device)
            fired[latents[tight]] = True
            entries = ActiveEntries.of(rows, latents, group, len(x), groups, self.config.width)
        values = entries.activations(activations, x, self.encoder, self.encoder_bias)
        target = x - self.decoder_bias
        residuals = [target - part for part in entries.decode(values, self.decoder)]  # of each group
        errors = [residual.square().sum() for residual in residuals[: len(self.prefixes)]]
        fvu = torch.stack(errors) / x.square().sum()  # x is centred on the training mean
        extra = fvu.new_zeros(())
        if self.config.multi_k_weight:
            cosine = F.cosine_similarity(x, x - residuals[-1], dim=1).mean()
            extra = self.config.multi_k_weight * (1 - cosine)
        return fvu, extra, residuals[len(self.prefixes) - 1], fired

    def _learnt_thresholds(self, x: Tensor, active: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """FVU (1,), the weighted loss that keeps L0 at `active`, the residual, and which latents fired."""
        threshold = self.log_threshold.exp()
        activations = F.relu(self._product(x, self.encoder, self.encoder_bias))
        codes, steps = Jump.apply(activations, threshold, self.config.bandwidth)  # type: ignore[no-untyped-call]
        residual = x - self._product(codes, self.decoder.T) - self.decoder_bias
        fvu = residual.square().sum() / x.square().sum()
        extra = self.config.sparsity_weight * (steps.sum(dim=1).mean() / active - 1).square()
        return fvu.view(1), extra, residual, (codes > 0).any(dim=0)

    def _auxiliary_loss(self, residual: Tensor, x: Tensor, dead: Tensor) -> Tensor:
        """How badly the dead latents alone explain what the living left over (AuxK, arXiv 2406.04093).

        The decoder bias stays out of it: the residual is already centred. 0 when no latent is dead.
        """
        latents = dead.nonzero(as_tuple=True)[0]
        count = len(latents)
        if count == 0 or self.config.auxiliary_weight == 0:
            return residual.new_zeros(())
        wanted = min(max(2 * self.config.active, residual.shape[1] // 2), count)
        target = residual.detach()
        codes = F.relu(self._product(x, self.encoder[latents], self.encoder_bias[latents]))  # (batch, dead)
        if wanted < count:
            codes = keep_top_of_rows(codes, wanted)
        error = (target - self._product(codes, self.decoder[latents].T)).square().sum()
        return error / target.square().sum().clamp_min(1e-12) * min(count / wanted, 1.0)

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
        threshold: float | Floats = 0.0
        if self.kind.inference == "calibrated":
            parts = torch.split(x, _CHUNK)
            largest = [self.activations(part).topk(most_active, dim=1).values for part in parts]
            threshold = calibrated_threshold(
                torch.cat(largest).cpu().numpy(), self.config.active, most_active
            )
        elif self.kind.inference == "learnt":
            threshold = _array(self.log_threshold.exp())
        return Dictionary(
            encoder=_array(decoder if self.kind.tied else self.encoder),
            encoder_bias=_array(self.encoder_bias),
            decoder=_array(decoder),
            decoder_bias=_array(self.decoder_bias),
            scaling=scaling,
            threshold=threshold,
            most_active=most_active,
        )


def active_at(step: int, steps: int, config: DictionaryConfig) -> int:
    """How many latents may be active at a step: falls from 4k to k over the first steps."""
    annealed = config.anneal_share * steps
    if annealed == 0 or step >= annealed:
        return config.active
    return round(config.active * (4 - 3 * step / annealed))


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().float().cpu().numpy().copy()
