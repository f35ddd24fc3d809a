"""A catalogue above the limit is ranked through candidates: same lists, same explanations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saerec_ray.scoring import Adjustment, Mode
from saerec_server.ranking import Ranker
from saerec_server.registry import LoadedModel, load_model
from tests.synthetic import write_synthetic_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_bundle(tmp_path_factory.mktemp("candidates") / "bundle")


@pytest.fixture(scope="module")
def whole(folder: Path) -> LoadedModel:
    return load_model(folder)


@pytest.fixture(scope="module")
def pooled(folder: Path) -> LoadedModel:
    return load_model(folder, exact_limit=0, pool_size=10)


def test_candidates_give_the_same_list_and_the_same_reasons(whole: LoadedModel, pooled: LoadedModel) -> None:
    rng = np.random.default_rng(4)
    exact = 0
    for _ in range(50):
        history = rng.integers(300, size=8).tolist()
        edits = [
            Adjustment(int(intent), mode, 0.6)
            for intent, mode in zip(
                rng.permutation(32)[:3], (Mode.BOOST, Mode.SUPPRESS, Mode.EXCLUDE), strict=True
            )
        ]
        mask = np.ones(300, dtype=bool)
        lists = [
            ranker.rank(ranker.user(history), edits, mask, 10) for ranker in (whole.ranker, pooled.ranker)
        ]
        if not lists[1].exact:
            continue
        exact += 1
        assert lists[0].items.tolist() == lists[1].items.tolist()
        np.testing.assert_allclose(lists[0].scores, lists[1].scores, rtol=1e-5, atol=1e-5)
        first, second = (
            ranker.explain(ranking)
            for ranker, ranking in zip((whole.ranker, pooled.ranker), lists, strict=True)
        )
        for one, other in zip(first, second, strict=True):
            assert [(each.intent, each.rank_without) for each in one.intents] == [
                (each.intent, each.rank_without) for each in other.intents
            ]
            assert one.unsteered_rank == other.unsteered_rank
            assert dict(one.steering) == pytest.approx(dict(other.steering))
    assert exact > 25


def test_a_user_without_history_is_ranked_whole(pooled: LoadedModel) -> None:
    ranker: Ranker = pooled.ranker
    ranking = ranker.rank(ranker.user([]), [], np.ones(300, dtype=bool), 300)
    assert ranking.exact
    assert len(ranking.items) == 300
