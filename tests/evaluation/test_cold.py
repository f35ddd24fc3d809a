"""Cold targets are ranked among all items and among each other, beside baselines that know as much."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from saerec_ray.backbone.build import build_backbone
from saerec_ray.config import ClusterConfig, TrainConfig
from saerec_ray.evaluation.cold import COLD_REPORT_FILE, Scorer, build_cold_report, cold_cases, measure_cold
from saerec_ray.scoring import base_scores, intent_values, prior
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.backbone.small_sets import (
    ITEMS,
    Parts,
    frozen_of,
    grouped_users,
    sequences_of,
    small_encoder,
    small_settings,
)
from tests.backbone.test_build import write_stages

USERS = grouped_users()
SEQUENCES = sequences_of(USERS)
FROZEN = frozen_of(SEQUENCES)
COLD = np.zeros(ITEMS, dtype=bool)
COLD[::3] = True


def text_vectors(seed: int = 1) -> np.ndarray:
    """Texts that tell the group of an item: (items, 8)."""
    rng = np.random.default_rng(seed)
    vectors = np.eye(8)[np.arange(ITEMS) * 4 // ITEMS] + 0.01 * rng.normal(size=(ITEMS, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def scorer() -> Scorer:
    space, encoder = small_encoder(FROZEN)
    residuals, biases = space.residuals.copy(), space.biases.copy()
    residuals[COLD], biases[COLD] = 0, 0
    popularity = space.popularity.copy()
    popularity[COLD] = 0
    space = replace(space, residuals=residuals, biases=biases, popularity=popularity)
    return Scorer(space, encoder, FROZEN)


def test_only_cold_test_targets_are_looked_for() -> None:
    users: list[Parts] = [([1, 2], [3], [4, 6]), ([1, 2], [3], [4]), ([6], [9], [12])]
    cases = cold_cases(sequences_of(users), COLD)
    assert cases.users.tolist() == [0, 2]
    assert [each.tolist() for each in cases.targets] == [[6], [12]]
    assert [each.tolist() for each in cases.histories] == [[1, 2, 3], [6, 9]]


def ranks_written_out(among: np.ndarray) -> list[int]:
    """Ranks of the cold targets, one user at a time, among the allowed items."""
    model = scorer()
    ranks = []
    cases = cold_cases(SEQUENCES, COLD)
    for history, targets in zip(cases.histories, cases.targets, strict=True):
        user = model.encoder.encode([history])
        values = intent_values(model.space, user.states, prior(user.profiles, FROZEN.prior))
        scores = base_scores(model.space, user.states, values, user.companions)[0]
        (target,) = targets
        rivals = [i for i in range(ITEMS) if among[i] and i not in history and i != target]
        better = [i for i in rivals if (-scores[i], i) < (-scores[target], target)]
        ranks.append(1 + len(better))
    return ranks


@pytest.mark.parametrize(("name", "among"), [("all", np.ones(ITEMS, dtype=bool)), ("cold", COLD)])
def test_the_model_is_ranked_as_written_out(name: str, among: np.ndarray) -> None:
    found = measure_cold(scorer(), SEQUENCES, text_vectors(), COLD)
    ranks = ranks_written_out(among)
    assert found["targets"] == len(ranks) > 5
    assert found["cold_items"] == COLD.sum()
    assert found["intents"][name]["HR@10"] == pytest.approx(np.mean(np.array(ranks) <= 10))


def test_popularity_knows_nothing_of_cold_items_and_text_finds_them() -> None:
    found = measure_cold(scorer(), SEQUENCES, text_vectors(), COLD)
    assert found["popularity"]["all"]["HR@10"] == 0
    assert found["text neighbours"]["all"]["HR@10"] == 1  # ten items a group, all closer than any other
    assert found["text neighbours"]["cold"]["MRR@10"] > found["text neighbours"]["all"]["MRR@10"]


def test_no_cold_target_is_no_error() -> None:
    found = measure_cold(scorer(), sequences_of([([1, 2], [4], [5])]), text_vectors(), COLD)
    assert found == {"cold_items": int(COLD.sum()), "targets": 0}


def test_a_model_that_met_all_items_has_no_cold_report(tmp_path: Path) -> None:
    assert build_cold_report(TrainConfig(), tmp_path, tmp_path, tmp_path, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_a_trained_folder_is_written_with_its_headlines(tmp_path: Path) -> None:
    write_stages(tmp_path, SEQUENCES)
    for folder in ("embed", "evaluate"):
        (tmp_path / folder).mkdir()
    save_file({"embeddings": text_vectors()}, tmp_path / "embed" / EMBEDDINGS_FILE)
    config = small_settings(cold_share=0.3, epochs=1)
    stages = [tmp_path / name for name in ("prepare", "dictionary", "intents", "train", "runs")]
    build_backbone(config, ClusterConfig(engine="local"), 7, *stages)
    headlines = build_cold_report(
        config, tmp_path / "prepare", tmp_path / "embed", tmp_path / "train", tmp_path / "evaluate"
    )
    written = json.loads((tmp_path / "evaluate" / COLD_REPORT_FILE).read_text("utf-8"))
    assert written["cold_items"] == 12
    assert headlines == {
        f"cold_{name}_HR@10_{among}": written[name][among]["HR@10"]
        for name in ("intents", "popularity", "text neighbours")
        for among in ("all", "cold")
    }
