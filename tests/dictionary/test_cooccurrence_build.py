"""The second dictionary is appended: text codes stay to the bit, items few people met keep them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.config import ClusterConfig
from saerec_ray.dictionary.concatenated import COOCCURRENCE_FILE, read_dictionaries
from saerec_ray.dictionary.cooccurrence_build import (
    add_cooccurrence,
    autoencoder_settings,
    stability_of_both,
)
from saerec_ray.dictionary.sae import CODES_FILE, DICTIONARY_FILE, read_codes, write_codes, write_dictionary
from saerec_ray.dictionary.stability import STABLE, read_stability
from saerec_ray.dictionary_settings import DictionaryConfig
from saerec_ray.errors import InputError
from tests.backbone.small_sets import Parts, sequences_of
from tests.dictionary.test_concatenated import TEXT
from tests.dictionary.test_cooccurrence import ITEMS, shoppers
from tests.synthetic import synthetic_codes

COLD = 3
"""Items at the end that nobody met."""
CONFIG = DictionaryConfig.model_validate(
    {
        "width": 16,
        "active": 2,
        "batch_size": 16,
        "cooccurrence": {
            "dimensions": 6,
            "shift": 1.0,
            "min_interactions": 3,
            "width": 12,
            "active": 2,
            "epochs": 40,
        },
    }
)
TEXT_CODES = synthetic_codes(np.random.default_rng(4), ITEMS + COLD, TEXT.width)


def add(folder: Path, users: list[Parts], config: DictionaryConfig = CONFIG) -> dict[str, Any]:
    folder.mkdir()
    write_dictionary(TEXT, folder)
    write_codes(TEXT_CODES, folder)
    cluster = ClusterConfig(engine="local", gpus=False)
    return add_cooccurrence(config, cluster, 3, sequences_of(users), folder, folder.parent / "runs")


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("added") / "dictionary"
    return folder, add(folder, shoppers())


def test_the_codes_of_texts_stay_to_the_bit(added: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    codes = read_codes(added[0])
    assert codes.shape == (ITEMS + COLD, TEXT.width + 12)
    np.testing.assert_array_equal(codes[:, : TEXT.width].toarray(), TEXT_CODES.toarray())
    write_dictionary(TEXT, tmp_path)
    assert (added[0] / DICTIONARY_FILE).read_bytes() == (tmp_path / DICTIONARY_FILE).read_bytes()


def test_items_that_nobody_met_have_codes_of_texts_alone(added: tuple[Path, dict[str, Any]]) -> None:
    counts = np.diff(read_codes(added[0])[:, TEXT.width :].indptr)
    assert (counts[:ITEMS] > 0).all()
    assert not counts[ITEMS:].any()
    assert added[1]["items"] == ITEMS


def test_items_that_people_take_together_share_latents(added: tuple[Path, dict[str, Any]]) -> None:
    second = read_codes(added[0])[:ITEMS, TEXT.width :].toarray()
    likeness = second @ second.T
    group = np.arange(ITEMS) // 10
    same = group[:, None] == group[None, :]
    assert likeness[same].mean() > 3 * likeness[~same].mean()


def test_the_same_interactions_give_the_same_files(
    added: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    add(tmp_path / "dictionary", shoppers())
    for name in (COOCCURRENCE_FILE, CODES_FILE):
        assert (tmp_path / "dictionary" / name).read_bytes() == (added[0] / name).read_bytes()


def test_the_second_autoencoder_has_its_own_size_and_the_rest_of_the_first(
    added: tuple[Path, dict[str, Any]],
) -> None:
    settings = autoencoder_settings(CONFIG)
    assert (settings.width, settings.active, settings.epochs) == (12, 2, 40)
    assert (settings.kind, settings.batch_size) == (CONFIG.kind, 16)
    second = read_dictionaries(added[0]).cooccurrence
    assert second is not None
    assert second.decoder.shape == (12, 6)


def test_stability_covers_both_dictionaries(tmp_path: Path) -> None:
    folder = tmp_path / "dictionary"
    metrics = add(folder, shoppers(), CONFIG.model_copy(update={"seeds": 2}))
    values = read_stability(folder)
    assert values is not None
    assert values.shape == (TEXT.width + 12,)
    assert np.isnan(values[: TEXT.width]).all(), "nothing is known of the texts' latents"
    assert metrics["stable_share"] == pytest.approx((values[TEXT.width :] >= STABLE).mean())
    known = np.linspace(0, 1, TEXT.width, dtype=np.float32)
    both = stability_of_both(known, values[TEXT.width :], (TEXT.width, 12))
    assert both is not None
    np.testing.assert_array_equal(both[: TEXT.width], known)
    assert stability_of_both(None, None, (TEXT.width, 12)) is None


def test_too_few_items_for_the_width_are_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    own = CONFIG.cooccurrence
    assert own is not None
    wide = CONFIG.model_copy(update={"cooccurrence": own.model_copy(update={"width": 400})})
    with pytest.raises(InputError, match=r"lower dictionary\.cooccurrence\.width"):
        add(tmp_path / "dictionary", shoppers(), wide)
