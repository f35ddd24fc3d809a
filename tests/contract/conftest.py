from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from saerec_ray.bundle import Bundle, load_bundle
from tests.contract.running import Api, running, settings_of
from tests.synthetic import write_synthetic_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_bundle(tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture(scope="session")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(scope="session")
def api(bundle_folder: Path) -> Iterator[Api]:
    with running(settings_of(bundle_folder, reflection=True)) as served:
        yield served


@pytest.fixture
def user() -> str:
    """A user nobody has heard of."""
    return f"user-{uuid.uuid4()}"


@pytest.fixture(scope="session")
def steerable(bundle: Bundle) -> list[str]:
    """Ids of intents that may be steered."""
    return [each.intent_id for each in bundle.catalogue.intents if each.published and each.steerable]
