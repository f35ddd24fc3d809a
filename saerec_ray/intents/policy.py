"""Sensitive topics: a file of what must never be shown, cited or steered by; it wins over people's edits too."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.sparse import csr_array

from saerec_ray.data.prepared import PreparedItems
from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import ID_PATTERN, Catalogue, DeprecatedIntent, Intent
from saerec_ray.intents.edit import PlainText
from saerec_ray.intents.listing import listed
from saerec_ray.intents.overlay import problems

POLICY_FILE = "intents-policy.yaml"
MIN_SHARE = 0.5
"""Share of an intent's activation on items with a listed attribute value, from which on it is of the topic."""
POLICY_VERDICT = "blocked by the policy topic"
"""How the verdict of every intent begins that a policy blocks."""
_HISSING = ("s", "x", "z", "ch", "sh", "o")
"""Ends of words whose plural may end in -es: glasses, boxes, patches, rashes, tomatoes."""
_WORD = re.compile(r"\w+\*?")


def _phrase(text: str) -> str:
    if not any(word.strip("*") for word in _WORD.findall(text)):
        raise ValueError("must hold a word")
    return text


Phrase = Annotated[PlainText, AfterValidator(_phrase)]


class Topic(BaseModel):
    """One sensitive topic, and how its intents are told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PlainText
    phrases: list[Phrase] = Field(
        default=[], description="Words of a label, term or description; a last * stands for any ending"
    )
    attributes: dict[str, list[PlainText]] = Field(default={}, description="Values by item attribute")
    intents: list[Annotated[str, Field(pattern=ID_PATTERN)]] = []

    @model_validator(mode="after")
    def _says_something(self) -> Topic:
        if not (self.phrases or any(self.attributes.values()) or self.intents):
            raise ValueError("names nothing: give phrases, attributes or intents")
        return self


class Policy(BaseModel):
    """All topics of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    topics: list[Topic] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Policy:
        names = [topic.name.casefold() for topic in self.topics]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the topic '{twice}' is there twice")
        return self


@dataclass(frozen=True)
class Enforced:
    """A catalogue without what the policy forbids, and what was done."""

    catalogue: Catalogue
    blocked: dict[str, list[Intent]]  # by topic
    unmatched: list[str] = field(default_factory=list)
    """Topics, ids and attribute values that this catalogue does not have, as sentences."""

    def metrics(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "blocked": {topic: len(intents) for topic, intents in self.blocked.items()},
            "unmatched": self.unmatched,
        }

    def sentences(self) -> list[str]:
        """For people. Ids only: logs are read by many."""
        told = [
            f"Policy topic '{topic}' blocks {len(intents)} intent{'s' if len(intents) > 1 else ''}: "
            f"{listed([intent.intent_id for intent in intents])}."
            for topic, intents in self.blocked.items()
            if intents
        ]
        return told + self.unmatched


class _UniqueKeys(yaml.SafeLoader):
    """A second list under the same key would silently replace the first: of a policy nothing may be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused later: no key of a policy is a list or a mapping
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def policy_file(configured: Path | None, workdir: Path) -> Path | None:
    """The policy a run reads: the configured one, else the one in the work directory if it is there.

    Raises InputError when a configured file does not exist.
    """
    if configured is not None:
        if not configured.is_file():
            raise InputError(f"intents.policy: there is no file {configured}.")
        return configured
    default = workdir / POLICY_FILE
    return default if default.exists() else None


def read_policy(path: Path) -> Policy:
    """Reads a policy. Raises InputError that names what is wrong with the file."""
    try:
        loader = _UniqueKeys(path.read_text("utf-8"))
        try:
            values = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise InputError(f"The policy of intents {path} is not valid YAML: {_one_line(error)}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The policy of intents {path} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise InputError(f"The policy of intents {path} must hold topics: and a list of them.")
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path} is not a valid policy of intents: {problems(error)}.") from error


def enforce(policy: Policy, catalogue: Catalogue, items: PreparedItems, codes: csr_array) -> Enforced:
    """Blocks every intent of a topic, whatever its gates and people's edits say, and drops deprecated ones of it.

    `codes`: (items, latents). An intent belongs to a topic when its id is listed, when a phrase stands in its label,
    terms, description or attribute value, when its attribute value is listed, or when items with listed values carry
    at least MIN_SHARE of its activation. A blocked intent is no parent and no successor. The verdict names the
    topic and the reason.
    """
    blocked: dict[str, list[Intent]] = {topic.name: [] for topic in policy.topics}
    intents = list(catalogue.intents)
    for topic in reversed(policy.topics):  # the first topic of the file has the last word in the verdict
        shares = _shares(topic, items, codes)
        for place, intent in enumerate(intents):
            if (reason := _reason(topic, intent, float(shares[intent.latent]))) is not None:
                changes = {
                    "state": "blocked",
                    "steerable": False,
                    "verdict": f"{POLICY_VERDICT} '{topic.name}': {reason}",
                    "parent_id": None,
                }
                intents[place] = intent.model_copy(update=changes)
                blocked[topic.name].append(intent)
    hidden = {intent.intent_id for intent in intents if intent.state == "blocked"}
    intents = [
        intent.model_copy(update={"parent_id": None}) if intent.parent_id in hidden else intent
        for intent in intents
    ]
    deprecated = [
        entry.model_copy(update={"successors": [each for each in entry.successors if each not in hidden]})
        for entry in catalogue.deprecated
        if all(_reason(topic, entry, 0.0) is None for topic in policy.topics)
    ]
    result = catalogue.model_copy(update={"intents": intents, "deprecated": deprecated})
    if result != catalogue:
        seen = [catalogue.intents_version, *sorted(hidden), *(entry.intent_id for entry in deprecated)]
        version = hashlib.sha256("\n".join(seen).encode()).hexdigest()[:12]
        result = result.model_copy(update={"intents_version": version})
    return Enforced(result, blocked, _unmatched(policy, catalogue, items, blocked))


def _shares(topic: Topic, items: PreparedItems, codes: csr_array) -> npt.NDArray[np.float64]:
    """How much of each latent's activation is on items with a listed value: (latents,)."""
    listed = {name: set(values) for name, values in topic.attributes.items()}
    members = np.array(
        [
            any(listed.get(name, set()) & set(values) for name, values in each.items())
            for each in items.attributes
        ],
        dtype=np.float64,
    )
    mass = np.asarray(codes.sum(axis=0), dtype=np.float64).ravel()
    inside = np.asarray(members @ codes, dtype=np.float64)
    return np.asarray(np.divide(inside, mass, out=np.zeros_like(mass), where=mass > 0))


def _reason(topic: Topic, intent: Intent | DeprecatedIntent, share: float) -> str | None:
    """Why an intent belongs to a topic, or None."""
    if intent.intent_id in topic.intents:
        return "its id is listed"
    texts = {"label": [intent.label], "terms": intent.terms, "description": [intent.description]}
    match = intent.attribute if isinstance(intent, Intent) else None
    if match is not None:
        texts["attribute"] = [match.value]
    for place, entries in texts.items():
        for phrase in topic.phrases:
            if any(_holds(entry, phrase) for entry in entries):
                return f"'{phrase}' is in its {place}"
    if match is not None and match.value in topic.attributes.get(match.attribute, ()):
        return f"it coincides with {match.attribute} '{match.value}'"
    if share >= MIN_SHARE:
        return f"{share:.0%} of it is on items with listed attribute values"
    return None


def _holds(text: str, phrase: str) -> bool:
    """Whether the words of the phrase stand in the text one after the other, in any case, singular or plural."""
    wanted, words = _words(phrase), _words(text)
    return any(
        all(_same(word, want) for word, want in zip(words[start:], wanted, strict=False))
        for start in range(len(words) - len(wanted) + 1)
    )


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _same(word: str, wanted: str) -> bool:
    if wanted.endswith("*"):
        return word.startswith(wanted[:-1])
    return word == wanted or word in _plurals(wanted) or wanted in _plurals(word)


def _plurals(word: str) -> set[str]:
    """What a regular English plural of the word may be; it need not be a word at all."""
    found = {f"{word}s"}
    if word.endswith(_HISSING):
        found.add(f"{word}es")
    if len(word) > 2 and word.endswith("y"):  # by, my: not the singular of bies and mies
        found.add(f"{word[:-1]}ies")
    return found


def _unmatched(
    policy: Policy, catalogue: Catalogue, items: PreparedItems, blocked: dict[str, list[Intent]]
) -> list[str]:
    """What the policy names and the catalogue does not have: a misspelt value must not go unnoticed."""
    ids = set(catalogue.by_id()) | {entry.intent_id for entry in catalogue.deprecated}
    values: dict[str, set[str]] = {}
    for each in items.attributes:
        for name, entries in each.items():
            values.setdefault(name, set()).update(entries)
    told = []
    for topic in policy.topics:
        gone = [each for each in topic.intents if each not in ids]
        absent = [
            f"{name} '{value}'"
            for name, wanted in topic.attributes.items()
            for value in wanted
            if value not in values.get(name, set())
        ]
        if gone:
            told.append(f"Policy topic '{topic.name}': this dictionary has no {listed(gone)}.")
        if absent:
            told.append(f"Policy topic '{topic.name}': no item has {listed(absent)}.")
        if not blocked[topic.name]:
            told.append(f"Policy topic '{topic.name}' matches no intent of this dictionary.")
    return told


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
