"""The part `transfer`: who is the same person, what is measured of every other domain, and what a reader is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.backbone.build import read_model
from saerec_ray.dictionary.concatenated import Dictionaries
from saerec_ray.dictionary.foreign import ForeignReader
from saerec_ray.errors import InputError
from saerec_ray.evaluation.coded_items import CodedItems, read_coded_items
from saerec_ray.evaluation.transfer import TrainedModel
from saerec_ray.evaluation.transfer_part import (
    CENTRES,
    NO_PROFILES,
    PROFILE_SCORERS,
    WHOLE,
    Trial,
    measure_profiles,
    measure_transfer,
    shared_users,
    transfer_headline,
)
from saerec_ray.evaluation.transfer_tables import transfer_lines
from saerec_ray.intents.catalogue import Intent
from tests.backbone.small_sets import sequences_of
from tests.evaluation.finished_stages import USERS, encode, write_stages
from tests.evaluation.other_domain import other_domain, other_domains
from tests.synthetic import synthetic_config

SEED = 7


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    write_stages(folder)
    return folder


@pytest.fixture(scope="module")
def coded(workdir: Path) -> CodedItems:
    return read_coded_items(workdir / "embed", workdir / "dictionary")


def trial_on(workdir: Path, most_users: int = 100) -> Trial:
    config = synthetic_config().train
    space, encoder, frozen = read_model(workdir / "train", config)
    reader = other_domains(workdir).reader
    assert reader is not None
    return Trial(
        TrainedModel(space, frozen.prior, config, encoder.weights()),
        reader,
        other_domain(workdir).sequences,
        most_users,
    )


@pytest.fixture(scope="module")
def found(workdir: Path, coded: CodedItems) -> dict[str, Any]:
    domains = other_domains(workdir, "there", "elsewhere").domains
    return measure_transfer(domains, coded, encode, trial_on(workdir), SEED)


def test_the_same_id_is_the_same_person_and_its_history_there_is_that_before_held_out_items() -> None:
    there = sequences_of([([1, 2, 3], [4], [5]), ([6, 7], [8], [9]), ([], [2], [3])])
    here = sequences_of([([10, 11], [12], [13]), ([14], [15], [16]), ([17], [18], [19])])
    there = replace(there, user_ids=["ann", "bob", "eve"])
    here = replace(here, user_ids=["eve", "tim", "ann"])
    users = shared_users(there, here, 10, SEED)
    assert users.cases.users.tolist() == [2], "eve has no history there, tim and bob are in one only"
    assert [history.tolist() for history in users.foreign_histories] == [[1, 2, 3]]
    assert [targets.tolist() for targets in users.cases.targets] == [[19]]


def test_of_too_many_users_a_sample_is_drawn_that_keeps_histories_beside_their_users(workdir: Path) -> None:
    sequences = other_domain(workdir).sequences
    everyone, few = (shared_users(sequences, sequences, most, SEED) for most in (100, 9))
    assert (len(everyone.cases), len(few.cases)) == (USERS, 9)
    whole = {
        int(user): each for user, each in zip(everyone.cases.users, everyone.foreign_histories, strict=True)
    }
    for user, history in zip(few.cases.users, few.foreign_histories, strict=True):
        np.testing.assert_array_equal(history, whole[int(user)])


def test_every_other_domain_has_its_dictionary_its_names_and_its_histories_measured(
    found: dict[str, Any], coded: CodedItems
) -> None:
    assert set(found["domains"]) == {"there", "elsewhere"}
    assert found["measured_items"] == len(coded.held_out)
    for each in found["domains"].values():
        assert each["dictionary"]["fvu_ratio_foreign"] == 1, "it is the very dictionary of this run"
        assert set(each["labels"]) == set(CENTRES)
        assert each["labels"]["kept centre"]["judged"] > 0
        assert each["profiles"]["users"] == USERS
        shown = [name for name in PROFILE_SCORERS if WHOLE not in name]
        assert set(each["profiles"]["models"]) == set(shown), "this run has no attributes and no phrases"
    assert "no_profiles" not in found
    json.dumps(found, allow_nan=False)


def test_without_known_people_histories_are_left_out_and_the_text_says_why(
    workdir: Path, coded: CodedItems, found: dict[str, Any]
) -> None:
    alone = measure_transfer(other_domains(workdir).domains, coded, encode, None, SEED)
    assert "profiles" not in alone["domains"]["there"]
    assert alone["no_profiles"] == NO_PROFILES
    assert alone["domains"]["there"]["labels"] == found["domains"]["there"]["labels"]
    assert "set evaluate.shared_user_ids to true" in "\n".join(transfer_lines(alone))
    assert "shared_user_ids" not in "\n".join(transfer_lines(found))


def test_where_no_user_is_in_both_no_figures_are_made_up(workdir: Path, coded: CodedItems) -> None:
    trial = trial_on(workdir)
    strangers = [f"stranger {user}" for user in range(USERS)]
    trial = replace(trial, sequences=replace(trial.sequences, user_ids=strangers))
    found = measure_transfer(other_domains(workdir).domains, coded, encode, trial, SEED)
    assert found["domains"]["there"]["profiles"] == {"users": 0}
    assert "no user id is in both" in "\n".join(transfer_lines(found))


def test_names_of_attributes_are_not_encoded(workdir: Path, coded: CodedItems) -> None:
    """They are exact where the attribute is the same, and mean nothing where it is not."""
    domain = other_domain(workdir)
    further = domain.intents[-1].model_copy(update={"latent": len(domain.intents), "label": "Brand: Acme"})
    asked: list[str] = []

    def listening(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return encode(texts)

    both: list[Intent] = [*domain.intents, further]
    measure_transfer([replace(domain, intents=both)], coded, listening, None, SEED)
    assert asked == [intent.label for intent in domain.intents]


def test_a_dictionary_that_the_model_was_not_trained_with_is_refused(
    workdir: Path, coded: CodedItems
) -> None:
    trial = trial_on(workdir)
    wider = Dictionaries(trial.reader.dictionaries.text, cooccurrence=trial.reader.dictionaries.text)
    with pytest.raises(InputError, match="has 64 latents, but the model was trained with 32; run the stages"):
        measure_profiles(
            other_domain(workdir), replace(trial, reader=ForeignReader(wider)), coded.vectors, SEED
        )


def test_a_single_item_has_no_variance_and_the_text_has_a_dash(workdir: Path, coded: CodedItems) -> None:
    one = replace(coded, held_out=coded.held_out[:1])
    found = measure_transfer(other_domains(workdir).domains, one, encode, None, SEED)
    row = found["domains"]["there"]["dictionary"]
    assert row["fvu_native"] is row["fvu_foreign"] is row["fvu_ratio_foreign_recentred"] is None
    assert any(line.startswith("| of this run | – | –") for line in transfer_lines(found))
    assert set(transfer_headline({"transfer": found})) == {"transfer_there_label_auc"}


@pytest.mark.parametrize(
    ("interval", "said"), [([0.01, 0.03], "better"), ([-0.03, -0.01], "worse"), ([-0.01, 0.01], "no clear")]
)
@pytest.mark.parametrize(
    ("other", "row", "place"),
    [
        ("popularity", "text neighbours, mean", 7),
        ("popularity", "model, learnt latents alone, recentred", 7),
        ("texts", "model, learnt latents alone, recentred", 9),
    ],
)
def test_each_verdict_is_that_of_its_interval(
    found: dict[str, Any], interval: list[float], said: str, other: str, row: str, place: int
) -> None:
    changed = json.loads(json.dumps(found))
    changed["domains"]["there"]["profiles"]["models"][row][f"HR@10_over_{other}_interval"] = interval
    section = "\n".join(transfer_lines(changed)).partition("## From there")[2]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {row} ")]
    assert said in line.split("|")[place]


def test_the_interval_lies_around_the_difference_of_the_two_hit_rates(found: dict[str, Any]) -> None:
    models = found["domains"]["there"]["profiles"]["models"]
    for name, row in models.items():
        if name == "popularity":
            assert "HR@10_over_popularity" not in row
            continue
        low, high = row["HR@10_over_popularity_interval"]
        assert row["HR@10_over_popularity"] == pytest.approx(row["HR@10"] - models["popularity"]["HR@10"])
        assert low <= row["HR@10_over_popularity"] <= high


def test_the_model_and_its_prior_are_compared_with_the_reading_of_the_texts_that_is_best(
    found: dict[str, Any],
) -> None:
    models = found["domains"]["there"]["profiles"]["models"]
    texts = [name for name in models if "text neighbours" in name]
    best = max(models[name]["HR@10"] for name in texts)
    assert len(texts) == 6
    for name, row in models.items():
        if name == "popularity" or name in texts:
            assert "HR@10_over_texts" not in row
            continue
        low, high = row["HR@10_over_texts_interval"]
        assert row["HR@10_over_texts"] == pytest.approx(row["HR@10"] - best)
        assert low <= row["HR@10_over_texts"] <= high


def test_the_headlines_are_those_of_the_report(found: dict[str, Any]) -> None:
    headlines = transfer_headline({"transfer": found})
    there = found["domains"]["there"]
    assert headlines["transfer_there_fvu_ratio"] == there["dictionary"]["fvu_ratio_foreign_recentred"]
    assert headlines["transfer_elsewhere_label_auc"] == there["labels"]["recentred"]["auc_away"]
    assert transfer_headline({}) == {}
