"""The backbone: item vectors made of intents and a residual, and the sequence encoder over them.

    e_i = D z_i + eps_i                      item vector; the codes z stay frozen
    s_u = transformer over the last items    (SASRec, arXiv 1808.09781; every prefix is one sample)
    h_u = s_u + scale (g_p personal + g_c public)   branches after SAERec, arXiv 2606.18897

The branches start at scale 0, so training starts at the plain backbone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saerec_ray.backbone.catalogue_softmax import catalogue_cross_entropy
from saerec_ray.backbone.code_product import CodeProduct
from saerec_ray.backbone.sampled_softmax import Negatives, sampled_cross_entropy
from saerec_ray.config import TrainConfig
from saerec_ray.precision import chosen_precision


@dataclass(frozen=True)
class IntentContext:
    """What the encoder knows of intents, frozen from the dictionary and the training interactions."""

    code_intents: Tensor  # (items, most codes of an item) int64; unused places point at 0 with value 0
    code_values: Tensor  # (items, most codes of an item) float32
    product: CodeProduct  # the same without unused places
    inverse_document_frequency: Tensor  # (intents,)
    public: Tensor  # (public intents,) int64, frequent and widespread
    intent_count: int

    def to(self, device: torch.device) -> IntentContext:
        """The same on another device."""
        return IntentContext(
            self.code_intents.to(device),
            self.code_values.to(device),
            self.product.to(device),
            self.inverse_document_frequency.to(device),
            self.public.to(device),
            self.intent_count,
        )


class ItemVectors(nn.Module):
    """e_i = D z_i + eps_i and the bias b_i; without intents e_i = eps_i."""

    def __init__(self, items: int, settings: TrainConfig, decoder: Tensor | None) -> None:
        """`decoder` holds the dictionary's unit directions, (intents, d_text); None trains without intents."""
        super().__init__()
        # Both make intents carry the score. Without intents residuals are all there is, and have a decay of their own.
        self.residual_dropout = settings.residual_dropout if decoder is not None else 0.0
        self.residual_decay = settings.residual_decay if decoder is not None else settings.baseline_decay
        self.residuals = nn.Parameter(torch.empty(items, settings.d_model).normal_(std=0.02))
        if decoder is not None and not settings.residuals:
            self.residuals.requires_grad_(False).zero_()
        self.biases = nn.Parameter(torch.zeros(items))
        if decoder is None:
            self.register_parameter("intent_vectors", None)
        else:
            projection = torch.empty(decoder.shape[1], settings.d_model).normal_()
            self.intent_vectors = nn.Parameter(0.02 * (decoder @ projection))

    def forward(self, context: IntentContext) -> Tensor:
        """All item vectors, (items, d_model); in training whole residuals are dropped at random."""
        residuals = self._dropped(self.residuals)
        if self.intent_vectors is None:
            return residuals
        return residuals + context.product.with_vectors(self.intent_vectors)

    def some(self, context: IntentContext, rows: Tensor) -> Tensor:
        """The vectors of some items, (rows, d_model), with a sparse gradient for their residuals."""
        residuals = self._dropped(F.embedding(rows, self.residuals, sparse=True))
        if self.intent_vectors is None:
            return residuals
        product = CodeProduct.of_padded(
            context.code_intents[rows], context.code_values[rows], context.intent_count
        )
        return residuals + product.with_vectors(self.intent_vectors)

    def _dropped(self, residuals: Tensor) -> Tensor:
        if not self.training or self.residual_dropout == 0:
            return residuals
        return residuals * (torch.rand(len(residuals), 1, device=residuals.device) >= self.residual_dropout)


class SequenceEncoder(nn.Module):
    """The state h_u of a user from the vectors of the items met, oldest first."""

    def __init__(self, settings: TrainConfig, intents: bool) -> None:
        super().__init__()
        self.settings = settings
        d_model = settings.d_model
        self.positions = nn.Parameter(torch.empty(settings.max_length, d_model).normal_(std=0.02))
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(d_model, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        personal = intents and settings.branches in ("personal", "both")
        public = intents and settings.branches in ("public", "both")
        self.personal = IntentAttention(d_model, weighted=True) if personal else None
        self.public = IntentAttention(d_model, weighted=False) if public else None
        decay = torch.tensor(-3.0)
        if personal:
            self.decay = nn.Parameter(decay)  # learned through the weights of the personal branch
        else:
            self.register_buffer("decay", decay)
        if personal or public:
            self.gate = nn.Linear(d_model * (1 + personal + public), 1 + personal + public)
            self.branch_scale = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        vectors: Tensor,
        present: Tensor,
        profiles: Tensor,
        intent_vectors: Tensor | None,
        context: IntentContext,
    ) -> tuple[Tensor, Tensor]:
        """Encodes a batch of histories.

        `vectors`: (batch, length, d_model), right-aligned, the latest item last; `present`: (batch, length)
        bool, false where a shorter history is padded; `profiles`: a_u, (batch, intents).
        Returns h_u, (batch, d_model), and the gate weights (batch, 1 to 3): own state, personal, public.
        """
        length = vectors.shape[1]
        positions = self.positions[:length].flip(0)  # place 0 is the latest item
        x = self.dropout(self.norm(vectors + positions))  # (batch, length, d_model)
        mask = self._mask(present)
        for block in self.blocks[:-1]:
            x = block(x, x, mask)
        last = mask[..., -1:, :]
        state = self.blocks[-1](x[:, -1:], x, last)[:, 0]  # only the last place is read: (batch, d_model)
        if intent_vectors is None or (self.personal is None and self.public is None):
            return state, state.new_ones(len(state), 1)
        return self._fuse(state, profiles, intent_vectors, context)

    def _mask(self, present: Tensor) -> Tensor:
        length = present.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=present.device).tril()
        diagonal = torch.eye(length, dtype=torch.bool, device=present.device)  # padding sees itself: no NaN
        return ((causal & present[:, None, :]) | diagonal)[:, None]  # (batch, 1, length, length)

    def _fuse(
        self, state: Tensor, profiles: Tensor, intent_vectors: Tensor, context: IntentContext
    ) -> tuple[Tensor, Tensor]:
        branches = []
        if self.personal is not None:
            relevance = profiles * context.inverse_document_frequency  # r_uf: (batch, intents)
            count = min(self.settings.personal_intents, relevance.shape[1])
            weights, chosen = relevance.topk(count, dim=1)  # (batch, chosen)
            weights = weights / weights[:, :1].clamp_min(1e-9)
            branches.append(self.personal(state, intent_vectors[chosen], weights))
        if self.public is not None:
            shared = intent_vectors[context.public].expand(len(state), -1, -1)
            branches.append(self.public(state, shared, None))
        gates = self.gate(torch.cat([state, *branches], dim=1)).softmax(dim=1)  # (batch, 1 + branches)
        mixed = sum(gates[:, [place]] * branch for place, branch in enumerate(branches, start=1))
        return state + self.branch_scale * mixed, gates

    def history_weights(self, present: Tensor) -> Tensor:
        """alpha_ut, how much each history item counts in the profile: (batch, length), each row sums to 1.

        An exponential decay over the age of the item, learned where there is a personal branch.
        """
        length = present.shape[1]
        age = torch.arange(length - 1, -1, -1, device=present.device)
        logits = (-F.softplus(self.decay) * age).expand(len(present), length)
        return logits.masked_fill(~present, -math.inf).softmax(dim=1)


class Dropout(nn.Module):
    """Dropout with a mask from uniform numbers: torch's own draws are four times slower on CPUs."""

    def __init__(self, rate: float) -> None:
        """`rate`: share of the numbers set to zero, in [0, 1)."""
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """In training, x of any shape with that share at zero and the rest scaled up; else x itself."""
        if not self.training or self.rate == 0:
            return x
        return x * (torch.rand_like(x) >= self.rate) / (1 - self.rate)


class Block(nn.Module):
    """One transformer block, normalised after each residual connection."""

    def __init__(self, d_model: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.output = nn.Linear(d_model, d_model)
        self.attention_norm = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model), Dropout(dropout)
        )
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """`x`: (batch, queries, d_model) attends to `memory`: (batch, length, d_model)."""
        queries = self._split(self.query(x))
        keys, values = (self._split(part) for part in self.key_value(memory).chunk(2, dim=-1))
        if self.training and self.dropout.rate > 0:  # there is no fused kernel with dropout on CPUs
            logits = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])
            weights = self.dropout(logits.masked_fill(~mask, -math.inf).softmax(dim=3))
            attended = weights @ values
        else:
            attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        attended = attended.transpose(1, 2).flatten(2)  # from (batch, heads, queries, d_head)
        x = self.attention_norm(x + self.dropout(self.output(attended)))
        normed: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return normed

    def _split(self, x: Tensor) -> Tensor:
        batch, length, d_model = x.shape
        return x.view(batch, length, self.heads, d_model // self.heads).transpose(
            1, 2
        )  # (batch, heads, length, d_head)


class IntentAttention(nn.Module):
    """Cross-attention of a user's state to a set of intents."""

    def __init__(self, d_model: int, weighted: bool) -> None:
        super().__init__()
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        if weighted:
            self.weight_scale = nn.Parameter(torch.ones(()))

    def forward(self, state: Tensor, intents: Tensor, weights: Tensor | None) -> Tensor:
        """`state`: (batch, d_model); `intents`: (batch, count, d_model); `weights`: (batch, count) in [0, 1].

        Weights raise the attention to intents that are strong in the profile. Returns (batch, d_model).
        """
        logits = torch.einsum("bd,bcd->bc", self.query(state), self.key(intents)) / math.sqrt(state.shape[-1])
        if weights is not None:
            logits = (logits + self.weight_scale * weights).masked_fill(weights <= 0, -1e9)
        return torch.einsum("bc,bcd->bd", logits.softmax(dim=1), self.value(intents))


class Backbone(nn.Module):
    """Item vectors and sequence encoder together, with the training loss."""

    def __init__(self, items: int, settings: TrainConfig, decoder: Tensor | None) -> None:
        super().__init__()
        self.items = ItemVectors(items, settings, decoder)
        self.encoder = SequenceEncoder(settings, intents=decoder is not None)
        self.precision = settings.precision

    def forward(
        self,
        items: Tensor,
        present: Tensor,
        targets: Tensor,
        context: IntentContext,
        negatives: Negatives | None = None,
    ) -> Tensor:
        """Mean cross-entropy of the next item over the whole catalogue, or estimated with the negatives given.

        `items` and `present`: (batch, length); `targets`: (batch,).
        """
        if negatives is None:
            vectors = self.items(context)  # (items, d_model)
            states = self._states(vectors[items], items, present, context)
            dtype = self._product_dtype(vectors.device)
            return catalogue_cross_entropy(states, vectors, self.items.biases, targets, dtype)
        needed = torch.cat([items.flatten(), targets, negatives.items])
        rows, places = torch.unique(needed, return_inverse=True)
        history, target, negative = places.split([items.numel(), len(targets), len(negatives.items)])
        vectors = self.items.some(context, rows)  # (rows, d_model)
        states = self._states(vectors[history.view_as(items)], items, present, context)
        biases = self.items.biases[rows]
        target_logits = (states * vectors[target]).sum(dim=1) + biases[target]  # (batch,)
        negative_logits = self._product(states, vectors[negative]) + biases[negative]  # (batch, negatives)
        return sampled_cross_entropy(target_logits, negative_logits, targets, negatives)

    def _states(self, vectors: Tensor, items: Tensor, present: Tensor, context: IntentContext) -> Tensor:
        weights = self.encoder.history_weights(present)
        profiles = user_profiles(items, weights, context)
        states: Tensor = self.encoder(vectors, present, profiles, self.items.intent_vectors, context)[0]
        return states

    def _product_dtype(self, device: torch.device) -> torch.dtype:
        """The precision chosen for products with the catalogue."""
        dtype: torch.dtype = getattr(torch, chosen_precision(self.precision, device.type))
        return dtype

    def _product(self, states: Tensor, vectors: Tensor) -> Tensor:
        """Inner products (batch, rows) in the chosen precision; float32 comes out."""
        dtype = self._product_dtype(vectors.device)
        with torch.autocast(vectors.device.type, dtype=dtype, enabled=dtype is torch.bfloat16):
            return F.linear(states, vectors).float()


def user_profiles(items: Tensor, history_weights: Tensor, context: IntentContext) -> Tensor:
    """a_uf = sum_t alpha_ut z_(i_t)f: (batch, intents). `items` and `history_weights` are (batch, length)."""
    intents = context.code_intents[items].flatten(1)  # (batch, length * codes)
    values = (context.code_values[items] * history_weights[..., None]).flatten(1)
    return values.new_zeros(len(items), context.intent_count).scatter_add(1, intents, values)
