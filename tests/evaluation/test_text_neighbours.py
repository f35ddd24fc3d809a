"""Three readings of what is close to a history, each by hand and written out."""

from __future__ import annotations

import numpy as np
import pytest

from saerec_ray.backbone import validation
from saerec_ray.evaluation import text_neighbours
from saerec_ray.evaluation.text_neighbours import (
    CLOSENESS,
    Closeness,
    text_neighbour_ranks,
    text_scores,
)
from tests.evaluation.toy_models import held


def unit(*rows: list[float]) -> np.ndarray:
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit([1, 0], [0, 1], [1, 1], [-1, 0])


def scored(history: list[int], closeness: Closeness) -> list[float]:
    ((start, scores),) = text_scores(VECTORS, [VECTORS[history]], closeness)
    assert start == 0
    return [float(score) for score in scores[0]]


def test_by_hand() -> None:
    half, diagonal = 0.5, np.sqrt(0.5)
    assert scored([0, 1], "mean") == pytest.approx([half, half, diagonal, -half])
    assert scored([0, 1], "recent") == pytest.approx([1 / 3, 2 / 3, diagonal, -1 / 3])
    assert scored([0, 1], "closest") == pytest.approx([1, 1, diagonal, 0])


def test_the_plain_mean_is_what_is_taken_unless_asked_otherwise() -> None:
    ((_, unasked),) = text_scores(VECTORS, [VECTORS[[0, 1]]])
    assert unasked[0].tolist() == scored([0, 1], "mean")
    cases = held([[0, 1], [3, 0]], [[2], [2]])
    assert text_neighbour_ranks(VECTORS, cases).tolist() == [1, 2]
    foreign = [unit([-1, 1]), unit([1, 0.1])]
    assert text_neighbour_ranks(VECTORS, cases, foreign).tolist() == [2, 1]
    assert text_neighbour_ranks(VECTORS, cases, closeness="closest").tolist() == [1, 1]


@pytest.mark.parametrize("closeness", CLOSENESS)
def test_users_are_scored_as_written_out_however_many_at_a_time(
    closeness: Closeness, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    vectors = unit(*rng.normal(size=(50, 6)).tolist())
    histories = [vectors[rng.choice(50, length)] for length in (1, 3, 40, 70)]
    monkeypatch.setattr(validation, "_SCORES_AT_ONCE", 100)  # two users
    monkeypatch.setattr(text_neighbours, "_MET_AT_ONCE", 16)
    batches = list(text_scores(vectors, histories, closeness))
    assert [start for start, _ in batches] == [0, 2]
    for history, scores in zip(histories, np.concatenate([each for _, each in batches]), strict=True):
        cosines = history @ vectors.T
        ages = np.arange(len(history))[::-1]
        expected = {
            "mean": cosines.mean(axis=0),
            "recent": (0.5**ages) @ cosines / (0.5**ages).sum(),
            "closest": cosines.max(axis=0),
        }[closeness]
        np.testing.assert_allclose(scores, expected, atol=1e-5)
