"""Questions about planted topics, a model that knows every answer, and the catalogue that its answers lead to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saerec_ray.config import IntentsConfig
from saerec_ray.intents.build import Results
from saerec_ray.intents.label_prompts import ACCIDENTAL_GROUPS, PLAIN_GROUPS
from saerec_ray.intents.language_model import LanguageModel
from tests.intents.planted import TOPICS, Planted, topic_words
from tests.intents.scripted_endpoint import Endpoint, Reply, Request, question

Groups = Sequence[tuple[str, Sequence[str]]]
TOPIC_COUNT = len(TOPICS)
LATENTS = TOPIC_COUNT + 2
"""The topics, and the two of noise; the latent that is never active is not worth asking about."""
SEED = 5


def asks_for_label(request: Request) -> bool:
    return question(request).startswith("Inside the group:")


def inside(request: Request) -> list[str]:
    part = question(request).partition("Outside the group:")[0]
    return [line.removeprefix("- ") for line in part.splitlines() if line.startswith("- ")]


def outside(request: Request) -> list[str]:
    return [
        line.removeprefix("- ")
        for line in question(request).partition("Outside the group:")[2].split("\n")
        if line
    ]


def topic_of(texts: list[str]) -> int:
    """The topic that most of the words belong to."""
    said = Counter(word for text in texts for word in text.replace(",", " ").split())
    return int(
        np.argmax([sum(said[word] for word in topic_words(topic).split()) for topic in range(TOPIC_COUNT)])
    )


def knows_all(request: Request) -> Reply:
    """A model that names every topic as well as can be, and takes all for intents."""
    return Reply(topic_words(topic_of(inside(request))) if asks_for_label(request) else "intent")


def names_one_of(groups: Groups, request: Request) -> bool:
    """Whether the kind of one of these groups is asked for."""
    return any(f"Name of the group: {label}\n" in question(request) for label, _ in groups)


def about_known_group(request: Request) -> bool:
    """Whether a group is asked about that is none of the catalogue."""
    return names_one_of(PLAIN_GROUPS + ACCIDENTAL_GROUPS, request)


def kind_of_known_group(request: Request) -> Reply:
    """What a model says that tells them apart."""
    return Reply("nuisance" if names_one_of(ACCIDENTAL_GROUPS, request) else "intent")


def settings_of(endpoint: Endpoint, **settings: Any) -> IntentsConfig:
    section = {"base_url": endpoint.base_url, "model": "small", "timeout_seconds": 30.0} | settings
    return IntentsConfig.model_validate({"language_model": section})


def label(planted: Planted, endpoint: Endpoint, folder: Path, **settings: Any) -> Results:
    config = settings_of(endpoint, **settings)
    assert config.language_model is not None
    model = LanguageModel(config.language_model, folder, {}, first_wait=0.001)
    return planted.results(config, seed=SEED, language_model=model)
