"""The format that products are computed in."""

from __future__ import annotations

import pytest

from saerec_ray import precision
from saerec_ray.precision import chosen_precision


@pytest.mark.parametrize(
    ("wanted", "device", "has_instructions", "expected"),
    [
        ("float32", "cuda", True, "float32"),
        ("bfloat16", "cpu", False, "bfloat16"),
        ("auto", "cuda:1", False, "bfloat16"),
        ("auto", "cpu", True, "bfloat16"),
        ("auto", "cpu", False, "float32"),
    ],
)
def test_precision_is_what_is_wanted_or_what_the_device_is_fast_at(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: str, has_instructions: bool, expected: str
) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: has_instructions)
    assert chosen_precision(wanted, device) == expected
