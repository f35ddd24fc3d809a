"""How many ids are kept is told of the catalogues that stages published, and of a stand-in only where there is none."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from saerec_ray.cli import app
from saerec_ray.dictionary.sae import read_dictionary
from saerec_ray.intents.catalogue import CATALOGUE_FILE, read_catalogue, stable_ids
from saerec_ray.manifest import read_manifest
from tests.bench import identity, published
from tests.bench.identity import read_named
from tests.intents.planted import TOPICS, Planted, plant
from tests.intents.stage_folders import planted_workdir, write_stages
from tests.two_shops import BRANDS, COLOURS, SERIES

Run = Callable[..., str]
SMALL = (
    *("embed.max_tokens=32", "dictionary.width=16", "dictionary.active=2", "dictionary.epochs=20"),
    *("intents.min_items=3", "intents.max_density=0.6", "intents.min_detection_auc=0.6"),
)


@pytest.fixture
def planted() -> Planted:
    return plant()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the program and returns the page it wrote."""

    def run(*arguments: str) -> str:
        page = tmp_path / "results.md"
        monkeypatch.setattr(sys, "argv", ["identity.py", *arguments, "--page", str(page)])
        identity.main()
        return page.read_text("utf-8")

    return run


def test_what_the_stage_published_counts_with_its_labels_and_with_ids_of_the_dictionary_alone(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = planted_workdir(planted, tmp_path, monkeypatch)
    workdir.run()
    made = read_catalogue(tmp_path / "intents")
    carried = [each.model_copy(update={"intent_id": f"int-{each.latent:08x}"}) for each in made.intents]
    (tmp_path / "intents" / CATALOGUE_FILE).write_text(
        made.model_copy(update={"intents": carried}).model_dump_json(), "utf-8"
    )
    latents, by_stage = read_named(tmp_path / "dictionary")
    assert by_stage
    found = latents.catalogue.intents
    assert [each.published for each in found] == [each.published for each in made.intents]
    assert [each.label for each in found] == [each.label for each in made.intents]
    assert [each.intent_id for each in found] == stable_ids(read_dictionary(tmp_path / "dictionary").decoder)


def test_without_a_catalogue_of_this_dictionary_the_number_of_items_decides(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = planted_workdir(planted, tmp_path, monkeypatch)
    latents, by_stage = read_named(tmp_path / "dictionary")
    assert not by_stage
    carriers = np.diff(planted.codes.tocsc().indptr)
    assert [each.published for each in latents.catalogue.intents] == [
        10 <= count <= 0.2 * len(planted.items) for count in carriers
    ]
    workdir.run()
    assert read_named(tmp_path / "dictionary")[1]
    stage = tmp_path / "intents" / "stage.json"
    record = json.loads(stage.read_text("utf-8"))
    record["inputs"]["dictionary"] = "0" * 64
    stage.write_text(json.dumps(record), "utf-8")
    assert not read_named(tmp_path / "dictionary")[1], "the stage named another dictionary"


def test_finished_folders_are_compared_by_their_catalogues_and_a_stand_in_is_told(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    planted_workdir(planted, tmp_path / "named", monkeypatch).run()
    shutil.copytree(tmp_path / "named", tmp_path / "again")
    write_stages(planted, tmp_path / "unnamed")
    named, again, unnamed = (str(tmp_path / name / "dictionary") for name in ("named", "again", "unnamed"))
    page = run(named, again)
    assert "stand-in, for" not in page
    topics = len(TOPICS)
    assert (
        f"again/dictionary: of {topics}, kept 100.0%, kept or with successor 100.0%, median best 1.00, "
        "same label 100.0% of the kept"
    ) in page
    assert re.search(rf"control: of {topics}, kept 0\.0%", page)
    page = run(named, unnamed)
    assert "published by a stand-in, for no intents stage has named it: FOLDER/unnamed/dictionary\n" in page
    assert "kept 100.0%" in page
    assert "same label 1" not in page, "a stand-in has no labels"


def in_process(command: str, workdir: Path, settings: Sequence[str] = (), preset: str = "amazon") -> None:
    """The command without a process of its own, which is most of the time of a run this small."""
    options = [part for setting in settings for part in ("--set", setting)]
    result = CliRunner().invoke(app, [command, "-c", preset, "-w", str(workdir), *options])
    assert result.exit_code == 0, result.output


def write_set(folder: Path) -> Path:
    """Toys of four series in three colours, and people who stay with a series."""
    folder.mkdir()
    titles = [
        (f"{series} {colour} {kind}", brand, series)
        for series in SERIES
        for colour in COLOURS
        for kind, brand in zip(("figure", "car", "puzzle", "mask", "lamp", "bag"), BRANDS * 2, strict=True)
    ]
    lines = [
        {
            "id": place + 1,
            "title": title,
            "brand": brand,
            "categories": [[series]],
            "text": f"{title}. {brand}",
        }
        for place, (title, brand, series) in enumerate(titles)
    ]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    rng, size = np.random.default_rng(0), len(titles) // len(SERIES)
    rows = [
        " ".join(map(str, [user, *(rng.permutation(size)[:8] + 1 + size * (user % len(SERIES)))]))
        for user in range(1, 121)
    ]
    (folder / "sequences.txt").write_text("\n".join(rows), "utf-8")
    return folder


def test_with_data_every_seed_is_trained_and_named_by_the_stages_and_carries_nothing_over_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(published, "saerec", in_process)
    data = write_set(tmp_path / "toys")
    settings = [word for setting in SMALL for word in ("--set", setting)]
    arguments = ("--data", str(data), "--seeds", "1", "2", *settings, "--workdir", str(tmp_path / "out"))
    page = run(*arguments)
    assert "stand-in, for" not in page
    shared = tmp_path / "out" / "identity-toys"
    for seed in (1, 2):
        stage = read_manifest(shared / f"seed-{seed}" / "intents")
        assert stage.seed == seed
        assert not {"carried_from", "earlier"} & set(stage.inputs)
        assert "carried_from" not in stage.metrics
    first = read_catalogue(shared / "seed-1" / "intents")
    shown = sum(each.published for each in first.intents)
    assert 0 < shown < len(first.intents), "the gates decide"
    assert re.search(rf"seed-2/dictionary: of {shown}, kept \d+\.\d%", page)
    first_made = (shared / "seed-1" / "intents" / "stage.json").read_bytes()
    assert run(*arguments) == page
    assert (shared / "seed-1" / "intents" / "stage.json").read_bytes() == first_made, (
        "finished stages are skipped"
    )
