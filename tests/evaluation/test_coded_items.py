"""Split and codes are those of the dictionary stage, reviews included, read from what it wrote and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.sparse import csr_array

from saerec_ray.backbone.cold import draw_cold_items
from saerec_ray.dictionary.concatenated import concatenated
from saerec_ray.dictionary.sae import Floats, read_codes, write_codes, write_dictionary
from saerec_ray.dictionary.samples import Indices, item_codes, load_samples
from saerec_ray.dictionary.split import split_for_training
from saerec_ray.dictionary.stability import write_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import StageError
from saerec_ray.evaluation.coded_items import MOST_FITTED, CodedItems, read_coded_items
from saerec_ray.text.embed import EMBEDDINGS_FILE, REVIEW_EMBEDDINGS_FILE
from tests.evaluation.planted_dictionary import ITEMS, TOPICS, plant
from tests.finished_stage import finish_stage

PLANTED = plant()


def stages(
    folder: Path,
    recorded: dict[str, Any],
    stability: Floats | None = None,
    *,
    reviews: tuple[Floats, Indices] | None = None,
    cold: Sequence[int] = (),
    second: csr_array | None = None,
) -> CodedItems:
    """Finished stages of the planted dictionary; `second` stands for the codes of another dictionary."""
    for name in ("embed", "dictionary"):
        (folder / name).mkdir()
    if stability is not None:
        write_stability(stability, folder / "dictionary")
    save_file({"embeddings": PLANTED.vectors}, folder / "embed" / EMBEDDINGS_FILE)
    if reviews is not None:
        about = {"embeddings": reviews[0], "items": reviews[1].astype(np.int32)}
        save_file(about, folder / "embed" / REVIEW_EMBEDDINGS_FILE)
    write_dictionary(PLANTED.dictionary, folder / "dictionary")
    codes = item_codes(PLANTED.dictionary, load_samples(folder / "embed", cold))
    write_codes(codes if second is None else concatenated(codes, second), folder / "dictionary")
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
    np.testing.assert_array_equal(coded.codes.toarray(), coded.text_codes.toarray())


def test_a_dictionary_from_elsewhere_says_so(tmp_path: Path) -> None:
    config = DictionaryConfig(width=TOPICS, active=3, source=Path("before"))
    assert not stages(tmp_path, {"settings": [config.model_dump(mode="json"), 1]}).trained_here


def test_stability_is_read_where_several_seeds_were_trained(tmp_path: Path) -> None:
    values = np.linspace(0, 1, TOPICS, dtype=np.float32)
    config = DictionaryConfig(width=TOPICS, active=3).model_dump(mode="json")
    found = stages(tmp_path, {"settings": [config, 1]}, values).stability
    np.testing.assert_array_equal(found, values)


def one_topic_more() -> tuple[Floats, Indices]:
    """A review of every second item, about a topic that its text does not have, and those items."""
    items = np.arange(0, ITEMS, 2)
    topics = np.argmin(PLANTED.present[items], axis=1)
    return PLANTED.directions[topics], items


def test_with_reviews_codes_are_those_that_people_meet_and_the_random_control_reads_reviews_too(
    tmp_path: Path,
) -> None:
    vectors, items = one_topic_more()
    config = DictionaryConfig(width=TOPICS, active=3).model_dump(mode="json")
    coded = stages(tmp_path, {"settings": [config, 1]}, reviews=(vectors, items))
    said = np.zeros_like(PLANTED.present)
    said[items, np.argmin(PLANTED.present[items], axis=1)] = True
    np.testing.assert_array_equal(coded.codes.toarray() > 0, PLANTED.present | said)
    np.testing.assert_array_equal(coded.text_codes.toarray() > 0, PLANTED.present)
    np.testing.assert_array_equal(coded.codes.toarray(), read_codes(tmp_path / "dictionary").toarray())
    assert coded.vectors.shape == PLANTED.vectors.shape
    np.testing.assert_array_equal(coded.features(PLANTED.dictionary).toarray(), coded.codes.toarray())
    centroids = coded.codings["k_means"]
    np.testing.assert_array_equal(
        coded.features(centroids).toarray(), centroids.encode(PLANTED.vectors).toarray()
    )


def test_items_kept_out_of_training_have_no_reviews_for_the_control_either(tmp_path: Path) -> None:
    cold = np.flatnonzero(draw_cold_items(ITEMS, 0.3, 9))
    config = DictionaryConfig(width=TOPICS, active=3).model_dump(mode="json")
    recorded = {"settings": [config, 1, 0.3, 9]}
    coded = stages(tmp_path, recorded, reviews=one_topic_more(), cold=cold.tolist())
    np.testing.assert_array_equal(coded.features(PLANTED.dictionary).toarray(), coded.codes.toarray())
    np.testing.assert_array_equal(coded.codes.toarray()[cold] > 0, PLANTED.present[cold])


def test_items_kept_out_of_training_are_neither_learnt_from_nor_chosen_by(tmp_path: Path) -> None:
    cold = np.flatnonzero(draw_cold_items(ITEMS, 0.3, 9))
    config = DictionaryConfig(width=TOPICS, active=3, held_out_share=0.25).model_dump(mode="json")
    coded = stages(tmp_path, {"settings": [config, 1, 0.3, 9]})
    split = split_for_training(PLANTED.vectors, 0.25, 1)
    np.testing.assert_array_equal(coded.train, np.setdiff1d(split.train, cold))
    np.testing.assert_array_equal(coded.choosing, np.setdiff1d(split.choosing, cold))
    np.testing.assert_array_equal(coded.held_out, split.held_out)


def test_codes_of_a_second_dictionary_are_left_out(tmp_path: Path) -> None:
    config = DictionaryConfig(width=TOPICS, active=3).model_dump(mode="json")
    second = csr_array(np.ones((ITEMS, 5), dtype=np.float32))
    coded = stages(tmp_path, {"settings": [config, 1]}, second=second)
    np.testing.assert_array_equal(coded.codes.toarray(), coded.text_codes.toarray())


@pytest.mark.parametrize(
    "recorded", [{}, {"settings": None}, {"settings": [{"width": "wide"}, 1]}, {"settings": [{}, 1, 0.2]}]
)
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
