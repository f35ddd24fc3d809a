"""What a person decided about one intent."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_LABEL = 80
MAX_DESCRIPTION = 500


def _plain_text(text: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise ValueError("must not be empty")
    if any(unicodedata.category(character).startswith("C") for character in text):
        raise ValueError("must not hold control characters")
    return text


PlainText = Annotated[str, AfterValidator(_plain_text)]


def contradiction(fields: Mapping[str, Any]) -> str | None:
    """Why these fields of an edit cannot hold together, or None."""
    if fields.get("state") == "blocked" and fields.get("steerable"):
        return "a blocked intent cannot be steerable"
    if fields.get("state") == "active" and fields.get("kind") == "nuisance":
        return "nuisance is not shown, so its state cannot be active"
    return None


class Edit(BaseModel):
    """What people decided about one intent; null leaves what the machine decided."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: PlainText | None = Field(None, max_length=MAX_LABEL)
    description: PlainText | None = Field(None, max_length=MAX_DESCRIPTION)
    state: Literal["active", "blocked"] | None = None
    steerable: bool | None = None
    kind: Literal["intent", "item property", "nuisance"] | None = None
    notes: str | None = Field(None, description="For colleagues; not in the catalogue")

    @model_validator(mode="after")
    def _decides_something(self) -> Edit:
        if not self.model_dump(exclude_none=True):
            raise ValueError("decides nothing: give a label, description, state, steerable, kind or notes")
        if problem := contradiction(self.model_dump()):
            raise ValueError(problem)
        return self

    @property
    def decisions(self) -> dict[str, Any]:
        """What it decides of the intent, by field: all that is given but the notes."""
        return self.model_dump(exclude_none=True, exclude={"notes"})
