"""Random directions are named by the settings of the run, and by nothing that people or models did to its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.config import IntentsConfig, LanguageModelConfig
from saerec_ray.errors import StageError
from saerec_ray.evaluation.random_names import NamedCodes, Naming, drawn_latents, read_naming
from tests.evaluation.named_planted import catalogue, encoder, intent
from tests.evaluation.planted_dictionary import TOPICS, plant
from tests.finished_stage import finish_stage

PLANTED = plant()
CODES = PLANTED.dictionary.encode(PLANTED.vectors)


def named(settings: IntentsConfig, codes: Any = CODES) -> NamedCodes:
    dictionary = PLANTED.dictionary
    naming = Naming(settings, 3, encoder(PLANTED))
    return naming.name(codes, dictionary.decoder, dictionary.scaling.mean, PLANTED.vectors, PLANTED.items)


def test_directions_that_mean_something_get_the_right_names_and_pass_the_gates() -> None:
    found = named(IntentsConfig())
    assert [each.label for each in found.catalogue.intents] == [f"topic{topic}" for topic in range(TOPICS)]
    assert found.published.all()


def test_the_gates_are_those_of_the_run() -> None:
    carriers = np.bincount(CODES.indices, minlength=TOPICS)
    found = named(IntentsConfig(min_items=int(np.median(carriers))))
    np.testing.assert_array_equal(found.published, carriers >= int(np.median(carriers)))


def test_a_latent_that_no_item_has_is_unnamed() -> None:
    silent = CODES.copy()
    silent.data[silent.indices == 4] = 0
    silent.eliminate_zeros()
    found = named(IntentsConfig(), silent)
    assert np.flatnonzero(~found.published).tolist() == [4]
    assert found.judged == TOPICS - 1


def test_published_latents_are_those_of_the_dictionary_at_hand() -> None:
    more = catalogue([intent(0), intent(1, state="unpublished"), intent(TOPICS)])
    assert np.flatnonzero(NamedCodes(more, CODES).published).tolist() == [0]


def test_settings_are_read_without_the_language_model_and_what_people_decided(tmp_path: Path) -> None:
    folder = tmp_path / "intents"
    folder.mkdir()
    settings = IntentsConfig(
        min_items=7,
        language_model=LanguageModelConfig(base_url="http://127.0.0.1:1/v1", model="any"),
        overlay=tmp_path / "overlay.json",
    )
    finish_stage(folder, {"settings": [settings.model_dump(mode="json")]})
    naming = read_naming(folder, encoder(PLANTED))
    assert naming.settings == IntentsConfig(min_items=7)
    assert naming.seed == 7


@pytest.mark.parametrize("recorded", [{}, {"settings": []}, {"settings": [{"min_items": "many"}]}])
def test_a_manifest_that_does_not_say_how_names_were_made_is_an_error_with_a_remedy(
    tmp_path: Path, recorded: dict[str, Any]
) -> None:
    folder = tmp_path / "intents"
    folder.mkdir()
    finish_stage(folder, recorded)
    with pytest.raises(StageError, match="run that stage again"):
        read_naming(folder, encoder(PLANTED))


def test_latents_are_drawn_by_the_seed_and_at_most_all() -> None:
    assert drawn_latents(5, 9, 1).tolist() == [0, 1, 2, 3, 4]
    few = drawn_latents(100, 10, 1)
    assert len(set(few.tolist())) == 10
    np.testing.assert_array_equal(few, np.sort(few))
    assert few.tolist() == drawn_latents(100, 10, 1).tolist() != drawn_latents(100, 10, 2).tolist()
