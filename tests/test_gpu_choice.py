"""GPUs for all workers of a training or for none, and a word about it where there are too few."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from saerec_ray import gpu_choice
from saerec_ray.gpu_choice import choose_gpus, enough_gpus


@pytest.fixture(autouse=True)
def _nothing_said_before() -> Iterator[None]:
    gpu_choice._say_too_few.cache_clear()
    yield
    gpu_choice._say_too_few.cache_clear()


@pytest.mark.parametrize(
    ("wanted", "gpus", "workers", "used"),
    [
        (True, 0, 1, False),
        (True, 1, 1, True),
        (True, 1, 2, False),
        (True, 2, 2, True),
        (True, 8, 3, True),
        (True, 3, 4, False),
        (False, 8, 1, False),
    ],
)
def test_gpus_are_used_when_there_is_one_for_each_worker(
    wanted: bool, gpus: int, workers: int, used: bool
) -> None:
    assert enough_gpus(wanted, gpus, workers) == choose_gpus(wanted, gpus, workers) == used


def test_too_few_gpus_are_told_of_once_with_what_to_change(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):  # the trainings of a stage are as many
        choose_gpus(True, 1, 2)
    assert caplog.messages == [
        "1 GPU is too few for 2 workers, which train on CPUs; set the number of workers to 1 to train on GPUs."
    ]
    choose_gpus(True, 3, 4)
    assert caplog.messages[1].startswith("3 GPUs are too few for 4 workers")


@pytest.mark.parametrize(("wanted", "gpus"), [(True, 0), (True, 4), (False, 1)])
def test_nothing_is_said_where_gpus_are_absent_enough_or_not_wanted(
    wanted: bool, gpus: int, caplog: pytest.LogCaptureFixture
) -> None:
    choose_gpus(wanted, gpus, 2)
    assert caplog.messages == []
