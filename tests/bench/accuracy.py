"""Repeats the published accuracy figures and writes them to docs/results.md.

    python tests/bench/accuracy.py --data FOLDER/amazon2014_beauty FOLDER/amazon2014_toys --seeds 42 43 44

Each seed is one `saerec run` with the amazon preset, and one training in which every item has the codes of
another: the control that tells intents from parameters. Finished seeds are kept in files beside the work
directory, and finished stages are reused, so a stopped run goes on where it was. Writes one section of
docs/results.md for each set.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

from tests.bench.published import (
    BEFORE_TRAIN,
    STAGES,
    add_run_options,
    circumstances,
    data_folder,
    finished_part,
    read,
    saerec,
    section,
    spread,
    table,
    write_section,
)

MEASURED = "evaluate.parts=[accuracy, faithfulness]"
"""What the tables show: the other parts take longer than these."""
METRICS = ("HR@10", "NDCG@10", "MRR@10")
NAMES = {
    "intents": "with intents",
    "no intents": "the same backbone without intents",
    "shuffled": "control: codes of other items",
    "popularity": "popularity",
}


def run_seed(
    data: Path, workdir: Path, seed: int, with_baseline: bool, with_control: bool, extra: list[str]
) -> dict[str, Any]:
    """Trains and measures one seed; returns its report, with the control if wanted."""
    settings = (f"prepare.source.path={data}", f"seed={seed}", MEASURED, *extra)
    if not with_baseline:
        settings += ("train.baseline=false",)
    saerec("run", workdir, settings)
    control = workdir.with_name(f"{workdir.name}-control") if with_control else None
    if control is not None:
        for stage in BEFORE_TRAIN:
            shutil.rmtree(control / stage, ignore_errors=True)
            shutil.copytree(workdir / stage, control / stage)
        of_control = ("train.shuffle_codes=true", "train.baseline=false", "evaluate.parts=[accuracy]")
        for stage in ("train", "evaluate"):
            saerec(stage, control, (*settings, *of_control))
    return seed_report(workdir, control)


def seed_report(workdir: Path, control: Path | None) -> dict[str, Any]:
    """What the finished stages of one seed and of its control found."""
    report: dict[str, Any] = read(workdir / "evaluate" / "report.json")
    finished = {stage: read(workdir / stage / "stage.json") for stage in STAGES}
    report["seconds"] = {stage: found["seconds"] for stage, found in finished.items()}
    report["resumed"] = [stage for stage, found in finished.items() if found.get("resumed")]
    report["versions"] = finished["train"]["versions"]
    report["prior_weight"] = finished["train"]["metrics"]["prior_weight"]
    report["dictionary_stage"] = finished["dictionary"]["metrics"]
    report["catalogue"] = finished["intents"]["metrics"]
    if control is not None:
        shuffled = read(control / "evaluate" / "report.json")
        for part, models in shuffled["accuracy"].items():
            report["accuracy"][part]["shuffled"] = models["intents"]
    return report


def set_section(
    data: str, seeds: list[int], reports: list[dict[str, Any]], versions: dict[str, str], extra: list[str]
) -> str:
    """The section on one set."""
    settings = "".join(f" --set {shlex.quote(setting)}" for setting in extra)
    controls, baselines = (
        sum(model in report["accuracy"]["test"] for report in reports) for model in ("shuffled", "no intents")
    )
    commands = [
        f"python tests/bench/accuracy.py --data FOLDER/{data} --seeds {' '.join(map(str, seeds))} "
        f"--baselines {baselines} --controls {controls}{settings}    # all of this part",
        "# one seed alone:",
        f"saerec run --config amazon --set prepare.source.path=FOLDER/{data} --set seed={seeds[0]}{settings}",
    ]
    tables = [line for part in ("test", "validation") for line in accuracy_table(part, seeds, reports)]
    return section(
        f"Accuracy, {data}",
        [reports[0]["protocol"], circumstances(seeds, ("torch", "ray"), versions)],
        commands,
        [*tables, *dictionary_table(seeds, reports), *time_table(seeds, reports)],
    )


def accuracy_table(part: str, seeds: list[int], reports: list[dict[str, Any]]) -> list[str]:
    """Mean and deviation over seeds, then NDCG@10 of each seed."""
    heads = [*(f"{name}, mean ± deviation" for name in METRICS), *(f"NDCG@10, seed {seed}" for seed in seeds)]
    lines = []
    for model, name in NAMES.items():
        rows = [report["accuracy"][part].get(model) for report in reports]
        if not any(rows):
            continue
        cells = [spread([row[metric] for row in rows if row]) for metric in METRICS]
        cells += [f"{row['NDCG@10']:.4f}" if row else "not run" for row in rows]
        lines.append([name, *cells])
    return [f"### {part.capitalize()}", "", *table(["model", *heads], lines), ""]


def dictionary_table(seeds: list[int], reports: list[dict[str, Any]]) -> list[str]:
    """The dictionary and the catalogue behind the figures."""
    rows: list[tuple[str, str, str]] = [
        ("unexplained variance, held-out items", "dictionary_stage", "fvu"),
        ("the same, PCA with as many nonzeros", "dictionary_stage", "fvu_pca_same_nonzeros"),
        ("the same, random dictionary", "dictionary_stage", "fvu_random_dictionary"),
        ("latents active an item", "dictionary_stage", "l0"),
        ("dead latents, share", "dictionary_stage", "dead_share"),
        ("activation they cover, share", "catalogue", "mass_covered"),
        ("detection AUC of published labels, held-out items", "catalogue", "detection_auc_mean_published"),
        ("the same, shuffled labels of all latents, published or not", "catalogue", "detection_auc_shuffled"),
        ("share of a score that intents explain, median", "explanations", "explained_share_median"),
        ("largest error when parts are added up again", "explanations", "completeness_error"),
    ]
    lines = [[name, *(f"{report[group][key]:.3g}" for report in reports)] for name, group, key in rows]
    lines.append(["intents published", *(str(report["catalogue"]["published"]) for report in reports)])
    lines.append(["prior weight chosen", *(f"{report['prior_weight']:.3g}" for report in reports)])
    heads = ["", *(f"seed {seed}" for seed in seeds)]
    return ["### Dictionary, catalogue, explanations", "", *table(heads, lines), ""]


def time_table(seeds: list[int], reports: list[dict[str, Any]]) -> list[str]:
    """Seconds of each stage; stages that do not depend on the seed ran once."""
    stages = [stage for stage in STAGES if stage in reports[0]["seconds"]]
    lines = []
    for seed, report in zip(seeds, reports, strict=True):
        seconds = report["seconds"]
        resumed = report.get("resumed", [])
        cells = [f"{seconds[stage]:.0f}{'+' if stage in resumed else ''}" for stage in stages]
        lines.append([f"seed {seed}", *cells, f"{sum(seconds.values()):.0f}{'+' if resumed else ''}"])
    return [
        "### Seconds",
        "",
        *table(["", *stages, "sum"], lines),
        "",
        "`train` holds all models, those with and those without intents; `embed` is short where the texts were encoded "
        "before. +: not counting what a stopped attempt had done, from which it went on.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data",
        type=data_folder,
        nargs="+",
        required=True,
        help="folders with sequences.txt and items.jsonl",
    )
    parser.add_argument(
        "--controls", type=int, help="train the control for so many seeds only; all by default"
    )
    parser.add_argument(
        "--baselines",
        type=int,
        help="train the backbone without intents for so many seeds only; all by default",
    )
    add_run_options(parser)
    asked = parser.parse_args()
    controls, baselines = (
        len(asked.seeds) if wanted is None else wanted for wanted in (asked.controls, asked.baselines)
    )
    for data in asked.data:
        workdir = asked.workdir.absolute() / data.name
        reports = []
        for place, seed in enumerate(asked.seeds):
            run = partial(run_seed, data, workdir, seed, place < baselines, place < controls, asked.settings)
            kept = workdir.with_name(f"{workdir.name}-seed-{seed}.json")
            reports.append(finished_part(kept, asked.settings, run))
        versions = reports[-1].get("versions") or read(workdir / "train" / "stage.json")["versions"]
        text = set_section(data.name, asked.seeds, reports, versions, asked.settings)
        write_section(asked.page, f"accuracy {data.name}", text)


if __name__ == "__main__":
    main()
