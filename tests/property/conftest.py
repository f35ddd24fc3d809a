from __future__ import annotations

import os
from pathlib import Path

import pytest

from saerec_ray.bundle import Bundle
from saerec_ray.retrieval import EXACT_LIMIT
from saerec_server.ranking import Ranker
from saerec_server.registry import LoadedModel, load_model
from tests.synthetic import write_synthetic_bundle


@pytest.fixture(
    scope="session", params=["random", pytest.param("trained", marks=[pytest.mark.ray, pytest.mark.trained])]
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A small random bundle; and a trained one: that named by SAEREC_BUNDLE, or of a small real set."""
    if request.param == "random":
        folder = write_synthetic_bundle(tmp_path_factory.mktemp("bundle") / "synthetic")
    elif given := os.environ.get("SAEREC_BUNDLE"):
        folder = Path(given)
    else:
        folder = request.getfixturevalue("trained_bundle")
    return load_model(folder, EXACT_LIMIT)


@pytest.fixture(scope="session")
def bundle(model: LoadedModel) -> Bundle:
    return model.bundle


@pytest.fixture(scope="session")
def ranker(model: LoadedModel) -> Ranker:
    return model.ranker
