"""What each part of the model is worth: one training for each part taken away or replaced.

    python tests/bench/ablations.py --data FOLDER/amazon_scientific_small --seeds 42 43 44

Every variant is a `saerec run` with the amazon preset and one member, on stages that it shares with the whole model
where it may. Finished variants are kept in files, so a stopped run goes on where it was. Writes docs/ablations.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for saerec_ray, when run as a program

import psutil

from saerec_ray.manifest import recorded_versions, write_json

REPOSITORY = Path(__file__).parents[2]
METRICS = ("HR@10", "NDCG@10")
COMMON = (
    "train.members=1",
    "train.workers=1",
    "cluster.engine=local",
    "evaluate.parts=[accuracy, faithfulness]",
)
WITHOUT_BASELINE = ("train.baseline=false",)
NO_PRIOR = ("train.prior_weights=[0.0]",)


@dataclass(frozen=True)
class Variant:
    """A model to compare."""

    name: str
    settings: tuple[str, ...]
    shares: tuple[str, ...] = ("prepare", "embed", "dictionary", "intents")
    """The stages that are those of the whole model."""
    preset: str = "amazon"


TEXT_ONLY = ("prepare", "embed")
VARIANTS = (
    Variant("the whole model", ()),
    Variant("without the prior in the score", NO_PRIOR),
    Variant("without the public branch", ("train.branches=personal",)),
    Variant("without the personal branch", ("train.branches=public",)),
    Variant("without branches", ("train.branches=none",)),
    Variant("without branches and prior", ("train.branches=none", *NO_PRIOR)),
    Variant("without residuals: intents alone", ("train.residuals=false",)),
    Variant("without attributes: learnt intents alone", ("dictionary.attributes=null",), TEXT_ONLY),
    Variant("with co-occurrence beside", ("dictionary.cooccurrence={}",), TEXT_ONLY),
    Variant(
        "control: random dictionary", ("dictionary.epochs=1", "dictionary.learning_rate=1e-12"), TEXT_ONLY
    ),
    Variant(
        "control: random dictionary without attributes",
        ("dictionary.epochs=1", "dictionary.learning_rate=1e-12", "dictionary.attributes=null"),
        TEXT_ONLY,
    ),
    Variant("control: codes of other items", ("train.shuffle_codes=true",)),
    Variant("preset paper", (), TEXT_ONLY, "paper"),
)


def run_variant(
    variant: Variant, data: Path, workdir: Path, seed: int, extra: tuple[str, ...]
) -> dict[str, Any]:
    """Trains and measures a variant, unless its file is there; returns its figures."""
    number = VARIANTS.index(variant)
    finished = workdir / f"seed-{seed}-variant-{number}.json"
    if finished.exists():
        return dict(json.loads(finished.read_text("utf-8")))
    base, folder = workdir / f"seed-{seed}", workdir / f"seed-{seed}-variant-{number}"
    if number:
        for stage in variant.shares:
            shutil.copytree(base / stage, folder / stage, dirs_exist_ok=True)
    else:
        folder = base
    settings = (f"prepare.source.path={data}", f"seed={seed}", *COMMON, *variant.settings, *extra)
    if number:
        settings += WITHOUT_BASELINE
    for stage in ("prepare", "embed", "dictionary", "intents", "train", "evaluate"):
        saerec(stage, folder, variant.preset, settings)
    figures = read_figures(folder)
    write_json(finished, figures)
    if number:
        shutil.rmtree(folder)
    return figures


def saerec(command: str, workdir: Path, preset: str, settings: tuple[str, ...]) -> None:
    """Runs one command of the product; its progress goes to the terminal."""
    options = [part for setting in settings for part in ("--set", setting)]
    subprocess.run(
        [sys.executable, "-m", "saerec_ray", command, "-c", preset, "-w", str(workdir), *options],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def read_figures(folder: Path) -> dict[str, Any]:
    """The accuracy on both splits and the explained share of a finished variant."""
    report = json.loads((folder / "evaluate" / "report.json").read_text("utf-8"))
    train = json.loads((folder / "train" / "stage.json").read_text("utf-8"))
    return {
        "accuracy": report["accuracy"],
        "explained": report["explanations"]["explained_share_median"],
        "seconds": train["seconds"],
    }


def page(data: str, seeds: list[int], results: dict[str, list[dict[str, Any]]]) -> str:
    """The Markdown page."""
    versions = recorded_versions()
    memory = psutil.virtual_memory().total / 2**30
    lines = [
        "# Ablations",
        "",
        "Written by `tests/bench/ablations.py`. Do not edit by hand.",
        "",
        f"## {data}",
        "",
        "One member a model. Choices were made on validation. Mean and deviation over seeds "
        f"{', '.join(map(str, seeds))}; {os.cpu_count()} CPU cores, {memory:.0f} GiB, no GPU; "
        + ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "saerec-ray"))
        + ".",
        "",
        "```",
        f"python tests/bench/ablations.py --data FOLDER/{data} --seeds {' '.join(map(str, seeds))}",
        "```",
        "",
        "| model | test HR@10 | test NDCG@10 | against the whole model | validation NDCG@10 | explained share |",
        "|---|---|---|---|---|---|",
    ]
    whole = [each["accuracy"]["test"]["intents"]["NDCG@10"] for each in results[VARIANTS[0].name]]
    for name, found in results.items():
        rows = {
            split: [each["accuracy"][split]["intents"] for each in found] for split in ("test", "validation")
        }
        ratios = [row["NDCG@10"] / other - 1 for row, other in zip(rows["test"], whole, strict=True)]
        lines.append(
            f"| {name} | {spread([row['HR@10'] for row in rows['test']])} "
            f"| {spread([row['NDCG@10'] for row in rows['test']])} "
            f"| {statistics.mean(ratios):+.1%} "
            f"| {spread([row['NDCG@10'] for row in rows['validation']])} "
            f"| {statistics.mean(each['explained'] for each in found):.2f} |"
        )
    for model, name in (("no intents", "without intents: residuals alone"), ("popularity", "popularity")):
        found = results[VARIANTS[0].name]
        rows = {split: [each["accuracy"][split][model] for each in found] for split in ("test", "validation")}
        ratios = [row["NDCG@10"] / other - 1 for row, other in zip(rows["test"], whole, strict=True)]
        lines.append(
            f"| {name} | {spread([row['HR@10'] for row in rows['test']])} "
            f"| {spread([row['NDCG@10'] for row in rows['test']])} | {statistics.mean(ratios):+.1%} "
            f"| {spread([row['NDCG@10'] for row in rows['validation']])} | |"
        )
    return "\n".join([*lines, ""])


def spread(values: list[float]) -> str:
    """Mean and sample deviation; of a single value the value alone."""
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with sequences.txt and items.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--set", action="append", default=[], help="a setting for all variants")
    parser.add_argument("--workdir", type=Path, default=Path("out"))
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "ablations.md")
    asked = parser.parse_args()
    if not (asked.data / "items.jsonl").is_file():
        parser.error(f"{asked.data} has no items.jsonl")
    workdir = asked.workdir.absolute() / f"ablations-{asked.data.name}"
    results: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in VARIANTS}
    for seed in asked.seeds:
        for variant in VARIANTS:
            found = run_variant(variant, asked.data.absolute(), workdir, seed, tuple(asked.set))
            results[variant.name].append(found)
    asked.page.write_text(page(asked.data.name, asked.seeds, results), "utf-8")
    print(f"Wrote {asked.page}")


if __name__ == "__main__":
    main()
