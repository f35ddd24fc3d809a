"""Repeats the published accuracy figures and writes them to docs/results.md.

    python tests/bench/accuracy.py --data FOLDER/amazon2014_beauty FOLDER/amazon2014_toys --seeds 42 43 44

Each seed is one `saerec run` with the amazon preset, and one training in which every item has the codes of
another: the control that tells intents from parameters. Finished seeds are kept in files beside the work
directory, and finished stages are reused, so a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from saerec_ray.manifest import write_json

REPOSITORY = Path(__file__).parents[2]
METRICS = ("HR@10", "NDCG@10", "MRR@10")
BEFORE_TRAIN = ("prepare", "embed", "dictionary", "intents")
NAMES = {
    "intents": "with intents",
    "no intents": "the same backbone without intents",
    "shuffled": "control: codes of other items",
    "popularity": "popularity",
}


ONE_WORKER = ("train.workers=1", "cluster.engine=local")
"""One process without Ray, so that several runs can share a machine."""


def saerec(command: str, workdir: Path, *settings: str) -> None:
    """Runs one command of the product; its progress goes to the terminal."""
    options = [part for setting in settings for part in ("--set", setting)]
    subprocess.run(
        [sys.executable, "-m", "saerec_ray", command, "-c", "amazon", "-w", str(workdir), *options],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def run_seed(data: Path, workdir: Path, seed: int, with_control: bool) -> dict[str, Any]:
    """Trains and measures one seed, unless its file is there; returns its report, with the control if wanted."""
    finished = workdir.with_name(f"{workdir.name}-seed-{seed}.json")
    if finished.exists():
        return dict(read(finished))
    settings = (f"prepare.source.path={data}", f"seed={seed}", *ONE_WORKER)
    saerec("run", workdir, *settings)
    control = workdir.with_name(f"{workdir.name}-control") if with_control else None
    if control is not None:
        for stage in BEFORE_TRAIN:
            shutil.rmtree(control / stage, ignore_errors=True)
            shutil.copytree(workdir / stage, control / stage)
        for stage in ("train", "evaluate"):
            saerec(
                stage,
                control,
                *settings,
                "train.shuffle_codes=true",
                "train.baseline=false",
                "evaluate.parts=[accuracy]",
            )
    report = seed_report(workdir, control)
    write_json(finished, report)
    return report


def seed_report(workdir: Path, control: Path | None) -> dict[str, Any]:
    """What the finished stages of one seed and of its control found."""
    report: dict[str, Any] = read(workdir / "evaluate" / "report.json")
    report["seconds"] = {
        stage: read(workdir / stage / "stage.json")["seconds"]
        for stage in (*BEFORE_TRAIN, "train", "evaluate")
    }
    report["prior_weight"] = read(workdir / "train" / "stage.json")["metrics"]["prior_weight"]
    report["dictionary_stage"] = read(workdir / "dictionary" / "stage.json")["metrics"]
    report["catalogue"] = read(workdir / "intents" / "stage.json")["metrics"]
    if control is not None:
        shuffled = read(control / "evaluate" / "report.json")
        for part, models in shuffled["accuracy"].items():
            report["accuracy"][part]["shuffled"] = models["intents"]
    return report


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text("utf-8"))


def document(sections: list[str]) -> str:
    """The results page."""
    return "\n".join(
        ["# Results", "", "Written by `tests/bench/accuracy.py`. Do not edit by hand.", "", *sections]
    )


def section(data: str, seeds: list[int], reports: list[dict[str, Any]], versions: dict[str, str]) -> str:
    """The part of the page on one set."""
    memory = psutil.virtual_memory().total / 2**30
    lines = [
        f"## {data}",
        "",
        reports[0]["protocol"],
        "",
        f"Seeds {', '.join(map(str, seeds))}; {os.cpu_count()} CPU cores, {memory:.0f} GiB, no GPU; "
        + ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "ray", "saerec-ray"))
        + ".",
        "",
        "```",
        f"python tests/bench/accuracy.py --data FOLDER/{data} --seeds {' '.join(map(str, seeds))} "
        f"--controls {sum('shuffled' in report['accuracy']['test'] for report in reports)}    # all of this part",
        "# one seed alone:",
        f"saerec run --config amazon --set prepare.source.path=FOLDER/{data} --set seed={seeds[0]} "
        + " ".join(f"--set {setting}" for setting in ONE_WORKER),
        "```",
        "",
    ]
    for part in ("test", "validation"):
        lines += accuracy_table(part, seeds, reports)
    return "\n".join([*lines, *dictionary_table(seeds, reports), *time_table(seeds, reports)])


def accuracy_table(part: str, seeds: list[int], reports: list[dict[str, Any]]) -> list[str]:
    """Mean and deviation over seeds, then NDCG@10 of each seed."""
    heads = [*(f"{name}, mean ± deviation" for name in METRICS), *(f"NDCG@10, seed {seed}" for seed in seeds)]
    lines = [
        f"### {part.capitalize()}",
        "",
        f"| model | {' | '.join(heads)} |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for model, name in NAMES.items():
        rows = [report["accuracy"][part].get(model) for report in reports]
        if not any(rows):
            continue
        cells = [spread([row[metric] for row in rows if row]) for metric in METRICS]
        cells += [f"{row['NDCG@10']:.4f}" if row else "not run" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def spread(values: list[float]) -> str:
    """Mean and sample deviation; of a single value the value alone."""
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def dictionary_table(seeds: list[int], reports: list[dict[str, Any]]) -> list[str]:
    """The dictionary and the catalogue behind the figures."""
    rows: list[tuple[str, str, str]] = [
        ("unexplained variance, held-out items", "dictionary_stage", "fvu"),
        ("the same, PCA with as many nonzeros", "dictionary_stage", "fvu_pca_same_nonzeros"),
        ("the same, random dictionary", "dictionary_stage", "fvu_random_dictionary"),
        ("latents active an item", "dictionary_stage", "l0"),
        ("dead latents, share", "dictionary_stage", "dead_share"),
        ("intents published", "catalogue", "published"),
        ("activation they cover, share", "catalogue", "mass_covered"),
        ("detection AUC of published labels, held-out items", "catalogue", "detection_auc_mean_published"),
        ("the same, shuffled labels, all latents", "catalogue", "detection_auc_shuffled"),
        ("share of a score that intents explain, median", "explanations", "explained_share_median"),
        ("largest error when parts are added up again", "explanations", "completeness_error"),
    ]
    lines = ["### Dictionary, catalogue, explanations", ""]
    lines += [f"| | {' | '.join(f'seed {seed}' for seed in seeds)} |", "|---" * (len(seeds) + 1) + "|"]
    for name, group, key in rows:
        lines.append(f"| {name} | {' | '.join(f'{report[group][key]:.3g}' for report in reports)} |")
    weights = [f"{report['prior_weight']:.3g}" for report in reports]
    lines.append(f"| prior weight chosen | {' | '.join(weights)} |")
    return [*lines, ""]


def time_table(seeds: list[int], reports: list[dict[str, Any]]) -> list[str]:
    """Seconds of each stage; stages that do not depend on the seed ran once."""
    stages = list(reports[0]["seconds"])
    lines = ["### Seconds", "", f"| | {' | '.join(stages)} | sum |", "|---" * (len(stages) + 2) + "|"]
    for seed, report in zip(seeds, reports, strict=True):
        seconds = report["seconds"]
        cells = [f"{seconds[stage]:.0f}" for stage in stages]
        lines.append(f"| seed {seed} | {' | '.join(cells)} | {sum(seconds.values()):.0f} |")
    return [
        *lines,
        "",
        "`train` holds both trainings, with and without intents; `embed` is short where the texts were encoded before.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders with sequences.txt and items.jsonl"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument(
        "--controls", type=int, help="train the control for so many seeds only; all by default"
    )
    parser.add_argument("--workdir", type=Path, default=Path("out"))
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "results.md")
    arguments = parser.parse_args()
    controls = len(arguments.seeds) if arguments.controls is None else arguments.controls
    sections = []
    for data in arguments.data:
        if not (data / "sequences.txt").is_file():
            parser.error(f"{data} has no sequences.txt")
        workdir = arguments.workdir.absolute() / data.name
        reports = [
            run_seed(data.absolute(), workdir, seed, place < controls)
            for place, seed in enumerate(arguments.seeds)
        ]
        versions = read(workdir / "train" / "stage.json")["versions"]
        sections.append(section(data.name, arguments.seeds, reports, versions))
    arguments.page.write_text(document(sections), "utf-8")
    print(f"Wrote {arguments.page}")


if __name__ == "__main__":
    main()
