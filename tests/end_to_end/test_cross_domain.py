"""Toys recommended to people who bought mugs: a real run, the mugs read with its dictionary, a server, the client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saerec_ray.backbone.cold import read_cold_items
from saerec_ray.bundle import load_bundle
from saerec_ray.client import Client, event
from saerec_ray.cross_domain import read_home
from saerec_ray.dictionary.followed_phrases import PHRASE
from saerec_ray.foreign_items import load_foreign_items
from saerec_ray.pipeline import run_stages
from saerec_ray.progress import Reporter
from saerec_ray.v1 import recommender_service_pb2 as messages
from tests.command_line import Run
from tests.contract.asking import total
from tests.contract.running import running, settings_of
from tests.two_shops import mugs_config, toys_config

PATIENCE = 60.0
CLOSE = 1e-5
KITTY_MUG, HOT_MUG = "mugs/i5", "mugs/i10"


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`toys`: a finished run; `mugs`: prepared and embedded."""
    folder = tmp_path_factory.mktemp("shops")
    with Reporter() as reporter:
        run_stages(toys_config(folder), folder / "toys", reporter)
        for stage in ("prepare", "embed"):
            run_stages(mugs_config(folder), folder / "mugs", reporter, stage)
    return folder


@pytest.fixture(scope="module")
def read(shops: Path) -> Path:
    """The mugs, and the toys themselves, as foreign items."""
    from saerec_ray.cross_domain import read_across

    for name in ("mugs", "toys"):
        read_across(shops / "toys", shops / name, name, shops / "read" / name, recentre=False)
    return shops / "read"


@pytest.fixture(scope="module")
def target(shops: Path, read: Path) -> Iterator[str]:
    """A server that knows mugs and copies of the toys."""
    settings = settings_of(
        shops / "toys" / "bundle",
        cross_domain=(read / "mugs", read / "toys"),
        port=0,
        state=shops / "state.sqlite",
        drain_seconds=0,
    )
    with running(settings) as api:
        yield f"127.0.0.1:{api.port}"


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[Client]:
    with Client(target) as connected:
        yield connected


def test_the_command_writes_a_folder_and_says_how_to_serve_it(shops: Path, saerec: Run) -> None:
    target = shops / "by-command"
    told = saerec(
        *("cross-domain", "--workdir", shops / "toys", "--from", shops / "mugs", "--name", "mugs"),
        *("--output", target),
    )
    assert told.code == 0, told.err
    assert "20 items of mugs are in" in told.flat
    assert f"saerec serve --bundle {shops / 'toys' / 'bundle'} --cross-domain {target}" in told.flat
    home = load_bundle(shops / "toys" / "bundle")
    assert load_foreign_items(target, home).manifest.recentred is False, "read as items of the run are"
    again = saerec(
        *("cross-domain", "-w", shops / "toys" / "bundle", "--from", shops / "mugs", "--name", "mugs"),
        *("-o", target, "--recentre", "--json"),
    )
    assert again.code == 0, again.err
    report = json.loads(again.out)
    assert report["items"] == 20
    assert report["recentred"] is True
    assert report["exact"] > 1 == report["with_exact"]
    written = load_foreign_items(target, home)
    assert written.ids[5] == KITTY_MUG
    assert written.titles[5] == "Hello Kitty mug for tea"
    assert (written.manifest.recentred, written.manifest.source.folder) == (True, str(shops / "mugs"))


def test_mugs_carry_the_brands_and_series_of_the_toys(shops: Path, read: Path) -> None:
    home = read_home(shops / "toys")
    exact = home.reader.dictionaries.attributes
    learnt = home.reader.dictionaries.learnt
    codes = load_foreign_items(read / "mugs", home.bundle).codes
    carried = [
        {exact[intent - learnt] for intent in codes[[item]].indices if intent >= learnt} for item in range(20)
    ]
    assert {value.value for value in carried[5] if value.attribute == "brand"} == {"Acme"}
    assert any(value.attribute == PHRASE and value.value.startswith("Hello") for value in carried[5])
    assert not any(value.attribute == PHRASE for value in carried[15]), "a plain mug is of no series"


def test_items_of_the_run_read_again_have_the_codes_of_the_run(shops: Path, read: Path) -> None:
    home = load_bundle(shops / "toys" / "bundle")
    again = load_foreign_items(read / "toys", home).codes
    np.testing.assert_array_equal(again.toarray(), home.space.codes.toarray())


def test_a_bundle_as_the_other_domain_is_encoded_with_the_language_model_of_the_home(
    shops: Path, read: Path
) -> None:
    from saerec_ray.cross_domain import read_across

    bundle = shops / "toys" / "bundle"
    read_across(bundle, bundle, "toys", shops / "of-bundle", recentre=False)
    home = load_bundle(bundle)
    one, other = (
        load_foreign_items(each, home).codes.toarray() for each in (shops / "of-bundle", read / "toys")
    )
    np.testing.assert_allclose(one, other, atol=0.05)  # batches of other texts round otherwise in bfloat16
    np.testing.assert_array_equal(one[:, 16:], other[:, 16:])


def recommended(
    client: Client, history: list[str], user: str = "", **options: object
) -> messages.RecommendResponse:
    return client.recommend(
        user,
        history=history,
        explained=True,
        page_size=48,
        timeout=PATIENCE,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "history",
    [
        [KITTY_MUG],
        ["i3", KITTY_MUG, "i30", HOT_MUG],
        [KITTY_MUG, HOT_MUG, "i7"],
        [*[f"mugs/i{mug}" for mug in range(20)], *[f"i{toy}" for toy in range(12)]],
    ],
)
def test_scores_add_up_and_only_toys_come_back_whatever_the_history(
    client: Client, history: list[str]
) -> None:
    answer = recommended(client, history)
    toys = {f"i{toy}" for toy in range(48)}
    assert {item.item_id for item in answer.items} == toys - set(history)
    assert not answer.unknown_item_ids
    assert not answer.degradations
    for item in answer.items:
        assert total(item) == pytest.approx(item.score, rel=CLOSE, abs=CLOSE)
        assert not {each.item_id for each in item.explanation.companions} - toys
        assert {each.item_id for each in item.explanation.evidence} <= set(history)
        assert all(each.title for each in item.explanation.evidence)


def test_the_mugs_are_the_evidence_for_toys_of_their_series(client: Client) -> None:
    answer = recommended(client, [KITTY_MUG])
    evidence = [each for item in answer.items for each in item.explanation.evidence]
    assert {(each.item_id, each.title) for each in evidence} == {(KITTY_MUG, "Hello Kitty mug for tea")}
    other = recommended(client, [HOT_MUG])
    assert [(item.item_id, item.score) for item in answer.items] != [
        (item.item_id, item.score) for item in other.items
    ]


def test_a_copy_of_a_cold_toy_counts_exactly_as_the_cold_toy_does(client: Client, shops: Path) -> None:
    """In a history neither has anything but its code: no residual, no bias, and nobody took anything after it."""
    cold = read_cold_items(shops / "toys" / "train")
    assert cold is not None
    first, second = (f"i{toy}" for toy in np.flatnonzero(cold)[:2])
    abroad, here = (
        recommended(client, [lead + first, "i3", lead + second], allow_seen=True) for lead in ("toys/", "")
    )
    for one, other in zip(abroad.items, here.items, strict=True):
        assert (one.item_id, one.score) == (other.item_id, other.score)
        evidence = [each.item_id.removeprefix("toys/") for each in one.explanation.evidence]
        assert evidence == [each.item_id for each in other.explanation.evidence]
    weights = [
        {
            each.intent_id: each.base_weight
            for each in client.explain_user(history=[lead + first], max_intents=100, timeout=PATIENCE).intents
        }
        for lead in ("toys/", "")
    ]
    assert weights[0] == weights[1]


def test_stored_mugs_count_as_mugs_in_the_request_do(client: Client) -> None:
    written = client.write_events(
        [event("mug-fan", KITTY_MUG), event("mug-fan", "mugs/i99")], timeout=PATIENCE
    )
    assert list(written.unknown_item_ids) == ["mugs/i99"]
    stored = recommended(client, [], "mug-fan", at_least_as_fresh=written.consistency_token)
    asked = recommended(client, [KITTY_MUG])
    assert [(item.item_id, item.score) for item in stored.items] == [
        (item.item_id, item.score) for item in asked.items
    ]
    reasons = asked.items[0].explanation.intents
    driving = next(reason.intent_id for reason in reasons if reason.contribution > 0)
    steered = client.steer("mug-fan", suppress={driving: 1.0}, timeout=PATIENCE)
    assert driving in {each.intent_id for each in steered.effect.exposures}
    for item in recommended(client, [], "mug-fan").items:
        assert total(item) == pytest.approx(item.score, rel=CLOSE, abs=CLOSE)


def test_mugs_are_compared_with_no_population(client: Client) -> None:
    """Twenty mugs of four series would be far from what people who buy toys do, by no choice of the user."""
    mugs = client.explain_user(
        history=[f"mugs/i{mug}" for mug in range(20)], max_intents=100, timeout=PATIENCE
    )
    assert {each.representation for each in mugs.intents} == {messages.REPRESENTATION_TYPICAL}
    assert any(each.evidence for each in mugs.intents)
    mixed, alone = (
        client.explain_user(history=history, max_intents=100, timeout=PATIENCE)
        for history in ([KITTY_MUG, "i1", HOT_MUG, "i2"], ["i1", "i2"])
    )
    compared = [{each.intent_id: each.z_score for each in answer.intents} for answer in (mixed, alone)]
    assert compared[0] == pytest.approx(compared[1])


def test_filters_and_examples_take_mugs_for_known_and_return_none(client: Client) -> None:
    allowed = client.recommend(history=["i1"], allow=[KITTY_MUG, "i2", "nobody"], timeout=PATIENCE)
    assert [item.item_id for item in allowed.items] == ["i2"]
    assert list(allowed.unknown_item_ids) == ["nobody"]
    found, copied = (
        client.search_intents(items=[item], timeout=PATIENCE).matches for item in ("toys/i12", "i12")
    )
    assert [(each.intent.intent_id, each.score) for each in found] == [
        (each.intent.intent_id, each.score) for each in copied
    ]


def test_the_commands_that_call_a_server_take_mugs_in_histories(target: str, saerec: Run) -> None:
    told = saerec("recommend", "--history", "i3", "--history", KITTY_MUG, "--target", target)
    assert told.code == 0, told.err
    assert "because of Hello Kitty mug for tea" in told.flat


def test_without_the_folder_mugs_are_unknown(shops: Path) -> None:
    settings = settings_of(shops / "toys" / "bundle", state=shops / "other.sqlite")
    with running(settings) as api, Client(f"127.0.0.1:{api.port}") as plain:
        answer = recommended(plain, [KITTY_MUG, "i3"])
        assert list(answer.unknown_item_ids) == [KITTY_MUG]


def test_a_home_whose_interactions_are_elsewhere_is_refused(shops: Path, saerec: Run, tmp_path: Path) -> None:
    shutil.copytree(shops / "toys" / "bundle", tmp_path / "bundle")
    told = saerec(
        "cross-domain", "-w", tmp_path, "--from", shops / "mugs", "--name", "mugs", "-o", tmp_path / "x"
    )
    assert told.code == 2
    assert "has intents of phrases that people follow" in told.complaint
    assert "Give a work directory with the finished stages prepare, dictionary and bundle" in told.complaint
