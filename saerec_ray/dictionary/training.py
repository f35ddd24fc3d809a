"""The dictionary in training: loss, dead latents, decoder constraint, schedule."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saerec_ray.dictionary.jumprelu import Jump, starting_threshold
from saerec_ray.dictionary.kinds import KINDS, Choose, keep_top_of_rows
from saerec_ray.dictionary.sae import Dictionary, Floats, Scaling, calibrated_threshold
from saerec_ray.dictionary.sparse_loss import sparse_losses
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.precision import chosen_precision

_CHUNK = 8192
LOOSE_SHARE = 1 / 4
"""Share of a batch whose looser codes count once the sparsity is the one asked for. The first rows of a shuffled
batch stand for all of them, because looser codes have four times as many entries."""


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
        self.product_dtype = getattr(torch, chosen_precision(self.config.precision, device.type))
        return self

    def activations(self, x: Tensor) -> Tensor:
        """p = ReLU(W x + b): (batch, latents)."""
        return F.relu(F.linear(x, self.encoder, self.encoder_bias))

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + b, computed in `product_dtype`, in the type of x."""
        if self.product_dtype == torch.float32:
            return F.linear(x, weight, bias)
        dtype = self.product_dtype
        product = F.linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))
        return product.to(x.dtype)

    def forward(self, x: Tensor, active: int, dead: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The training loss of scaled inputs (batch, d) at the given sparsity.

        L = mean over prefixes of FVU + multi_k_weight (1 - cos at 4k) + auxiliary_weight * dead-latent loss,
        where the cosine is that of the first LOOSE_SHARE of the rows, which should be in random order, or of all
        while `active` is still above what is asked for,
        and with learnt thresholds + sparsity_weight (L0 / active - 1)^2 in place of the cosine.
        `dead` marks latents that have been silent, (latents,) bool. Returns the loss, its parts, and which
        latents fired, (latents,) bool.
        """
        if self.kind.choose is None:
            fvu, extra, residual, fired = self._learnt_thresholds(x, active)
        else:
            fvu, extra, residual, fired = self._largest(x, active, self.kind.choose)
        auxiliary = self._auxiliary_loss(residual, x, dead)
        loss = fvu.mean() + extra + self.config.auxiliary_weight * auxiliary
        return loss, {"fvu": fvu[-1].detach(), "auxiliary": auxiliary.detach()}, fired

    def _largest(self, x: Tensor, active: int, choose: Choose) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """FVU of each prefix, the weighted loss of looser codes, the residual, and which latents fired."""
        with torch.no_grad():
            p = self._product(x, self.encoder, self.encoder_bias)
            codes = choose(p, active)
            fired = torch.zeros(self.config.width, dtype=torch.bool, device=x.device)
            fired.index_fill_(0, codes.latents, True)
            looser = None
            if self.config.multi_k_weight:
                annealing = active > self.config.active
                rows = len(x) if annealing else math.ceil(LOOSE_SHARE * len(x))
                looser = choose(p[:rows], 4 * self.config.active), rows
        fvu, cosine, residual = sparse_losses(
            x,
            (self.encoder, self.encoder_bias),
            (self.decoder, self.decoder_bias),
            codes,
            self.prefix_ends,
            looser,
        )
        return fvu, self.config.multi_k_weight * (1 - cosine), residual, fired

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
            parallel = torch.linalg.vecdot(self.decoder.grad, self.decoder)
            self.decoder.grad.addcmul_(self.decoder, parallel[:, None], value=-1)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Sets the decoder rows to unit length; after the step."""
        F.normalize(self.decoder, dim=1, out=self.decoder)

    @torch.no_grad()
    def export(self, scaling: Scaling, x: Tensor) -> Dictionary:
        """The inference dictionary; thresholds are set so that `x`, (samples, d), have `active` latents on average.

        `x` are scaled inputs that were not trained on: on those that were, fewer activations are near the
        threshold, and every other item would have more latents than was asked for. Learnt thresholds are all
        raised or lowered by one factor.
        """
        decoder = F.normalize(self.decoder, dim=1)
        most_active = self.kind.most_active(self.config)
        threshold: float | Floats = 0.0
        if self.kind.inference != "largest":
            own = self.log_threshold.exp() if self.kind.inference == "learnt" else None
            largest = []
            for part in torch.split(x, _CHUNK):
                activations = self.activations(part) if own is None else self.activations(part) / own
                largest.append(activations.topk(most_active, dim=1).values)
            found = calibrated_threshold(torch.cat(largest).cpu().numpy(), self.config.active, most_active)
            threshold = found if own is None else _array(own * found)
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
