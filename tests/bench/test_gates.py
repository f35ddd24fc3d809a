"""Each gate closes on its own figure, at its limit, and on a figure that is missing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.gates import Gate, quality_gates

GOOD: dict[str, Any] = {"fvu": 0.3, "fvu_pca_same_nonzeros": 0.7, "dead_share": 0.02, "l0": 8.8}
FOUND: dict[str, Any] = {"coverage": 0.7, "own": {"mean": 0.7}, "shuffled": {"mean": 0.55}}


def gates(detection: dict[str, Any] = FOUND, **changes: float) -> dict[str, Gate]:
    return {each.name: each for each in quality_gates({**GOOD, **changes}, 8, detection)}


def test_all_gates_are_open_at_their_limits() -> None:
    found = gates({**FOUND, "shuffled": {"mean": 0.5499}})
    assert [each.name for each in found.values() if not each.passed] == []
    assert found["FVU"].figure == 0.3
    assert "0.700" in found["FVU"].wanted
    assert found["above shuffled"].figure == pytest.approx(0.1501)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dead latents", {"dead_share": 0.0201}),
        ("FVU", {"fvu": 0.7}),
        ("L0", {"l0": 8.81}),
        ("L0", {"l0": 7.19}),
    ],
)
def test_a_dictionary_beyond_a_limit_closes_that_gate_alone(name: str, changes: dict[str, float]) -> None:
    found = gates({**FOUND, "shuffled": {"mean": 0.5}}, **changes)
    assert [each.name for each in found.values() if not each.passed] == [name]


@pytest.mark.parametrize(
    ("closed", "changes"),
    [
        (["detection AUC"], {"own": {"mean": 0.699}, "shuffled": {"mean": 0.5}}),
        (["above shuffled"], {"own": {"mean": 0.9}, "shuffled": {"mean": 0.76}}),
        (["above shuffled"], {"shuffled": None}),
        (["activation covered"], {"coverage": 0.699, "shuffled": {"mean": 0.5}}),
    ],
)
def test_labels_beyond_a_limit_close_that_gate_alone(closed: list[str], changes: dict[str, Any]) -> None:
    found = gates({**FOUND, **changes})
    assert [each.name for each in found.values() if not each.passed] == closed


def test_where_no_label_could_be_judged_the_gates_of_labels_are_closed() -> None:
    found = gates({"coverage": 0.0})
    assert [each.name for each in found.values() if not each.passed] == [
        "detection AUC",
        "above shuffled",
        "activation covered",
    ]
    assert found["detection AUC"].figure is None
