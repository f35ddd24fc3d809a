"""The evaluate stage: the parts that were asked for, measured on a finished model, as JSON, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.build import BASELINE_FILE, read_model, read_steering
from saerec_ray.backbone.validation import HeldOut, Part, affordable, held_out
from saerec_ray.config import TrainConfig
from saerec_ray.errors import InputError
from saerec_ray.evaluation.ablation import cited_against_random
from saerec_ray.evaluation.accuracy import (
    accuracy,
    accuracy_by_history_length,
    ndcg_interval,
    popularity_ranks,
)
from saerec_ray.evaluation.cited_intents import cited_intents, densities
from saerec_ray.evaluation.cold import cold_headline, measure_cold
from saerec_ray.evaluation.cold_exposure import Scorer
from saerec_ray.evaluation.completeness import completeness
from saerec_ray.evaluation.concept_steering import concept_steering, draw_concepts
from saerec_ray.evaluation.cooccurrence_part import cooccurrence_figures, cooccurrence_intents
from saerec_ray.evaluation.deletion import deletion_and_insertion
from saerec_ray.evaluation.dictionary_part import dictionary_headline, measure_dictionary_part
from saerec_ray.evaluation.evidence_ablation import evidence_faithfulness
from saerec_ray.evaluation.history_ablation import history_faithfulness, stability
from saerec_ray.evaluation.html_report import html_report
from saerec_ray.evaluation.intents_part import Encode, intents_headline, measure_intents_part
from saerec_ray.evaluation.list_against_history import list_against_history
from saerec_ray.evaluation.list_quality import list_quality, popularity_lists
from saerec_ray.evaluation.markdown_report import markdown_report
from saerec_ray.evaluation.model_detection import Judge
from saerec_ray.evaluation.random_names import read_naming
from saerec_ray.evaluation.representation import representation
from saerec_ray.evaluation.seed_stability import seed_stability
from saerec_ray.evaluation.segments import Population
from saerec_ray.evaluation.side_effects import category_shares
from saerec_ray.evaluation.steering_curves import steerable_intents, steering
from saerec_ray.evaluation.subject import Subject
from saerec_ray.evaluation.transfer import TrainedModel
from saerec_ray.evaluation.transfer_part import OtherDomains, Trial, measure_transfer, transfer_headline
from saerec_ray.evaluation.users_in_turn import lists_in_turn, ranks_in_turn
from saerec_ray.evaluation_settings import EvaluateConfig, asks_for_all
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.stage import item_categories
from saerec_ray.manifest import write_json
from saerec_ray.scoring import Indices, SteeringTable

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
    others: OtherDomains | None = None,
) -> dict[str, Any]:
    """Measures the parts in `config.parts`; what was not asked for is not in the report.

    accuracy        the model, the backbone without intents and popularity, on validation and test
    cold            items that training never met, found from their texts alone
    faithfulness    whether explanations add up, and whether what they cite is what decides
    steering        exposure against accuracy, side effects, broken promises
    representation  verdicts on simulated users with planted preferences; lists against histories
    transfer        dictionaries, names and histories of `others` on the items of this run
    dictionary      what the dictionary keeps of the vectors it codes, and that of co-occurrence where there is one
    intents         whether latents of either mean something and their names say what
    Faithfulness, steering and representation are of random test users, as many as `config` says; accuracy and cold
    of all, or of a random sample where the catalogue makes all too many scores. Users are encoded some at a time.
    Writes REPORT_FILE, TABLE_FILE and PAGE_FILE into the folder and returns the headline metrics. Raises InputError
    when `cold` was asked for and training met all items, or `transfer` without `others`; with all parts they are
    left out then.
    """
    subject = Subject(
        config, train, seed, prepared, intents, trained, embedded, dictionary, encode, language_model, others
    )
    measure: dict[str, Callable[[Subject, OnProgress], dict[str, Any]]] = {
        "accuracy": _accuracy,
        "cold": _cold,
        "faithfulness": _faithfulness,
        "steering": _steering,
        "representation": _representation,
        "transfer": _transfer,
        "dictionary": _dictionary,
        "intents": _intents,
    }
    wanted = [name for name in measure if name in config.parts]
    if "cold" in wanted and subject.cold is None:
        if not asks_for_all(config.parts):
            raise InputError(
                f"There are no cold items to measure: the model in {trained} met all items in training. Set "
                "train.cold_share, for example to 0.1, train again, and then evaluate with the same setting."
            )
        wanted.remove("cold")
    if "transfer" in wanted and others is None:
        if not asks_for_all(config.parts):
            raise InputError(
                "There is no other domain to measure transfer with: set evaluate.other_domains to the work directories "
                "of other runs."
            )
        wanted.remove("transfer")
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
    one = report.get("faithfulness", {}).get("named_against_random", {}).get("1", {}).get("same_item")
    if one:
        metrics["cited_win_rate"] = one["win_rate"]
    if "steering" in report:
        metrics["steering_violations"] = report["steering"]["violations"]
    parts = (cold_headline, transfer_headline, dictionary_headline, intents_headline)
    for headline in parts:
        metrics |= headline(report)
    return metrics


def _accuracy(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    with_baseline = (subject.trained / BASELINE_FILE).exists()
    models = ["intents", *(["no intents"] if with_baseline else []), "popularity"]
    results: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
    details: dict[str, Any] = {}
    found = {split: held_out(subject.sequences, split) for split in SPLITS}
    chosen = {
        split: affordable(cases, subject.model[0].item_count, subject.seed) for split, cases in found.items()
    }
    for done, name in enumerate(models):
        on_progress(done, len(models))
        for split, cases in chosen.items():
            if len(cases) == 0:
                continue
            ranked = _rank(subject, name, cases)
            results[split][name] = accuracy(ranked.ranks, subject.config.cutoffs)
            if split == "test":
                details[name] = _detail(subject, cases, ranked)
    on_progress(1, 1)
    users = {split: {"measured": len(chosen[split]), "all": len(found[split])} for split in SPLITS}
    return {"accuracy": results, "accuracy_details": {"test": details}, "accuracy_users": users}


@dataclass(frozen=True)
class Ranked:
    """Where the targets rank, and how to make lists of the same model."""

    ranks: npt.NDArray[np.int64]
    lists: Callable[[Indices], list[Indices]]


def _rank(subject: Subject, name: str, cases: HeldOut) -> Ranked:
    if name == "popularity":
        popularity = subject.model[0].popularity
        return Ranked(
            popularity_ranks(popularity, cases), lambda chosen: popularity_lists(popularity, cases, chosen)
        )
    if name == "intents":
        space, encoder, frozen = subject.model
    else:
        space, encoder, frozen = read_model(subject.trained, subject.train, baseline=True)
    return Ranked(
        ranks_in_turn(space, frozen.prior, encoder, cases),
        lambda chosen: lists_in_turn(space, frozen.prior, encoder, cases.at(chosen)),
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


def _cold(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    if subject.cold is None:
        return {}
    found = measure_cold(
        Scorer(*subject.model), subject.sequences, subject.vectors, subject.cold, subject.seed
    )
    on_progress(1, 1)
    return {"cold": found}


def _faithfulness(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    config, seed = subject.config, subject.seed
    explained = subject.test_users(config.completeness_users)
    users = subject.test_users(config.faithfulness_users)
    history_users = subject.test_users(config.history_users)
    if explained is None or users is None or history_users is None:
        return {}
    space, encoder, frozen = subject.model
    table = frozen.prior
    as_served = partial(cited_intents, citable=subject.published)
    report: dict[str, Any] = {
        "explanations": completeness(space, table, explained, config.completeness_users, seed)
    }
    on_progress(1, 7)
    count = config.faithfulness_users
    found: dict[str, Any] = {
        "users": len(users.cases),
        "cited_against_random": cited_against_random(
            space, table, users, count, seed, on_progress=_share(on_progress, 1, 7)
        ),
        "named_against_random": cited_against_random(
            space, table, users, count, seed, as_served, on_progress=_share(on_progress, 2, 7)
        ),
        "deletion_insertion": deletion_and_insertion(
            space, table, users, count, seed, on_progress=_share(on_progress, 3, 7)
        ),
    }
    count = config.history_users
    found |= {
        "history": history_faithfulness(
            space, table, encoder, history_users, count, seed, as_served, _share(on_progress, 4, 7)
        ),
        "evidence": evidence_faithfulness(
            space,
            table,
            encoder,
            history_users,
            subject.published,
            count,
            seed,
            _share(on_progress, 5, 7),
        ),
        "stability": stability(space, table, encoder, history_users, count, seed, as_served),
        "seed_stability": seed_stability(
            space, table, encoder, subject.train, history_users, count, seed, as_served
        ),
    }
    on_progress(7, 7)
    return report | {"faithfulness": found}


def _steering(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    config = subject.config
    users = subject.test_users(config.steering_users)
    space, encoder, frozen = subject.model
    intents = steerable_intents(
        subject.catalogue, space, subject.items.attributes, config.steering_intents, subject.seed
    )
    if users is None or not intents:
        return {}
    arrays = read_steering(subject.trained)
    table = SteeringTable(arrays["targets"], arrays["spreads"], arrays["loading_caps"])
    population = Population(subject.test_cases, encoder, config.steering_segment_users)
    found = steering(
        space,
        frozen.prior,
        table,
        users,
        intents,
        config.steering_strengths,
        config.steering_users,
        subject.seed,
        subject.interactions,
        _share(on_progress, 0, 2),
        category_shares(item_categories(subject.items)),
        population,
    )
    concepts = draw_concepts(
        subject.catalogue, space, subject.items.attributes, config.steering_concepts, subject.seed
    )
    if concepts:
        found["concepts"] = concept_steering(
            space,
            frozen.prior,
            table,
            users,
            concepts,
            config.steering_strengths,
            config.steering_users,
            subject.seed,
            _share(on_progress, 1, 2),
            population,
        )
    return {"steering": found}


def _representation(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    config, seed = subject.config, subject.seed
    space, _, frozen = subject.model
    found = representation(
        space,
        subject.population,
        subject.interactions,
        config.simulated_users,
        seed,
        _share(on_progress, 0, 2),
    )
    if (users := subject.test_users(config.calibration_users)) is not None:
        found["list_against_history"] = list_against_history(
            space,
            frozen.prior,
            users,
            subject.population,
            {each.latent: each.label for each in subject.catalogue.intents if each.published},
            config.calibration_users,
            seed,
            _share(on_progress, 1, 2),
        )
    return {"representation": found}


def _transfer(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    if subject.others is None:
        return {}
    trial = None
    if (reader := subject.others.reader) is not None:
        space, encoder, frozen = subject.model
        model = TrainedModel(space, frozen.prior, subject.train, encoder.weights())
        trial = Trial(model, reader, subject.sequences, subject.config.transfer_users)
    found = measure_transfer(
        subject.others.domains, subject.coded, subject.encode, trial, subject.seed, on_progress
    )
    return {"transfer": found}


def _dictionary(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    users = subject.config.recovery_users
    found = measure_dictionary_part(subject.coded, subject.sequences, users, subject.seed, on_progress)
    if subject.cooccurrence is not None:
        found["cooccurrence"] = cooccurrence_figures(subject.cooccurrence)
    return {"dictionary": found}


def _intents(subject: Subject, on_progress: OnProgress) -> dict[str, Any]:
    config, model = subject.config, subject.language_model
    naming = read_naming(subject.intents, subject.encode)
    found = measure_intents_part(
        subject.coded,
        subject.items,
        subject.catalogue,
        config.probed_attributes,
        config.intruder_latents,
        subject.seed,
        naming,
        on_progress,
        fuzzed=config.fuzzed_intents,
        judge=None if model is None else Judge(model, config.judged_labels, config.judged_texts),
    )
    if subject.cooccurrence is not None:
        found["cooccurrence"] = cooccurrence_intents(
            subject.cooccurrence,
            subject.items,
            subject.vectors,
            subject.coded.dictionary.scaling.mean,
            subject.catalogue,
            naming,
            config.intruder_latents,
            subject.seed,
        )
    return {"intents": found}
