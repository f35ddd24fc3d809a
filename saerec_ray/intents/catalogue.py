"""The catalogue of intents: what people read, name and steer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saerec_ray.errors import StageError
from saerec_ray.intents import INTENT_ID
from saerec_ray.intents.edit import Edit
from saerec_ray.manifest import write_json

CATALOGUE_FILE = "catalogue.json"
ID_PATTERN = f"^{INTENT_ID}$"
_ID_LENGTHS = (8, 16, 64)
"""Hexadecimal digits of an id."""
Origin = Literal["text", "cooccurrence", "attributes"]
LabelSource = Literal["human", "model", "terms", "attribute"]


class AttributeMatch(BaseModel):
    """How well an intent coincides with one value of an item attribute."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attribute: str
    value: str
    lift: float
    f1: float
    auc: float
    q_value: float


class TopItem(BaseModel):
    """An item that carries the intent strongly."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_id: str
    loading: float


class Intent(BaseModel):
    """One latent of the dictionary with its name, evidence and verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intent_id: str = Field(pattern=ID_PATTERN)
    latent: int = Field(ge=0, description="Column of the codes")
    label: str
    description: str
    terms: list[str]
    attribute: AttributeMatch | None
    label_source: LabelSource
    kind: Literal["intent", "item property", "nuisance", "unknown"] = Field(
        "unknown",
        description="Something a person wants, a plain property of items, or nuisance, an accident of their texts: "
        "as a person says, or else a language model; nuisance also when a property of the texts predicts it. "
        "Unknown when nobody was asked or answers differ",
    )
    detection_auc: float | None = Field(
        description="Held-out AUC of the label; null when it could not be judged"
    )
    state: Literal["active", "unpublished", "deprecated", "blocked"]
    verdict: str = Field(description="Which gate decided the state")
    steerable: bool
    item_count: int = Field(description="Items that carry it")
    item_density: float = Field(description="Share of items that carry it")
    user_density: float = Field(description="Share of training users with an item that carries it")
    top_items: list[TopItem]
    parent_id: str | None = Field(
        None, description="The broader intent of an earlier prefix, if there is one"
    )
    dictionary: Origin = Field(
        "text", description="What it was found in: texts of items, or what people take together"
    )
    stability: float | None = Field(
        None, description="Smallest cosine to its match under another seed; null when one seed was trained"
    )
    edit: Edit | None = Field(
        None,
        description="All that people decided of it: by the overlay, or before, when its id came from there",
    )
    inherited_edit: Edit | None = Field(
        None, description="The part that came with its id from another bundle or work directory"
    )

    @property
    def published(self) -> bool:
        """Whether people may see it by name."""
        return self.state == "active"

    @property
    def label_confidence(self) -> float | None:
        """How well the label tells items with the intent from others, in [0, 1]; None when that is not known.

        The held-out AUC. Of an intent that stands for an attribute value and is called by it there is nothing to
        measure: items carry it when they have the value, so the label is right of every item.
        """
        return 1.0 if self.label_source == "attribute" else self.detection_auc


class DeprecatedIntent(BaseModel):
    """An intent of an earlier dictionary that no latent of this one continues: kept for old clients."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intent_id: str = Field(pattern=ID_PATTERN)
    label: str
    description: str
    terms: list[str]
    label_source: LabelSource
    last_version: str = Field(description="intents_version of the last catalogue that had it")
    successors: list[str] = Field(description="Intents to use instead, closest first; may be empty")
    dictionary: Origin = Field("text", description="As of an intent")


class Catalogue(BaseModel):
    """All intents, one a latent, in the order of the latents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intents_version: str
    intents: list[Intent]
    deprecated: list[DeprecatedIntent] = []

    def by_id(self) -> dict[str, Intent]:
        """Intents by their stable id."""
        return {intent.intent_id: intent for intent in self.intents}


def stable_ids(decoder: Iterable[npt.NDArray[np.float32]]) -> list[str]:
    """Ids from the decoder directions, one (d,) a latent: the same direction has the same id everywhere.

    Directions are rounded to half precision first; ids that would be equal are lengthened, and no others.
    Raises StageError when two directions are equal.
    """
    digests = [hashlib.sha256(row.astype(np.float16).tobytes()).hexdigest() for row in decoder]
    if len(set(digests)) < len(digests):
        raise StageError("Two latents of the dictionary have the same decoder direction; train it again.")
    lengths = [_ID_LENGTHS[0]] * len(digests)
    for longer in _ID_LENGTHS[1:]:
        counts = Counter(digest[:length] for digest, length in zip(digests, lengths, strict=True))
        lengths = [
            longer if counts[digest[:length]] > 1 else length
            for digest, length in zip(digests, lengths, strict=True)
        ]
    return [f"int-{digest[:length]}" for digest, length in zip(digests, lengths, strict=True)]


def write_catalogue(catalogue: Catalogue, folder: Path) -> None:
    """Writes the catalogue as JSON into a stage folder."""
    write_json(folder / CATALOGUE_FILE, catalogue.model_dump(mode="json"))


def read_catalogue(folder: Path) -> Catalogue:
    """Reads the catalogue of a stage folder. Raises StageError when it is damaged."""
    path = folder / CATALOGUE_FILE
    try:
        return Catalogue.model_validate_json(path.read_text("utf-8"))
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise StageError(f"{path} is not a readable catalogue of intents: {reason}.") from error
