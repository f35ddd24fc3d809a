"""The split is the one the dictionary was trained with, read from what its stage recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from saerec_ray.dictionary.sae import Floats, write_dictionary
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.dictionary.stability import write_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import StageError
from saerec_ray.evaluation.coded_items import MOST_FITTED, CodedItems, read_coded_items
from saerec_ray.text.embed import EMBEDDINGS_FILE
from tests.evaluation.planted_dictionary import TOPICS, plant
from tests.finished_stage import finish_stage

PLANTED = plant()


def stages(folder: Path, recorded: dict[str, Any], stability: Floats | None = None) -> CodedItems:
    for name in ("embed", "dictionary"):
        (folder / name).mkdir()
    if stability is not None:
        write_stability(stability, folder / "dictionary")
    save_file({"embeddings": PLANTED.vectors}, folder / "embed" / EMBEDDINGS_FILE)
    write_dictionary(PLANTED.dictionary, folder / "dictionary")
    finish_stage(folder / "dictionary", recorded)
    return read_coded_items(folder / "embed", folder / "dictionary")


@pytest.mark.parametrize(("own_seed", "expected"), [(None, 11), (4, 4)])
def test_held_out_items_are_those_that_training_did_not_see(
    tmp_path: Path, own_seed: int | None, expected: int
) -> None:
    config = DictionaryConfig(width=TOPICS, active=3, held_out_share=0.25, seed=own_seed)
    coded = stages(tmp_path, {"settings": [config.model_dump(mode="json"), 11]})
    split = split_for_training(PLANTED.vectors, 0.25, expected)
    np.testing.assert_array_equal(coded.train, split.train)
    np.testing.assert_array_equal(coded.choosing, split.choosing)
    np.testing.assert_array_equal(coded.held_out, split.held_out)
    np.testing.assert_array_equal(coded.calibrating, PLANTED.vectors[split.choosing])
    assert coded.trained_here
    assert coded.stability is None
    np.testing.assert_array_equal(coded.codes.toarray() > 0, PLANTED.present)


def test_a_dictionary_from_elsewhere_says_so(tmp_path: Path) -> None:
    config = DictionaryConfig(width=TOPICS, active=3, source=Path("before"))
    assert not stages(tmp_path, {"settings": [config.model_dump(mode="json"), 1]}).trained_here


def test_stability_is_read_where_several_seeds_were_trained(tmp_path: Path) -> None:
    values = np.linspace(0, 1, TOPICS, dtype=np.float32)
    config = DictionaryConfig(width=TOPICS, active=3).model_dump(mode="json")
    found = stages(tmp_path, {"settings": [config, 1]}, values).stability
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("recorded", [{}, {"settings": None}, {"settings": [{"width": "wide"}, 1]}])
def test_a_manifest_that_does_not_say_how_it_was_trained_is_an_error_with_a_remedy(
    tmp_path: Path, recorded: dict[str, Any]
) -> None:
    with pytest.raises(StageError, match="run that stage again"):
        stages(tmp_path, recorded)


def test_controls_are_fitted_on_a_bounded_number_of_training_items() -> None:
    rng = np.random.default_rng(0)
    many = rng.normal(size=(MOST_FITTED + 2000, 4)).astype(np.float32)
    train = np.arange(1000, len(many))
    coded = CodedItems(PLANTED.dictionary, many, train, np.arange(500), np.arange(500, 1000), seed=1)
    assert coded.fitting.shape == (MOST_FITTED, 4)
    assert not set(map(bytes, coded.fitting)) & set(map(bytes, many[:1000])), "no held-out item"
    few = CodedItems(PLANTED.dictionary, many, np.arange(5, 30), np.arange(2), np.arange(2, 5), seed=1)
    np.testing.assert_array_equal(few.fitting, many[5:30])
