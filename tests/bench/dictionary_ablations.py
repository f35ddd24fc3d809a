"""What each choice in the dictionary is worth: kind, width, active latents, centring, dead latents.

    python tests/bench/dictionary_ablations.py --data FOLDER/amazon2014_beauty --seeds 42 43 44

Every variant is trained and named by `saerec dictionary` and `saerec intents` with the amazon preset, without
attributes, on texts that are encoded once. Finished variants are kept in files, so a stopped run goes on where it
was. Writes docs/dictionary-ablations.md. FVU is of held-out items about the training mean, whatever the centring.
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

sys.path.insert(0, str(Path(__file__).parents[2]))  # for saerec_ray, when run as a program

import numpy as np
import psutil

from saerec_ray.backbone.validation import held_out
from saerec_ray.data.prepared import read_sequences
from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.evaluation.coded_items import read_coded_items
from saerec_ray.evaluation.content_recommender import ndcg_recovered
from saerec_ray.evaluation.reconstruction import variance_unexplained
from saerec_ray.manifest import read_manifest, recorded_versions, write_json

REPOSITORY = Path(__file__).parents[2]
COMMON = ("dictionary.attributes=null", "cluster.engine=local")
VARIANTS: dict[str, tuple[str, ...]] = {
    "the preset: matryoshka, width 512, 8 active": (),
    "kind batchtopk": ("dictionary.kind=batchtopk",),
    "kind topk": ("dictionary.kind=topk",),
    "kind jumprelu": ("dictionary.kind=jumprelu",),
    "kind paper: tied, width 2048, 15 active": (
        "dictionary.kind=paper",
        "dictionary.width=2048",
        "dictionary.active=15",
    ),
    "width 256": ("dictionary.width=256",),
    "width 1024": ("dictionary.width=1024",),
    "4 active": ("dictionary.active=4",),
    "16 active": ("dictionary.active=16",),
    "without centring": ("dictionary.centre=false",),
    "without the loss of dead latents": ("dictionary.auxiliary_weight=0",),
    "without annealing": ("dictionary.anneal_share=0",),
    "without the loss at 4k": ("dictionary.multi_k_weight=0",),
    "control: random directions": ("dictionary.epochs=1", "dictionary.learning_rate=1e-12"),
}
USERS = 2000
"""Users whose ranking by reconstructed vectors is measured."""
COLUMNS = {
    "fvu": "FVU",
    "l0": "active",
    "dead": "dead",
    "published": "published",
    "covered": "activation covered",
    "auc": "label AUC, published",
    "recovered": "NDCG@10 recovered",
}


def saerec(stage: str, workdir: Path, settings: tuple[str, ...]) -> None:
    """Runs one stage of the product; its progress goes to the terminal."""
    options = [part for setting in settings for part in ("--set", setting)]
    subprocess.run(
        [sys.executable, "-m", "saerec_ray", stage, "-c", "amazon", "-w", str(workdir), *options],
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def run_variant(name: str, shared: Path, data: Path, seed: int, extra: tuple[str, ...]) -> dict[str, Any]:
    """Trains and measures one variant, unless its file is there."""
    number = list(VARIANTS).index(name)
    finished = shared / f"seed-{seed}-variant-{number}.json"
    if finished.exists():
        return dict(json.loads(finished.read_text("utf-8")))
    folder = shared / f"seed-{seed}-variant-{number}"
    for stage in ("prepare", "embed"):
        shutil.copytree(shared / stage, folder / stage, dirs_exist_ok=True)
    settings = (f"prepare.source.path={data}", f"seed={seed}", *COMMON, *VARIANTS[name], *extra)
    for stage in ("dictionary", "intents"):
        saerec(stage, folder, settings)
    figures = measure(folder, seed)
    write_json(finished, figures)
    shutil.rmtree(folder)
    return figures


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """The figures of a finished intents stage, one a column."""
    coded = read_coded_items(folder / "embed", folder / "dictionary")
    unit = unit_rows(coded.vectors)
    mean = unit[coded.train].mean(axis=0)
    reconstructed = coded.dictionary.reconstruct(coded.vectors)
    made, named = read_manifest(folder / "dictionary").metrics, read_manifest(folder / "intents").metrics
    cases = held_out(read_sequences(folder / "prepare"), "validation")
    step = max(1, len(cases) // USERS)
    recovered = ndcg_recovered(unit, mean, {"dictionary": lambda: reconstructed}, cases.share(0, step), seed)
    return {
        "fvu": variance_unexplained(reconstructed[coded.held_out], unit[coded.held_out], mean),
        "l0": made["l0"],
        "dead": made["dead_share"],
        "published": named["published"],
        "covered": named["mass_covered"],
        "auc": named["detection_auc_mean_published"],
        "recovered": recovered["codings"]["dictionary"]["recovered"]["10"],
    }


def page(data: str, seeds: list[int], results: dict[str, list[dict[str, Any]]]) -> str:
    """The Markdown page."""
    versions, memory = recorded_versions(), psutil.virtual_memory().total / 2**30
    lines = [
        "# Ablations of the dictionary",
        "",
        "Written by `tests/bench/dictionary_ablations.py`. Do not edit by hand.",
        "",
        f"## {data}",
        "",
        f"Mean and deviation over seeds {', '.join(map(str, seeds))}; {os.cpu_count()} CPU cores, {memory:.0f} GiB, "
        "no GPU; "
        + ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "saerec-ray"))
        + ".",
        "NDCG recovered: of a ranking by item vectors alone, with reconstructions in their place; 1 loses nothing, "
        "0 is the mean vector for every item.",
        "",
        "```",
        f"python tests/bench/dictionary_ablations.py --data FOLDER/{data} --seeds {' '.join(map(str, seeds))}",
        "```",
        "",
        f"| variant | {' | '.join(COLUMNS.values())} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, found in results.items():
        cells = [spread([each[column] for each in found]) for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def spread(values: list[float | None]) -> str:
    """Mean and sample deviation of what there is."""
    known = [float(value) for value in values if value is not None and np.isfinite(value)]
    if not known:
        return "none"
    mean = f"{statistics.mean(known):.3g}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with sequences.txt and items.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--set", action="append", default=[], help="a setting for all variants")
    parser.add_argument("--workdir", type=Path, default=Path("out"))
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "dictionary-ablations.md")
    asked = parser.parse_args()
    data = asked.data.absolute()
    if not (data / "items.jsonl").is_file():
        parser.error(f"{data} has no items.jsonl")
    shared = asked.workdir.absolute() / f"dictionary-ablations-{data.name}"
    for stage in ("prepare", "embed"):
        saerec(stage, shared, (f"prepare.source.path={data}", "cluster.engine=local", *asked.set))
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for seed in asked.seeds:
        for name in VARIANTS:
            results[name].append(run_variant(name, shared, data, seed, tuple(asked.set)))
    asked.page.write_text(page(data.name, asked.seeds, results), "utf-8")
    print(f"Wrote {asked.page}")


if __name__ == "__main__":
    main()
