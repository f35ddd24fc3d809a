"""A shop of a few lines in CSV files, for tests that need a run but no training."""

from __future__ import annotations

import csv
from pathlib import Path

import yaml

USERS, ITEMS, EACH = 12, 10, 6


def write_shop(folder: Path) -> Path:
    """Writes interactions.csv, items.csv and the configuration that reads them; returns the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["item_id", "title"])
        rows.writerows([f"i{item}", f"soap number {item}"] for item in range(ITEMS))
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["user_id", "item_id", "timestamp"])
        rows.writerows(
            [f"u{user}", f"i{(user + step) % ITEMS}", 1000 * user + step]
            for user in range(USERS)
            for step in range(EACH)
        )
    config = {
        "name": "shop",
        "prepare": {
            "source": {
                "format": "table",
                "interactions": str(folder / "interactions.csv"),
                "items": str(folder / "items.csv"),
            }
        },
        "cluster": {"engine": "local"},
    }
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path
