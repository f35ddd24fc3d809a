"""What a server cites of a history is what is removed, against as many other history items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.validation import encode_users
from saerec_ray.evaluation.evidence_ablation import cited_places, evidence_cuts, evidence_faithfulness
from saerec_ray.evaluation.history_ablation import VARIANTS
from saerec_ray.evaluation.scored_users import scored_users
from saerec_ray.retrieval import EXACT_LIMIT
from saerec_server.registry import load_model
from tests.evaluation.toy_models import AveragingEncoder, Toy, held, planted_toy, random_toy
from tests.synthetic import write_synthetic_bundle

seeds = st.integers(0, 2**32 - 1)
laws = settings(max_examples=40)
ALL = np.ones(12, dtype=bool)


def even(length: int) -> np.ndarray:
    return np.full(length, 1 / length, dtype=np.float32)


def test_what_is_measured_is_what_the_server_cites(tmp_path: Path) -> None:
    model = load_model(write_synthetic_bundle(tmp_path / "bundle"), EXACT_LIMIT)
    bundle, ranker, longest = model.bundle, model.ranker, model.bundle.config.train.max_length
    encoder = UserEncoder(bundle.config.train, bundle.backbone, bundle.space, bundle.prior)
    rng = np.random.default_rng(3)
    lengths = (2, 5, 9, longest + 4)
    histories = [rng.choice(len(bundle.items), length, replace=False).tolist() for length in lengths]
    users = encode_users(encoder, held(histories, [[0]] * len(histories)))
    cited = 0
    for user in scored_users(bundle.space, bundle.prior, users, np.arange(len(histories))):
        served = ranker.user(histories[user.case])
        unseen = np.ones(len(bundle.items), dtype=bool)
        unseen[user.history] = False
        ranking = ranker.rank(served, [], unseen, 10)
        assert ranking.items.tolist() == user.top(10).tolist()
        for item, why in zip(ranking.items, ranker.explain(ranking), strict=True):
            places = cited_places(
                bundle.space, user, served.weights, int(item), ranker.published, encoder.max_length
            )
            assert places.tolist() == [each.place for each in why.evidence]
            cited += len(places)
    assert cited > 20, "this test would say nothing"


@laws
@given(seed=seeds, keep_last=st.booleans())
def test_exactly_what_is_cited_goes_or_as_many_others(seed: int, keep_last: bool) -> None:
    toy = random_toy(seed)
    for user in toy.scored():
        weights = even(len(user.history))
        rng = np.random.default_rng(seed)
        for each in evidence_cuts(toy.space, user, weights, ALL, rng, keep_last=keep_last, longest=50):
            cited = set(cited_places(toy.space, user, weights, each.item, ALL, 50).tolist())
            last = len(user.history) - 1
            gone = cited - {last} if keep_last else cited
            assert each.without_chosen.tolist() == np.delete(user.history, sorted(gone)).tolist()
            assert len(each.without_random) == len(each.without_chosen) > 0
            if keep_last:
                assert each.without_random[-1] == user.history[-1]
            assert set(user.history[sorted(cited)].tolist()) <= set(each.without_random.tolist())


def test_only_published_intents_that_speak_for_the_item_have_evidence() -> None:
    toy = random_toy(4)
    user = toy.scored()[0]
    item = int(user.top(1)[0])
    weights = even(len(user.history))
    assert len(cited_places(toy.space, user, weights, item, ALL, 50)) > 0
    assert len(cited_places(toy.space, user, weights, item, ~ALL, 50)) == 0
    averse = replace(user, values=-np.abs(user.values))
    assert len(cited_places(toy.space, averse, weights, item, ALL, 50)) == 0


def test_where_states_are_made_of_what_was_met_items_fall_without_what_is_cited() -> None:
    rng = np.random.default_rng(5)
    base = planted_toy(5, intents=60)
    base.users.cases.histories[:] = [
        np.concatenate([history[:3], rng.choice(400, 14, replace=False)]).astype(np.int32)
        for history in base.users.cases.histories
    ]
    encoder = cast(UserEncoder, AveragingEncoder(base.space))
    users = encode_users(encoder, base.users.cases)
    steps: list[tuple[int, int]] = []
    found = evidence_faithfulness(
        base.space,
        base.table,
        encoder,
        users,
        np.ones(60, dtype=bool),
        40,
        1,
        lambda *step: steps.append(step),
    )
    assert found["users"] == 40
    assert steps == [(1, 2), (2, 2)]
    for variant, _ in VARIANTS:
        row = found[variant]
        assert row["compared"] > 50
        assert row["win_rate"] > 0.8
        assert row["median_drop_cited"] > row["median_drop_random"]
        assert row["win_rate"] + row["ties"] + row["loss_rate"] == pytest.approx(1)


def test_an_encoder_that_ignores_the_history_ties_always() -> None:
    toy = random_toy(6, users=30, intents=40)

    class Deaf(AveragingEncoder):
        def encode(self, histories):  # type: ignore[no-untyped-def]
            deaf = super().encode([np.array([0]) for _ in histories])
            deaf.history_weights[:] = [even(len(history)) for history in histories]
            return deaf

    encoder = cast(UserEncoder, Deaf(toy.space))
    deaf = Toy(toy.space, toy.table, encode_users(encoder, toy.users.cases))
    found = evidence_faithfulness(
        deaf.space, deaf.table, encoder, deaf.users, np.ones(40, dtype=bool), 30, seed=1
    )
    for variant, _ in VARIANTS:
        assert found[variant]["compared"] > 10
        assert found[variant]["ties"] == 1
        assert found[variant]["mean_drop_cited"] == found[variant]["mean_drop_random"] == 0
