"""Transfer between Amazon domains: dictionaries, names and histories of one on the items of another.

    python tests/bench/transfer.py --run beauty=out/beauty --run toys=out/toys --run sports=out/sports

Each --run is a finished run of `saerec run -c amazon` on amazon2014_NAME below SAEREC_DATA, or any earlier
run that used the same language model. Every ordered pair is measured, as the part `transfer` of the report measures
it; but these sets number their users anew, so who is the same person is read from their users.tsv. Nothing is trained.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

from saerec_ray.config import EmbedConfig
from saerec_ray.cross_domain import read_home
from saerec_ray.evaluation.coded_items import read_coded_items
from saerec_ray.evaluation.intents_part import Encode
from saerec_ray.evaluation.transfer import TrainedModel
from saerec_ray.evaluation.transfer_part import OtherDomain, Trial, measure_transfer
from saerec_ray.evaluation.transfer_tables import transfer_lines
from saerec_ray.manifest import read_manifest
from saerec_ray.other_domains import read_other_domain
from saerec_ray.text.encoder import TextEncoder
from tests.bench.published import Transcript, add_page_option, publish

SEED = 42
MOST_USERS = 5000


def read_domain(name: str, folder: Path, embed: EmbedConfig, data: Path) -> OtherDomain:
    """A finished run whose users are called by their reviewer id, which is the same in all sets."""
    lines = (data / f"amazon2014_{name}" / "users.tsv").read_text("utf-8").splitlines()
    reviewers = dict(line.split("\t")[:2] for line in lines)
    domain = read_other_domain(name, folder, embed)
    people = [reviewers[user] for user in domain.sequences.user_ids]
    return replace(domain, sequences=replace(domain.sequences, user_ids=people))


def measure(
    domains: list[OtherDomain], here: OtherDomain, folder: Path, encode: Encode, *, with_profiles: bool
) -> list[str]:
    """The report of the run `here`, in `folder`, about all the others."""
    trial = None
    if with_profiles:
        home = read_home(folder)
        bundle = home.bundle
        model = TrainedModel(bundle.space, bundle.prior, bundle.config.train, bundle.backbone)
        trial = Trial(model, home.reader, here.sequences, MOST_USERS)
    others = [domain for domain in domains if domain is not here]
    coded = read_coded_items(folder / "embed", folder / "dictionary")
    lines = transfer_lines(measure_transfer(others, coded, encode, trial, SEED))
    return [f"### Items of {here.name}", *(line.replace("## ", "#### ", 1) for line in lines[1:])]


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
    runs = {name: Path(folder) for name, folder in (each.split("=", 1) for each in arguments.run)}
    first = read_manifest(next(iter(runs.values())) / "embed")
    embed = EmbedConfig.model_validate(first.config["settings"])
    encoder = TextEncoder(embed.model, embed.precision, embed.max_tokens)
    domains = [read_domain(name, folder, embed, arguments.data) for name, folder in runs.items()]
    for here in domains:
        lines = measure(
            domains,
            here,
            runs[here.name],
            encoder.encode,
            with_profiles=not arguments.without_profiles,
        )
        for line in lines:
            say(line)
    about = (
        "What the dictionary, the names and the histories of one set are worth on the items of another, for every "
        "ordered pair. Nothing is trained here."
    )
    publish(arguments.page, "transfer", "Transfer between domains", [about], say.lines)


if __name__ == "__main__":
    main()
