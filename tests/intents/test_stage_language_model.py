"""The stage with a language model: where its answers are kept, and what the run says."""

from __future__ import annotations

from pathlib import Path

import pytest

from saerec_ray.errors import InputError
from saerec_ray.manifest import read_manifest
from tests.intents.planted import plant
from tests.intents.scripted_endpoint import Endpoint, Reply
from tests.intents.stage_folders import Workdir, planted_workdir


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workdir:
    return planted_workdir(plant(attributes=False), tmp_path / "out", monkeypatch)


def test_a_run_with_a_language_model_keeps_its_answers_in_the_cache_and_says_how_it_went(
    workdir: Workdir,
) -> None:
    with Endpoint() as endpoint:
        endpoint.answer(Reply(status=404))
        workdir.intents = {"language_model": {"base_url": endpoint.base_url, "model": "small"}}
        failed = workdir.run()
        assert {intent.label_source for intent in failed.intents} == {"terms"}
        assert "intents: Labels by small: 8 intents asked, 0 accepted, 8 without an answer" in workdir.said
        assert read_manifest(workdir.path / "intents").metrics["language_model"]["failed"] == 8
        endpoint.answer(Reply("makeup"))
        workdir.intents["language_model"] |= {"candidates": 1}  # type: ignore[operator]
        workdir.run()
    assert len(list((workdir.path / ".cache" / "language_model").rglob("*.json"))) >= 8


def test_a_run_whose_key_is_not_set_stops_before_it_starts(
    workdir: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    section = {"base_url": "http://127.0.0.1:9/v1", "model": "small", "api_key_env": "NO_SUCH_KEY"}
    workdir.intents = {"language_model": section}
    with pytest.raises(InputError, match="NO_SUCH_KEY"):
        workdir.run()
    assert not (workdir.path / "intents").exists()
