"""Speed and memory of the prepare stage on a large random set, beside plain pandas on the same file.

    python tests/bench/bench_prepare.py [--rows 10000000] [--formats parquet csv]

Each measurement is a process of its own: `saerec prepare` as a person runs it, imports included, and a pandas
script that reads the file, orders it and gathers every user's items, but checks, filters and splits nothing.
Peak memory is the resident set of the process as the kernel counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np
import polars as pl

from tests.bench.published import Transcript, add_page_option, described, publish

ROWS = 10_000_000
ROWS_A_USER = 10
ROWS_AN_ITEM = 100
GOAL_SECONDS = 60.0
GOAL_GIBIBYTES = 4.0
BASELINE = """
import sys
import pandas as pd
path = sys.argv[1]
frame = pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
frame = frame.sort_values(["user_id", "timestamp"], kind="stable")
sequences = frame.groupby("user_id", sort=False)["item_id"].agg(list)
assert sequences.map(len).sum() == len(frame)
"""


@dataclass(frozen=True)
class Measured:
    """What one process took."""

    seconds: float
    processor_seconds: float  # of all threads, system calls included; hardly depends on what else runs
    gibibytes: float


def write_set(folder: Path, rows: int, formats: list[str], seed: int = 5) -> None:
    """Random interactions in random order, with long tails of users and items, and their items."""
    rng = np.random.default_rng(seed)
    users, items = max(rows // ROWS_A_USER, 10), max(rows // ROWS_AN_ITEM, 10)
    user_numbers = rng.choice(users, size=rows, p=_long_tail(rng, users, 0.3))
    item_numbers = rng.choice(items, size=rows, p=_long_tail(rng, items, 0.7))
    frame = pl.DataFrame(
        {
            "user_id": _ids("U", user_numbers),
            "item_id": _ids("B", item_numbers),
            "rating": rng.integers(1, 6, size=rows),
            "timestamp": rng.integers(1_200_000_000, 1_700_000_000, size=rows),
        }
    )
    words = np.array(["red", "soft", "steel", "small", "lamp", "brush", "bottle", "chair", "cable", "cup"])
    titles = [" ".join(row) for row in words[rng.integers(len(words), size=(items, 6))]]
    catalogue = pl.DataFrame(
        {
            "item_id": _ids("B", np.arange(items)),
            "title": titles,
            "brand": words[rng.integers(len(words), size=items)],
        }
    )
    if "parquet" in formats:
        frame.write_parquet(folder / "interactions.parquet")
    if "csv" in formats:
        frame.write_csv(folder / "interactions.csv")
    catalogue.write_csv(folder / "items.csv")


def _long_tail(rng: np.random.Generator, size: int, exponent: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    weights = np.arange(1, size + 1) ** -exponent
    return np.asarray(rng.permutation(weights / weights.sum()))


def _ids(letter: str, numbers: np.ndarray[Any, Any]) -> pl.Series:
    """Ids of ten characters, as those of Amazon."""
    return pl.select(pl.lit(letter) + pl.lit(pl.Series(numbers)).cast(pl.String).str.zfill(9)).to_series()


def measure(command: list[str]) -> Measured:
    """Runs a process to its end. Ends the benchmark when it fails."""
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} ended with exit code {process.returncode}")
    seconds = time.perf_counter() - before
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def prepare_command(folder: Path, kind: str) -> list[str]:
    """`saerec prepare` with every filter at work."""
    config = {
        "prepare": {
            "source": {
                "format": "table",
                "interactions": str(folder / f"interactions.{kind}"),
                "items": str(folder / "items.csv"),
                "rating_column": "rating",
                "attribute_columns": ["brand"],
            },
            "min_rating": 1,
        }
    }
    path = folder / f"{kind}.yaml"
    path.write_text(json.dumps(config), "utf-8")  # JSON is YAML too
    return [sys.executable, "-m", "saerec_ray", "prepare", "-c", str(path), "-w", str(folder / kind)]


def main() -> None:
    """Prints one row a process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=ROWS, help="Number of interactions")
    parser.add_argument("--formats", nargs="+", choices=["parquet", "csv"], default=["parquet", "csv"])
    add_page_option(parser)
    arguments = parser.parse_args()
    say = Transcript()
    reached = True
    with tempfile.TemporaryDirectory(prefix="saerec-bench-") as name:
        folder = Path(name)
        write_set(folder, arguments.rows, arguments.formats)
        say(f"{arguments.rows:,} interactions, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}")
        say(
            f"{'file':8} {'process':18} {'seconds':>8} {'CPU s':>7} {'interactions/s':>15} {'peak GiB':>9}  to pandas"
        )
        for kind in arguments.formats:
            path = folder / f"interactions.{kind}"
            plain = measure([sys.executable, "-c", BASELINE, str(path)])
            ours = measure(prepare_command(folder, kind))
            stage = json.loads((folder / kind / "prepare" / "stage.json").read_text("utf-8"))
            for process, taken in (("pandas, no checks", plain), ("saerec prepare", ours)):
                say(
                    f"{kind:8} {process:18} {taken.seconds:8.1f} {taken.processor_seconds:7.1f} "
                    f"{arguments.rows / taken.seconds:15,.0f} {taken.gibibytes:9.2f}  "
                    f"{taken.seconds / plain.seconds:.2f}x time, {taken.gibibytes / plain.gibibytes:.2f}x memory"
                )
            metrics = stage["metrics"]
            say(
                f"{'':8} of these {stage['seconds']:.1f} s are the stage; it kept {metrics['users']:,} users, "
                f"{metrics['items']:,} items, {metrics['interactions']:,} interactions; dropped "
                f"{metrics['repeats_dropped']:,} repeats, {metrics['dropped_by_core']:,} by the core "
                f"in {metrics['core_rounds']} rounds"
            )
            reached &= ours.seconds <= GOAL_SECONDS and ours.gibibytes <= GOAL_GIBIBYTES
    if arguments.rows == ROWS:
        verdict = "reached" if reached else "not reached"
        say(f"Goal, {GOAL_SECONDS:.0f} s and {GOAL_GIBIBYTES:.0f} GiB on 2 cores: {verdict}")
    publish(arguments.page, "prepare-speed", "Speed of preparing", described(__doc__), say.fenced())


if __name__ == "__main__":
    main()
