"""Publishes what `saerec evaluate` found on finished runs, beside accuracy: one section of docs/results.md a run.

    python tests/bench/report_sections.py --run beauty=out/beauty --data FOLDER/amazon2014_beauty --set seed=42
    python tests/bench/report_sections.py --run beauty=out/beauty

With --data the run is made first with the amazon preset, where it has not finished. Without it nothing is trained
or measured. Figures are those of WORKDIR/evaluate/report.json, and parts that were not measured are left out. A run
with train.cold_share has a table on cold items.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.*, when run as a program

from saerec_ray.evaluation.ablation import CONTROLS
from saerec_ray.evaluation.deletion import CUTOFFS, ORDERS
from saerec_ray.evaluation.faithfulness_tables import history_rows
from saerec_ray.evaluation.list_against_history import LISTS
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, number
from saerec_ray.evaluation.segments import FEWEST_RUNS
from saerec_ray.evaluation.steering_runs import RULES
from saerec_ray.evaluation.steering_tables import RULE_NAMES, concept_lines, segment_cell
from tests.bench.accuracy_sections import accuracy_tables, cold_table, explained_table
from tests.bench.dictionary_sections import DICTIONARY_PARTS, dictionary_tables
from tests.bench.published import (
    PAGE,
    add_page_option,
    circumstances,
    data_folder,
    read,
    saerec,
    section,
    shown_command,
    table,
    write_section,
)

CITED = {"cited_against_random": "all", "named_against_random": "published"}
NEEDED = {
    "accuracy": ("accuracy_users",),
    "cold": ("cold", "exposure"),
    "explanations": ("explanations", "warm_items"),
    "faithfulness": ("faithfulness", "evidence"),
    "steering": ("steering", "random", "boost", "strengths"),
    "representation": ("representation", "lengths", "100", "under_possible"),
    **DICTIONARY_PARTS,
}
"""What the report of a part holds if this version wrote it."""


def read_report(workdir: Path) -> dict[str, Any]:
    """The report of a finished run. Ends the program where there is none, or where another version wrote it."""
    path = workdir / "evaluate" / "report.json"
    if not path.is_file():
        sys.exit(f"{workdir} has no evaluate/report.json: name the work directory of a finished run.")
    report: dict[str, Any] = read(path)
    for part, keys in NEEDED.items():
        found: Any = report
        for key in keys if part in report else ():
            if key not in found:
                sys.exit(f"{path} was written by another version: run saerec evaluate in {workdir} again.")
            found = found[key]
    if not set(report) & set(NEEDED):
        sys.exit(f"{path} holds no part that is published here: {', '.join(NEEDED)}.")
    return report


def run_section(name: str, report: dict[str, Any], versions: dict[str, str], training: dict[str, Any]) -> str:
    """The section on one run; `training`: the stage.json of its train folder."""
    body: Lines = []
    if "accuracy" in report:
        body += accuracy_tables(report, training)
    if "cold" in report:
        body += cold_table(report["cold"])
    if "explanations" in report:
        body += explained_table(report["explanations"])
    if "faithfulness" in report:
        body += faithfulness_tables(report["faithfulness"])
    if "steering" in report:
        body += steering_tables(report["steering"])
    if "representation" in report:
        body += representation_tables(report["representation"])
    body += dictionary_tables(report)
    about = [report["protocol"], circumstances((report["seed"],), ("torch",), versions)]
    return section(f"The report of one run, {name}", about, [shown_command()], body)


def faithfulness_tables(found: dict[str, Any]) -> Lines:
    """Cited against random, POS and NEG, histories, stability."""
    cited = [
        [
            *(kind, m, control.replace("_", " ")),
            *(number(row[key], form) for key, form in CITED_COLUMNS.values()),
            f"{row['win_rate']:.0%} ({interval(row['win_rate_interval'])})",
            f"{row['ties']:.0%}",
        ]
        for key_of, kind in CITED.items()
        for m, controls in found[key_of].items()
        for control, row in in_order(controls, CONTROLS)
    ]
    kept = [f"{name}@{cutoff}" for name in ("POS", "NEG") for cutoff in CUTOFFS]
    curves = found["deletion_insertion"]["orders"]
    return [
        "### Cited intents against random ones",
        "",
        "Places an item of the top 10 falls when the m first reasons that a server lists for it count for nothing, "
        f"{found['users']} users; no ratio where the control's median is 0. Won: the cited ones make it fall further. "
        "Reasons are listed by how far the item moves without each, so one alone seldom loses by construction: what "
        "counts against it are ties and intents that are not listed.",
        "",
        *table(["cited", "m", "control", *CITED_COLUMNS, "won (95%)", "ties"], cited),
        "",
        "### Share of the top K kept",
        "",
        "After the first (POS, lower is better) or the last (NEG, higher is better) 10% to 90% of the list's intents "
        "went. Areas: under the list's mean score, 1 with all intents and 0 with none. There no order beats "
        "contributions, by construction; POS and NEG, in which other items compete, are the evidence.",
        "",
        *table(
            ["order by", *kept, "deletion, area", "insertion, area"],
            (
                [
                    name,
                    *(f"{row[each]:.2f}" for each in kept),
                    *(number(row.get(area)) for area in ("deletion_area", "insertion_area")),
                ]
                for name, row in in_order(curves, ORDERS)
            ),
        ),
        "",
        *_history_tables(found),
    ]


CITED_COLUMNS = {
    "cases": ("cases", ",.0f"),
    "median fall": ("median_drop_cited", ".0f"),
    "random": ("median_drop_random", ".0f"),
    "ratio": ("ratio", ".1f"),
    "mean fall": ("mean_drop_cited", ".1f"),
    "random, mean": ("mean_drop_random", ".1f"),
}


def _history_tables(found: dict[str, Any]) -> Lines:
    seeds = found["seed_stability"]
    stable = [
        [
            name,
            str(row["users"]),
            *(number(row[f"top_3_jaccard_{each}"]) for each in ("mean", "p10")),
            number(row.get("by_chance")),
        ]
        for name, row in (
            ("one random earlier history item dropped", found["stability"]),
            ("another seed", seeds),
        )
        if row["top_3_jaccard_mean"] is not None
    ]
    lines = [
        "### Histories",
        "",
        "Another claim: history items are removed and the user is encoded again, against as many random others. Cited: "
        "exactly what a server names, up to three items. Carriers: all items with one of the three first reasons.",
        "",
        *table(
            [
                *("removed", "among", "compared", "median fall", "random", "mean fall", "random"),
                *("won", "95% interval", "ties", "lost"),
            ],
            history_rows(found["history"], found["evidence"]),
        ),
        "",
        "### Stability of the three cited intents",
        "",
        "Jaccard overlap for the same item and user.",
        "",
        *table(["change", "users", "mean", "tenth percentile", "random intents of the item"], stable),
        "",
    ]
    if seeds["members"] < 2:
        lines += ["Another seed was not compared: that needs two members, and this model has one.", ""]
    return lines


def shown_strengths(strengths: Sequence[float]) -> list[int]:
    """The places of a few strengths above none: the lowest, the one in the middle, the full one."""
    return sorted({1, len(strengths) // 2, len(strengths) - 1})


def steering_tables(found: dict[str, Any]) -> Lines:
    """Curves at a few strengths with their side effects, and the intent in the middle."""
    curves = in_order(found["random"], RULES)
    rows = [_steering_row("none", curves[0][1], 0)]
    rows += [
        _steering_row(RULE_NAMES[rule], curve, place)
        for rule, curve in curves
        for place in shown_strengths(curve["strengths"])
    ]
    own = in_order(found["own"], RULES)
    rows += [_steering_row("own intent: none", curve, 0) for _, curve in own[:1]]
    rows += [_steering_row(f"own intent: {RULE_NAMES[rule]}", curve, -1) for rule, curve in own]
    middle = [
        [
            RULE_NAMES[rule],
            number(row["median_intent"]["lift"]),
            number(row["median_intent"]["ndcg_loss"], ".1%"),
            *(
                number(row["median_intent"][key])
                for key in ("lift_within_tolerated_loss", "selectivity", "spearman")
            ),
            *(number(row.get("ndcg_loss_at_lift", {}).get(lift), ".1%") for lift in ("2", "3")),
        ]
        for rule, row in curves
    ]
    return [
        "### Steering",
        "",
        f"{found['users']} users, {len(found['intents'])} intents each alone, lists of 20; then each user's own recent "
        "intent. Lift: exposure against no steering. Segment: NDCG@20 of users whose held-out item has the intent's "
        f"attribute, drawn among all users; n: their lists; below {FEWEST_RUNS} no figure. "
        "RBO: rank-biased overlap with the unsteered list. Mix: KL divergence of the categories listed, nats. Drift: "
        f"change of unrelated intents' exposure. Broken promises, steps at which a stronger setting did less: "
        f"{found['violations']} of what is served{_broken_promises_elsewhere(found['random'])}.",
        "",
        *table(["rule", "strength", *STEERING_COLUMNS, "segment", "n"], rows),
        "",
        "The intent in the middle at full strength:",
        "",
        *table(
            [
                *("rule", "lift", "NDCG lost", "furthest lift at 2% loss", "selectivity", "Spearman"),
                *("NDCG lost at lift 2", "at lift 3"),
            ],
            middle,
        ),
        "",
        *(concept_lines(found["concepts"]) if "concepts" in found else ()),
    ]


STEERING_COLUMNS = {
    "lift": ("lift", ".2f"),
    "with attribute": ("attribute_share", ".3f"),
    "NDCG@20": ("ndcg", ".4f"),
    "lists changed": ("lists_changed", ".0%"),
    "overlap": ("overlap", ".2f"),
    "RBO": ("rank_biased_overlap", ".2f"),
    "mix": ("category_divergence", ".3f"),
    "drift": ("drift_of_unrelated", ".3f"),
    "coverage": ("coverage", ".1%"),
    "popularity": ("popularity", ".1f"),
}


def _broken_promises_elsewhere(curves: dict[str, Any]) -> str:
    """The same of the rule that is measured beside and not served."""
    other = curves.get("mass_preserving")
    if other is None or not other["violation_rate"]:
        return ""
    steps = round(other["violations"] / other["violation_rate"], -2)
    return f", {other['violations']} of some {steps:,.0f} steps of the mass-preserving rule"


def _steering_row(name: str, curve: dict[str, Any], place: int) -> list[str]:
    values = [(curve.get(key), form) for key, form in STEERING_COLUMNS.values()]
    return [
        name,
        f"{curve['strengths'][place]:.2g}",
        *("–" if found is None else format(found[place], form) for found, form in values),
        segment_cell(curve, place),
        str(curve["segment_runs"]),
    ]


def representation_tables(found: dict[str, Any]) -> Lines:
    """False discovery and power by history length, and lists against histories."""
    lengths = sorted(found["lengths"].items(), key=lambda pair: int(pair[0]))
    shares = sorted(lengths[0][1]["preference"])
    rows = [
        [
            length,
            f"{row['chance_users']['share_with_any_verdict']:.1%}",
            *(
                number(row["preference"][share][figure], ".1%")
                for share in shares
                for figure in ("power", "false_discovery_rate")
            ),
            number(row["aversion"]["power"], ".0%"),
            f"{row['under_possible']:.1%}",
        ]
        for length, row in lengths
    ]
    heads = [f"{what}, {float(share):.0%} planted" for share in shares for what in ("found", "wrong")]
    lines = [
        "### Over- and under-representation",
        "",
        f"{found['users_of_each_kind']} simulated users of each kind. At most "
        f"{found['promised_false_discovery_rate']:.0%} wrong are promised. Too little can be said of an intent only "
        "where 5 carriers are expected: the last column.",
        "",
        *table(
            [
                "history",
                "chance users with a verdict",
                *heads,
                "avoided found, where possible",
                "intents possible",
            ],
            rows,
        ),
        "",
    ]
    if compared := found.get("list_against_history"):
        lists = [
            [name, number(row["median"]), number(row["p90"])]
            for name, row in in_order(compared["lists"], LISTS)
        ]
        lines += [
            f"KL divergence of the intents of a list of {compared['list_length']} from those of the history, nats, "
            f"{compared['users']} users:",
            "",
            *table(["list", "median", "ninetieth percentile"], lists),
            "",
        ]
    return lines


def named_run(argument: str) -> tuple[str, Path]:
    """NAME=WORKDIR, for argparse."""
    name, sign, folder = argument.partition("=")
    if not sign or not name or not folder:
        raise argparse.ArgumentTypeError(f"{argument} is not NAME=WORKDIR")
    return name, Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="append", required=True, type=named_run, metavar="NAME=WORKDIR")
    parser.add_argument("--data", type=data_folder, help="make the one run that is named on this set first")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="a setting of that run, as of saerec run"
    )
    add_page_option(parser, PAGE)
    asked = parser.parse_args()
    if asked.data is not None:
        if len(asked.run) > 1:
            parser.error("--data makes one run, but several are named: give each its own command")
        saerec("run", asked.run[0][1].absolute(), [f"prepare.source.path={asked.data}", *asked.settings])
    elif asked.settings:
        parser.error("--set is about a run that --data makes: name the set with --data, or leave --set out")
    reports = [(name, read_report(folder), folder) for name, folder in asked.run]
    for name, report, folder in reports:
        versions = read(folder / "evaluate" / "stage.json")["versions"]
        text = run_section(name, report, versions, read(folder / "train" / "stage.json"))
        write_section(asked.page, f"report {name}", text)


if __name__ == "__main__":
    main()
