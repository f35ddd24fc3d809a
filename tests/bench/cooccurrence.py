"""What each dictionary of a finished run knows of the next item, without any training of a backbone.

    python tests/bench/cooccurrence.py out
    python tests/bench/cooccurrence.py out/cooccurrence --data FOLDER/amazon2014_beauty

`out` is a work directory whose dictionary stage had dictionary.cooccurrence set; with --data such stages are made
in it with the amazon preset, where they are not there yet. A user is the mean of the
items of the history, an item is its code; items are ranked by cosine. No backbone is trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np

from saerec_ray.backbone.validation import held_out
from saerec_ray.data.prepared import read_sequences
from saerec_ray.dictionary.concatenated import read_dictionaries
from saerec_ray.dictionary.sae import read_codes, unit_rows
from saerec_ray.evaluation.accuracy import accuracy
from saerec_ray.evaluation.text_neighbours import text_neighbour_ranks
from saerec_ray.text.embed import load_embeddings
from tests.bench.published import (
    ONE_WORKER,
    Transcript,
    add_page_option,
    data_folder,
    publish,
    run_stages,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--data", type=data_folder, help="make the stages of this set first")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="a setting of these, as of saerec run"
    )
    add_page_option(parser)
    arguments = parser.parse_args()
    if arguments.data is not None:
        settings = [f"prepare.source.path={arguments.data}", *ONE_WORKER, "dictionary.cooccurrence={}"]
        stages = ("prepare", "embed", "dictionary")
        run_stages(arguments.workdir.absolute(), [*settings, *arguments.settings], stages=stages)
    say = Transcript()
    cases = held_out(read_sequences(arguments.workdir / "prepare"), arguments.split)
    dictionaries = read_dictionaries(arguments.workdir / "dictionary")
    codes = read_codes(arguments.workdir / "dictionary").toarray().astype(np.float32)
    texts, second = dictionaries.text.width, dictionaries.width
    spaces = {
        "text vectors": load_embeddings(arguments.workdir / "embed"),
        "codes of texts": codes[:, :texts],
        "codes of co-occurrence": codes[:, texts:second],
        "both codes": codes[:, :second],
    }
    for name, vectors in spaces.items():
        found = accuracy(text_neighbour_ranks(unit_rows(vectors), cases), [10])
        say(f"{name}: HR@10 {found['HR@10']:.4f}, NDCG@10 {found['NDCG@10']:.4f}")
    about = (
        f"What each dictionary knows of the next item, {arguments.split} split. A user is the mean of the items "
        "of the history, an item is its code; items are ranked by cosine. No backbone is trained."
    )
    title = "Dictionaries of what people take together"
    publish(arguments.page, "cooccurrence", title, [about], say.fenced())


if __name__ == "__main__":
    main()
