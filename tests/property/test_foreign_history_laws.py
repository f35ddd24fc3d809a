"""What holds for any history that mixes items of the catalogue with items of other domains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.bundle import load_bundle
from saerec_ray.foreign_items import ForeignItems, SourceRecord, write_foreign_items
from saerec_ray.intents.population import Verdict
from saerec_ray.retrieval import EXACT_LIMIT
from saerec_ray.scoring import companion_parts
from saerec_server.insight import explain_user, steering_effect
from saerec_server.registry import LoadedModel, load_model
from tests.property.steering_cases import adjustment_lists, masks
from tests.synthetic import synthetic_codes, write_synthetic_bundle

FOREIGN = 60
laws = settings(max_examples=60)


@pytest.fixture(scope="module", params=[EXACT_LIMIT, 0], ids=["exact", "candidates"])
def travelled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A random bundle with two other domains, one item of which carries no intent at all."""
    folder = tmp_path_factory.mktemp("travelled")
    home = load_bundle(write_synthetic_bundle(folder / "bundle"))
    for number, name in enumerate(("mugs", "cups")):
        codes = synthetic_codes(np.random.default_rng(number), FOREIGN // 2, home.space.intent_count)
        codes.data[codes.indptr[0] : codes.indptr[1]] = 0
        codes.eliminate_zeros()
        ids = [f"{name}/{place}" for place in range(FOREIGN // 2)]
        items = ForeignItems(name, ids, ids, codes)
        source = SourceRecord(folder=name, data_sha256="0" * 64)
        write_foreign_items(items, home, source, False, folder / name)
    return load_model(folder / "bundle", request.param, 20, (folder / "mugs", folder / "cups"))


def histories(model: LoadedModel) -> st.SearchStrategy[list[int]]:
    """Places of any items, at least one of another domain."""
    home = model.history.home_count
    mixed = st.lists(st.integers(0, home + FOREIGN - 1), max_size=30)
    abroad = st.integers(home, home + FOREIGN - 1)
    return st.tuples(mixed, abroad, mixed).map(lambda parts: [*parts[0], parts[1], *parts[2]])


@laws
@given(data=st.data())
def test_the_parts_add_up_to_the_score_and_only_the_catalogue_is_ranked(
    travelled: LoadedModel, data: st.DataObject
) -> None:
    ranker, history = travelled.ranker, data.draw(histories(travelled))
    user = ranker.user(history)
    ranking = ranker.rank(
        user, data.draw(adjustment_lists(travelled.bundle)), data.draw(masks(travelled.bundle)), 20
    )
    read = history[-travelled.bundle.config.train.max_length :]
    assert not user.cold
    assert (ranking.items < travelled.history.home_count).all()
    for item, score, why in zip(ranking.items, ranking.scores, ranker.explain(ranking), strict=True):
        parts = sum(reason.contribution for reason in why.intents) + why.other_intents + why.residual
        parts += why.bias + why.companions + sum(change for _, change in why.steering)
        assert parts == pytest.approx(float(score), abs=1e-5 * max(1.0, abs(float(score))))
        whole = companion_parts(travelled.history.space, np.array(read), int(item))
        assert float(whole.sum()) == pytest.approx(why.companions, abs=1e-5)
        assert not whole[np.array(read) >= travelled.history.home_count].any()
        assert sum(each.share for each in why.evidence) <= 1 + 1e-5
        assert {each.place for each in why.evidence} <= set(range(len(read)))


@laws
@given(data=st.data())
def test_the_profile_is_the_weighted_sum_of_all_codes_of_the_history(
    travelled: LoadedModel, data: st.DataObject
) -> None:
    history = data.draw(histories(travelled))
    user = travelled.ranker.user(history)
    codes = travelled.history.space.codes[user.history]
    np.testing.assert_allclose(user.profile, user.weights @ codes.toarray(), atol=1e-5)


@laws
@given(data=st.data())
def test_verdicts_are_those_of_the_items_of_the_catalogue_alone(
    travelled: LoadedModel, data: st.DataObject
) -> None:
    ranker, history = travelled.ranker, data.draw(histories(travelled))
    every = travelled.bundle.space.intent_count
    mixed = explain_user(ranker, ranker.user(history), history, history, [], every, 3)
    home = travelled.history.at_home(history)
    alone = explain_user(ranker, ranker.user(home), home, home, [], every, 3)
    compared = [
        {each.intent: (each.verdict, each.log_lift, each.z_score) for each in insight.reasons}
        for insight in (mixed, alone)
    ]
    if home:
        assert compared[0] == compared[1]
    else:
        assert not compared[1], "nothing is known of a user without history"
        assert {verdict for verdict, _, _ in compared[0].values()} <= {Verdict.TYPICAL}
    assert 0 <= mixed.intent_share <= 1


@laws
@given(data=st.data())
def test_steering_is_previewed_on_a_page_without_what_was_met(
    travelled: LoadedModel, data: st.DataObject
) -> None:
    ranker, history = travelled.ranker, data.draw(histories(travelled))
    user = ranker.user(history)
    edits = data.draw(adjustment_lists(travelled.bundle))
    effect = steering_effect(ranker, user, history, [], edits)
    assert 0 <= effect.overlap <= 1
    assert {edit.intent for edit in edits} <= {intent for intent, _, _ in effect.exposures}
