"""Transfer between Amazon domains: dictionaries, names and histories of one on the items of another.

    python tests/bench/transfer.py --run beauty=out/beauty --run toys=out/toys --run sports=out/sports

Each --run is a finished run of `saerec run -c amazon` on amazon2014_NAME below SAEREC_DATA, or any earlier
run that used the same language model. Every ordered pair is measured. Nothing is trained here.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np

from saerec_ray.backbone.validation import HeldOut, held_out
from saerec_ray.cross_domain import read_home
from saerec_ray.data.prepared import PreparedSequences, read_items, read_sequences
from saerec_ray.dictionary.adoption import recentred
from saerec_ray.dictionary.foreign import learnt_alone
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.earlier import EarlierRun, read_earlier
from saerec_ray.evaluation.transfer import (
    SharedUsers,
    TrainedModel,
    dictionary_transfer,
    label_transfer,
    profile_transfer,
)
from saerec_ray.manifest import read_manifest
from saerec_ray.text.embed import load_embeddings
from saerec_ray.text.encoder import TextEncoder
from tests.bench.published import Transcript, add_page_option, publish

SEED = 42


@dataclass(frozen=True)
class Domain:
    """A finished run on one data set."""

    name: str
    folder: Path
    run: EarlierRun
    vectors: np.ndarray
    sequences: PreparedSequences
    reviewers: dict[str, str]  # reviewer id by user id

    @property
    def unseen(self) -> np.ndarray:
        """Items that its dictionary was neither trained on nor chosen by."""
        seed = read_manifest(self.folder / "dictionary").config["settings"]
        own = self.run.settings.seed
        share = self.run.settings.held_out_share
        return split_for_training(self.vectors, share, seed[1] if own is None else own).held_out


def read_domain(name: str, folder: Path, data: Path) -> Domain:
    lines = (data / f"amazon2014_{name}" / "users.tsv").read_text("utf-8").splitlines()
    return Domain(
        name,
        folder,
        read_earlier(folder),
        load_embeddings(folder / "embed"),
        read_sequences(folder / "prepare"),
        dict(line.split("\t")[:2] for line in lines),
    )


def label_vectors(domain: Domain) -> np.ndarray:
    settings = domain.run.embed
    encoder = TextEncoder(settings.model, settings.precision, settings.max_tokens)
    return encoder.encode([intent.label for intent in domain.run.latents.catalogue.intents])


def shared_users(there: Domain, here: Domain) -> SharedUsers:
    """Users of both: the whole history there before its held-out items, the test items here."""
    rows = {there.reviewers[user]: row for row, user in enumerate(there.sequences.user_ids)}
    cases = held_out(here.sequences, "test")
    chosen, histories = [], []
    for case, user in enumerate(cases.users):
        row = rows.get(here.reviewers[here.sequences.user_ids[user]])
        if row is not None and len(history := there.sequences.train(row)):
            chosen.append(case)
            histories.append(history.astype(np.int64))
    return SharedUsers(
        histories,
        HeldOut(
            cases.users[chosen],
            [cases.histories[case] for case in chosen],
            [cases.targets[case] for case in chosen],
        ),
    )


def measure(there: Domain, here: Domain) -> dict[str, Any]:
    """Everything that domain `there` gives to domain `here`."""
    foreign, native, labels = there.run.dictionary, here.run.dictionary, label_vectors(there)
    return {
        "dictionary": dictionary_transfer(foreign, native, here.vectors, here.unseen, SEED),
        **{
            f"labels, {centre}": label_transfer(
                there.run.latents.catalogue.intents, labels, reader.encode(here.vectors), here.vectors, SEED
            )
            for centre, reader in (
                ("its own centre", foreign),
                ("recentred", recentred(foreign, here.vectors)),
            )
        },
    }


def measure_profiles(there: Domain, here: Domain) -> dict[str, Any]:
    """Recommending in `here` from histories in `there`."""
    home = read_home(here.folder)
    bundle, reader = home.bundle, home.reader
    model = TrainedModel(bundle.space, bundle.prior, bundle.config.train, bundle.backbone)
    users = shared_users(there, here)
    items = read_items(there.folder / "prepare")
    codings = {}
    for centre, recentre in (("its own centre", False), ("recentred", True)):
        codes = reader.codes(there.vectors, items.texts, items.attributes, recentre=recentre)
        codings[f"learnt latents alone, {centre}"] = learnt_alone(codes, reader.dictionaries)
        if reader.dictionaries.attributes:
            codings[f"with attributes and phrases, {centre}"] = codes
    whole = codings[list(codings)[-1]]
    exact = whole.nnz - learnt_alone(whole, reader.dictionaries).nnz
    return {
        "shared users": len(users.cases),
        "attributes and phrases of an item": round(exact / len(items), 2),
        **profile_transfer(model, codings, there.vectors, here.vectors, users),
    }


def show(say: Transcript, title: str, values: dict[str, Any]) -> None:
    say(f"\n## {title}\n")
    for name, value in values.items():
        if isinstance(value, dict):
            say(f"- {name}: " + ", ".join(f"{key} {each:.4g}" for key, each in value.items()))
        else:
            say(f"- {name}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SAEREC_DATA", "../shared/data")))
    parser.add_argument(
        "--without-profiles", action="store_true", help="dictionaries and names only: no bundle is needed"
    )
    add_page_option(parser)
    arguments = parser.parse_args()
    say = Transcript()
    runs = dict(each.split("=", 1) for each in arguments.run)
    domains = [read_domain(name, Path(folder), arguments.data) for name, folder in runs.items()]
    for there, here in itertools.permutations(domains, 2):
        show(say, f"{there.name} to {here.name}", measure(there, here))
        if not arguments.without_profiles:
            show(say, f"histories in {there.name}, items of {here.name}", measure_profiles(there, here))
    body = [line.replace("## ", "### ", 1) if line.startswith("## ") else line for line in say.lines]
    about = (
        "What the dictionary, the names and the histories of one set are worth on the items of another, for every "
        "ordered pair. Nothing is trained here."
    )
    publish(arguments.page, "transfer", "Transfer between domains", [about], body[1:])


if __name__ == "__main__":
    main()
