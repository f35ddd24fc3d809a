"""Which intents to cite for an item, and what companions cost the citations: cited against random intents.

    saerec run --config amazon --set prepare.source.path=FOLDER/amazon2014_beauty --workdir out/beauty
    python tests/bench/cited_choices.py --run beauty=out/beauty

Published intents, the first 10 items of random users with their validation history. Won: share of cases in which the
item falls further without its m cited intents than without m other intents that speak for it, of like density; with
one, `ties` is the share in which it falls as far. Cited by: the size of a contribution, what it is beyond that to the
average item, or beyond the mean of that to the user's best items, whose number stands there; by how many places the
item falls without the intent; or, as it is served, five by what they are beyond the 100 best, in the order of the
places. By places one intent seldom loses by construction: what counts against it are ties and intents that are not
cited. Same 3: overlap (Jaccard) of the first three with those that the history gives without one random item.
Below that the score counts companions with a multiple of their weight, and NDCG@10 is that of all validation users:
the model takes the smallest weight that loses at most 1% (`train.companion_tolerance`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for saerec_ray, when run as a program

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.build import read_model
from saerec_ray.backbone.frozen import Frozen
from saerec_ray.backbone.validation import EncodedUsers, encode_users, held_out, ndcg_of_weights
from saerec_ray.config import TrainConfig
from saerec_ray.data.prepared import read_sequences
from saerec_ray.evaluation.ablation import REMOVED, removals
from saerec_ray.evaluation.cited_intents import Cite, cited_intents
from saerec_ray.evaluation.completeness import completeness
from saerec_ray.evaluation.history_ablation import stability
from saerec_ray.evaluation.markdown_tables import number
from saerec_ray.evaluation.scored_users import ScoredUser, rank_without, sample_cases, scored_users
from saerec_ray.evidence import COMPARED_ITEMS, setting_apart
from saerec_ray.intents.catalogue import read_catalogue
from saerec_ray.scoring import Floats, Indices, ItemSpace, decompose
from tests.bench.published import Transcript, add_page_option, described, publish, shown_command
from tests.bench.report_sections import named_run

BEST = (10, 30, COMPARED_ITEMS, 300, 1000)
MULTIPLES = (2.0, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0)
CONTROL = "other_reasons"

SERVED = f"beyond the {COMPARED_ITEMS} best, then places"

Mask = npt.NDArray[np.bool_]
Compared = Callable[[ItemSpace, ScoredUser], Floats]
"""The mean code that the code of an item is compared with."""


def ways_to_cite(published: Mask) -> dict[str, Cite]:
    """Ways to choose what is cited among published intents, by their names."""
    ways: dict[str, Cite] = {
        "size": beyond(published, lambda space, user: np.zeros(space.intent_count, dtype=np.float32)),
        "beyond the average item": beyond(published, lambda space, user: space.mean_code),
    }
    for best in BEST:
        ways[f"beyond the {best} best"] = beyond(
            published, lambda space, user, best=best: space.mean_code_of(user.top(best))
        )
    ways["places"] = partial(places_lost, published)
    ways[SERVED] = partial(cited_intents, citable=published)
    return ways


def beyond(published: Mask, compared: Compared) -> Cite:
    """By what an intent adds to the item beyond what it adds to that code."""

    def cite(space: ItemSpace, user: ScoredUser, item: int, count: int) -> Indices:
        intents, contributions = reasons(published, space, user, item)
        usual = user.values * compared(space, user)
        return intents[setting_apart(contributions, usual[intents])[:count]]

    return cite


def places_lost(published: Mask, space: ItemSpace, user: ScoredUser, item: int, count: int) -> Indices:
    """By how many places the item falls without the intent alone; equal ones by size."""
    intents, contributions = reasons(published, space, user, item)
    lost = [rank_without(space, user, item, intents[[place]]) for place in range(len(intents))]
    return intents[np.lexsort((-contributions, -np.asarray(lost)))[:count]]


def reasons(published: Mask, space: ItemSpace, user: ScoredUser, item: int) -> tuple[Indices, Floats]:
    """The published intents that speak for an item, and what they add."""
    parts = decompose(space, user.state, user.values, item, user.companions)
    speaking = published[parts.intents] & (parts.contributions > 0)
    return parts.intents[speaking], parts.contributions[speaking]


def cells(found: dict[str, Any]) -> str:
    """Shares won with each number of intents, and ties with one."""
    rows = [found[str(m)].get(CONTROL) for m in REMOVED]
    won = " | ".join(number(row and row["win_rate"], ".0%") for row in rows)
    return f"{won} | {number(rows[0] and rows[0]['ties'], '.0%')}"


def measure(name: str, run: Path, count: int, seed: int, say: Transcript) -> None:
    """The rows of one finished run."""
    stage = json.loads((run / "train" / "stage.json").read_text("utf-8"))
    settings = TrainConfig.model_validate(stage["config"]["settings"][0])
    space, encoder, frozen = read_model(run / "train", settings)
    users = encode_users(encoder, held_out(read_sequences(run / "prepare"), "validation"))
    published = np.zeros(space.intent_count, dtype=np.bool_)
    published[[intent.latent for intent in read_catalogue(run / "intents").intents if intent.published]] = (
        True
    )
    ways = ways_to_cite(published)
    ndcg = companion_ndcg(space, frozen, users)

    chosen = sample_cases(users, count, seed)

    def row(space: ItemSpace, way: str, multiple: float) -> None:
        found = removals(space, scored_users(space, frozen.prior, users, chosen), seed, ways[way])
        same = stability(space, frozen.prior, encoder, users, count, seed, ways[way])["top_3_jaccard_mean"]
        explained = completeness(space, frozen.prior, users, count, seed)["explained_share_median"]
        say(
            f"| {name} | {way} | {multiple:g} | {cells(found)} | {same:.2f} | {ndcg[multiple]:.4f} | {explained:.2f} |"
        )

    for way in ways:
        row(space, way, 1.0)
    for multiple in MULTIPLES:
        if multiple != 1.0:
            weight = multiple * space.companion_weight
            row(replace(space, companion_weight=weight), SERVED, multiple)


def companion_ndcg(space: ItemSpace, frozen: Frozen, users: EncodedUsers) -> dict[float, float]:
    """NDCG@10 of all validation users by the multiple of the companions' weight that counts."""

    def companions(rows: slice) -> Floats:
        return np.asarray(users.companions[rows].toarray(), dtype=np.float32)

    weights = [multiple * space.companion_weight for multiple in MULTIPLES]
    found = ndcg_of_weights(replace(space, companion_weight=0.0), frozen.prior, users, companions, weights)
    return dict(zip(MULTIPLES, found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="append", required=True, type=named_run, metavar="NAME=WORKDIR")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seed", type=int, default=42)
    add_page_option(parser)
    asked = parser.parse_args()
    say = Transcript()
    heads = [f"won with {m}" for m in REMOVED]
    say(f"| set | cited by | companions | {' | '.join(heads)} | ties with 1 | same 3 | NDCG@10 | explained |")
    say("|" + "---|" * (len(heads) + 7))
    for name, folder in asked.run:
        measure(name, folder, asked.users, asked.seed, say)
    publish(
        asked.page,
        "cited-choices",
        "Which intents to cite",
        described(__doc__),
        say.lines,
        shown_command(("--page",)),
    )


if __name__ == "__main__":
    main()
