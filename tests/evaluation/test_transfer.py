"""Transfer is measured fairly: a dictionary that fits scores like the native one, a strange one shows as such."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, hstack

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.backbone.model import SequenceEncoder
from saerec_ray.backbone.validation import HeldOut
from saerec_ray.config import TrainConfig
from saerec_ray.dictionary.adoption import recentred, unexplained_about_own_mean
from saerec_ray.dictionary.sae import Dictionary, Scaling, unit_rows
from saerec_ray.evaluation.text_neighbours import CLOSENESS
from saerec_ray.evaluation.transfer import (
    SharedUsers,
    TrainedModel,
    dictionary_transfer,
    encode_foreign,
    label_transfer,
    profile_transfer,
)
from saerec_ray.scoring import ItemSpace, PriorTable
from tests.intents.named_latents import intent

WIDTH, LATENTS = 24, 8


def read_by(directions: np.ndarray, mean: np.ndarray | None = None) -> Dictionary:
    """A dictionary whose encoder and decoder are these orthonormal directions."""
    directions = directions.astype(np.float32)
    return Dictionary(
        encoder=directions,
        encoder_bias=np.full(len(directions), -1e-4, np.float32),  # above rounding errors
        decoder=directions,
        decoder_bias=np.zeros(directions.shape[1], np.float32),
        scaling=Scaling(np.zeros(directions.shape[1], np.float32) if mean is None else mean, 1.0),
        threshold=0.05,
        most_active=6,
    )


def texts_along(directions: np.ndarray, seed: int, items: int = 400) -> np.ndarray:
    """Unit vectors made of two of the directions each: (items, d)."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((items, directions.shape[1]))
    for row in range(items):
        chosen = rng.choice(len(directions), 2, replace=False)
        vectors[row] = rng.uniform(0.5, 1, 2) @ directions[chosen]
    return unit_rows(vectors.astype(np.float32))


BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]
HERE, THERE = BASIS[:LATENTS], BASIS[LATENTS : 2 * LATENTS]


def test_the_native_dictionary_transfers_to_its_own_domain_whole() -> None:
    vectors = texts_along(HERE, 1)
    found = dictionary_transfer(read_by(HERE), read_by(HERE), vectors, np.arange(100), seed=2)
    assert found["fvu_ratio_foreign"] == 1
    assert found["match_share"] == 1
    assert found["live_share_foreign"] == found["live_share_native"] == 1
    assert found["l0_foreign"] == found["l0_native"] == pytest.approx(2)
    assert found["fvu_native"] < 1e-6 < found["fvu_random"]


def test_a_dictionary_of_other_directions_explains_nothing() -> None:
    vectors = texts_along(HERE, 3)
    found = dictionary_transfer(read_by(THERE), read_by(HERE), vectors, np.arange(100), seed=4)
    assert found["fvu_foreign"] >= 1 - 1e-6
    assert found["match_share"] == 0
    assert found["live_share_foreign"] == 0


def test_half_of_the_directions_match_when_half_are_shared() -> None:
    mixed = np.concatenate([HERE[:4], THERE[:4]])
    found = dictionary_transfer(read_by(mixed), read_by(HERE), texts_along(HERE, 5), np.arange(100), seed=6)
    assert found["match_share"] == 0.5
    assert found["live_share_foreign"] == 0.5


def test_only_unseen_items_are_reconstructed() -> None:
    strange, own = texts_along(THERE, 7, items=50), texts_along(HERE, 8, items=50)
    vectors = np.concatenate([strange, own])
    native = read_by(HERE)
    own_only = dictionary_transfer(native, native, vectors, np.arange(50, 100), seed=9)
    strange_only = dictionary_transfer(native, native, vectors, np.arange(50), seed=9)
    assert own_only["fvu_native"] < 1e-6
    assert strange_only["fvu_native"] >= 1 - 1e-6


def test_centring_anew_helps_where_the_domain_lies_elsewhere() -> None:
    offset = 2 * BASIS[-1].astype(np.float32)
    vectors = unit_rows(texts_along(HERE, 10) + offset)
    home_mean = unit_rows(texts_along(HERE, 9)).mean(axis=0)
    away = read_by(HERE, home_mean)
    assert unexplained_about_own_mean(recentred(away, vectors), vectors) < unexplained_about_own_mean(
        away, vectors
    )


def test_unexplained_variance_does_not_depend_on_where_a_useless_dictionary_is_centred() -> None:
    vectors = texts_along(HERE, 11)
    nothing = replace(read_by(THERE, np.full(WIDTH, 0.1, np.float32)), threshold=10.0)
    assert unexplained_about_own_mean(recentred(nothing, vectors), vectors) == pytest.approx(1, abs=1e-5)


def test_names_that_fit_keep_finding_items_and_names_of_others_do_not() -> None:
    vectors = texts_along(HERE, 12)
    codes = read_by(HERE).encode(vectors)
    intents = [intent(f"int-0000000{latent}", latent, detection_auc=0.95) for latent in range(LATENTS)]
    intents[7] = intents[7].model_copy(update={"state": "unpublished"})
    fitting = label_transfer(intents, HERE.astype(np.float32), codes, vectors, seed=13)
    assert (fitting["published"], fitting["judged"]) == (7, 7)
    assert fitting["auc_away"] > 0.95 > fitting["auc_away_shuffled"] + 0.2
    assert fitting["kept_share"] == 1
    assert fitting["auc_home"] == pytest.approx(0.95)
    assert fitting["auc_drop"] == pytest.approx(fitting["auc_home"] - fitting["auc_away"])
    strange = label_transfer(intents, THERE.astype(np.float32), codes, vectors, seed=13)
    assert strange["auc_away"] == pytest.approx(0.5, abs=0.1)


def test_a_single_name_has_no_other_to_be_compared_with() -> None:
    vectors = texts_along(HERE, 12)
    codes = read_by(HERE).encode(vectors)
    found = label_transfer(
        [intent("int-00000000", 0, detection_auc=0.95)], HERE.astype(np.float32), codes, vectors, seed=13
    )
    assert found["judged"] == 1
    assert found["auc_away"] > 0.95
    assert found["auc_away_shuffled"] is None


def test_intents_of_co_occurrence_are_not_taken_to_other_domains() -> None:
    vectors = texts_along(HERE, 12)
    codes = read_by(HERE).encode(vectors)
    intents = [intent(f"int-0000000{latent}", latent, detection_auc=0.95) for latent in range(LATENTS)]
    alone = label_transfer(intents, HERE.astype(np.float32), codes, vectors, seed=13)
    more = intent("int-00000009", LATENTS, detection_auc=0.1, dictionary="cooccurrence")
    labels = np.concatenate([HERE, THERE[:1]]).astype(np.float32)
    assert label_transfer([*intents, more], labels, codes, vectors, seed=13) == alone


def test_names_of_latents_that_hardly_fire_are_not_judged() -> None:
    vectors = texts_along(HERE, 14)
    codes = csr_array((len(vectors), LATENTS), dtype=np.float32)
    intents = [intent("int-00000001", 0)]
    assert label_transfer(intents, HERE.astype(np.float32), codes, vectors, 15) == {
        "published": 1,
        "judged": 0,
    }


SETTINGS = TrainConfig(d_model=16, layers=1, heads=2, max_length=10, public_intents=4)


def trained(codes: csr_array, seed: int, prior_weight: float = 0.3) -> TrainedModel:
    rng = np.random.default_rng(seed)
    items = codes.shape[0]
    torch.manual_seed(seed)
    encoder = SequenceEncoder(SETTINGS, intents=True)
    return TrainedModel(
        space=ItemSpace(
            codes=codes,
            intent_vectors=rng.normal(size=(codes.shape[1], 16)).astype(np.float32),
            residuals=np.zeros((items, 16), np.float32),
            biases=np.zeros(items, np.float32),
            popularity=np.zeros(items, np.float32),
            prior_weight=prior_weight,
        ),
        prior=PriorTable(np.ones(codes.shape[1], np.float32), np.zeros(codes.shape[1], np.float32), 0.0),
        settings=SETTINGS,
        encoder={f"0.{name}": value.numpy() for name, value in encoder.state_dict().items()},
    )


def users_of(histories: list[list[int]], targets: list[int]) -> SharedUsers:
    return SharedUsers(
        [np.array(history) for history in histories],
        HeldOut(
            np.arange(len(histories)),
            [np.empty(0, np.int32)] * len(histories),
            [np.array([target], np.int32) for target in targets],
        ),
    )


def test_a_foreign_item_counts_like_an_item_of_the_same_text_here() -> None:
    vectors = texts_along(HERE, 16, items=30)
    texts = read_by(HERE).encode(vectors)
    nothing = csr_array((30, 2), dtype=np.float32)  # latents of co-occurrence, which foreign items lack
    codes = csr_array(hstack([texts, nothing]))
    model = trained(codes, 17)
    order = np.random.default_rng(18).permutation(30)
    histories = [[3, 1, 4], [1, 5], [9, 2, 6, 5, 3]]
    users = users_of(
        [[int(np.flatnonzero(order == item)[0]) for item in each] for each in histories], [0, 0, 0]
    )
    abroad = encode_foreign(model, csr_array(codes[order]), users)
    at_home = UserEncoder(SETTINGS, model.encoder, model.space, model.prior).encode(
        [np.array(each) for each in histories]
    )
    np.testing.assert_allclose(abroad.states, at_home.states, atol=1e-5)
    np.testing.assert_allclose(abroad.profiles, at_home.profiles, atol=1e-6)


def test_tastes_that_two_domains_share_beat_popularity() -> None:
    rng = np.random.default_rng(19)
    here = unit_rows((HERE[np.arange(80) % LATENTS] + 0.05 * rng.normal(size=(80, WIDTH))).astype(np.float32))
    there = unit_rows(
        (HERE[np.arange(40) % LATENTS] + 0.05 * rng.normal(size=(40, WIDTH))).astype(np.float32)
    )
    dictionary = read_by(HERE)
    model = trained(dictionary.encode(here), 20)
    users = users_of([[taste, taste + 8, taste + 16] for taste in range(LATENTS)], list(range(LATENTS)))
    codes = dictionary.encode(there)
    shifted = csr_array(codes[np.roll(np.arange(40), 1)])  # the next taste for each
    found = profile_transfer(model, {"whole": codes, "shifted": shifted}, there, here, users)
    assert found["intent prior, whole"]["HR@10"] == found["text neighbours, mean"]["HR@10"] == 1
    assert found["intent prior, whole"]["AUC"] > 0.9
    assert found["intent prior, shifted"]["HR@10"] == 0
    model = replace(model, space=replace(model.space, popularity=np.arange(80, dtype=np.float32)))
    worst = profile_transfer(model, {}, there, here, users)["popularity"]
    assert worst["HR@10"] == 0
    assert worst["AUC"] < 0.1


def test_the_auc_of_a_blind_order_is_a_half_however_much_was_met() -> None:
    vectors = texts_along(HERE, 25, items=400)
    model = trained(read_by(HERE).encode(vectors), 26)
    rng = np.random.default_rng(27)
    model = replace(model, space=replace(model.space, popularity=rng.random(400).astype(np.float32)))
    users = users_of([[0]] * 400, list(range(400)))
    met = [np.setdiff1d(rng.choice(400, 300, replace=False), [target]) for target in range(400)]
    users.cases.histories[:] = [each.astype(np.int32) for each in met]
    assert profile_transfer(model, {}, vectors, vectors, users)["popularity"]["AUC"] == pytest.approx(
        0.5, abs=0.03
    )


def test_centred_text_neighbours_are_those_of_unit_vectors_around_the_mean_of_each_domain() -> None:
    rng = np.random.default_rng(23)
    here, there = (unit_rows((rng.normal(size=(80, WIDTH)) + 0.5).astype(np.float32)) for _ in range(2))
    model = trained(read_by(HERE).encode(here), 24)
    users = users_of(rng.integers(0, 80, (8, 3)).tolist(), list(range(8)))
    found = profile_transfer(model, {}, there, here, users)
    moved = profile_transfer(
        model, {}, unit_rows(there - there.mean(axis=0)), unit_rows(here - here.mean(axis=0)), users
    )
    for closeness in CLOSENESS:
        name = f"text neighbours, {closeness}"
        assert found[f"centred {name}"] == moved[name] != found[name]


def test_text_neighbours_are_told_which_items_were_met_last() -> None:
    """Many items of an old taste, then one of a new one: what counts depends on the weights."""
    rng = np.random.default_rng(21)
    here = unit_rows(
        (HERE[np.arange(80) % LATENTS] + 0.002 * rng.normal(size=(80, WIDTH))).astype(np.float32)
    )
    model = trained(read_by(HERE).encode(here), 22)
    users = users_of([[0, 8, 16, 24, 1], [0, 8, 16, 24, 2]], [1 + 8 * 3, 2 + 8 * 3])
    found = profile_transfer(model, {}, here, here, users)
    assert found["text neighbours, mean"]["HR@10"] == 0
    assert found["text neighbours, recent"]["HR@10"] == 1
    assert found["centred text neighbours, recent"]["HR@10"] == 1
