"""Sensitive topics: matched by words, values and ids, stronger than people's edits, and never lost in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saerec_ray.config import IntentsConfig
from saerec_ray.errors import InputError
from saerec_ray.intents.catalogue import Catalogue, DeprecatedIntent, read_catalogue, stable_ids
from saerec_ray.intents.edit import Edit
from saerec_ray.intents.identity import NamedLatents, item_keys
from saerec_ray.intents.overlay import Overlay
from saerec_ray.intents.policy import POLICY_FILE, Enforced, Policy, enforce, policy_file, read_policy
from saerec_ray.intents.stage import build_intents
from saerec_ray.manifest import read_manifest
from tests.intents.planted import TOPICS, Planted, encode, plant
from tests.intents.stage_folders import planted_workdir, write_stages

GONE = "int-0000dead"


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant()


@pytest.fixture(scope="module")
def ids(planted: Planted) -> list[str]:
    return stable_ids(planted.decoder)


@pytest.fixture(scope="module")
def catalogue(planted: Planted) -> Catalogue:
    return planted.build()[0]


def policy_of(**topic: object) -> Policy:
    return Policy.model_validate({"topics": [{"name": "delicate", **topic}]})


def enforced(planted: Planted, catalogue: Catalogue, **topic: object) -> Enforced:
    return enforce(policy_of(**topic), catalogue, planted.items, planted.codes)


def relabelled(catalogue: Catalogue, name: str, **more: object) -> Catalogue:
    """The first intent with this label and no other text."""
    first = catalogue.intents[0].model_copy(
        update={"label": name, "terms": [], "attribute": None, "description": "", **more}
    )
    return catalogue.model_copy(update={"intents": [first, *catalogue.intents[1:]]})


# What matches


@pytest.mark.parametrize(
    ("label", "phrase", "matches"),
    [
        ("Acne Cream", "acne", True),
        ("Cream for ACNE", "acne cream", False),
        ("Acne-Cream", "acne cream", True),
        ("Pregnancy tests", "pregnancy test", True),
        ("Pregnancy test", "pregnancy tests", True),
        ("Allergies", "allergy", True),
        ("For an allergy", "allergies", True),
        ("Rashes and itching", "rash", True),
        ("Rash cream", "rashes", True),
        ("Pregnancies", "pregnancy", True),
        ("Pregnancy wear", "pregnancies", True),
        ("Two pregnancies tests", "pregnancy test", True),
        ("Abscesses", "abscess", True),
        ("Viruses", "virus", True),
        ("Stitches", "stitch", True),
        ("Boys", "boy", True),
        ("Virgo", "virgoes", True),
        ("Notes", "not", False),
        ("Pines", "pin", False),
        ("Bies", "by", False),
        ("Allergic", "allergy", False),
        ("Analysis", "anal", False),
        ("Menace", "men", False),
        ("Diabetic socks", "diabet*", True),
        ("Blood sugar", "diabet*", False),
        ("ＡＣＮＥ", "acne", True),
        ("", "acne", False),
        ("sugar", "blood sugar", False),
    ],
)
def test_a_phrase_matches_whole_words_in_order(
    planted: Planted, catalogue: Catalogue, label: str, phrase: str, matches: bool
) -> None:
    result = enforced(planted, relabelled(catalogue, label), phrases=[phrase])
    assert (result.catalogue.intents[0].state == "blocked") == matches


WORDS = st.text("abcehioswxyz", min_size=1, max_size=5)


def blocks(planted: Planted, catalogue: Catalogue, label: str, phrase: str) -> bool:
    result = enforced(planted, relabelled(catalogue, label), phrases=[phrase])
    return result.catalogue.intents[0].state == "blocked"


@settings(max_examples=60)
@given(word=WORDS, before=WORDS, after=WORDS)
def test_every_word_matches_itself_and_its_plural_in_s_wherever_it_stands(
    planted: Planted, catalogue: Catalogue, word: str, before: str, after: str
) -> None:
    """However plurals are told, a policy that blocked an intent goes on to do so."""
    for said, listed in ((word, word), (f"{word}s", word), (word, f"{word}s")):
        assert blocks(planted, catalogue, f"{before} {said.upper()} {after}", listed)


@settings(max_examples=60)
@given(stem=WORDS)
def test_plurals_of_words_that_hiss_or_end_in_y_match_in_both_directions(
    planted: Planted, catalogue: Catalogue, stem: str
) -> None:
    plurals = {f"{stem}{end}": f"{stem}{end}es" for end in ("s", "x", "z", "ch", "sh", "o")}
    for one, many in (plurals | {f"{stem}ty": f"{stem}ties"}).items():
        assert blocks(planted, catalogue, many, one)
        assert blocks(planted, catalogue, one, many)


@settings(max_examples=60)
@given(one=WORDS, other=WORDS, ending=st.sampled_from(["", "s", "es", "ies"]))
def test_which_of_two_words_the_policy_lists_makes_no_difference(
    planted: Planted, catalogue: Catalogue, one: str, other: str, ending: str
) -> None:
    for longer in (f"{one}{ending}", f"{one[:-1]}{ending}", other):
        if longer:
            assert blocks(planted, catalogue, one, longer) == blocks(planted, catalogue, longer, one)


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("label", {"label": "Skin trouble"}),
        ("terms", {"terms": ["soap", "skin trouble"]}),
        ("description", {"description": "For all skin trouble."}),
    ],
)
def test_the_verdict_names_the_topic_and_where_the_phrase_stands(
    planted: Planted, catalogue: Catalogue, place: str, change: dict[str, object]
) -> None:
    result = enforced(planted, relabelled(catalogue, "Cream", **change), phrases=["skin trouble"])
    intent = result.catalogue.intents[0]
    assert (intent.state, intent.steerable, intent.published) == ("blocked", False, False)
    assert intent.verdict == f"blocked by the policy topic 'delicate': 'skin trouble' is in its {place}"
    assert result.catalogue.intents[1:] == catalogue.intents[1:]


def test_an_id_matches_that_intent_alone(planted: Planted, catalogue: Catalogue, ids: list[str]) -> None:
    result = enforced(planted, catalogue, intents=[ids[2]])
    assert [each.intent_id for each in result.catalogue.intents if each.state == "blocked"] == [ids[2]]
    assert "its id is listed" in result.catalogue.intents[2].verdict


def test_an_attribute_value_matches_the_intents_whose_items_have_it(
    planted: Planted, catalogue: Catalogue
) -> None:
    value = list(TOPICS)[1].title()
    result = enforced(planted, catalogue, attributes={"category": [value]})
    assert [each.latent for each in result.catalogue.intents if each.state == "blocked"] == [1]
    assert f"it coincides with category '{value}'" in result.catalogue.intents[1].verdict
    unnamed = relabelled(catalogue, "Anything")  # the statistics found no attribute; the items still have it
    first = next(iter(TOPICS)).title()
    result = enforced(planted, unnamed, attributes={"category": [first]})
    assert "100% of it is on items with listed attribute values" in result.catalogue.intents[0].verdict
    other = enforced(planted, unnamed, attributes={"brand": [first]})
    assert other.catalogue == unnamed


def test_half_of_the_activation_on_listed_items_is_enough_and_less_is_not(
    planted: Planted, catalogue: Catalogue
) -> None:
    unnamed = relabelled(catalogue, "Anything")
    loadings = planted.codes[:, [0]].toarray().ravel()
    order = np.flatnonzero(loadings)[np.argsort(loadings[np.flatnonzero(loadings)])]
    share = np.cumsum(loadings[order]) / loadings.sum()
    for count, expected in ((int((share < 0.5).sum()), False), (int((share < 0.5).sum()) + 1, True)):
        chosen = set(order[:count].tolist())
        attributes = [{"sort": ["adult" if row in chosen else "usual"]} for row in range(len(loadings))]
        items = replace(planted.items, attributes=attributes)
        result = enforce(policy_of(attributes={"sort": ["adult"]}), unnamed, items, planted.codes)
        assert (result.catalogue.intents[0].state == "blocked") == expected


@settings(max_examples=30)
@given(
    chosen=st.sets(st.integers(0, len(TOPICS) - 1)),
    words=st.lists(st.sampled_from(sorted(TOPICS)), max_size=3),
)
def test_policy_is_enforced_once_and_only_takes_away(
    planted: Planted, catalogue: Catalogue, ids: list[str], chosen: set[int], words: list[str]
) -> None:
    if not chosen and not words:
        return
    policy = policy_of(intents=sorted(ids[each] for each in chosen), phrases=words)
    once = enforce(policy, catalogue, planted.items, planted.codes).catalogue
    assert enforce(policy, once, planted.items, planted.codes).catalogue == once
    for before, after in zip(catalogue.intents, once.intents, strict=True):
        assert after == before or (after.state == "blocked" and not after.steerable)
    assert {ids[each] for each in chosen} <= {
        each.intent_id for each in once.intents if each.state == "blocked"
    }
    assert once.intents_version != catalogue.intents_version


# What it wins over


def test_policy_wins_over_the_edits_of_people(planted: Planted, ids: list[str]) -> None:
    overlay = Overlay.model_validate(
        {
            "intents": {
                ids[0]: {"state": "active", "label": "Quiet name"},
                ids[1]: {"label": "Delicate matters"},
            }
        }
    )
    policy = policy_of(intents=[ids[0]], phrases=["delicate matter"])
    result = planted.results(overlay=overlay, policy=policy)
    assert [each.state for each in result.catalogue.intents[:3]] == ["blocked", "blocked", "active"]
    assert result.summary["published"] == sum(each.published for each in result.catalogue.intents)


def test_deprecated_intents_of_a_topic_are_dropped_and_blocked_ones_are_no_successors_or_parents(
    planted: Planted, catalogue: Catalogue, ids: list[str]
) -> None:
    def entry(intent_id: str, label: str) -> DeprecatedIntent:
        return DeprecatedIntent(
            intent_id=intent_id,
            label=label,
            description="",
            terms=[],
            label_source="terms",
            last_version="v",
            successors=[ids[0], ids[1]],
        )

    child = catalogue.intents[3].model_copy(update={"parent_id": ids[0]})
    before = catalogue.model_copy(
        update={
            "intents": [*catalogue.intents[:3], child, *catalogue.intents[4:]],
            "deprecated": [entry("int-00000001", "Delicate matters"), entry("int-00000002", "Soap")],
        }
    )
    after = enforced(planted, before, phrases=["delicate"], intents=[ids[0]]).catalogue
    assert [each.intent_id for each in after.deprecated] == ["int-00000002"]
    assert after.deprecated[0].successors == [ids[1]]
    assert after.intents[3].parent_id is None


def test_a_name_that_comes_over_with_an_id_is_held_to_the_policy(planted: Planted, tmp_path: Path) -> None:
    """A person named the intent of an earlier dictionary: the name is known only once ids are carried over."""
    write_stages(planted, tmp_path)
    (tmp_path / "intents").mkdir()
    built = planted.build()[0]
    old = [built.intents[0].model_copy(update={"inherited_edit": Edit(label="Delicate matters")})]
    previous = NamedLatents(
        planted.decoder,
        planted.codes,
        item_keys(planted.items),
        built.model_copy(update={"intents": [*old, *built.intents[1:]]}),
    )
    policy = tmp_path / POLICY_FILE
    policy.write_text("topics: [{name: delicate, phrases: [delicate matters]}]", "utf-8")
    folders = [tmp_path / name for name in ("prepare", "embed", "dictionary", "intents")]
    build_intents(IntentsConfig(), 5, *folders, encode, previous=previous)
    assert read_catalogue(tmp_path / "intents").intents[0].published  # it would be shown
    build_intents(IntentsConfig(), 5, *folders, encode, previous=previous, policy=policy)
    assert read_catalogue(tmp_path / "intents").intents[0].state == "blocked"


# What is told


def test_what_is_blocked_and_what_is_misspelt_is_told_without_labels(
    planted: Planted, catalogue: Catalogue, ids: list[str]
) -> None:
    policy = Policy.model_validate(
        {
            "topics": [
                {"name": "nails", "phrases": ["nail polish"]},
                {"name": "nothing", "intents": [GONE], "attributes": {"category": ["Nial Polish"]}},
            ]
        }
    )
    result = enforce(policy, catalogue, planted.items, planted.codes)
    assert result.sentences() == [
        f"Policy topic 'nails' blocks 1 intent: {ids[0]}.",
        f"Policy topic 'nothing': this dictionary has no {GONE}.",
        "Policy topic 'nothing': no item has category 'Nial Polish'.",
        "Policy topic 'nothing' matches no intent of this dictionary.",
    ]
    assert result.metrics()["blocked"] == {"nails": 1, "nothing": 0}


# The file


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "must hold topics"),
        ("- acne", "must hold topics"),
        ("topics: []", "topics"),
        ("topics: [{name: a}]", "names nothing"),
        ("topics: [{name: a, phrases: ['']}]", "must not be empty"),
        ("topics: [{name: a, phrases: ['*']}]", "must hold a word"),
        ("topics: [{name: a, phrases: [420]}]", "valid string"),
        ("topics: [{name: a, phrases: acne}]", "valid list"),
        ("topics: [{name: a, phrase: [acne]}]", "phrase"),
        ("topics: [{name: a, intents: [acne]}]", "intents"),
        ("topics: [{name: A, phrases: [x]}, {name: a, phrases: [y]}]", "the topic 'a' is there twice"),
        ("topics: [{name: a, phrases: [x], phrases: [y]}]", "the key 'phrases' is there twice"),
        ("topics: [{name: a, phrases: [x]", "not valid YAML"),
        ("? [a, b]\n: c\ntopics: [{name: a, phrases: [x]}]", "not valid YAML"),
        ("topics: !!python/object/apply:os.system [true]", "not valid YAML"),
        ("format: 2\ntopics: [{name: a, phrases: [x]}]", "format"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_with_what_is_wrong(
    tmp_path: Path, content: str, problem: str
) -> None:
    path = tmp_path / POLICY_FILE
    path.write_text(content, "utf-8")
    with pytest.raises(InputError, match=problem) as refused:
        read_policy(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_configured_policy_must_exist_and_wins_over_the_one_in_the_work_directory(tmp_path: Path) -> None:
    assert policy_file(None, tmp_path) is None
    default, other = tmp_path / POLICY_FILE, tmp_path / "other.yaml"
    default.write_text("topics: [{name: a, phrases: [x]}]", "utf-8")
    assert policy_file(None, tmp_path) == default
    with pytest.raises(InputError, match=r"intents\.policy: there is no file"):
        policy_file(other, tmp_path)
    other.write_text("topics: [{name: b, phrases: [x]}]", "utf-8")
    assert read_policy(other).topics[0].name == "b"
    assert policy_file(other, tmp_path) == other


def test_a_new_policy_runs_the_stage_again_and_a_bad_one_keeps_the_old_catalogue(
    planted: Planted, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = planted_workdir(planted, tmp_path, monkeypatch)
    before = workdir.run()
    (tmp_path / POLICY_FILE).write_text("topics: [{name: nails, phrases: [nail polish]}]", "utf-8")
    blocked = workdir.run()
    assert [before.intents[0].state, blocked.intents[0].state] == ["active", "blocked"]
    assert before.intents_version != blocked.intents_version
    manifest = read_manifest(tmp_path / "intents")
    assert "policy" in manifest.inputs
    assert manifest.metrics["policy"]["blocked"] == {"nails": 1}
    assert f"Policy topic 'nails' blocks 1 intent: {ids[0]}" in workdir.said
    (tmp_path / POLICY_FILE).write_text("topics: [", "utf-8")
    with pytest.raises(InputError, match="not valid YAML"):
        workdir.run()
    assert read_catalogue(tmp_path / "intents") == blocked
    (tmp_path / POLICY_FILE).unlink()
    assert workdir.run() == before
