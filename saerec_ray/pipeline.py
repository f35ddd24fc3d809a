"""The stages in order. Each reads finished stages, writes one directory, is skipped when nothing changed."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray import __version__
from saerec_ray.assembly import assemble_bundle
from saerec_ray.backbone.build import build_backbone
from saerec_ray.backbone.cold import cold_items, met_in_training, training_seed
from saerec_ray.config import Config, EmbedConfig, digest
from saerec_ray.data.prepare import prepare, source_files
from saerec_ray.data.prepared import ITEMS_FILE, SEQUENCES_FILE, read_items, read_sequences
from saerec_ray.dictionary.adoption import adopt_dictionary
from saerec_ray.dictionary.attributes import add_attributes, refuse_own_phrases
from saerec_ray.dictionary.build import build_dictionary
from saerec_ray.dictionary.cooccurrence_build import add_cooccurrence, autoencoder_settings
from saerec_ray.dictionary.followed_phrases import add_followed_phrases
from saerec_ray.dictionary.kinds import KINDS
from saerec_ray.dictionary.sae import read_codes
from saerec_ray.dictionary_settings import AttributesConfig
from saerec_ray.earlier import earlier_sha256, predecessor, read_earlier, refuse_own, settled
from saerec_ray.errors import InputError
from saerec_ray.evaluation.build import build_report
from saerec_ray.intents.identity import NamedLatents
from saerec_ray.intents.language_model import LanguageModel
from saerec_ray.intents.overlay import overlay_file
from saerec_ray.intents.policy import policy_file
from saerec_ray.intents.stage import POPULATION_FILE, build_intents
from saerec_ray.manifest import (
    MANIFEST_NAME,
    SOURCES,
    Manifest,
    file_sha256,
    hash_files,
    is_current,
    read_manifest,
    recorded_versions,
    replaced_folder,
    restore_folder,
    sources_hash,
    timestamp,
    write_json,
)
from saerec_ray.other_domains import other_domain_hashes, read_other_domains
from saerec_ray.progress import Reporter
from saerec_ray.ray_connection import ray_kept
from saerec_ray.stage_inputs import plain, refuse_mixture, stage_hash
from saerec_ray.text.embed import embed, load_embeddings
from saerec_ray.text.encoder import TextEncoder, model_fingerprint

CACHE_FOLDER = ".cache"
RUNS_FOLDER = ".runs"
LOCK_FILE = ".lock"


@dataclass(frozen=True)
class Job:
    """What a stage is given."""

    config: Config
    workdir: Path
    folder: Path
    runs: Path
    """Where an unfinished training keeps its checkpoints; another fingerprint has another place."""
    reporter: Reporter
    strict: bool

    def stage(self, name: str) -> Path:
        """The finished folder of an earlier stage."""
        return self.workdir / name


@dataclass(frozen=True)
class Stage:
    """One step: which stages it reads, which part of the configuration decides its result, what it does."""

    name: str
    reads: tuple[str, ...]
    """Stages, or `stage/file` where the rest of that stage does not matter."""
    settings: Callable[[Config], Any]
    run: Callable[[Job], dict[str, Any]]
    earlier: Callable[[Config], Path | None] = lambda _: None
    """An earlier bundle or work directory that it reads."""
    also_reads: Callable[[Config], tuple[str, ...]] = lambda _: ()
    """What it reads besides with some settings."""


def _prepare(job: Job) -> dict[str, Any]:
    return prepare(job.config.prepare, job.folder, strict=job.strict, say=job.reporter.say)


def _embed(job: Job) -> dict[str, Any]:
    cache = job.workdir / CACHE_FOLDER / "embeddings"
    config = job.config
    return embed(config.embed, config.cluster, job.stage("prepare"), job.folder, cache, job.reporter.update)


def _dictionary(job: Job) -> dict[str, Any]:
    def show(values: dict[str, Any]) -> None:
        note = f"FVU {values['fvu']:.3f}"
        if values["held_out_fvu"] != "":
            note += f", held-out {values['held_out_fvu']:.3f}"
        job.reporter.update(values["epoch"], values["epochs"], note)

    config = job.config
    seed = config.seed if config.dictionary.seed is None else config.dictionary.seed
    cold = cold_items(config, len(load_embeddings(job.stage("embed"))))
    if config.dictionary.source is not None:
        earlier = read_earlier(config.dictionary.source)
        metrics = adopt_dictionary(
            config.dictionary,
            earlier.dictionary,
            job.stage("embed"),
            job.folder,
            earlier.stability,
            cold=cold,
        )
    else:
        metrics = build_dictionary(
            config.dictionary,
            config.cluster,
            seed,
            job.stage("embed"),
            job.folder,
            job.runs,
            show,
            cold=cold,
        )
    prepared = job.stage("prepare")
    if config.dictionary.cooccurrence is not None:
        met = met_in_training(config, read_sequences(prepared), read_codes(job.folder).shape[0])
        metrics["cooccurrence"] = add_cooccurrence(
            config.dictionary, config.cluster, seed, met, job.folder, job.runs, show
        )
    if config.dictionary.attributes is not None:
        attributes = _attributes(config, config.dictionary.attributes, prepared, cold)
        metrics["attributes"] = add_attributes(config.dictionary.attributes, attributes, job.folder, cold)
    return metrics


def _attributes(
    config: Config, wanted: AttributesConfig, prepared: Path, cold: list[int]
) -> list[dict[str, list[str]]]:
    """The attributes of every item, with the phrases that people follow where they are wanted."""
    items = read_items(prepared)
    refuse_own_phrases(wanted, items.attributes)
    if wanted.phrases is None:
        return items.attributes
    met = met_in_training(config, read_sequences(prepared), len(items))
    return add_followed_phrases(wanted.phrases, items.texts, items.attributes, met, cold)


def _dictionary_settings(config: Config) -> list[Any]:
    """What decides the dictionaries; nothing is learnt of cold items, where there are any."""
    settings: list[Any] = [config.dictionary, config.seed]
    if config.train.cold_share:
        settings += [config.train.cold_share, training_seed(config)]
    return settings


def _learns_from_interactions(config: Config) -> bool:
    dictionary = config.dictionary
    phrases = dictionary.attributes is not None and dictionary.attributes.phrases is not None
    return dictionary.cooccurrence is not None or phrases


def _encoder(config: EmbedConfig) -> Callable[[list[str]], npt.NDArray[np.float32]]:
    """Encodes texts with the model of the embed stage, which is loaded with the first texts."""

    @functools.cache
    def loaded() -> TextEncoder:
        return TextEncoder(config.model, config.precision, config.max_tokens)

    return lambda texts: loaded().encode(texts, config.batch_size)


def _intents(job: Job) -> dict[str, Any]:
    dictionary = job.config.dictionary
    prefixes = [KINDS[dictionary.kind].prefixes(dictionary)]
    if dictionary.cooccurrence is not None:
        prefixes.append(KINDS[dictionary.kind].prefixes(autoencoder_settings(dictionary)))
    return build_intents(
        job.config.intents,
        job.config.seed,
        job.stage("prepare"),
        job.stage("embed"),
        job.stage("dictionary"),
        job.folder,
        _encoder(job.config.embed),
        job.reporter.update,
        overlay=overlay_file(job.config.intents.overlay, job.workdir),
        policy=policy_file(job.config.intents.policy, job.workdir),
        answers=_answers(job),
        say=job.reporter.say,
        prefixes=prefixes,
        previous=_previous(job),
    )


def _previous(job: Job) -> NamedLatents | None:
    """The catalogue whose ids are carried over: the one asked for, else the one the work directory had."""
    if (chosen := job.config.intents.previous) is not None:
        return read_earlier(chosen).latents
    before = predecessor(job.config, job.workdir, job.reporter.say)
    return before.read() if before else None


def _train(job: Job) -> dict[str, Any]:
    def show(values: dict[str, Any]) -> None:
        note = f"{values['model'].replace('_', ' ')}, epoch {values['epoch'] + 1}, loss {values['loss']:.3f}"
        note += f", best NDCG@10 {values['best_validation_ndcg']:.4f}"
        job.reporter.update(values["done"], values["total"], note)

    config = job.config
    return build_backbone(
        config.train,
        config.cluster,
        training_seed(config),
        prepared=job.stage("prepare"),
        embedded=job.stage("embed"),
        dictionary_folder=job.stage("dictionary"),
        intents_folder=job.stage("intents"),
        folder=job.folder,
        runs=job.runs,
        on_log=show,
    )


def _answers(job: Job) -> Path:
    """Where answers of the language model are kept."""
    return job.workdir / CACHE_FOLDER / "language_model"


def _evaluate(job: Job) -> dict[str, Any]:
    config, endpoint = job.config, job.config.intents.language_model
    metrics = build_report(
        config.evaluate,
        config.train,
        config.seed,
        job.stage("prepare"),
        job.stage("intents"),
        job.stage("train"),
        job.folder,
        job.reporter.update,
        embedded=job.stage("embed"),
        dictionary=job.stage("dictionary"),
        encode=_encoder(config.embed),
        language_model=None if endpoint is None else LanguageModel(endpoint, _answers(job)),
        others=read_other_domains(config, job.workdir),
    )
    if missing := metrics.get("judge_unanswered"):
        job.reporter.say(
            f"{missing} questions to the language model that judges labels have no answer; the report says why. "
            "Run the stage with --force to ask them again."
        )
    return metrics


def _evaluation_settings(config: Config) -> list[Any]:
    """What decides the report: also the language model that judges labels, if one does, wherever it is asked."""
    settings: list[Any] = [config.evaluate, config.train, config.seed]
    if (judge := config.intents.language_model) is not None and "intents" in config.evaluate.parts:
        settings.append(judge.model_dump(mode="json", include={"model", "mode", "temperature"}))
    return settings


def _bundle(job: Job) -> dict[str, Any]:
    return assemble_bundle(job.config, job.workdir, job.folder)


STAGES = (
    Stage("prepare", (), lambda c: c.prepare, _prepare),
    Stage("embed", ("prepare",), lambda c: c.embed, _embed),
    Stage(
        "dictionary",
        ("embed",),
        _dictionary_settings,
        _dictionary,
        lambda c: c.dictionary.source,
        lambda c: (
            *([f"prepare/{SEQUENCES_FILE}"] if _learns_from_interactions(c) else []),
            *([f"prepare/{ITEMS_FILE}"] if c.dictionary.attributes else []),
        ),
    ),
    Stage(
        "intents",
        ("prepare", "embed", "dictionary"),
        lambda c: [c.intents, c.embed, c.seed],
        _intents,
        lambda c: c.intents.previous,
    ),
    Stage(
        "train",
        ("prepare", "dictionary", f"intents/{POPULATION_FILE}"),
        lambda c: [c.train, c.seed],
        _train,
        also_reads=lambda c: ("embed",) if c.train.companions else (),
    ),
    Stage(
        "evaluate",
        ("prepare", "embed", "dictionary", "intents", "train"),
        _evaluation_settings,
        _evaluate,
    ),
    Stage("bundle", ("prepare", "embed", "dictionary", "intents", "train", "evaluate"), lambda c: c, _bundle),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def run_stages(
    config: Config,
    workdir: Path,
    reporter: Reporter,
    only: str | None = None,
    *,
    strict: bool = False,
    force: bool = False,
) -> list[Manifest]:
    """Runs all stages, or the one named `only`, and returns the manifests of what was asked for.

    Raises InputError for bad input and StageError when a stage cannot finish; finished stages stay.
    """
    workdir = workdir.absolute()
    config = settled(config)
    refuse_own(config, workdir)
    if only is None:
        other_domain_hashes(config, workdir)  # what evaluate would refuse is refused before hours of training
    with _locked(workdir), ray_kept():
        chosen = STAGES if only is None else [stage for stage in STAGES if stage.name == only]
        return [_run_stage(stage, config, workdir, reporter, strict, force) for stage in chosen]


def _run_stage(
    stage: Stage, config: Config, workdir: Path, reporter: Reporter, strict: bool, force: bool
) -> Manifest:
    restore_folder(workdir / stage.name)
    reads = (*stage.reads, *stage.also_reads(config))
    inputs = {name: stage_hash(workdir, name) for name in reads}
    refuse_mixture(reads, {each.name: each.settings for each in STAGES}, config, workdir)
    if stage.name == "prepare":
        inputs = {str(path): file_sha256(path) for path in source_files(config.prepare.source)}
    if stage.name == "embed" and Path(config.embed.model).is_dir():
        inputs["model"] = model_fingerprint(config.embed.model, config.embed.model, "", None)
    if stage.name == "intents" and (overlay := overlay_file(config.intents.overlay, workdir)):
        inputs["overlay"] = file_sha256(overlay)
    if stage.name == "intents" and (policy := policy_file(config.intents.policy, workdir)):
        inputs["policy"] = file_sha256(policy)
    if stage.name == "intents" and (before := predecessor(config, workdir)):
        inputs["carried_from"] = before.sha256
    if (earlier := stage.earlier(config)) is not None:
        inputs["earlier"] = earlier_sha256(earlier)
    if stage.name == "evaluate":
        inputs |= other_domain_hashes(config, workdir)
    settings = plain(stage.settings(config))
    fingerprint = digest(
        {"stage": stage.name, "version": __version__, "inputs": inputs, "settings": settings}
    )
    target = workdir / stage.name
    if not force and is_current(target, fingerprint) and not (strict and _rejected_rows(stage, target)):
        manifest = read_manifest(target)
        reporter.skip(stage.name, other_code=manifest.versions.get(SOURCES) != sources_hash())
        return manifest
    reporter.begin(stage.name)
    started = time.monotonic()
    with replaced_folder(target) as folder:
        # What other code began is not gone on with: its half and ours would not add up to what either makes.
        attempt = digest({"stage": fingerprint, SOURCES: sources_hash()})
        runs = workdir / RUNS_FOLDER / f"{stage.name}-{attempt[:12]}"
        resumed = runs.exists()
        metrics = stage.run(Job(config, workdir, folder, runs, reporter, strict))
        seconds = time.monotonic() - started
        manifest = Manifest(
            stage=stage.name,
            fingerprint=fingerprint,
            inputs=inputs,
            config={"settings": settings},
            seed=config.seed,
            versions=recorded_versions(),
            files=hash_files(folder),
            metrics=metrics,
            seconds=round(seconds, 2),
            resumed=resumed,
            finished=timestamp(),
        )
        write_json(folder / MANIFEST_NAME, manifest.model_dump(mode="json"))
    for leftover in (workdir / RUNS_FOLDER).glob(f"{stage.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # a worker about to end may still be adding files
    reporter.end(f"finished in {seconds:.1f} s{_headline(stage.name, metrics)}")
    return manifest


def _rejected_rows(stage: Stage, target: Path) -> bool:
    """Whether a finished prepare left rows out, which a strict one names and refuses."""
    return stage.name == "prepare" and bool(read_manifest(target).metrics.get("rejected"))


_HEADLINES = {
    "prepare": ("users", "items", "interactions"),
    "embed": ("encoded_now", "from_cache"),
    "dictionary": ("fvu", "l0", "dead_share"),
    "intents": ("published", "mass_covered"),
    "train": ("prior_weight",),
    "evaluate": ("test_intents_NDCG@10", "test_no intents_NDCG@10", "completeness_error"),
    "bundle": ("model_version",),
}


def _headline(stage: str, metrics: dict[str, Any]) -> str:
    shown = [(name, metrics[name]) for name in _HEADLINES[stage] if name in metrics]
    texts = [
        f"{name.replace('_', ' ')} {value:{'.4g' if isinstance(value, float) else ''}}"
        for name, value in shown
    ]
    return f": {', '.join(texts)}" if texts else ""


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    """Keeps a second run out of the same work directory; the lock goes with the process."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = (workdir / LOCK_FILE).open("w")
    except OSError as error:
        raise InputError(f"The work directory {workdir} cannot be written: {error.strerror}.") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"Another run is at work in {workdir}; wait for it or choose another directory."
            ) from error
        yield
