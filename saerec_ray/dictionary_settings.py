"""The sources of intents and their settings: texts, what people take together, attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from saerec_ray.sources import LARGEST_SEED, Section


class CooccurrenceConfig(Section):
    """A second dictionary: the same autoencoder on vectors of items that people take together."""

    dimensions: int = Field(128, ge=2, description="Length of the item vectors")
    window: int | None = Field(
        3, ge=1, description="Interactions apart at most to be met together; null: anywhere in a history"
    )
    shift: float = Field(
        5.0, gt=0, description="How many times as often as by chance items must be met together"
    )
    history_epochs: int = Field(
        3, ge=0, description="Passes that fit the vectors to whole histories; 0 leaves those of pairs"
    )
    min_interactions: int = Field(
        5, ge=1, description="Training interactions below which an item has no code of this dictionary"
    )
    width: int = Field(256, ge=8, description="Number of latents")
    active: int = Field(2, ge=1, description="Latents active per item on average")
    epochs: int = Field(200, ge=1, description="Passes over the items")

    @model_validator(mode="after")
    def _active_fits(self) -> CooccurrenceConfig:
        if self.active * 4 > self.width:
            raise ValueError(f"active ({self.active}) may be at most a quarter of width ({self.width})")
        return self


class FollowedPhrasesConfig(Section):
    """Phrases of texts as attributes: those whose items people take one soon after the other."""

    window: int = Field(5, ge=1, description="Earlier interactions that an interaction is compared with")
    min_lift: float = Field(
        3.0, gt=1, description="How many times as often as by chance the next item must have the phrase, too"
    )
    min_items: int = Field(5, ge=2, description="Items that must have the phrase")
    max_share: float = Field(0.05, gt=0, le=1, description="Share of the items that may have the phrase")
    most_an_item: int = Field(6, ge=1, description="Phrases an item keeps, the surest first")
    max_phrases: int = Field(50_000, ge=100, description="Candidate phrases, the most frequent first")


class AttributesConfig(Section):
    """Attributes of items as intents of their own, one a value: exact, and untrained."""

    names: list[str] | None = Field(None, min_length=1, description="Which attributes; null: all")
    min_items: int = Field(3, ge=1, description="Items that must have a value")
    max_share: float = Field(0.3, gt=0, le=1, description="Share of the items that may have a value")
    weight: float = Field(
        1.0, gt=0, description="Length of an item's attribute code; that of texts has length 1 on average"
    )
    phrases: FollowedPhrasesConfig | None = Field(
        None, description="Also phrases of the texts, those that people follow; null: none"
    )

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without phrases where there are none: what was trained before they existed stays current."""
        values: dict[str, Any] = dump(self)
        if self.phrases is None:
            values.pop("phrases", None)
        return values


class DictionaryConfig(Section):
    """The sparse autoencoder (method: Matryoshka BatchTopK)."""

    source: Path | None = Field(
        None, description="Bundle or work directory whose dictionary is taken over instead of training one"
    )
    recentre: bool = Field(
        True, description="With source: centre on the mean of these items; false keeps the source's mean"
    )
    kind: Literal["topk", "batchtopk", "matryoshka", "jumprelu", "paper"] = Field(
        "matryoshka", description="How training chooses the active latents"
    )
    centre: bool = Field(
        True, description="false: inputs are scaled but not centred, to measure what centring is worth"
    )
    width: int = Field(512, ge=8, description="Number of latents, M")
    active: int = Field(8, ge=1, description="Latents active per item on average, k")
    prefixes: list[float] = Field(
        default=[1 / 16, 1 / 4, 1.0], min_length=1, description="Matryoshka prefix shares of the width"
    )
    epochs: int = Field(60, ge=1, description="Passes over the items")
    batch_size: int = Field(512, ge=2, description="Items a step, over all workers")
    learning_rate: float = Field(5e-3, gt=0, description="Of Adam, at its highest")
    warm_up_share: float = Field(0.05, ge=0, lt=1, description="Share of steps over which the rate rises")
    decay_share: float = Field(0.2, ge=0, lt=1, description="Share of steps over which the rate falls")
    anneal_share: float = Field(0.25, ge=0, lt=1, description="Share of steps over which 4k falls to k")
    auxiliary_weight: float = Field(1 / 32, ge=0, description="Weight of the dead-latent loss")
    revive: bool = Field(True, description="Give latents that no item activates a new direction each epoch")
    multi_k_weight: float = Field(1 / 8, ge=0, description="Weight of the cosine loss at 4k")
    sparsity_weight: float = Field(1.0, gt=0, description="jumprelu: weight of (L0 / k - 1) squared")
    bandwidth: float = Field(0.2, gt=0, description="jumprelu: width over which a threshold feels inputs")
    average_decay: float = Field(0.999, ge=0, lt=1, description="Exponential moving average of the weights")
    held_out_share: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="Items kept out of training: half to set thresholds, stop and choose by, half for the metrics",
    )
    patience: int = Field(5, ge=1, description="Evaluations without better held-out FVU before stopping")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the products in training; loss and thresholds are float32. "
        "auto: bfloat16 on GPUs and on CPUs with bf16 instructions",
    )
    workers: int = Field(1, ge=1, description="Training processes")
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED, description="null takes the run's seed")
    seeds: int = Field(
        1,
        ge=1,
        description="Dictionaries trained, with seed, seed + 1, ...; the best is kept, the others tell which of its "
        "latents are stable",
    )
    cooccurrence: CooccurrenceConfig | None = Field(
        None, description="A second dictionary of what people take together; null: texts alone"
    )
    attributes: AttributesConfig | None = Field(
        None,
        description="Attributes such as brand and category as intents beside the learnt ones; null: none",
    )

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the sources that are not used: what was trained before they existed stays current."""
        values: dict[str, Any] = dump(self)
        for name in ("cooccurrence", "attributes"):
            if getattr(self, name) is None:
                values.pop(name, None)
        return values

    @model_validator(mode="after")
    def _active_fits(self) -> DictionaryConfig:
        if self.active * 4 > self.width:
            raise ValueError(f"active ({self.active}) may be at most a quarter of width ({self.width})")
        if sorted(self.prefixes) != self.prefixes or self.prefixes[-1] != 1.0 or self.prefixes[0] <= 0:
            raise ValueError("prefixes must rise from above 0 and end with 1.0")
        return self

    @model_validator(mode="after")
    def _every_worker_has_items(self) -> DictionaryConfig:
        if self.batch_size < self.workers:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be at least workers ({self.workers}), "
                "which share the items of a step"
            )
        return self
