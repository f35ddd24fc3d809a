"""Planted topics that a language model may name, and the endpoint it answers at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saerec_ray.intents.catalogue import Catalogue
from tests.intents.planted import Planted, plant
from tests.intents.planted_questions import SEED
from tests.intents.scripted_endpoint import Endpoint


@pytest.fixture(scope="session")
def scattered() -> Planted:
    """Topics of which every item says two words only: who knows all words of a topic names it better."""
    return plant(attributes=False, scattered=True)


@pytest.fixture(scope="session")
def statistical(scattered: Planted) -> Catalogue:
    """The catalogue of `scattered` when no model is asked."""
    return scattered.build(seed=SEED)[0]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as running:
        yield running
