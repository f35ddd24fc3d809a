"""How much of a score intents explain, and what that costs in accuracy, as residuals count for less.

    python tests/bench/explained_share.py --data FOLDER/amazon2014_beauty --seeds 42

Every value of train.residual_decay, and every one of train.residual_dropout, is one training of one member with the
amazon preset, on stages that all values share; the last row has no residuals at all. Finished values are kept in
files, so a stopped run goes on where it was. Writes one section of docs/results.md a set.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

from saerec_ray.config import load_config
from tests.bench.published import (
    BEFORE_TRAIN,
    ONE_MEMBER,
    add_run_options,
    circumstances,
    data_folder,
    finished_part,
    read,
    run_stages,
    section,
    shown_command,
    spread,
    table,
    write_section,
)

DECAYS = (0.0, 0.25, 0.5, 1.0, 2.0)
DROPOUTS = (0.0, 0.3, 0.6)
NO_RESIDUALS = "no residuals"
COLUMNS = {
    "validation": "validation NDCG@10",
    "test": "test NDCG@10",
    "median": "share explained, median",
    "p10": "share explained, tenth percentile",
    "cold": "the same, cold items, median",
}


def train_variant(
    folder: Path, shared: Path, settings: tuple[str, ...], own: tuple[str, ...]
) -> dict[str, Any]:
    """Trains and measures one value on the shared stages, which are made first where they are not there."""
    run_stages(shared, settings, stages=BEFORE_TRAIN)
    run_stages(folder, (*settings, *own), shared=shared, copied=BEFORE_TRAIN)
    report = read(folder / "evaluate" / "report.json")
    explained = report["explanations"]
    return {
        **{split: report["accuracy"][split]["intents"]["NDCG@10"] for split in ("validation", "test")},
        "median": explained["explained_share_median"],
        "p10": explained["explained_share_p10"],
        "cold": explained["cold_explained_share_median"],
    }


def set_section(data: str, seeds: list[int], results: dict[str, list[dict[str, Any]]]) -> str:
    """The section on one set."""
    rows = [
        [
            name,
            *(
                spread([each[column] for each in found], ".4f" if column in ("validation", "test") else ".3f")
                for column in COLUMNS
            ),
        ]
        for name, found in results.items()
    ]
    train = load_config("amazon").train
    return section(
        f"Accuracy against the share that intents explain, {data}",
        [
            "One member a model; each row changes one setting, and the other has its default: "
            f"train.residual_decay {train.residual_decay:g}, train.residual_dropout {train.residual_dropout:g}. "
            "The share explained of one item in a list of 20 is the sum of the absolute contributions of intents, "
            "divided by that sum plus the absolute residual and companions; users of the test split. Cold items are "
            f"those without a training interaction. {circumstances(seeds)}"
        ],
        [shown_command()],
        table(["setting", *COLUMNS.values()], rows),
    )


def settings_to_compare(decays: list[float], dropouts: list[float]) -> dict[str, tuple[str, ...]]:
    """The settings of every row by its name; the defaults are one row, however often they are asked for."""
    train = load_config("amazon").train
    rows = {f"decay {value:g}": (f"train.residual_decay={value:g}",) for value in decays}
    for value in dropouts:
        if value != train.residual_dropout or train.residual_decay not in decays:
            rows[f"dropout {value:g}"] = (f"train.residual_dropout={value:g}",)
    return {**rows, NO_RESIDUALS: ("train.residuals=false",)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=data_folder, required=True, help="folder with sequences.txt and items.jsonl"
    )
    parser.add_argument("--decays", type=float, nargs="*", default=list(DECAYS))
    parser.add_argument("--dropouts", type=float, nargs="*", default=list(DROPOUTS))
    add_run_options(parser, seeds=(42,))
    asked = parser.parse_args()
    variants = settings_to_compare(asked.decays, asked.dropouts)
    workdir = asked.workdir.absolute() / f"explained-share-{asked.data.name}"
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for seed in asked.seeds:
        settings = (*ONE_MEMBER, "train.baseline=false", *asked.settings)
        every = (f"prepare.source.path={asked.data}", f"seed={seed}", *settings)
        for name, own in variants.items():
            folder = workdir / f"seed-{seed}-{name.replace(' ', '-')}"
            run = partial(train_variant, folder, workdir / f"seed-{seed}", every, own)
            kept = folder.with_name(f"{folder.name}.json")
            results[name].append(finished_part(kept, (*settings, *own), run))
    text = set_section(asked.data.name, asked.seeds, results)
    write_section(asked.page, f"explained-share {asked.data.name}", text)


if __name__ == "__main__":
    main()
