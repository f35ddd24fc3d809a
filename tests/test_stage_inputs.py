"""What a stage reads belongs together, and what it is made of is seen to have changed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from saerec_ray import pipeline
from saerec_ray.errors import InputError
from tests.small_shop import write_shop
from tests.stand_in_stages import QUICK_STAGES, Run, run_and_tell


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop")


@pytest.fixture
def run(tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(pipeline, "STAGES", QUICK_STAGES)
    return partial(run_and_tell, shop, tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "only", "complaint"),
    [
        ("train.heads=4", "evaluate", r"The train stage .* other settings \(train.heads 2, now 4\)"),
        ("train.personal_intents=3", "bundle", "run saerec train again"),
    ],
)
def test_a_stage_alone_does_not_mix_results_of_other_settings_with_its_own(
    run: Run, changed: str, only: str, complaint: str
) -> None:
    run()
    with pytest.raises(InputError, match=complaint):
        run(changed, only=only)


def test_a_stage_alone_refuses_stages_that_were_made_of_another_one_than_is_there_now(run: Run) -> None:
    run()
    assert run("embed.model=other", only="embed") == ["embed"]
    with pytest.raises(
        InputError, match=r"The dictionary stage .* another embed stage .* saerec dictionary again"
    ):
        run("embed.model=other", only="intents")
    assert run("embed.model=other", only="dictionary") == ["dictionary"]
    assert run("embed.model=other", only="intents") == ["intents"]


def test_where_the_source_was_read_from_does_not_matter_once_it_is_prepared(
    run: Run, shop: Path, tmp_path: Path
) -> None:
    run()
    elsewhere = tmp_path / "elsewhere.csv"
    (shop.parent / "interactions.csv").rename(elsewhere)
    assert run(f"prepare.source.interactions={elsewhere}", "train.epochs=3", only="train") == ["train"]


def test_names_may_be_edited_after_the_report_and_the_bundle_made_again(run: Run) -> None:
    run()
    assert run("intents.top_items=7", only="intents") == ["intents"]
    assert run("intents.top_items=7", only="bundle") == ["bundle"]


def test_a_strict_run_names_the_rows_that_an_earlier_one_left_out(run: Run, shop: Path) -> None:
    with (shop.parent / "interactions.csv").open("a", encoding="utf-8") as handle:
        handle.write("u1,,5\n")
    run(only="prepare")
    with pytest.raises(InputError, match=r"interactions\.csv"):
        run(only="prepare", strict=True)
    assert run(only="prepare") == []


def test_a_model_for_texts_that_was_trained_again_in_its_folder_makes_other_embeddings(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", "utf-8")
    run(f"embed.model={folder}")
    assert run(f"embed.model={folder}") == []
    (folder / "config.json").write_text("{ }", "utf-8")
    assert "embed" in run(f"embed.model={folder}")
