"""How strong steering is under other settings: exposure and accuracy against reach and limit, with loadings cut or not.

    saerec run --config amazon --set prepare.source.path=FOLDER/amazon2014_beauty --workdir out/beauty
    python tests/bench/steering_limits.py --workdir out/beauty

Full strength, single random intents that people may steer, random users with their validation items, lists of 20.
`reach` is how many times what takes a user to the most interested a full boost adds; `kappa` the most that it may add,
as a share of the range of the user's scores. `cut` takes the 90th percentile of an intent's loadings as the largest
weight, as the server does; `whole` leaves loadings as they are. `exposure` is the mean loading of the steered intent
over the list against that without steering, of the intent in the middle; `lists` the share of lists that change;
`overlap` the share of a list that stays; `NDCG` that of the held-out items against no steering, over all intents.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for saerec_ray, when run as a program

import numpy as np
from scipy.sparse import csc_array

from saerec_ray import scoring
from saerec_ray.backbone.build import read_model, read_steering
from saerec_ray.backbone.validation import encode_users, held_out
from saerec_ray.config import TrainConfig
from saerec_ray.data.prepared import read_items, read_sequences
from saerec_ray.evaluation.steering_curves import steerable_intents, steering
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.scoring import SteeringTable
from tests.bench.published import Transcript, add_page_option, described, publish, shown_command

REACHES = (1.0, 3.0, 5.0, 8.0)
LIMITS = (0.35, 0.5, 0.75)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True, help="of a finished run")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--intents", type=int, default=12)
    parser.add_argument("--seed", type=int, default=42)
    add_page_option(parser)
    asked = parser.parse_args()
    say = Transcript()
    stage = json.loads((asked.workdir / "train" / "stage.json").read_text("utf-8"))
    space, encoder, frozen = read_model(
        asked.workdir / "train", TrainConfig.model_validate(stage["config"]["settings"][0])
    )
    sequences, items = read_sequences(asked.workdir / "prepare"), read_items(asked.workdir / "prepare")
    users = encode_users(encoder, held_out(sequences, "validation"))
    interactions = np.bincount(sequences.train_interactions()[1], minlength=len(items)).astype(np.float64)
    intents = steerable_intents(
        read_catalogue(asked.workdir / "intents"), space, items.attributes, asked.intents, asked.seed
    )
    arrays = read_steering(asked.workdir / "train")
    cut = SteeringTable(arrays["targets"], arrays["spreads"], arrays["loading_caps"])
    whole = replace(cut, loading_caps=csc_array(space.codes).max(axis=0).toarray().ravel().astype(np.float32))
    say(
        "| reach | kappa | loadings | boost: exposure | lists | overlap | NDCG | avoid: exposure | NDCG | violations |"
    )
    say("|---|---|---|---|---|---|---|---|---|---|")
    settings = [("cut", cut, reach, limit) for reach in REACHES for limit in LIMITS]
    settings.append(("whole", whole, scoring.REACH, scoring.SHIFT_LIMIT))
    for name, table, reach, limit in settings:
        scoring.REACH, scoring.SHIFT_LIMIT = reach, limit
        found = steering(
            space, frozen.prior, table, users, intents, [0.5, 1.0], asked.users, asked.seed, interactions
        )
        boost, avoid = found["random"]["boost"], found["random"]["avoid"]
        say(
            f"| {reach:g} | {limit:g} | {name} | {boost['median_intent']['lift']:.2f} x "
            f"| {last(boost['lists_changed']):.0%} | {last(boost['overlap']):.2f} | {-last(boost['ndcg_loss']):+.1%} "
            f"| {avoid['median_intent']['lift']:.2f} x | {-last(avoid['ndcg_loss']):+.1%} | {found['violations']} |"
        )
    publish(
        asked.page,
        "steering-limits",
        "Limits of steering",
        described(__doc__),
        say.lines,
        shown_command(("--page",)),
    )


def last(values: Any) -> float:
    """The value at full strength; NaN where there is none."""
    return float(values[-1]) if values else float("nan")


if __name__ == "__main__":
    main()
