"""Ray is started when somebody needs it, kept as long as was asked, and a failure is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saerec_ray import ray_connection
from saerec_ray.errors import StageError
from saerec_ray.ray_connection import ray_kept, start_ray


class Switch:
    """Stands for Ray itself, which would take half a minute: whether it runs, and what was done to it."""

    def __init__(self) -> None:
        self.running = False
        self.done: list[str] = []

    def init(self, **options: Any) -> None:
        assert not self.running
        self.running = True
        self.done.append("started")

    def shutdown(self) -> None:
        self.running = False
        self.done.append("stopped")


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    import ray

    found = Switch()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", found.init)
    monkeypatch.setattr(ray, "shutdown", found.shutdown)
    monkeypatch.setattr(ray, "is_initialized", lambda: found.running)
    return found


def test_alone_each_block_starts_and_stops_it(switch: Switch) -> None:
    for _ in range(2):
        with start_ray(), start_ray():
            assert switch.running
        assert not switch.running
    assert switch.done == ["started", "stopped"] * 2


def test_where_it_is_kept_the_first_block_starts_it_for_all(switch: Switch) -> None:
    with ray_kept():
        assert not switch.running, "nobody has asked for it"
        for _ in range(2):
            with start_ray():
                assert switch.running
            assert switch.running
    assert switch.done == ["started", "stopped"]
    with start_ray():
        pass
    assert not switch.running, "it is kept no longer"


def test_nothing_is_started_where_nobody_asks(switch: Switch) -> None:
    with ray_kept(), ray_kept():
        pass
    assert switch.done == []


def test_an_error_stops_what_was_kept(switch: Switch) -> None:
    with pytest.raises(StageError, match="no items"), ray_kept(), start_ray():
        raise StageError("no items")
    assert switch.done == ["started", "stopped"]


def test_ray_that_does_not_start_in_time_is_tried_again_and_then_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import ray

    folders: list[str] = []

    def too_slow(**options: Any) -> None:
        folders.append(options["_temp_dir"])
        raise Exception("The current node timed out during startup. More follows.")

    monkeypatch.setattr(ray, "init", too_slow)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(
        StageError, match=r"did not start .* timed out during startup\. .*cluster\.engine: local"
    ):
        ray_connection._start_local_ray(tmp_path)
    assert len(set(folders)) == 3, "what one try left must not disturb the next"
