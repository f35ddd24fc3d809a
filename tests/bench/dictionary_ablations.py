"""What each choice in the dictionary is worth: kind, width, active latents, centring, dead latents.

    python tests/bench/dictionary_ablations.py --data FOLDER/amazon2014_beauty --seeds 42 43 44

Every variant is trained and named by `saerec dictionary` and `saerec intents` with the amazon preset, without
attributes, on texts that are encoded once. Finished variants are kept in files, so a stopped run goes on where it
was. Writes one section of docs/results.md. FVU is of held-out items about the training mean, whatever the centring.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

from saerec_ray.backbone.validation import held_out
from saerec_ray.data.prepared import read_sequences
from saerec_ray.dictionary.metrics import variance_unexplained
from saerec_ray.dictionary.sae import unit_rows
from saerec_ray.evaluation.coded_items import read_coded_items
from saerec_ray.evaluation.content_recommender import ndcg_recovered
from saerec_ray.manifest import read_manifest
from tests.bench.judged_labels import judged_labels
from tests.bench.published import (
    RANDOM_DICTIONARY,
    add_run_options,
    circumstances,
    data_folder,
    finished_part,
    run_stages,
    section,
    shown_command,
    spread,
    table,
    write_section,
)

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
    "width 2048": ("dictionary.width=2048",),
    "width 2048, without the loss of dead latents": (
        "dictionary.width=2048",
        "dictionary.auxiliary_weight=0",
    ),
    "width 2048, without that loss and revival": (
        "dictionary.width=2048",
        "dictionary.auxiliary_weight=0",
        "dictionary.revive=false",
    ),
    "without annealing": ("dictionary.anneal_share=0",),
    "without the loss at 4k": ("dictionary.multi_k_weight=0",),
    "learning rate 0.0005 for 200 epochs": ("dictionary.learning_rate=0.0005", "dictionary.epochs=200"),
    "control: random directions": RANDOM_DICTIONARY,
}
USERS = 2000
"""Users whose ranking by reconstructed vectors is measured."""
COLUMNS = {
    "fvu": "FVU",
    "l0": "active",
    "dead": "dead",
    "published": "published",
    "covered": "activation covered",
    "auc": "label AUC",
    "shuffled": "of other labels",
    "recovered": "NDCG@10 recovered",
}


def run_variant(folder: Path, shared: Path, seed: int, settings: tuple[str, ...]) -> dict[str, Any]:
    """Trains and measures one variant in a folder of its own."""
    stages = ("dictionary", "intents")
    run_stages(folder, settings, shared=shared, copied=("prepare", "embed"), stages=stages)
    figures = measure(folder, seed)
    shutil.rmtree(folder)
    return figures


def measure(folder: Path, seed: int) -> dict[str, Any]:
    """The figures of a finished intents stage, one a column."""
    coded = read_coded_items(folder / "embed", folder / "dictionary")
    unit = unit_rows(coded.vectors)
    mean = unit[coded.train].mean(axis=0)
    reconstructed = coded.dictionary.reconstruct(coded.vectors)
    made, named = read_manifest(folder / "dictionary").metrics, read_manifest(folder / "intents").metrics
    judged = judged_labels(folder, coded)
    cases = held_out(read_sequences(folder / "prepare"), "validation")
    step = max(1, len(cases) // USERS)
    recovered = ndcg_recovered(unit, mean, {"dictionary": lambda: reconstructed}, cases.share(0, step), seed)
    return {
        "fvu": variance_unexplained(reconstructed[coded.held_out], unit[coded.held_out], mean),
        "l0": made["l0"],
        "dead": made["dead_share"],
        "published": named["published"],
        "covered": named["mass_covered"],
        "auc": judged["own"]["mean"] if judged["judged"] else None,
        "shuffled": judged["shuffled"]["mean"] if judged["judged"] > 1 else None,
        "recovered": recovered["codings"]["dictionary"]["recovered"]["10"],
    }


def set_section(data: str, seeds: list[int], results: dict[str, list[dict[str, Any]]]) -> str:
    """The section on one set."""
    rows = [
        [name, *(spread([each[column] for each in found], ".3g", ".2g") for column in COLUMNS)]
        for name, found in results.items()
    ]
    return section(
        f"Ablations of the dictionary, {data}",
        [
            f"Mean and deviation over seeds. {circumstances(seeds)}",
            "FVU: unexplained variance of held-out items. NDCG recovered: of a ranking by item vectors alone, with "
            "reconstructions in their place; 1 loses nothing, 0 is the mean vector for every item. Label AUC: of "
            "published labels on the half of the items that they were not made from; beside it that of the labels of "
            "other intents. They were published by their AUC on the same half: the items are drawn anew, but hard "
            "negatives are the same, so the choice flatters the figure a little. With 512 latents none dies, so what "
            "is done about dead latents is shown at 2,048.",
        ],
        [shown_command()],
        table(["variant", *COLUMNS.values()], rows),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=data_folder, required=True, help="folder with sequences.txt and items.jsonl"
    )
    add_run_options(parser)
    asked = parser.parse_args()
    source = f"prepare.source.path={asked.data}"
    shared = asked.workdir.absolute() / f"dictionary-ablations-{asked.data.name}"
    run_stages(shared, (source, "cluster.engine=local", *asked.settings), stages=("prepare", "embed"))
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for seed in asked.seeds:
        for number, (name, own) in enumerate(VARIANTS.items()):
            settings = (*COMMON, *own, *asked.settings)
            folder = shared / f"seed-{seed}-variant-{number}"
            run = partial(run_variant, folder, shared, seed, (source, f"seed={seed}", *settings))
            results[name].append(finished_part(folder.with_suffix(".json"), settings, run))
    text = set_section(asked.data.name, asked.seeds, results)
    write_section(asked.page, f"dictionary-ablations {asked.data.name}", text)


if __name__ == "__main__":
    main()
