"""One score taken apart by hand, from a real bundle: the numbers of docs/how-it-works.md.

    saerec run --config demo --workdir out/demo
    python tests/bench/worked_example.py --bundle out/demo/bundle --history 1 260 1196 2571 --boost Comedy

Prints Markdown. `--history` are item ids, oldest first; `--boost` is the label of an intent.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

import numpy as np

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.bundle import Bundle, load_bundle
from saerec_ray.scoring import (
    Adjustment,
    Mode,
    apply_shifts,
    base_scores,
    decompose,
    intent_values,
    prior,
    rank_of,
    score_spread,
    shifts,
    top_items,
)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def worked_example(bundle: Bundle, history: list[str], boost: str) -> str:
    """The Markdown of the example. Raises SystemExit for items or labels the bundle does not have."""
    index = {item_id: place for place, item_id in enumerate(bundle.items.ids)}
    labels = {intent.label: intent.latent for intent in bundle.catalogue.intents if intent.published}
    if missing := [item for item in history if item not in index]:
        raise SystemExit(f"The bundle has no items {', '.join(missing)}.")
    if boost not in labels:
        raise SystemExit(f"The bundle has no published intent {boost}; it has {', '.join(sorted(labels))}.")
    met = np.array([index[item] for item in history], dtype=np.int64)
    space = bundle.space
    user = UserEncoder(bundle.config.train, bundle.backbone, space, bundle.prior).encode([met])
    values = intent_values(space, user.states, prior(user.profiles, bundle.prior))
    scores = base_scores(space, user.states, values, user.companions)[0]
    allowed = scores.copy()
    allowed[met] = -np.inf
    best = int(top_items(allowed, 1)[0])
    parts = decompose(space, user.states[0], values[0], best, user.companions)
    names = {
        intent.latent: intent.label if intent.published else "(unnamed)"
        for intent in bundle.catalogue.intents
    }
    text = [f"History, oldest first: {'; '.join(bundle.items.titles[item] for item in met)}.\n"]
    text.append(f"First in the list: **{bundle.items.titles[best]}**, score {scores[best]:.4f}.\n")
    order = np.argsort(-np.abs(parts.contributions), kind="stable")
    rows = [
        [
            names[int(parts.intents[place])],
            f"{space.code(best)[1][place]:.4f}",
            f"{values[0][parts.intents[place]]:.4f}",
            f"{parts.contributions[place]:+.4f}",
        ]
        for place in order
    ]
    rows.append(["residual h . eps", "", "", f"{parts.residual:+.4f}"])
    rows.append(["bias b", "", "", f"{parts.bias:+.4f}"])
    if space.companion_weight:
        rows.append(["companions mu c", "", "", f"{parts.companions:+.4f}"])
    total = float(parts.contributions.sum()) + parts.residual + parts.bias + parts.companions
    assert abs(total - scores[best]) <= 1e-5 * max(1, abs(total)), "the parts are not the score"
    rows.append(["**sum**", "", "", f"**{total:+.4f}**"])
    text.append(
        table(["part", "z, how strongly the item carries it", "q, what it is worth to the user", "z q"], rows)
    )
    intent = labels[boost]
    spread = score_spread(scores)
    text.append(
        f"Boost of **{boost}**: q = {values[0][intent]:.4f}, T = {bundle.steering.targets[intent]:.4f}, "
        f"sigma = {bundle.steering.spreads[intent]:.4f}, R = {spread:.4f}.\n"
    )
    rows = []
    for strength in (0.0, 0.25, 0.5, 1.0):
        steering = shifts(
            space,
            bundle.steering,
            scores,
            values[0],
            [Adjustment(intent, Mode.BOOST, strength)] if strength else [],
        )
        steered = apply_shifts(scores, steering)
        steered[met] = -np.inf
        listed = top_items(steered, 10)
        carriers = set(space.carriers(intent)[0].tolist())
        rows.append(
            [
                f"{strength:g}",
                f"{steering[0].step:+.4f}" if steering else "0",
                f"{sum(int(item) in carriers for item in listed)} of 10",
                str(rank_of(steered, best)),
            ]
        )
    text.append(
        table(
            [
                "strength",
                "added to q",
                f"items with {boost} in the list",
                f"place of {bundle.items.titles[best]}",
            ],
            rows,
        )
    )
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--history", nargs="+", required=True)
    parser.add_argument("--boost", required=True)
    asked = parser.parse_args()
    sys.stdout.write(worked_example(load_bundle(asked.bundle), asked.history, asked.boost))


if __name__ == "__main__":
    main()
