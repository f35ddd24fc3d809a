"""`saerec intents diff` and `group`: what they print, and sentences instead of tracebacks."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.bundle import BundleOrigin, load_bundle, write_bundle
from saerec_ray.earlier import read_earlier
from saerec_ray.group_file import GroupMember, IntentGroup
from saerec_ray.intents.difference import compare_catalogues
from saerec_ray.intents.identity import carry_over, match_latents
from tests.command_line import Run
from tests.synthetic import DEPRECATED_ID, write_synthetic_bundle


@pytest.fixture
def run(saerec: Run) -> Run:
    """Runs a command about intents."""
    return partial(saerec, "intents")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_bundle(tmp_path_factory.mktemp("bundles") / "first")


@pytest.fixture(scope="module")
def later(bundle: Path) -> Path:
    """A bundle after `bundle`: one intent has a new name, half of the latents are others."""
    content = load_bundle(write_synthetic_bundle(bundle.parent / "raw", seed=9))
    old = load_bundle(bundle)
    decoder, codes = content.dictionary["decoder"].copy(), old.space.codes.toarray()
    decoder[:16] = old.dictionary["decoder"][:16]
    codes[:, 16:] = content.space.codes.toarray()[: len(codes), 16:]
    intents = list(content.catalogue.intents)
    intents[0] = intents[0].model_copy(update={"label": "Rouge"})
    catalogue = content.catalogue.model_copy(update={"intents": intents, "deprecated": []})
    dictionary = {**content.dictionary, "decoder": decoder, "encoder": decoder}
    space = replace(content.space, codes=type(content.space.codes)(codes))
    content = replace(content, catalogue=catalogue, dictionary=dictionary, space=space)
    origin = BundleOrigin("0" * 64, "1" * 64, {}, 9)
    draft = bundle.parent / "draft"
    write_bundle(content, origin, draft)
    first, second = read_earlier(bundle).latents, read_earlier(draft).latents
    carried = carry_over(first, second, match_latents(first, second))
    write_bundle(replace(content, catalogue=carried), origin, bundle.parent / "second")
    return bundle.parent / "second"


def test_the_difference_tells_the_fate_of_every_published_intent(run: Run, bundle: Path, later: Path) -> None:
    code, out, _ = run("diff", str(bundle), str(later), "--json")
    assert code == 0
    answer = json.loads(out)
    by_fate: dict[str, list[dict[str, object]]] = {}
    for change in answer["changes"]:
        by_fate.setdefault(change["fate"], []).append(change)
    assert answer["counts"] == {fate: len(changes) for fate, changes in by_fate.items()}
    old = load_bundle(bundle).catalogue.intents
    assert {each["intent_id"] for each in by_fate["renamed"]} == {old[0].intent_id}
    assert by_fate["renamed"][0]["new_label"] == "Rouge"
    assert {each["intent_id"] for each in by_fate["carried"]} == {
        intent.intent_id for intent in old[1:16] if intent.published
    }
    assert {each["intent_id"] for each in by_fate["deprecated"]} == {
        intent.intent_id for intent in old[16:] if intent.published
    }
    new = load_bundle(later).catalogue.intents
    assert {each["intent_id"] for each in by_fate["new"]} == {
        intent.intent_id for intent in new[16:] if intent.published
    }
    assert all(each["similarity"] > 0.99 for each in by_fate["carried"])  # type: ignore[operator]


def test_the_difference_is_a_table_for_people(run: Run, bundle: Path, later: Path) -> None:
    code, out, _ = run("diff", str(bundle), str(later))
    assert code == 0
    assert re.search(r"renamed\s*│\s*int-[0-9a-f]+\s*│\s*lipstick 0\s*│\s*Rouge", out)
    assert re.search(r"\d+ carried, 1 renamed, \d+ deprecated, \d+ new", out)


def test_the_difference_tells_how_far_densities_moved_and_warns_when_it_is_much(
    run: Run, bundle: Path, later: Path, tmp_path: Path
) -> None:
    _, out, _ = run("diff", str(bundle), str(later), "--json")
    shift = json.loads(out)["density_shift"]
    assert 0 < shift["divergence"] <= 1
    assert shift["alert"] == (shift["divergence"] > max(0.1, shift["by_chance"]))
    assert json.loads(run("diff", str(bundle), str(bundle), "--json").out)["density_shift"]["divergence"] == 0
    assert "about as often as before" in run("diff", str(bundle), str(bundle)).flat
    content = load_bundle(bundle)
    dense = content.space.codes.toarray() + np.float32(0.1)
    everywhere = replace(content, space=replace(content.space, codes=type(content.space.codes)(dense)))
    write_bundle(everywhere, BundleOrigin("0" * 64, "1" * 64, {}, 9), tmp_path / "dense")
    assert "far more or far fewer items" in run("diff", str(bundle), str(tmp_path / "dense")).flat


def test_a_dictionary_does_not_differ_from_itself(bundle: Path) -> None:
    latents = read_earlier(bundle).latents
    assert {change.fate for change in compare_catalogues(latents, latents)} == {"carried"}


def test_deprecated_entries_travel_through_the_next_bundle(later: Path) -> None:
    entries = {entry.intent_id: entry for entry in load_bundle(later).catalogue.deprecated}
    old = load_bundle(later.parent / "first").catalogue
    assert entries[DEPRECATED_ID].successors == old.deprecated[0].successors


def test_a_difference_needs_two_results(run: Run, bundle: Path, tmp_path: Path) -> None:
    code, _, err = run("diff", str(bundle), str(tmp_path))
    assert code == 2
    assert "is neither a bundle nor a work directory" in err


def test_example_items_give_adjustments_that_the_other_commands_take(run: Run, bundle: Path) -> None:
    loaded = load_bundle(bundle)
    wanted = max(
        (each for each in loaded.catalogue.intents if each.published and each.steerable),
        key=lambda each: each.item_count,
    )
    examples = ",".join(each.item_id for each in wanted.top_items[:6])
    code, out, _ = run("group", "--items", examples, "--bundle", str(bundle), "--json")
    assert code == 0
    answer = json.loads(out)
    assert len(answer["adjustments"]) <= 5
    assert answer["adjustments"][0]["intent_id"] == wanted.intent_id
    assert answer["arguments"][0] == f"--boost {wanted.intent_id}=1.00"
    steerable = {each.intent_id for each in loaded.catalogue.intents if each.published and each.steerable}
    assert {each["intent_id"] for each in answer["adjustments"]} <= steerable
    _, out, _ = run("group", "--items", examples, "-b", str(bundle), "--mode", "exclude", "-n", "1")
    assert out.rstrip().endswith(f"--exclude {wanted.intent_id}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Give either --text or --items or --file"),
        (("--text", "a", "--file", "x.json"), "Give either --text or --items or --file"),
        (("--file", "x.json"), "x.json cannot be read"),
        (("--text", "a", "--items", "item-0001"), "Give either --text or --items"),
        (("--text", "a" * 257), "at most 256 characters"),
        (("--items", "gone"), "has no item gone"),
        (("--items", "item-0001", "--count", "6"), "Only 5 adjustments to boost act at once"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    run: Run, bundle: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, out, err = run("group", "--bundle", str(bundle), *arguments)
    assert (code, out) == (2, "")
    assert sentence in err


def test_a_group_file_gives_the_adjustments_of_its_intents(run: Run, bundle: Path, tmp_path: Path) -> None:
    shown = [each for each in load_bundle(bundle).catalogue.intents if each.published and each.steerable]
    members = tuple(
        GroupMember(each.intent_id, each.label, 1.0 - place / 10) for place, each in enumerate(shown[:7])
    )
    path = tmp_path / "quality.json"

    def write(members: tuple[GroupMember, ...]) -> None:
        path.write_text(json.dumps(IntentGroup("quality", "v", False, 0.7, members).as_dict()), "utf-8")

    write(members)
    code, out, _ = run("group", "--file", str(path), "--bundle", str(bundle), "--json")
    assert code == 0
    answer = json.loads(out)
    assert [each["intent_id"] for each in answer["adjustments"]] == [each.intent_id for each in shown[:5]]
    assert answer["arguments"][1] == f"--boost {shown[1].intent_id}=0.90"
    _, out, _ = run("group", "--file", str(path), "-b", str(bundle), "--mode", "suppress", "--json")
    assert len(json.loads(out)["adjustments"]) == 7
    kept = next(each for each in load_bundle(bundle).catalogue.intents if not each.steerable)
    for unusable in (kept.intent_id, "int-0000dead"):
        write((GroupMember(unusable, "", 1.0),))
        code, _, err = run("group", "--file", str(path), "--bundle", str(bundle))
        assert code == 2
        assert f"no steerable intent {unusable}" in " ".join(err.split())


def test_a_text_is_compared_by_the_language_model_of_the_bundle(
    run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_bundle(bundle)
    chosen = next(each for each in loaded.catalogue.intents if each.published and each.steerable)

    class Encoder:
        def __init__(self, model: str, *_: object) -> None:
            assert model == loaded.config.embed.model

        def encode(self, texts: list[str], _batch: int) -> np.ndarray:
            return (
                loaded.label_vectors[[chosen.latent]] if texts == ["scent"] else np.zeros((1, 24), np.float32)
            )

    monkeypatch.setattr("saerec_ray.text.encoder.TextEncoder", Encoder)
    code, out, _ = run("group", "--text", " scent ", "--bundle", str(bundle), "--json")
    assert code == 0
    assert json.loads(out)["adjustments"][0]["intent_id"] == chosen.intent_id
    code, _, err = run("group", "--text", "unheard of", "--bundle", str(bundle))
    assert code == 2
    assert "it has no such concept" in err
