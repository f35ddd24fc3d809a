"""A sentence names a few of many and says how many it leaves out."""

from __future__ import annotations

import pytest

from saerec_ray.intents.listing import listed


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (0, ""),
        (1, "0"),
        (10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (12, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_at_most_ten_names_are_told(count: int, sentence: str) -> None:
    assert listed([str(each) for each in range(count)]) == sentence
