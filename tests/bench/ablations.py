"""What each part of the model is worth: one training for each part taken away or replaced.

    python tests/bench/ablations.py --data FOLDER/amazon_scientific_small --seeds 42 --control-seeds 43 44

Every variant is a `saerec run` with the amazon preset and one member, on stages that it shares with the whole model
where it may. With --control-seeds only the whole model, the same without intents and the controls are trained.
Finished variants are kept in files, so a stopped run goes on where it was. Writes one section of docs/results.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

from tests.bench.published import (
    BEFORE_TRAIN,
    ONE_MEMBER,
    RANDOM_DICTIONARY,
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

WITHOUT_BASELINE = ("train.baseline=false",)
NO_PRIOR = ("train.prior_weights=[0.0]",)


@dataclass(frozen=True)
class Variant:
    """A model to compare."""

    name: str
    settings: tuple[str, ...]
    shares: tuple[str, ...] = BEFORE_TRAIN
    """The stages that are those of the whole model."""
    preset: str = "amazon"
    baseline: bool = False
    """Whether the same without intents is trained beside it."""

    @property
    def decisive(self) -> bool:
        """Whether what is claimed of intents rests on it: several seeds are worth their time."""
        return self is VARIANTS[0] or self.name.startswith("control: ")


TEXT_ONLY = ("prepare", "embed")
VARIANTS = (
    Variant("the whole model", (), baseline=True),
    Variant("without the prior in the score", NO_PRIOR),
    Variant("without the public branch", ("train.branches=personal",)),
    Variant("without the personal branch", ("train.branches=public",)),
    Variant("without branches", ("train.branches=none",)),
    Variant("without branches and prior", ("train.branches=none", *NO_PRIOR)),
    Variant("without residuals: intents alone", ("train.residuals=false",)),
    Variant("without companions", ("train.companions=0", "train.baseline_decay=0"), baseline=True),
    Variant("without attributes: learnt intents alone", ("dictionary.attributes=null",), TEXT_ONLY),
    Variant("with co-occurrence beside", ("dictionary.cooccurrence={}",), TEXT_ONLY),
    Variant("control: random dictionary", RANDOM_DICTIONARY, TEXT_ONLY),
    Variant(
        "control: random dictionary without attributes",
        (*RANDOM_DICTIONARY, "dictionary.attributes=null"),
        TEXT_ONLY,
    ),
    Variant("control: codes of other items", ("train.shuffle_codes=true",)),
    Variant("two members", ("train.members=2",)),
    Variant("preset paper", (), TEXT_ONLY, "paper"),
    Variant("preset paper, with companions", ("train.companions=50",), TEXT_ONLY, "paper"),
)


def run_variant(
    variant: Variant, data: Path, workdir: Path, seed: int, settings: tuple[str, ...]
) -> dict[str, Any]:
    """Trains and measures a variant; returns its figures."""
    base = workdir / f"seed-{seed}"
    folder = base if variant is VARIANTS[0] else variant_folder(variant, workdir, seed)
    copied = () if folder == base else variant.shares
    every = (f"prepare.source.path={data}", f"seed={seed}", *settings)
    run_stages(folder, every, shared=base, copied=copied, preset=variant.preset)
    figures = read_figures(folder)
    if folder != base:
        shutil.rmtree(folder)
    return figures


def variant_folder(variant: Variant, workdir: Path, seed: int) -> Path:
    """Where a variant is trained; its figures are kept beside."""
    return workdir / f"seed-{seed}-{re.sub('[^a-z]+', '-', variant.name)}"


def read_figures(folder: Path) -> dict[str, Any]:
    """The accuracy on both splits and the explained share of a finished variant."""
    report = read(folder / "evaluate" / "report.json")
    train = read(folder / "train" / "stage.json")
    return {
        "accuracy": report["accuracy"],
        "explained": report["explanations"]["explained_share_median"],
        "seconds": train["seconds"],
    }


def set_section(
    data: str, seeds: list[int], control_seeds: list[int], results: dict[str, list[dict[str, Any]]]
) -> str:
    """The section on one set."""
    lines = []
    alone = ", ".join(map(str, control_seeds))
    # Seeds of controls come last, so the whole models of other variants' seeds are the first ones.
    whole = [each["accuracy"]["test"]["intents"]["NDCG@10"] for each in results[VARIANTS[0].name]]
    for name, found in results.items():
        lines.append([name, *accuracy_cells(found, "intents", whole)])
        lines[-1].append(spread((each["explained"] for each in found), ".2f"))
    for variant in VARIANTS:
        if variant.baseline and variant.name in results:
            also = "" if variant is VARIANTS[0] else f", {variant.name}"
            cells = accuracy_cells(results[variant.name], "no intents", whole)
            lines.append([f"without intents: residuals alone{also}", *cells, ""])
    lines.append(["popularity", *accuracy_cells(results[VARIANTS[0].name], "popularity", whole), ""])
    heads = (
        "model",
        "test HR@10",
        "test NDCG@10",
        "against the whole model",
        "validation NDCG@10",
        "explained share",
    )
    return section(
        f"Ablations, {data}",
        [
            "One member a model but where it says two. Choices were made on validation. Mean and deviation where there "
            "are several seeds"
            + (f"; of {alone} the whole model and the controls alone. " if alone else ". ")
            + circumstances([*seeds, *control_seeds])
        ],
        [shown_command()],
        table(heads, lines),
    )


def accuracy_cells(found: list[dict[str, Any]], model: str, whole: list[float]) -> list[str]:
    """What the table says of a model's accuracy; `whole` is the test NDCG@10 of the whole model by seed."""
    rows = {split: [each["accuracy"][split][model] for each in found] for split in ("test", "validation")}
    ratios = [
        row["NDCG@10"] / other - 1 for row, other in zip(rows["test"], whole[: len(found)], strict=True)
    ]
    return [
        spread(row["HR@10"] for row in rows["test"]),
        spread(row["NDCG@10"] for row in rows["test"]),
        spread(ratios, "+.1%", ".1%"),
        spread(row["NDCG@10"] for row in rows["validation"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=data_folder, required=True, help="folder with sequences.txt and items.jsonl"
    )
    parser.add_argument(
        "--control-seeds", type=int, nargs="*", default=[], help="seeds of the whole model and controls alone"
    )
    add_run_options(parser)
    asked = parser.parse_args()
    if set(asked.seeds) & set(asked.control_seeds):
        parser.error("--control-seeds are further seeds: name none of --seeds")
    workdir = asked.workdir.absolute() / f"ablations-{asked.data.name}"
    results: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in VARIANTS}
    for seed in (*asked.seeds, *asked.control_seeds):
        for variant in VARIANTS if seed in asked.seeds else [each for each in VARIANTS if each.decisive]:
            settings = (*ONE_MEMBER, *variant.settings, *asked.settings)
            if not variant.baseline:
                settings += WITHOUT_BASELINE
            run = partial(run_variant, variant, asked.data, workdir, seed, settings)
            kept = variant_folder(variant, workdir, seed).with_suffix(".json")
            results[variant.name].append(finished_part(kept, settings, run))
    text = set_section(asked.data.name, asked.seeds, asked.control_seeds, results)
    write_section(asked.page, f"ablations {asked.data.name}", text)


if __name__ == "__main__":
    main()
