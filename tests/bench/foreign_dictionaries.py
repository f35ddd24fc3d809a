"""What a recommender loses when its intents come from the dictionary of another domain.

    python tests/bench/foreign_dictionaries.py --data FOLDER/amazon2014_beauty FOLDER/amazon2014_toys --seeds 42

For each set one member is trained with the amazon preset on its own dictionary, on that of each other set as
`saerec run --dictionary-from` takes it over, and on random directions. Attributes are left out: they would be those
of the set itself every time. Finished models are kept in files, so a stopped run goes on where it was. Writes one
section of docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

from saerec_ray.manifest import read_manifest
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

COMMON = (*ONE_MEMBER, "train.baseline=false", "dictionary.attributes=null")
OWN, RANDOM = "its own", "random directions"
Results = dict[str, dict[str, list[dict[str, Any]]]]
"""Figures by set, by dictionary, by seed."""


class Study:
    """The models of all sets for one seed, each in a work directory of its own."""

    def __init__(self, sets: list[Path], workdir: Path, seed: int, extra: list[str]) -> None:
        self.sets = {path.name: path for path in sets}
        self.workdir = workdir
        self.seed = seed
        self.settings = (*COMMON, *extra)

    def folder(self, name: str, dictionary: str) -> Path:
        """The work directory of a set with a dictionary."""
        suffix = "" if dictionary == OWN else f"-with-{dictionary.replace(' ', '-')}"
        return self.workdir / f"seed-{self.seed}-{name}{suffix}"

    def every(self, name: str) -> tuple[str, ...]:
        """The settings of all stages of a set."""
        return (f"prepare.source.path={self.sets[name]}", f"seed={self.seed}", *self.settings)

    def figures(self, name: str, dictionary: str) -> dict[str, Any]:
        """The figures of one model, which is trained if it has not been."""
        folder = self.folder(name, dictionary)
        kept = folder.with_name(f"{folder.name}.json")
        return finished_part(kept, self.settings, partial(self.measure, name, dictionary))

    def measure(self, name: str, dictionary: str) -> dict[str, Any]:
        """Runs the stages that the model needs."""
        own, folder = self.folder(name, OWN), self.folder(name, dictionary)
        if dictionary == OWN:
            run_stages(folder, self.every(name))
        else:
            run_stages(own, self.every(name), stages=("prepare", "embed"))
            settings = (*self.every(name), *self.dictionary_settings(dictionary))
            run_stages(folder, settings, shared=own, copied=("prepare", "embed"))
        report = read(folder / "evaluate" / "report.json")
        return {
            **{split: report["accuracy"][split]["intents"]["NDCG@10"] for split in ("validation", "test")},
            "popularity": report["accuracy"]["test"]["popularity"]["NDCG@10"],
            "explained": report["explanations"]["explained_share_median"],
            "published": read_manifest(folder / "intents").metrics["published"],
        }

    def dictionary_settings(self, dictionary: str) -> tuple[str, ...]:
        """What makes a run take another dictionary; that of another set is made first where it is not there."""
        if dictionary == RANDOM:
            return RANDOM_DICTIONARY
        source = self.folder(dictionary, OWN)
        run_stages(source, self.every(dictionary), stages=BEFORE_TRAIN)
        return (f"dictionary.source={json.dumps(str(source))}",)


def page_section(seeds: list[int], results: Results) -> str:
    """The section on all sets."""
    rows = []
    for name, models in results.items():
        own = [each["test"] for each in models[OWN]]
        for dictionary, found in models.items():
            ratios = [each["test"] / other - 1 for each, other in zip(found, own, strict=True)]
            rows.append(
                [
                    name,
                    dictionary,
                    spread(each["validation"] for each in found),
                    spread(each["test"] for each in found),
                    "" if dictionary == OWN else f"{statistics.mean(ratios):+.1%}",
                    spread((each["published"] for each in found), ".0f"),
                    spread((each["explained"] for each in found), ".2f"),
                ]
            )
        rows.append([name, "none: popularity", "", spread(each["popularity"] for each in models[OWN])])
        rows[-1] += ["", "", ""]
    return section(
        "Models on the dictionary of another domain",
        [
            "One member a model, learnt intents alone: no attributes. A dictionary of another set is centred on the "
            f"items it is used for, and not trained on them. {circumstances(seeds)}"
        ],
        [shown_command()],
        table(
            [
                "items and users of",
                "dictionary of",
                "validation NDCG@10",
                "test NDCG@10",
                "against its own",
                "intents published",
                "share explained, median",
            ],
            rows,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=data_folder,
        nargs="+",
        required=True,
        help="folders with sequences.txt and items.jsonl; two or more",
    )
    add_run_options(parser, seeds=(42,))
    asked = parser.parse_args()
    names = [path.name for path in asked.data]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        parser.error("--data needs two or more sets with different names")
    results: Results = {name: {} for name in names}
    for seed in asked.seeds:
        study = Study(asked.data, asked.workdir.absolute() / "foreign-dictionaries", seed, asked.settings)
        for name in names:
            for dictionary in (OWN, *(other for other in names if other != name), RANDOM):
                results[name].setdefault(dictionary, []).append(study.figures(name, dictionary))
    write_section(asked.page, "foreign-dictionaries", page_section(asked.seeds, results))


if __name__ == "__main__":
    main()
