"""The evaluate stage: the trained model against its baselines, as JSON and as a readable table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from saerec_ray.backbone.build import BASELINE_FILE, read_model
from saerec_ray.backbone.validation import EncodedUsers, Part, encode_users, held_out, model_ranks
from saerec_ray.config import EvaluateConfig, TrainConfig
from saerec_ray.data.prepared import PreparedSequences, read_sequences
from saerec_ray.evaluation.accuracy import accuracy, popularity_ranks
from saerec_ray.evaluation.completeness import completeness
from saerec_ray.manifest import write_json

REPORT_FILE = "report.json"
TABLE_FILE = "report.md"
PARTS: tuple[Part, ...] = ("validation", "test")
PROTOCOL = (
    "Targets are ranked among the whole catalogue without the items the user has met. "
    "Choices were made on validation; test was only read for this report."
)


def build_report(
    config: EvaluateConfig,
    train: TrainConfig,
    seed: int,
    prepared: Path,
    trained: Path,
    folder: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures the model, the backbone without intents and popularity on validation and test.

    Writes REPORT_FILE and TABLE_FILE into the folder and returns the headline metrics.
    """
    sequences = read_sequences(prepared)
    models = ["intents", *(["no intents"] if (trained / BASELINE_FILE).exists() else []), "popularity"]
    results: dict[str, dict[str, dict[str, float]]] = {part: {} for part in PARTS}
    report: dict[str, Any] = {
        "protocol": PROTOCOL,
        "seed": seed,
        "cutoffs": config.cutoffs,
        "accuracy": results,
    }
    for done, name in enumerate(models):
        if on_progress:
            on_progress(done, len(models))
        for part, (metrics, users) in _measure(name, config, train, sequences, trained).items():
            results[part][name] = metrics
            if name == "intents" and part == "test" and users is not None:
                space, _, frozen = read_model(trained, train)
                report["explanations"] = completeness(
                    space, frozen.prior, users, config.completeness_users, seed
                )
    write_json(folder / REPORT_FILE, report)
    (folder / TABLE_FILE).write_text(markdown_table(report), "utf-8")
    if on_progress:
        on_progress(len(models), len(models))
    headline = {
        f"test_{name}_NDCG@10": values.get("NDCG@10", 0.0) for name, values in results["test"].items()
    }
    return {**headline, **report.get("explanations", {})}


def _measure(
    name: str, config: EvaluateConfig, train: TrainConfig, sequences: PreparedSequences, trained: Path
) -> dict[Part, tuple[dict[str, float], EncodedUsers | None]]:
    space, encoder, frozen = read_model(trained, train, baseline=name == "no intents")
    results: dict[Part, tuple[dict[str, float], EncodedUsers | None]] = {}
    for part in PARTS:
        cases = held_out(sequences, part)
        if len(cases) == 0:
            continue
        if name == "popularity":
            results[part] = (accuracy(popularity_ranks(space.popularity, cases), config.cutoffs), None)
        else:
            users = encode_users(encoder, cases)
            results[part] = (accuracy(model_ranks(space, frozen.prior, users), config.cutoffs), users)
    return results


def markdown_table(report: dict[str, Any]) -> str:
    """The report as Markdown: one table a part, one row a model."""
    names = [f"{metric}@{cutoff}" for metric in ("HR", "NDCG", "MRR") for cutoff in report["cutoffs"]]
    lines = ["# Accuracy", "", report["protocol"], ""]
    for part, models in report["accuracy"].items():
        lines += [
            f"## {part.capitalize()}",
            "",
            f"| model | {' | '.join(names)} |",
            "|---" * (len(names) + 1) + "|",
        ]
        for model, metrics in models.items():
            lines.append(f"| {model} | {' | '.join(f'{metrics[name]:.4f}' for name in names)} |")
        lines.append("")
    if explained := report.get("explanations"):
        lines += [
            "# Explanations",
            "",
            f"Largest error when the parts of a score are added up again: {explained['completeness_error']:.1e} "
            f"(over {explained['items']} recommended items).",
            f"Share of a score that intents explain: median {explained['explained_share_median']:.0%}, "
            f"tenth percentile {explained['explained_share_p10']:.0%}.",
            "",
        ]
    return "\n".join(lines)
