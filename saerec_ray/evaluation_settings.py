"""The section of the configuration on what is measured after training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from saerec_ray.sources import Section

EvaluationPart = Literal[
    "accuracy", "cold", "faithfulness", "steering", "representation", "transfer", "dictionary", "intents"
]
EVERY_PART: tuple[EvaluationPart, ...] = get_args(EvaluationPart)
CONDITIONAL_PARTS = {"cold", "transfer"}
"""Those that need a setting of their own, and are left out beside all others where it is not set."""
DOMAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def asks_for_all(parts: Sequence[str]) -> bool:
    """Whether all parts are wanted that need no setting. Configurations of older runs do not list the later ones."""
    return set(EVERY_PART) - set(parts) <= CONDITIONAL_PARTS


class EvaluateConfig(Section):
    """What is measured after training."""

    parts: list[EvaluationPart] = Field(
        default=list(EVERY_PART),
        min_length=1,
        description=f"What to measure ({', '.join(EVERY_PART)}); all: without cold where train.cold_share is 0, and "
        "without transfer where other_domains is empty",
    )
    cutoffs: list[Annotated[int, Field(ge=1)]] = Field(
        default=[5, 10, 20], min_length=1, description="Lengths of the lists that are measured, rising"
    )
    list_users: int = Field(
        5000, ge=1, description="Users whose lists are measured for popularity and coverage"
    )
    completeness_users: int = Field(200, ge=1, description="Users whose explanations are re-added")
    faithfulness_users: int = Field(200, ge=1, description="Users whose cited intents are taken away")
    history_users: int = Field(200, ge=1, description="Users whose histories are shortened and encoded again")
    steering_users: int = Field(200, ge=1, description="Users whose lists are steered")
    steering_segment_users: int = Field(
        100,
        ge=1,
        description="Users drawn for each steered attribute because their held-out item has it, for accuracy alone",
    )
    steering_intents: int = Field(12, ge=1, description="Intents that are steered, each alone")
    steering_concepts: int = Field(
        20,
        ge=0,
        description="Attribute values that a group of intents, one of them or the exact one is to show",
    )
    steering_strengths: list[float] = Field(
        default=[0.2, 0.4, 0.6, 0.8, 1.0], min_length=1, description="Strengths tried, rising, up to 1"
    )
    simulated_users: int = Field(
        200, ge=1, description="Simulated users of each kind and history length, for representation"
    )
    calibration_users: int = Field(
        1000, ge=1, description="Users whose lists are compared with their histories, for representation"
    )
    recovery_users: int = Field(
        3000, ge=1, description="Users of each split whose lists are made again from reconstructed items"
    )
    probed_attributes: int = Field(40, ge=1, description="Attribute values that latents are probed for")
    intruder_latents: int = Field(200, ge=1, description="Latents that go through the intruder test")
    fuzzed_intents: int = Field(
        20, ge=1, description="Intents whose carriers' texts are taken apart by sentence, for fuzzing"
    )
    other_domains: dict[Annotated[str, Field(pattern=DOMAIN_NAME)], Path] = Field(
        default={},
        description="Work directories of other domains by name, for transfer: stages prepare, embed, dictionary and "
        "intents finished, with the same language model",
    )
    shared_user_ids: bool = Field(
        False,
        description="true: the same user id here and in other_domains is the same person, so that transfer can try "
        "histories there as the only history here",
    )
    transfer_users: int = Field(
        5000, ge=1, description="Users of both domains whose histories there are tried here, for transfer"
    )
    judged_labels: int = Field(
        30, ge=1, description="Labels that intents.language_model judges, if it is set; each twice"
    )
    judged_texts: int = Field(
        20, ge=20, multiple_of=20, description="Texts the language model is asked about for each label"
    )

    @model_validator(mode="after")
    def _cutoffs_rise(self) -> EvaluateConfig:
        if self.cutoffs != sorted(set(self.cutoffs)):
            raise ValueError(f"cutoffs must rise, but are {self.cutoffs}")
        return self

    @model_validator(mode="after")
    def _strengths_rise(self) -> EvaluateConfig:
        strengths = self.steering_strengths
        if strengths != sorted(set(strengths)) or strengths[0] <= 0 or strengths[-1] > 1:
            raise ValueError("steering_strengths must rise from above 0 to at most 1")
        return self
