"""What a training costs is measured from its beginning and adds up over restarts."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
import torch

from saerec_ray.training_cost import TrainingCost, cost_figures

CPU = torch.device("cpu")
MEGABYTE = 1 << 20


def test_time_and_samples_are_counted_and_go_on_from_a_checkpoint() -> None:
    first = TrainingCost(CPU)
    time.sleep(0.05)
    kept = first.as_dict(300)
    assert kept["samples"] == 300
    assert 0.05 <= kept["seconds"] < 5
    second = TrainingCost(CPU)
    second.restore({**kept, "seconds": 100.0, "peak_memory_bytes": 1 << 60})
    assert 100 <= second.as_dict(900)["seconds"] < 160
    assert second.as_dict(900)["peak_memory_bytes"] == 1 << 60


def test_a_checkpoint_of_before_costs_were_kept_can_be_gone_on_from() -> None:
    cost = TrainingCost(CPU)
    cost.restore({"epoch": 3})
    assert cost.as_dict(1)["seconds"] < 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the peak be forgotten")
def test_the_peak_is_of_the_training_and_not_of_what_the_process_did_before() -> None:
    before = np.ones(400 * MEGABYTE, dtype=np.uint8)
    del before
    cost = TrainingCost(CPU)
    quiet = cost.as_dict(0)["peak_memory_bytes"]
    needed = np.ones(200 * MEGABYTE, dtype=np.uint8)
    del needed
    risen = cost.as_dict(0)["peak_memory_bytes"] - quiet
    assert 150 * MEGABYTE < risen < 300 * MEGABYTE


def test_the_figures_of_several_trainings_are_all_their_time_and_the_largest_peak() -> None:
    costs = [
        {"seconds": 2.0, "samples": 600, "peak_memory_bytes": 7},
        {"seconds": 1.0, "samples": 300, "peak_memory_bytes": 9},
    ]
    assert cost_figures(costs) == {
        "training_seconds": 3.0,
        "training_items_a_second": 300.0,
        "training_peak_memory_bytes": 9,
    }
