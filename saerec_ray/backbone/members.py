"""The members of a model taken apart again: each a model of its own on the same dictionary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.config import TrainConfig
from saerec_ray.scoring import ItemSpace, PriorTable


def member_parts(
    space: ItemSpace, encoder: UserEncoder, settings: TrainConfig, prior: PriorTable
) -> list[tuple[ItemSpace, UserEncoder]]:
    """The scoring space and the encoder of each member; `settings` are those of the whole model.

    Members share codes, prior and companions, and keep the weights that were chosen for the whole; so with equal
    profiles the mean of their scores is the score of the whole. Biases of members are not kept apart: each has
    their mean.
    """
    alone = settings.model_copy(update={"members": 1})
    columns = zip(
        *(np.split(vectors, settings.members, axis=1) for vectors in (space.intent_vectors, space.residuals)),
        strict=True,
    )
    weights = encoder.weights()
    parts = []
    for member, (intent_vectors, residuals) in enumerate(columns):
        own = replace(
            space,
            intent_vectors=np.ascontiguousarray(intent_vectors),
            residuals=np.ascontiguousarray(residuals),
        )
        lead = f"{member}."
        encoders = {
            f"0.{name.removeprefix(lead)}": values
            for name, values in weights.items()
            if name.startswith(lead)
        }
        parts.append((own, UserEncoder(alone, encoders, own, prior)))
    return parts
