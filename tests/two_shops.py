"""Two small shops with users of their own: toys, with series that people stay with, and mugs of the same series."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saerec_ray.config import Config, parse_config

SERIES, COLOURS = ("Star Wars", "Hello Kitty", "Hot Wheels", "My Little Pony"), ("blue", "green", "pink")
BRANDS = ("Acme", "Bolt", "Coral")
COPIES = 4
TOYS = [
    (f"{series} {colour} figure{copy}", BRANDS[copy % len(BRANDS)])
    for series in SERIES
    for colour in COLOURS
    for copy in range(COPIES)
]
MUGS = [
    (f"{series} {kind} for tea", BRANDS[place % 2])
    for series in (*SERIES[:3], "Plain")
    for place, kind in enumerate(("mug", "cup", "thermos", "bottle", "glass"))
]
_A_SERIES = len(COLOURS) * COPIES


def toys_config(folder: Path) -> Config:
    """The configuration of the shop of toys: attributes and phrases beside the texts, and a moment of training."""
    _write(folder / "toys", TOYS, _fans(120, _A_SERIES))
    phrases = {"min_items": 3, "max_share": 0.4, "min_lift": 1.5, "most_an_item": 2}
    return _config(
        folder / "toys",
        {
            "embed": {"max_tokens": 32},
            "dictionary": {
                "width": 16,
                "active": 2,
                "epochs": 20,
                "attributes": {"weight": 0.8, "max_share": 0.6, "phrases": phrases},
            },
            "intents": {"min_items": 3, "min_detection_auc": 0.6, "max_density": 0.6},
            "train": {
                "d_model": 16,
                "layers": 1,
                "heads": 2,
                "max_length": 8,
                "epochs": 2,
                "workers": 1,
                "baseline": False,
                "companions": 10,
                "cold_share": 0.2,
            },
            "evaluate": {"parts": ["accuracy"]},
        },
    )


def mugs_config(folder: Path) -> Config:
    """The configuration of the shop of mugs, of which no model is trained."""
    _write(folder / "mugs", MUGS, _fans(40, 5))
    return _config(
        folder / "mugs",
        {
            "embed": {"max_tokens": 32},
            "dictionary": {"width": 8, "active": 2, "epochs": 20},
            "intents": {"min_items": 3, "min_detection_auc": 0.6, "max_density": 0.6},
        },
    )


def _fans(users: int, series: int) -> list[list[int]]:
    rng = np.random.default_rng(5)
    taken = []
    for user in range(users):
        first = user % 4 * series
        taken.append((first + rng.permutation(series)[: min(8, series)]).tolist())
    return taken


def _write(folder: Path, items: Sequence[tuple[str, str]], histories: list[list[int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["item_id", "title", "brand"])
        rows.writerows([f"i{place}", title, brand] for place, (title, brand) in enumerate(items))
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["user_id", "item_id", "timestamp"])
        rows.writerows(
            [f"u{user}", f"i{item}", 100 * user + step]
            for user, history in enumerate(histories)
            for step, item in enumerate(history)
        )


def _config(folder: Path, sections: dict[str, Any]) -> Config:
    source = {
        "format": "table",
        "interactions": str(folder / "interactions.csv"),
        "items": str(folder / "items.csv"),
        "attribute_columns": ["brand"],
    }
    return parse_config(
        {
            "name": folder.name,
            "seed": 3,
            "prepare": {"source": source, "user_core": 3, "item_core": 1},
            "cluster": {"engine": "local"},
            **sections,
        },
        folder.name,
    )
