"""The train stage: prior weight from validation alone, the steering table, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saerec_ray.backbone import build
from saerec_ray.backbone.build import (
    BASELINE_FILE,
    MODEL_FILE,
    QUANTILES,
    STEERING_FILE,
    build_backbone,
    population_values,
    read_model,
    read_steering,
)
from saerec_ray.backbone.frozen import FROZEN_FILE, prior_table, read_frozen
from saerec_ray.backbone.validation import (
    encode_users,
    held_out,
    model_ranks,
    ndcg,
)
from saerec_ray.config import ClusterConfig
from saerec_ray.data.prepared import PreparedSequences
from saerec_ray.dictionary.sae import Dictionary, Scaling, write_codes, write_dictionary
from saerec_ray.distributed import Engine
from saerec_ray.errors import InputError
from saerec_ray.intents.stage import POPULATION_FILE
from saerec_ray.scoring import intent_values, loading_caps, prior
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.backbone.small_sets import (
    INTENTS,
    ITEMS,
    TEXT,
    Parts,
    frozen_of,
    grouped_users,
    population_of,
    sequences_of,
    small_encoder,
    small_settings,
    text_vectors,
    write_items,
    write_sequences,
)

USERS = grouped_users()
SEQUENCES = sequences_of(USERS)
FROZEN = frozen_of(SEQUENCES)


def write_stages(workdir: Path, sequences: PreparedSequences) -> None:
    """What the stages before leave behind, as far as training reads it."""
    for stage in ("prepare", "embed", "dictionary", "intents", "train"):
        (workdir / stage).mkdir(parents=True)
    write_sequences(sequences, workdir / "prepare")
    write_items(workdir / "prepare")
    save_file({"embeddings": text_vectors()}, workdir / "embed" / EMBEDDINGS_FILE)
    write_codes(FROZEN.codes, workdir / "dictionary")
    nothing = np.zeros(TEXT, dtype=np.float32)
    dictionary = Dictionary(
        encoder=FROZEN.decoder,
        encoder_bias=np.zeros(INTENTS, dtype=np.float32),
        decoder=FROZEN.decoder,
        decoder_bias=nothing,
        scaling=Scaling(nothing, 1.0),
        threshold=0.0,
        most_active=4,
        code_scale=1.0,
    )
    write_dictionary(dictionary, workdir / "dictionary")
    population = population_of(SEQUENCES, FROZEN.codes)
    scalars = {name: np.array([getattr(population, name)]) for name in ("users", "mean_item_mass")}
    arrays = {**population.arrays(), **{name: value.astype(np.float64) for name, value in scalars.items()}}
    save_file(arrays, workdir / "intents" / POPULATION_FILE)


def stage_folders(workdir: Path) -> dict[str, Path]:
    """The folders that the stage takes, by their names there."""
    return {
        "prepared": workdir / "prepare",
        "embedded": workdir / "embed",
        "dictionary_folder": workdir / "dictionary",
        "intents_folder": workdir / "intents",
        "folder": workdir / "train",
        "runs": workdir / "runs",
    }


def built(
    workdir: Path, users: list[Parts] = USERS, seed: int = 7, engine: Engine = "local", **changes: Any
) -> dict[str, Any]:
    """Runs the stage and returns its metrics, with what was logged under `logged`."""
    write_stages(workdir, sequences_of(users))
    logged: list[dict[str, Any]] = []
    metrics = build_backbone(
        small_settings(**{"epochs": 2, "learning_rate": 0.02, **changes}),
        ClusterConfig(engine=engine, max_failures=0, gpus=False),
        seed,
        **stage_folders(workdir),
        on_log=logged.append,
    )
    return {**metrics, "logged": logged}


@pytest.fixture(scope="module")
def with_baseline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    workdir = tmp_path_factory.mktemp("built")
    metrics = built(workdir, baseline=True)
    return workdir / "train", metrics


def test_both_models_are_trained_and_the_log_tells_which(with_baseline: tuple[Path, dict[str, Any]]) -> None:
    folder, metrics = with_baseline
    names = {path.name for path in folder.iterdir()}
    assert names == {FROZEN_FILE, MODEL_FILE, BASELINE_FILE, STEERING_FILE}
    assert {line["model"] for line in metrics["logged"]} == {"with_intents", "without_intents"}
    for name in ("with_intents", "without_intents"):
        assert metrics[name]["epochs"] == [2]
        assert 0 < metrics[name]["validation_ndcg"][0] <= 1


def test_without_the_baseline_one_model_is_trained(tmp_path: Path) -> None:
    metrics = built(tmp_path, baseline=False)
    assert not (tmp_path / "train" / BASELINE_FILE).exists()
    assert "without_intents" not in metrics


def test_members_are_trained_from_seeds_of_their_own_and_stand_side_by_side(
    with_baseline: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    metrics = built(tmp_path, baseline=False, members=2)
    assert {line["model"] for line in metrics["logged"]} == {"with_intents_1", "with_intents_2"}
    assert metrics["with_intents"]["epochs"] == [2, 2]
    alone, both = (load_file(folder / MODEL_FILE) for folder in (with_baseline[0], tmp_path / "train"))
    first, second = np.split(both["items.residuals"], 2, axis=1)
    np.testing.assert_array_equal(first, alone["items.residuals"])
    assert not np.allclose(first, second)
    space, encoder, frozen = read_model(tmp_path / "train", small_settings(members=2))
    cases = held_out(SEQUENCES, "validation")
    found = ndcg(model_ranks(space, frozen.prior, encode_users(encoder, cases)), 10)
    assert found == pytest.approx(max(metrics["prior_weights_tried"].values()))


def test_what_the_gate_gives_state_and_branches_is_written_down_for_each_member(tmp_path: Path) -> None:
    metrics = built(tmp_path, members=2)
    gates = np.array([metrics[f"gate_{name}"] for name in ("own_state", "personal", "public")])
    assert gates.shape == (3, 2)
    np.testing.assert_allclose(gates.sum(axis=0), 1, rtol=1e-5)
    scales = [load_file(tmp_path / "train" / MODEL_FILE)[f"encoder.{member}.branch_scale"] for member in "01"]
    assert metrics["branch_scale"] == pytest.approx([float(scale) for scale in scales])
    alone = built(tmp_path / "alone", branches="none")
    assert not [name for name in alone if name.startswith(("gate_", "branch_"))], "no branches, no gate"


@pytest.mark.ray
def test_models_trained_side_by_side_with_ray_are_those_trained_one_after_the_other(tmp_path: Path) -> None:
    for engine in ("local", "ray"):
        metrics = built(tmp_path / engine, engine=engine, members=2)
        trained = {"with_intents_1", "with_intents_2"}
        assert {line["model"] for line in metrics["logged"]} == trained
        done = [line["done"] for line in metrics["logged"]]
        assert done == sorted(done)
        assert done[-1] == metrics["logged"][-1]["total"] == 2 * len(trained), "epochs of all models"
    one_by_one, together = (
        load_file(tmp_path / engine / "train" / MODEL_FILE) for engine in ("local", "ray")
    )
    for tensor, values in one_by_one.items():
        np.testing.assert_array_equal(together[tensor], values, err_msg=tensor)


def test_nothing_that_is_written_depends_on_the_test_items(
    with_baseline: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, metrics = with_baseline
    others = [(train, validation, [ITEMS - 1 - item for item in test]) for train, validation, test in USERS]
    again = built(tmp_path, users=others, baseline=True)
    for path in sorted(folder.iterdir()):
        assert (tmp_path / "train" / path.name).read_bytes() == path.read_bytes(), path.name
    assert again["prior_weights_tried"] == metrics["prior_weights_tried"]


def test_the_prior_weight_is_chosen_anew_when_other_items_are_held_out_for_validation(
    with_baseline: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Shows that the test above can fail."""
    _, metrics = with_baseline
    others = [(train, [ITEMS - 1 - item for item in later], test) for train, later, test in USERS]
    assert built(tmp_path, users=others)["prior_weights_tried"] != metrics["prior_weights_tried"]


def test_the_chosen_prior_weight_has_the_best_validation_of_those_tried(
    with_baseline: tuple[Path, dict[str, Any]],
) -> None:
    folder, metrics = with_baseline
    tried = metrics["prior_weights_tried"]
    assert sorted(map(float, tried)) == small_settings().prior_weights
    space, encoder, frozen = read_model(folder, small_settings())
    assert space.prior_weight == metrics["prior_weight"]
    users = encode_users(encoder, held_out(SEQUENCES, "validation"))
    assert ndcg(model_ranks(space, frozen.prior, users), 10) == pytest.approx(max(tried.values()))
    assert tried["0"] == pytest.approx(metrics["with_intents"]["validation_ndcg"][0])


def test_the_steering_table_measures_intent_values_of_the_training_histories(
    with_baseline: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = with_baseline
    space, encoder, frozen = read_model(folder, small_settings())
    users = encoder.encode([np.array(train) for train, _, _ in USERS])
    values = intent_values(space, users.states, prior(users.profiles, frozen.prior)).astype(np.float64)
    steering = read_steering(folder)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(steering["targets"], np.percentile(values, 99, axis=0), **close)
    np.testing.assert_allclose(steering["spreads"], values.std(axis=0), **close)
    np.testing.assert_array_equal(steering["loading_caps"], loading_caps(FROZEN.codes))
    quantiles = steering["value_quantiles"]
    assert quantiles.shape == (QUANTILES, INTENTS)
    np.testing.assert_allclose(quantiles[[0, 50, 100]], np.percentile(values, [0, 50, 100], axis=0), **close)
    assert (np.diff(quantiles, axis=0) >= 0).all()


def test_the_baseline_is_read_back_without_intents_and_without_prior(
    with_baseline: tuple[Path, dict[str, Any]],
) -> None:
    folder, metrics = with_baseline
    space, encoder, frozen = read_model(folder, small_settings(), baseline=True)
    assert space.prior_weight == 0
    assert space.codes.nnz == 0
    users = encode_users(encoder, held_out(SEQUENCES, "validation"))
    found = ndcg(model_ranks(space, frozen.prior, users), 10)
    assert found == pytest.approx(metrics["without_intents"]["validation_ndcg"][0])


def test_the_control_gives_items_the_codes_of_others_and_keeps_them_all(tmp_path: Path) -> None:
    built(tmp_path, shuffle_codes=True, epochs=1)
    shuffled = np.asarray(read_frozen(tmp_path / "train", intents=True).codes.todense())
    codes = np.asarray(FROZEN.codes.todense())
    assert (shuffled != codes).any(axis=1).mean() > 0.8
    assert sorted(map(tuple, shuffled.tolist())) == sorted(map(tuple, codes.tolist()))
    frozen = read_frozen(tmp_path / "train", intents=True)
    measured = prior_table(population_of(SEQUENCES, frozen.codes), small_settings().public_share)
    np.testing.assert_array_equal(
        frozen.prior.public, measured.public, "the prior is that of the codes in use"
    )
    np.testing.assert_array_equal(
        frozen.prior.inverse_document_frequency, measured.inverse_document_frequency
    )
    assert not np.allclose(measured.public, FROZEN.prior.public)


def test_items_that_nobody_took_in_training_are_not_trained_as_things_that_nobody_wants(
    tmp_path: Path,
) -> None:
    """The item that all others of a group are taken with, but in the test part alone."""
    users: list[Parts] = [
        ([item for item in train if item], validation, [0]) for train, validation, _ in USERS
    ]
    built(tmp_path, users=[user for user in users if user[1] != [0]], epochs=1)
    model = load_file(tmp_path / "train" / MODEL_FILE)
    absent = read_frozen(tmp_path / "train", intents=True).popularity == 0
    assert absent[0]
    assert not model["items.biases"][absent].any()
    assert not model["items.residuals"][absent].any()
    assert model["items.biases"][~absent].all()


def test_without_a_user_with_two_training_interactions_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No user has two training interactions"):
        built(tmp_path, users=[([4], [5], [6]), ([], [1], [2])])


def test_where_nothing_is_held_out_the_prior_has_no_weight(tmp_path: Path) -> None:
    metrics = built(tmp_path, users=[(train, [], []) for train, _, _ in USERS], epochs=1)
    assert (metrics["prior_weight"], metrics["prior_weights_tried"]) == (0.0, {})


def test_population_values_leave_out_users_without_training_history_and_read_no_later_item() -> None:
    space, encoder = small_encoder(FROZEN, prior_weight=0.5)
    users: list[Parts] = [([3, 4], [5], [6]), ([], [1], [2]), ([8], [], [9])]
    values = population_values(encoder, space, FROZEN, sequences_of(users), seed=1)
    alone = encoder.encode([np.array([3, 4]), np.array([8])])
    expected = intent_values(space, alone.states, prior(alone.profiles, FROZEN.prior))
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


def test_a_large_population_is_sampled_and_the_seed_decides_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    space, encoder = small_encoder(FROZEN)
    everyone = population_values(encoder, space, FROZEN, SEQUENCES, seed=1)
    monkeypatch.setattr(build, "_POPULATION_SAMPLE", 20)
    some = population_values(encoder, space, FROZEN, SEQUENCES, seed=1)
    assert some.shape == (20, INTENTS)
    np.testing.assert_array_equal(some, population_values(encoder, space, FROZEN, SEQUENCES, seed=1))
    assert not np.array_equal(some, population_values(encoder, space, FROZEN, SEQUENCES, seed=2))
    distances = np.abs(everyone[None] - some[:, None]).max(axis=2)
    assert distances.min(axis=1).max() < 1e-4, "each is one of the users"
