"""Rows that cannot be used: counted by reason, kept with their line, or fatal when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from saerec_ray.errors import InputError

_FIRST_LINES = 5
_CONTENT_CHARACTERS = 300
SCHEMA = {"source": pl.String, "line": pl.Int64, "reason": pl.String, "content": pl.String}


class Rejects:
    """Collects unusable rows; with `strict` the first one ends the run."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._frames: list[pl.DataFrame] = []
        self._rows: list[tuple[str, int, str, str]] = []

    def add(self, source: str, line: int, reason: str, content: str) -> None:
        """One unusable row, of whose content the beginning is kept. Raises InputError in strict mode."""
        if self._strict:
            raise InputError(
                f"{source}, line {line}: {reason}. Mend the line, or run without --strict to skip it."
            )
        kept = content[:_CONTENT_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
        self._rows.append((source, line, reason, kept))

    def add_frame(self, source: str, frame: pl.DataFrame) -> None:
        """Unusable rows as a frame with line, reason and content. Raises InputError in strict mode."""
        if frame.is_empty():
            return
        if self._strict:
            first = frame.sort("line").row(0, named=True)
            self.add(source, int(first["line"]), str(first["reason"]), "")
        self._frames.append(
            frame.select(
                pl.lit(source).alias("source"),
                pl.col("line").cast(pl.Int64),
                "reason",
                pl.col("content").str.slice(0, _CONTENT_CHARACTERS),
            )
        )

    def frame(self) -> pl.DataFrame:
        """All rejected rows, by source and line."""
        rows = pl.DataFrame(self._rows, schema=SCHEMA, orient="row")
        return pl.concat([rows, *self._frames]).sort("source", "line", "reason")

    def count(self, source: str) -> int:
        """How many rows of a source were rejected."""
        return self.frame().filter(pl.col("source") == source).height

    def first(self, source: str) -> str:
        """Line and reason of the first rejected row of a source; empty when there is none."""
        rows = self.frame().filter(pl.col("source") == source)
        return "line {line}: {reason}".format(**rows.row(0, named=True)) if rows.height else ""

    def write(self, path: Path) -> None:
        """Writes all rejected rows as Parquet, also when there are none."""
        self.frame().write_parquet(path)

    def summary(self) -> dict[str, Any]:
        """Count and first lines by reason."""
        grouped = (
            self.frame()
            .group_by("source", "reason")
            .agg(pl.len().alias("count"), pl.col("line").sort().head(_FIRST_LINES))
            .sort("source", "reason")
        )
        return {
            f"{row['source']}: {row['reason']}": {"count": row["count"], "first_lines": row["line"]}
            for row in grouped.iter_rows(named=True)
        }
