"""Repeats all published figures: runs every program that writes a section of docs/results.md, one after the other.

    python tests/bench/all_results.py --data FOLDER          # the folder of the sets
    python tests/bench/all_results.py --data FOLDER --list   # only print the commands

Takes many hours on 2 cores. Steps that have finished are noted in WORKDIR/finished-results.json and are not run
again, and the long ones go on where they were stopped; delete the file to measure everything anew. Speeds want a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

from saerec_ray.manifest import write_json
from tests.bench.published import PAGE, REPOSITORY, data_folder, read, results_page

SETS = ("amazon2014_beauty", "amazon2014_toys", "amazon2014_sports")
BEAUTY = SETS[0]
SEEDS = ("42", "43", "44")
SHORT_TRAININGS = ("--epochs", "50", "--rates", "2e-3", "5e-3", "--fewer-epochs", "30")
MORE_STEERED = "evaluate.steering_users=1000"
"""Few held-out items carry an intent of their user: with 200 users too few to tell what steering does for them."""
TWO_MEMBERS = ("train.members=2", "train.baseline=false", "evaluate.parts=[accuracy, faithfulness]")
"""What the second is worth, and how stable reasons are under another seed: it is measured between members."""
ONLY_COLD = ("train.cold_share=0.1", "train.baseline=false", "evaluate.parts=[cold]")
COLD_EXPLAINED = (*ONLY_COLD[:-1], "evaluate.parts=[cold, faithfulness]")
"""How much of a cold item's score intents explain needs cold items, too; one draw of them is enough."""


@dataclass(frozen=True)
class Step:
    """A program with its arguments, of which paths are absolute, and the keys of the sections that it writes."""

    name: str
    arguments: tuple[str, ...]
    keys: tuple[str, ...]

    def command(self) -> list[str]:
        """What is run, in the checkout."""
        return [sys.executable, f"tests/bench/{self.name}.py", *self.arguments]


def steps(data: Path, workdir: Path, page: Path) -> list[Step]:
    """All programs in an order in which each finds what it needs from those before."""
    folders = {name: str(data / name) for name in SETS}
    runs = {name.removeprefix("amazon2014_"): (folders[name], workdir / name) for name in SETS}
    seeds = ("--seeds", *SEEDS)
    trained = ("--workdir", str(workdir), "--page", str(page))
    shown = ("--page", str(page))
    gates = workdir / "gates"
    finished = tuple(f"--run={name}={run}" for name, (_, run) in runs.items())

    def report(name: str, folder: str, run: Path, *settings: str, seed: str = SEEDS[0]) -> Step:
        options = [f"--set={setting}" for setting in (f"seed={seed}", *settings)]
        arguments = (f"--run={name}={run}", "--data", folder, *options, *shown)
        return Step("report_sections", arguments, (f"report {name}",))

    return [
        # Those of one run come first: accuracy takes its first seed from there and leaves the last one behind.
        *(report(name, *run, MORE_STEERED) for name, run in runs.items()),
        report("beauty-two-members", folders[BEAUTY], workdir / "beauty-two-members", *TWO_MEMBERS),
        report("beauty-cold", folders[BEAUTY], workdir / "beauty-cold", *COLD_EXPLAINED),
        *(
            report(name, folders[BEAUTY], workdir / name, *ONLY_COLD, seed=seed)
            for seed in SEEDS[1:]
            for name in (f"beauty-cold-{seed}",)
        ),
        Step("transfer", (*finished, "--data", str(data), *shown), ("transfer",)),
        Step("steering_limits", ("--workdir", str(workdir / BEAUTY), *shown), ("steering-limits",)),
        Step("cited_choices", (*finished, *shown), ("cited-choices",)),
        Step(
            "accuracy",
            ("--data", *folders.values(), *seeds, *trained),
            tuple(f"accuracy {name}" for name in SETS),
        ),
        Step(
            "dictionary_gates",
            ("--data", str(data), "--workdir", str(gates), "--report-only", *shown),
            ("dictionary-gates",),
        ),
        *(
            Step(
                "dictionary_ablations",
                ("--data", folders[name], *seeds, *trained),
                (f"dictionary-ablations {name}",),
            )
            for name in SETS
        ),
        Step(
            "ablations",
            ("--data", folders[BEAUTY], "--seeds", SEEDS[0], "--control-seeds", *SEEDS[1:], *trained),
            (f"ablations {BEAUTY}",),
        ),
        *(
            Step("explained_share", ("--data", folders[name], *trained), (f"explained-share {name}",))
            for name in SETS
        ),
        Step("foreign_dictionaries", ("--data", *folders.values(), *trained), ("foreign-dictionaries",)),
        Step("identity", ("--data", folders[BEAUTY], *trained), ("identity",)),
        Step(
            "cooccurrence",
            (str(workdir / "cooccurrence"), "--data", folders[BEAUTY], *shown),
            ("cooccurrence",),
        ),
        Step(
            "bench_dictionary",
            ("--embeddings", str(workdir / BEAUTY / "embed"), *SHORT_TRAININGS, *shown),
            ("dictionary-speed",),
        ),
        Step("bench_training", shown, ("training-speed",)),
        Step("bench_large_catalogue", shown, ("large-catalogues",)),
        Step("bench_prepare", shown, ("prepare-speed",)),
        Step("bench_server", shown, ("server-speed",)),
    ]


def run(step: Step, data: Path) -> None:
    """Runs a step; ends the program when it fails."""
    code = subprocess.run(
        step.command(), check=False, cwd=REPOSITORY, env={**os.environ, "SAEREC_DATA": str(data)}
    ).returncode
    if code:
        sys.exit(f"{step.name} ended with exit code {code}. Run the same command again to go on from there.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("SAEREC_DATA", str(REPOSITORY.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of the sets; SAEREC_DATA")
    parser.add_argument("--workdir", type=Path, default=REPOSITORY / "out")
    parser.add_argument("--page", type=results_page, default=str(PAGE), help="the page that is written")
    parser.add_argument("--list", action="store_true", help="print the commands and run nothing")
    asked = parser.parse_args()
    data, workdir = asked.data.absolute(), asked.workdir.absolute()
    for name in SETS:
        try:
            data_folder(str(data / name))
        except argparse.ArgumentTypeError as error:
            parser.error(f"{error}: name the folder of the sets with --data or SAEREC_DATA")
    noted = workdir / "finished-results.json"
    finished: list[list[str]] = read(noted) if noted.exists() else []
    for step in steps(data, workdir, asked.page.absolute()):
        line = shlex.join(["python", *step.command()[1:]])
        if asked.list:
            print(line)
        elif step.command()[1:] in finished:
            print(f"Finished before: {line}", flush=True)
        else:
            print(f"== {line}", flush=True)
            run(step, data)
            finished.append(step.command()[1:])
            workdir.mkdir(parents=True, exist_ok=True)
            write_json(noted, finished)


if __name__ == "__main__":
    main()
