"""The evaluate stage: the parts that were asked for, measured on a finished model, as JSON, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.build import BASELINE_FILE, read_model, read_steering
from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.frozen import Frozen
from saerec_ray.backbone.validation import EncodedUsers, HeldOut, Part, encode_users, held_out, model_ranks
from saerec_ray.config import EvaluateConfig, TrainConfig
from saerec_ray.data.prepared import PreparedItems, PreparedSequences, read_items, read_sequences
from saerec_ray.evaluation.ablation import cited_against_random
from saerec_ray.evaluation.accuracy import (
    accuracy,
    accuracy_by_history_length,
    ndcg_interval,
    popularity_ranks,
)
from saerec_ray.evaluation.cited_intents import densities
from saerec_ray.evaluation.coded_items import CodedItems, read_coded_items
from saerec_ray.evaluation.completeness import completeness
from saerec_ray.evaluation.deletion import deletion_and_insertion
from saerec_ray.evaluation.dictionary_part import dictionary_headline, measure_dictionary_part
from saerec_ray.evaluation.history_ablation import history_faithfulness, stability
from saerec_ray.evaluation.html_report import html_report
from saerec_ray.evaluation.intents_part import Encode, intents_headline, measure_intents_part
from saerec_ray.evaluation.list_quality import list_quality, model_lists, popularity_lists
from saerec_ray.evaluation.markdown_report import markdown_report
from saerec_ray.evaluation.model_detection import Judge
from saerec_ray.evaluation.representation import representation
from saerec_ray.evaluation.steering_curves import steerable_intents, steering
from saerec_ray.intents.catalogue import Catalogue, read_catalogue
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.population import Population, measure_population
from saerec_ray.intents.stage import item_categories, read_population
from saerec_ray.manifest import read_manifest, write_json
from saerec_ray.scoring import Indices, ItemSpace, SteeringTable

REPORT_FILE = "report.json"
TABLE_FILE = "report.md"
PAGE_FILE = "report.html"
SPLITS: tuple[Part, ...] = ("validation", "test")
INTERVAL_CUTOFF = 10
PROTOCOL = (
    "Targets are ranked among the whole catalogue without the items the user has met. "
    "Choices were made on validation; test was only read for this report."
)

OnProgress = Callable[[float, float], None]


@dataclass(frozen=True)
class Subject:
    """What is measured, read from finished stages when it is first needed."""

    config: EvaluateConfig
    train: TrainConfig
    seed: int
    prepared: Path
    intents: Path
    trained: Path
    embedded: Path
    dictionary: Path
    encode: Encode
    """Turns texts into unit vectors with the model of the embed stage."""
    language_model: LanguageModel | None = None
    """Judges names, where there is one."""

    @cached_property
    def sequences(self) -> PreparedSequences:
        """All interactions."""
        return read_sequences(self.prepared)

    @cached_property
    def items(self) -> PreparedItems:
        """The catalogue."""
        return read_items(self.prepared)

    @cached_property
    def model(self) -> tuple[ItemSpace, UserEncoder, Frozen]:
        """The model with intents."""
        return read_model(self.trained, self.train)

    @cached_property
    def test_users(self) -> EncodedUsers | None:
        """The users of the test split, encoded; None where nothing was held out."""
        cases = held_out(self.sequences, "test")
        return encode_users(self.model[1], cases) if len(cases) else None

    @cached_property
    def interactions(self) -> npt.NDArray[np.float64]:
        """Training interactions of each item: (items,)."""
        _, met = self.sequences.train_interactions()
        return np.bincount(met, minlength=self.model[0].item_count).astype(np.float64)

    @cached_property
    def coded(self) -> CodedItems:
        """The dictionary of the texts, with the vectors it reads."""
        return read_coded_items(self.embedded, self.dictionary)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Names and attributes of the intents."""
        return read_catalogue(self.intents)

    @cached_property
    def population(self) -> Population:
        """The population as it is served; measured again where a control run trains on other codes."""
        if not self.train.shuffle_codes:
            return read_population(self.intents)
        users, met = self.sequences.train_interactions()
        return measure_population(self.model[2].codes, users, met, item_categories(self.items))


def build_report(
    config: EvaluateConfig,
    train: TrainConfig,
    seed: int,
    prepared: Path,
    intents: Path,
    trained: Path,
    folder: Path,
    on_progress: OnProgress | None = None,
    *,
    embedded: Path,
    dictionary: Path,
    encode: Encode,
    language_model: LanguageModel | None = None,
) -> dict[str, Any]:
    """Measures the parts in `config.parts`; what was not asked for is not in the report.

    accuracy        the model, the backbone without intents and popularity, on validation and test
    faithfulness    whether explanations add up, and whether what they cite is what decides
    steering        exposure against accuracy, side effects, broken promises
    representation  verdicts on simulated users with planted preferences
    dictionary      what the dictionary keeps of the vectors it codes
    intents         whether latents mean something and their names say what
    Faithfulness, steering and representation are of test users. Writes REPORT_FILE, TABLE_FILE and PAGE_FILE
    into the folder and returns the headline metrics.
    """
    subject = Subject(
        config, train, seed, prepared, intents, trained, embedded, dictionary, encode, language_model
    )
    measure: dict[str, Callable[[Subject, OnProgress], dict[str, Any]]] = {
        "accuracy": _accuracy,
        "faithfulness": _faithfulness,
        "steering": _steering,
        "representation": _representation,
        "dictionary": _dictionary,
        "intents": _intents,
    }
    wanted = [name for name in measure if name in config.parts]
    report: dict[str, Any] = {
        "protocol": PROTOCOL,
        "seed": seed,
        "cutoffs": config.cutoffs,
        "dictionary_density": densities(subject.model[0]).tolist(),
    }
    for place, name in enumerate(wanted):
        report |= measure[name](subject, _share(on_progress, place, len(wanted)))
    write_json(folder / REPORT_FILE, report)
    (folder / TABLE_FILE).write_text(markdown_report(report), "utf-8")
    (folder / PAGE_FILE).write_text(html_report(report), "utf-8")
    return _headline(report)


def _share(on_progress: OnProgress | None, place: float, parts: float) -> OnProgress:
    """A listener for one of several equal parts of the work."""

    def update(done: float, total: float) -> None:
        if on_progress:
            on_progress(place + done / max(total, 1), parts)

    return update


def _headline(report: dict[str, Any]) -> dict[str, Any]:
    test = report.get("accuracy", {}).get("test", {})
    metrics: dict[str, Any] = {
        f"test_{name}_NDCG@10": values["NDCG@10"] for name, values in test.items() if "NDCG@10" in values
    }
    explained = report.get("explanations", {})
    metrics |= {name: value for name, value in explained.items() if not isinstance(value, list)}
    one = report.get("faithfulness", {}).get("cited_against_random", {}).get("1", {}).get("same_item")
    if one:
        metrics["cited_win_rate"] = one["win_rate"]
    if "steering" in report:
        metrics["steering_violations"] = report["steering"]["violations"]
    return metrics | dictionary_headline(report) | intents_headline(report)


def _accuracy(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    with_baseline = (subject.trained / BASELINE_FILE).exists()
    models = ["intents", *(["no intents"] if with_baseline else []), "popularity"]
    results: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
    details: dict[str, Any] = {}
    for done, name in enumerate(models):
        on_progress(done, len(models))
        for split in SPLITS:
            cases = held_out(subject.sequences, split)
            if len(cases) == 0:
                continue
            ranked = _rank(subject, name, split, cases)
            results[split][name] = accuracy(ranked.ranks, subject.config.cutoffs)
            if split == "test":
                details[name] = _detail(subject, cases, ranked)
    on_progress(1, 1)
    return {"accuracy": results, "accuracy_details": {"test": details}}


@dataclass(frozen=True)
class Ranked:
    """Where the targets rank, and how to make lists of the same model."""

    ranks: npt.NDArray[np.int64]
    lists: Callable[[Indices], list[Indices]]


def _rank(subject: Subject, name: str, split: Part, cases: HeldOut) -> Ranked:
    if name == "popularity":
        popularity = subject.model[0].popularity
        return Ranked(
            popularity_ranks(popularity, cases), lambda chosen: popularity_lists(popularity, cases, chosen)
        )
    if name == "intents":
        space, encoder, frozen = subject.model
    else:
        space, encoder, frozen = read_model(subject.trained, subject.train, baseline=True)
    known = subject.test_users if name == "intents" and split == "test" else None
    users = known or encode_users(encoder, cases)
    return Ranked(
        model_ranks(space, frozen.prior, users),
        lambda chosen: model_lists(space, frozen.prior, users, chosen),
    )


def _detail(subject: Subject, cases: HeldOut, ranked: Ranked) -> dict[str, Any]:
    config, seed = subject.config, subject.seed
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cases))[: config.list_users])
    histories = [cases.histories[case] for case in chosen]
    return {
        f"NDCG@{INTERVAL_CUTOFF}_interval": ndcg_interval(ranked.ranks, cases, INTERVAL_CUTOFF, seed),
        "by_history_length": accuracy_by_history_length(ranked.ranks, cases, config.cutoffs),
        "lists": list_quality(ranked.lists(chosen), histories, subject.interactions),
    }


def _faithfulness(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    users = subject.test_users
    if users is None:
        return {}
    config, seed = subject.config, subject.seed
    space, encoder, frozen = subject.model
    table = frozen.prior
    named = np.zeros(space.intent_count, dtype=bool)
    named[[intent.latent for intent in subject.catalogue.intents if intent.published]] = True
    report: dict[str, Any] = {
        "explanations": completeness(space, table, users, config.completeness_users, seed)
    }
    on_progress(1, 6)
    count = config.faithfulness_users
    found: dict[str, Any] = {
        "cited_against_random": cited_against_random(
            space, table, users, count, seed, on_progress=_share(on_progress, 1, 6)
        ),
        "named_against_random": cited_against_random(
            space, table, users, count, seed, named, on_progress=_share(on_progress, 2, 6)
        ),
        "deletion_insertion": deletion_and_insertion(
            space, table, users, count, seed, on_progress=_share(on_progress, 3, 6)
        ),
        "history": history_faithfulness(
            space, table, encoder, users, config.history_users, seed, on_progress=_share(on_progress, 4, 6)
        ),
        "stability": stability(space, table, encoder, users, config.history_users, seed),
    }
    on_progress(6, 6)
    return report | {"faithfulness": found}


def _steering(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    config, users = subject.config, subject.test_users
    space, _, frozen = subject.model
    intents = steerable_intents(
        subject.catalogue, space, subject.items.attributes, config.steering_intents, subject.seed
    )
    if users is None or not intents:
        return {}
    arrays = read_steering(subject.trained)
    table = SteeringTable(arrays["targets"], arrays["spreads"], arrays["loading_caps"])
    return {
        "steering": steering(
            space,
            frozen.prior,
            table,
            users,
            intents,
            config.steering_strengths,
            config.steering_users,
            subject.seed,
            subject.interactions,
            on_progress,
        )
    }


def _representation(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    return {
        "representation": representation(
            subject.model[0],
            subject.population,
            subject.interactions,
            subject.config.simulated_users,
            subject.seed,
            on_progress,
        )
    }


def _dictionary(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    users = subject.config.recovery_users
    found = measure_dictionary_part(subject.coded, subject.sequences, users, subject.seed, on_progress)
    return {"dictionary": found}


def _intents(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    config, model = subject.config, subject.language_model
    found = measure_intents_part(
        subject.coded,
        subject.items,
        subject.catalogue,
        subject.encode,
        config.probed_attributes,
        config.intruder_latents,
        subject.seed,
        read_manifest(subject.intents).seed,
        on_progress,
        fuzzed=config.fuzzed_intents,
        judge=None if model is None else Judge(model, config.judged_labels, config.judged_texts),
    )
    return {"intents": found}
