"""The part `representation` as text: verdicts on simulated users, and lists against histories."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.list_against_history import LISTS
from saerec_ray.evaluation.markdown_tables import Lines, in_order, number, table
from saerec_ray.intents.population import MIN_EXPECTED_COUNT


def representation_lines(found: dict[str, Any]) -> Lines:
    """Verdicts on simulated users."""
    lengths = found["lengths"]
    shares = sorted(next(iter(lengths.values()))["preference"])
    heads = ["history length", "chance users with a verdict", "verdicts a chance user"]
    for share in shares:
        heads += [f"found, {float(share):.0%} planted", f"wrong, {float(share):.0%} planted"]
    heads += ["found, avoided where a verdict is possible", "intents with such a verdict possible"]
    rows = []
    for length, row in sorted(lengths.items(), key=lambda pair: int(pair[0])):
        cells = [
            length,
            f"{row['chance_users']['share_with_any_verdict']:.0%}",
            f"{row['chance_users']['mean_over'] + row['chance_users']['mean_under']:.2f}",
        ]
        for share in shares:
            cells += [
                number(row["preference"][share]["power"], ".0%"),
                number(row["preference"][share]["false_discovery_rate"], ".1%"),
            ]
        rows.append([*cells, number(row["aversion"]["power"], ".0%"), f"{row['under_possible']:.1%}"])
    lines = [
        "# Over- and under-representation",
        "",
        f"{found['users_of_each_kind']} simulated users of each kind. Chance users have no preference, so each "
        f"verdict on them is false; at most {found['promised_false_discovery_rate']:.0%} of them should get any. "
        "Planted users take so many of their items from one intent; wrong is the mean share of their verdicts "
        "that the planted mixture does not bear out. An intent can only be called too little where at least "
        f"{MIN_EXPECTED_COUNT:.0f} of the items should carry it: long histories and frequent intents, the share of "
        "all intents in the last column.",
        "",
        *table(heads, rows),
    ]
    compared = found.get("list_against_history")
    return lines + _calibration_lines(compared) if compared else lines


def _calibration_lines(found: dict[str, Any]) -> Lines:
    lines = [
        "## Lists against histories",
        "",
        f"{found['users']} users. KL divergence in nats of the shares of intents in a list of {found['list_length']} "
        "from those of the user's whole history, both drawn towards the population where they are short. 0: the list "
        "shows the user's intents in the user's shares.",
        "",
        *table(
            ["list", "median", "ninetieth percentile"],
            (
                [name, number(row["median"]), number(row["p90"])]
                for name, row in in_order(found["lists"], LISTS)
            ),
        ),
    ]
    for key, sentence in (
        (
            "intents",
            "Published intents that add most to the divergence: lists show them less, or to other users, than "
            "histories do:",
        ),
        ("too_much", "Published intents that lists show most above histories:"),
    ):
        if found[key]:
            rows = (
                [
                    row["label"],
                    f"{row['share_of_histories']:.2%}",
                    f"{row['share_of_lists']:.2%}",
                    f"{row['term']:+.4f}",
                ]
                for row in found[key]
            )
            lines += [sentence, "", *table(["intent", "share of histories", "of lists", "nats a user"], rows)]
    return lines
