"""The report as text: tables and plain sentences, one section a part that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saerec_ray.evaluation.cold_tables import cold_lines
from saerec_ray.evaluation.dictionary_tables import dictionary_lines
from saerec_ray.evaluation.faithfulness_tables import explanation_lines, faithfulness_lines
from saerec_ray.evaluation.intents_tables import intents_lines
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, table
from saerec_ray.evaluation.representation_tables import representation_lines
from saerec_ray.evaluation.steering_tables import steering_lines
from saerec_ray.evaluation.transfer_tables import transfer_lines

SPLITS = ("validation", "test")
MODELS = ("intents", "no intents", "popularity")


def markdown_report(report: dict[str, Any]) -> str:
    """The whole report; parts that were not measured are absent."""
    lines = ["# Evaluation", "", report["protocol"], ""]
    if "accuracy" in report:
        lines += accuracy_lines(report)
    if "cold" in report:
        lines += cold_lines(report["cold"])
    if "explanations" in report:
        lines += explanation_lines(report["explanations"])
    if "faithfulness" in report:
        lines += faithfulness_lines(report["faithfulness"])
    if "steering" in report:
        lines += steering_lines(report["steering"])
    if "representation" in report:
        lines += representation_lines(report["representation"])
    if "transfer" in report:
        lines += transfer_lines(report["transfer"])
    if "dictionary" in report:
        lines += dictionary_lines(report["dictionary"])
    if "intents" in report:
        lines += intents_lines(report["intents"])
    return "\n".join(lines)


def shown_metric(cutoffs: Sequence[int]) -> str:
    """The metric that stands for the others: NDCG at the cutoff in the middle."""
    return f"NDCG@{cutoffs[len(cutoffs) // 2]}"


def history_lengths(details: dict[str, Any]) -> list[str]:
    """The groups of users that were found, by length; `details` are those of the models."""
    return sorted(
        next(iter(details.values()))["by_history_length"],
        key=lambda text: int(text.rstrip("+").partition("-")[0]),
    )


def _users_measured(report: dict[str, Any], split: str) -> Lines:
    users = report.get("accuracy_users", {}).get(split)
    if not users:
        return []
    if users["measured"] == users["all"]:
        return [f"All {users['all']} users.", ""]
    return [
        f"A random {users['measured']} of {users['all']} users: all of them times the catalogue are too many scores.",
        "",
    ]


def accuracy_lines(report: dict[str, Any]) -> Lines:
    """One table a split, then history lengths and lists of the test split."""
    names = [f"{metric}@{cutoff}" for metric in ("HR", "NDCG", "MRR") for cutoff in report["cutoffs"]]
    lines = ["# Accuracy", ""]
    for split, models in in_order(report["accuracy"], SPLITS):
        lines += [f"## {split.capitalize()}", "", *_users_measured(report, split)]
        lines += table(
            ["model", *names],
            (
                [model, *(f"{metrics[name]:.4f}" for name in names)]
                for model, metrics in in_order(models, MODELS)
            ),
        )
    details = report.get("accuracy_details", {}).get("test", {})
    if not details:
        return lines
    shown, lengths = shown_metric(report["cutoffs"]), history_lengths(details)
    lines += [
        "## By history length, test",
        "",
        f"{shown} of users with so many known interactions.",
        "",
        *table(
            ["model", *lengths],
            (
                [model, *(f"{each['by_history_length'][length][shown]:.4f}" for length in lengths)]
                for model, each in in_order(details, MODELS)
            ),
        ),
        "## Lists, test",
        "",
        "Popularity is the mean number of training interactions of an item. Bias above 1: lists are more "
        "popular than what the same users met. Coverage: share of the catalogue in any top 10. "
        f"{next(iter(details.values()))['lists']['users']:.0f} users.",
        "",
        *table(
            ["model", "NDCG@10, 95% interval", "popularity of lists", "of histories", "bias", "coverage"],
            (
                [
                    model,
                    interval(each["NDCG@10_interval"], ".4f"),
                    f"{each['lists']['list_popularity']:.1f}",
                    f"{each['lists']['history_popularity']:.1f}",
                    f"{each['lists']['popularity_bias']:.2f}",
                    f"{each['lists']['catalogue_coverage']:.1%}",
                ]
                for model, each in in_order(details, MODELS)
            ),
        ),
    ]
    return lines
