"""From what a reader found to plain arrays: every user and item a number, unusable interactions left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from saerec_ray.data.filtering import Indices, in_order, without_repeats
from saerec_ray.data.raw import RawItem
from saerec_ray.errors import InputError


@dataclass(frozen=True)
class Interactions:
    """Interactions as arrays of one length."""

    users: Indices  # (interactions,) numbered from 0 by the user's first row
    items: Indices  # (interactions,) place in the catalogue
    times: npt.NDArray[np.int64] | None  # (interactions,) seconds since 1970
    user_ids: pl.Series  # (users,) the id behind each number
    lines: Indices | None = None  # (interactions,) where each stands in the source, if asked for

    def __len__(self) -> int:
        return len(self.users)

    def at(self, places: Indices) -> Interactions:
        """These interactions only, in this order; the numbers stay."""
        times = None if self.times is None else self.times[places]
        lines = None if self.lines is None else self.lines[places]
        return Interactions(self.users[places], self.items[places], times, self.user_ids, lines)


def known_items(interactions: pl.DataFrame, usable: list[RawItem]) -> pl.DataFrame:
    """Interactions with usable items; `item_id` becomes the item's place in the catalogue as `item`."""
    places = pl.DataFrame(
        {"item_id": [item.item_id for item in usable], "item": np.arange(len(usable), dtype=np.int64)},
        schema={"item_id": pl.String, "item": pl.Int64},
    )
    return interactions.join(places, on="item_id", how="inner", maintain_order="left").drop("item_id")


def well_rated(frame: pl.DataFrame, min_rating: float) -> pl.DataFrame:
    """Interactions rated `min_rating` or higher. Raises InputError when there are no ratings or none so high."""
    if frame["rating"].null_count():
        raise InputError(
            "prepare.min_rating is set, but the source has no ratings (prepare.source.rating_column)."
        )
    kept = frame.filter(pl.col("rating") >= min_rating)
    if kept.is_empty():
        raise InputError(f"No interaction is rated {min_rating} or higher; lower prepare.min_rating.")
    return kept


def numbered(frame: pl.DataFrame) -> Interactions:
    """Arrays of a frame with user_id, item, time and perhaps line, in its order; of the frame only ids are kept."""
    user_ids = frame["user_id"].unique(maintain_order=True)
    numbers = pl.DataFrame({"user_id": user_ids, "user": np.arange(len(user_ids), dtype=np.int64)})
    users = frame.select("user_id").join(numbers, on="user_id", how="left", maintain_order="left")["user"]
    timed = frame["time"].null_count() == 0
    return Interactions(
        users=users.to_numpy(),
        items=frame["item"].to_numpy(),
        times=frame["time"].to_numpy() if timed else None,
        user_ids=user_ids,
        lines=frame["line"].cast(pl.Int64).to_numpy() if "line" in frame.columns else None,
    )


def ordered(interactions: Interactions, repeats: Literal["keep", "first", "last"]) -> Interactions:
    """User by user, each user's oldest first; where times are equal or missing, as in the source.

    Of a user's repeats with one item, `repeats` says to keep all, the first or the last.
    """
    result = interactions.at(in_order(interactions.users, interactions.times))
    if repeats == "keep":
        return result
    return result.at(without_repeats(result.users, result.items, repeats))
