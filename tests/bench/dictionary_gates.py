"""Prints the quality gates of dictionaries and their catalogues, and fails when one is closed.

    python tests/bench/dictionary_gates.py --data FOLDER --seeds 42 43 44
    python tests/bench/dictionary_gates.py --finished out/my-run

The first form runs prepare, embed, dictionary and intents with the amazon preset for every set and seed; stages
that have finished are skipped, so a stopped run goes on where it was. The second only measures work directories
whose intents stage has finished. `--vectors` names a folder with SET/embeddings.safetensors, one row a line of
the set's items.jsonl, made before with the model of the preset in float32: then no text is encoded.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np

from saerec_ray.config import EmbedConfig, load_config
from saerec_ray.data.prepared import read_items
from saerec_ray.errors import StageError
from saerec_ray.evaluation.coded_items import read_coded_items
from saerec_ray.manifest import read_manifest
from saerec_ray.pipeline import CACHE_FOLDER
from saerec_ray.text.cache import EmbeddingCache, text_key, write_part
from saerec_ray.text.embed import load_embeddings
from saerec_ray.text.encoder import model_fingerprint, model_location
from tests.bench.gates import Gate, quality_gates
from tests.bench.judged_labels import judged_labels
from tests.bench.published import REPOSITORY, add_page_option, publish, saerec

SETS = ("amazon2014_beauty", "amazon2014_toys", "amazon2014_sports")
SHARED_STAGES = ("prepare", "embed")
"""Those that do not depend on the seed."""


def run_seed(shared: Path, seed: int, settings: list[str]) -> Path:
    """Trains and names one seed in a work directory of its own, which begins with the shared stages."""
    workdir = shared / f"seed-{seed}"
    for stage in SHARED_STAGES:
        made = shared / stage
        if not same_stage(made, workdir / stage):
            shutil.rmtree(workdir / stage, ignore_errors=True)
            shutil.copytree(made, workdir / stage)
    for stage in ("dictionary", "intents"):
        saerec(stage, workdir, [*settings, f"seed={seed}"])
    return workdir


def same_stage(one: Path, other: Path) -> bool:
    """Whether both folders hold the same finished stage."""
    try:
        return read_manifest(one).content_hash == read_manifest(other).content_hash
    except StageError:
        return False


def keep_vectors(vectors: Path, data: Path, workdir: Path, config: EmbedConfig) -> None:
    """Puts vectors made before where the embed stage looks for them; the prepare stage must have finished."""
    fingerprint = model_fingerprint(config.model, model_location(config.model), "float32", config.max_tokens)
    cache_folder = EmbeddingCache(workdir / CACHE_FOLDER / "embeddings", fingerprint)
    keys = list(dict.fromkeys(text_key(fingerprint, text) for text in read_items(workdir / "prepare").texts))
    missing = set(keys) - set(cache_folder.lookup(keys))
    if not missing:
        return
    with (data / "items.jsonl").open(encoding="utf-8") as lines:
        row_of = {text_key(fingerprint, json.loads(line)["text"]): row for row, line in enumerate(lines)}
    found = load_embeddings(vectors)
    if len(found) < len(row_of):
        sys.exit(f"{vectors} has {len(found)} vectors, but {data} has more items.")
    known = [key for key in keys if key in missing and key in row_of]
    write_part(cache_folder.folder, known, np.ascontiguousarray(found[[row_of[key] for key in known]]))


def measure(workdir: Path) -> tuple[int, list[Gate]]:
    """The seed of a finished work directory, and its gates."""
    made = read_manifest(workdir / "dictionary")
    coded = read_coded_items(workdir / "embed", workdir / "dictionary")
    detection = judged_labels(workdir, coded)
    active = made.config["settings"][0]["active"]
    return made.seed, quality_gates(made.metrics, active, detection)


def table(rows: list[tuple[str, int, list[Gate]]]) -> list[str]:
    """One line a set and seed; a figure whose gate is closed has an exclamation mark."""
    heads = ["set", "seed", *(gate.name for gate in rows[0][2]), "passed"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, seed, gates in rows:
        cells = [
            f"{'–' if gate.figure is None else format(gate.figure, '.3f')} ({gate.wanted})"
            + ("" if gate.passed else " !")
            for gate in gates
        ]
        passed = sum(gate.passed for gate in gates)
        lines.append(f"| {name} | {seed} | {' | '.join(cells)} | {passed} of {len(gates)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    data = os.environ.get("SAEREC_DATA", str(REPOSITORY.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(data), help="folder of the sets; SAEREC_DATA")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--workdir", type=Path, default=Path("out") / "gates")
    parser.add_argument("--vectors", type=Path, help="folder with SET/embeddings.safetensors, see above")
    parser.add_argument("--finished", type=Path, nargs="+", help="measure these work directories, train none")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="as of saerec run")
    parser.add_argument("--report-only", action="store_true", help="succeed even where a gate is closed")
    add_page_option(parser)
    arguments = parser.parse_args()
    rows: list[tuple[str, int, list[Gate]]] = []
    for workdir in arguments.finished or []:
        rows.append((workdir.name, *measure(workdir)))
    for name in [] if arguments.finished else arguments.sets:
        source = (arguments.data / name).absolute()
        if not (source / "sequences.txt").is_file():
            parser.error(f"{source} has no sequences.txt; name the folder of the sets with --data")
        shared = (arguments.workdir / name).absolute()
        settings = [f"prepare.source.path={source}", *arguments.settings]
        if arguments.vectors:
            settings.append("embed.precision=float32")
        saerec("prepare", shared, settings)
        if arguments.vectors:
            config = load_config("amazon", settings).embed
            keep_vectors(arguments.vectors.absolute() / name, source, shared, config)
        saerec("embed", shared, settings)
        for seed in arguments.seeds:
            rows.append((name, *measure(run_seed(shared, seed, settings))))
            print("\n".join(table(rows[-1:])), file=sys.stderr, flush=True)
    print("\n".join(table(rows)))
    about = (
        "Each figure has its gate in brackets; an exclamation mark says that the gate is closed. Trained with the "
        "amazon preset where no setting says otherwise. Not among the gates: what a ranking by item vectors loses to "
        "reconstructions, which with 8 and 32 latents an item is more than the 5% that are asked for (the reports of "
        "runs have it), and how stable latents are under other seeds, which takes several of them."
    )
    publish(arguments.page, "dictionary-gates", "Gates of dictionaries and names", [about], table(rows))
    passed = all(gate.passed for _, _, gates in rows for gate in gates)
    sys.exit(not passed and not arguments.report_only)


if __name__ == "__main__":
    main()
