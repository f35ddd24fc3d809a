"""The second dictionary is measured on the vectors it was trained on, and its intents beside random directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saerec_ray.backbone.cold import draw_cold_items
from saerec_ray.config import IntentsConfig
from saerec_ray.dictionary.sae import read_codes, write_codes, write_dictionary
from saerec_ray.evaluation.cooccurrence_items import CooccurrenceItems, read_cooccurrence_items
from saerec_ray.evaluation.cooccurrence_part import cooccurrence_figures, cooccurrence_intents
from saerec_ray.evaluation.dictionary_tables import dictionary_lines
from saerec_ray.evaluation.html_report import html_report
from saerec_ray.evaluation.intents_tables import intents_lines
from saerec_ray.evaluation.random_names import Naming
from saerec_ray.intents.catalogue import Catalogue
from tests.dictionary.test_concatenated import TEXT
from tests.dictionary.test_cooccurrence import ITEMS
from tests.evaluation import shoppers_stage
from tests.evaluation.shoppers_stage import CONFIG, SECOND, SEED, UNMET, encode, sequences, write_stage
from tests.evaluation.test_dictionary_part import FOUND as DICTIONARY
from tests.evaluation.test_intents_part import FOUND as INTENTS
from tests.finished_stage import finish_stage
from tests.intents.named_latents import intent

EMBEDDINGS = encode(shoppers_stage.items().texts)
MEAN = EMBEDDINGS.mean(axis=0)
NAMING = Naming(IntentsConfig(min_items=4, max_density=0.5, min_detection_auc=0.6), 3, encode)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("second") / "dictionary"
    return folder, write_stage(folder)


@pytest.fixture(scope="module")
def second(stage: tuple[Path, dict[str, Any]]) -> CooccurrenceItems:
    found = read_cooccurrence_items(sequences(), stage[0])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def catalogue(second: CooccurrenceItems) -> Catalogue:
    """Intents of texts, which nobody published, then those of the second dictionary by the names it deserves."""
    codes = second.of_all_items(second.coded.codes)
    directions = np.asarray((codes.T @ (EMBEDDINGS - MEAN)), dtype=np.float32)
    named = NAMING.name(codes, directions, MEAN, EMBEDDINGS, shoppers_stage.items()).catalogue.intents
    texts = [intent(f"int-{latent:08x}", latent, state="unpublished") for latent in range(second.first)]
    own = [each.model_copy(update={"latent": second.first + each.latent}) for each in named]
    return Catalogue(intents_version="v", intents=[*texts, *own])


def measure(second: CooccurrenceItems, catalogue: Catalogue) -> dict[str, Any]:
    return cooccurrence_intents(
        second, shoppers_stage.items(), EMBEDDINGS, MEAN, catalogue, NAMING, latents=8, seed=7
    )


def test_the_vectors_made_again_are_those_of_the_training(
    second: CooccurrenceItems, stage: tuple[Path, dict[str, Any]]
) -> None:
    folder, trained = stage
    figures = cooccurrence_figures(second)
    assert (figures["items"], figures["of_items"], figures["latents"]) == (ITEMS, ITEMS + UNMET, SECOND)
    assert figures["agreement"] == 1
    assert figures["held_out_items"] == trained["held_out_items"]
    assert figures["codings"]["dictionary"]["fvu"] == pytest.approx(trained["fvu"], rel=1e-3)
    assert figures["codings"]["dictionary"]["nonzeros"] == pytest.approx(trained["l0"])
    assert figures["densities"]["dead_share"] == trained["dead_share"]
    kept = read_codes(folder)[:, TEXT.width :].toarray()
    np.testing.assert_array_equal(second.of_all_items(second.coded.codes).toarray(), kept)


def test_it_keeps_more_than_its_controls(second: CooccurrenceItems) -> None:
    lost = {name: row["fvu"] for name, row in cooccurrence_figures(second)["codings"].items()}
    assert lost["dictionary"] < min(lost["pca"], lost["random_dictionary"])


def test_interactions_with_items_kept_out_of_training_are_not_read(tmp_path: Path) -> None:
    cold = (0.2, 5)
    write_stage(tmp_path / "dictionary", cold)
    found = read_cooccurrence_items(sequences(), tmp_path / "dictionary")
    assert found is not None
    assert not np.isin(np.flatnonzero(draw_cold_items(ITEMS + UNMET, *cold)), found.rows).any()
    assert found.agreement == 1


def test_other_vectors_than_those_of_the_training_are_told(
    stage: tuple[Path, dict[str, Any]], second: CooccurrenceItems
) -> None:
    found = cooccurrence_figures(second)
    assert "Made again" not in "\n".join(dictionary_lines(DICTIONARY | {"cooccurrence": found}))
    found["agreement"] = 0.9
    assert "90.0% of the items" in "\n".join(dictionary_lines(DICTIONARY | {"cooccurrence": found}))


def test_a_run_without_a_second_dictionary_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "dictionary"
    folder.mkdir()
    write_dictionary(TEXT, folder)
    write_codes(TEXT.encode(np.eye(7, dtype=np.float32)), folder)
    alone = CONFIG.model_copy(update={"cooccurrence": None})
    finish_stage(folder, {"settings": [alone.model_dump(mode="json"), SEED]})
    assert read_cooccurrence_items(sequences(), folder) is None


def test_its_intents_are_numbered_by_its_own_latents(second: CooccurrenceItems, catalogue: Catalogue) -> None:
    own = second.own_intents(catalogue).intents
    assert [each.latent for each in own] == list(range(SECOND))
    assert [each.intent_id for each in own] == [each.intent_id for each in catalogue.intents[TEXT.width :]]


def test_names_and_items_of_its_intents_are_judged_beside_random_directions(
    second: CooccurrenceItems, catalogue: Catalogue
) -> None:
    found = measure(second, catalogue)
    control = found["random_dictionary"]
    assert found["detection"]["latents"] == SECOND
    assert 0 < found["detection"]["coverage"] <= 1
    assert found["detection"]["own"]["mean"] > 0.8
    assert control["detection"]["latents"] == 8
    assert control["of_latents"] == SECOND
    purity = found["purity"]["codings"]
    for coding in (
        "dictionary",
        "random_dictionary",
    ):  # in six dimensions four groups are easy for any direction
        assert purity[coding]["own"]["purity"] > 0.3 + purity[coding]["permuted"]["purity"]
    for space in found["spaces"].values():
        assert space["monosemanticity"]["dictionary"]["score"] > space["monosemanticity"]["permuted"]["score"]
        assert "latents" in space["intruder_random_dictionary"]


def test_it_has_headings_and_plots_of_its_own(second: CooccurrenceItems, catalogue: Catalogue) -> None:
    report = {
        "protocol": "",
        "dictionary": DICTIONARY | {"cooccurrence": cooccurrence_figures(second)},
        "intents": INTENTS | {"cooccurrence": measure(second, catalogue)},
    }
    page = html_report(report)
    for title in ("Dictionary", "Intents"):
        own = page.split(f"<h1>{title} of what people take together</h1>")[1].split("</section>")[0]
        assert f"{ITEMS} of {ITEMS + UNMET} items were met often enough" in own
        assert "<svg" in own
    lines = "\n".join(intents_lines(report["intents"]))
    assert "take together" not in "\n".join(dictionary_lines(DICTIONARY) + intents_lines(INTENTS))
    assert lines.count("## Categories") == 2
