"""Tables of a finished run on accuracy, cold items and the share that intents explain."""

from __future__ import annotations

from typing import Any

from saerec_ray.evaluation.cold import AMONG, SCORERS
from saerec_ray.evaluation.cold_tables import SCORER_NAMES, exposure_lines
from saerec_ray.evaluation.markdown_report import MODELS, history_lengths
from saerec_ray.evaluation.markdown_tables import Lines, in_order, interval, number
from tests.bench.published import table


def accuracy_tables(report: dict[str, Any], training: dict[str, Any]) -> Lines:
    """Accuracy of all models, by history length too, and what lists look like; `training`: its stage.json."""
    models = in_order(report["accuracy"]["test"], MODELS)
    metrics = [f"{metric}@{cutoff}" for cutoff in report["cutoffs"] for metric in ("HR", "NDCG")]
    rows = [[name, *(f"{row[metric]:.4f}" for metric in metrics)] for name, row in models]
    lines = [
        "### Accuracy",
        "",
        f"On test. Training took {training['seconds']:.0f} s"
        + (", not counting what it had done before it was stopped." if training.get("resumed") else "."),
        "",
        *table(["model", *metrics], rows),
        "",
    ]
    return lines + _details(report)


def _details(report: dict[str, Any]) -> Lines:
    details = report["accuracy_details"]["test"]
    if not details:
        return []
    models = in_order(details, MODELS)
    lengths = history_lengths(details)
    metric = f"NDCG@{10 if 10 in report['cutoffs'] else report['cutoffs'][0]}"
    counts = models[0][1]["by_history_length"]
    users = report["accuracy_users"]["test"]
    return [
        "### Accuracy by history length",
        "",
        f"{metric} on test, {users['measured']} of {users['all']} users.",
        "",
        *table(
            ["model", *(f"{length} known ({counts[length]['targets']:.0f} targets)" for length in lengths)],
            (
                [name, *(f"{row['by_history_length'][length][metric]:.4f}" for length in lengths)]
                for name, row in models
            ),
        ),
        "",
        "### Lists of 10",
        "",
        "Popularity: mean number of training interactions of an item. Bias: that of lists over that of histories. "
        f"Coverage: share of the catalogue in any list of {models[0][1]['lists']['users']:.0f} users.",
        "",
        *table(
            ["model", "popularity of lists", "of histories", "bias", "coverage"],
            (
                [
                    name,
                    *(f"{row['lists'][key]:.1f}" for key in ("list_popularity", "history_popularity")),
                    f"{row['lists']['popularity_bias']:.2f}",
                    f"{row['lists']['catalogue_coverage']:.1%}",
                ]
                for name, row in models
            ),
        ),
        "",
    ]


def cold_table(found: dict[str, Any]) -> Lines:
    """Items that training never met."""
    rows = [
        [SCORER_NAMES[name], *(f"{row[among][each]:.4f}" for among in AMONG for each in ("HR@10", "NDCG@10"))]
        for name, row in in_order(found["models"], SCORERS)
    ]
    verdicts = [
        f"among {'all items' if among == 'all' else 'cold items'} {judged['HR@10_difference']:+.4f} "
        f"({interval(judged['HR@10_difference_interval'], '+.4f')})"
        for among, judged in found["against_best"].items()
    ]
    return [
        "### Cold items",
        "",
        f"{found['cold_items']} items kept out of training, {found['targets']} targets of {found['users']} users. "
        "Popularity finds none among all items by definition. Centred text: embeddings less the mean of the items that "
        "training met. HR@10 of intents against the best baseline, with 95% "
        f"intervals: {', '.join(verdicts)}.",
        "",
        *table(["ranked by", "HR@10, all items", "NDCG@10", "HR@10, cold items", "NDCG@10"], rows),
        "",
        *exposure_lines(found["exposure"], found["against_best"]["all"]["best"]),
    ]


def explained_table(found: dict[str, Any]) -> Lines:
    """How much of a score intents explain."""
    rows = [
        [
            name,
            str(found[f"{name}_items"]),
            *(number(found[f"{name}_explained_share_{figure}"], ".3f") for figure in ("median", "p10")),
        ]
        for name in ("warm", "cold")
    ]
    return [
        "### Share of a score that intents explain",
        "",
        f"Lists of 20 of {found['users']} users. Cold: listed items without training interactions; what "
        "companions add to them is judged by their texts. Largest error when parts are added up "
        f"again {found['completeness_error']:.1e}.",
        "",
        *table(["items", "listed", "median", "tenth percentile"], rows),
        "",
    ]
