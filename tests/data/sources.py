"""Small sources written as people have them, and the prepared set read back in plain words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from saerec_ray.config import PrepareConfig
from saerec_ray.data.prepare import prepare
from saerec_ray.data.prepared import read_items, read_sequences
from saerec_ray.errors import InputError

Row = tuple[str, str, int]


def write(path: Path, content: str | bytes) -> Path:
    """Writes a file, packed when its name ends with .gz."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def json_lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def csv_lines(header: str, rows: list[Any]) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def config(source: dict[str, Any], **settings: Any) -> PrepareConfig:
    """The prepare section; without cores, so that every row of a small source counts."""
    return PrepareConfig.model_validate({"source": source, "user_core": 1, "item_core": 1, **settings})


def table_source(folder: Path, rows: list[Row], items: list[str] | None = None) -> dict[str, Any]:
    """A CSV source of (user, item, time) rows whose items are called after their ids."""
    names = items if items is not None else sorted({item for _, item, _ in rows})
    write(folder / "interactions.csv", csv_lines("user_id,item_id,timestamp", rows))
    write(folder / "items.csv", csv_lines("item_id,title", [(name, f"title {name}") for name in names]))
    return {
        "format": "table",
        "interactions": str(folder / "interactions.csv"),
        "items": str(folder / "items.csv"),
    }


def prepared(folder: Path, source: dict[str, Any], **settings: Any) -> dict[str, list[str]]:
    """Runs the stage and tells every user's item ids, oldest first."""
    out, _ = run(folder, source, **settings)
    return sequences(out)


def told(folder: Path, source: dict[str, Any], **settings: Any) -> list[str]:
    """Runs the stage; what it tells people of the data."""
    out = folder / "prepared"
    out.mkdir(exist_ok=True)
    sentences: list[str] = []
    prepare(config(source, **settings), out, say=sentences.append)
    return sentences


def run(folder: Path, source: dict[str, Any], *, strict: bool = False, **settings: Any) -> tuple[Path, Any]:
    """Runs the stage; its folder and its metrics."""
    out = folder / "prepared"
    out.mkdir(exist_ok=True)
    return out, prepare(config(source, **settings), out, strict=strict)


def sequences(out: Path) -> dict[str, list[str]]:
    found, ids = read_sequences(out), read_items(out).ids
    return {
        user: [ids[item] for item in found.items[start:end]]
        for user, start, end in zip(found.user_ids, found.offsets, found.offsets[1:], strict=False)
    }


def problem(folder: Path, source: dict[str, Any], **settings: Any) -> str:
    """The one sentence with which the stage refuses a source."""
    with pytest.raises(InputError) as raised:
        run(folder, source, **settings)
    message = str(raised.value)
    assert "\n" not in message
    return message
