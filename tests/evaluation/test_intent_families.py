"""The forest holds every published intent once, below its parent, and can be read by eye and ear."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.evaluation.family_tree import family_tree
from saerec_ray.evaluation.intent_families import intent_forest
from tests.evaluation.named_planted import catalogue, intent


def child(latent: int, parent: int | None, **changes: object) -> Any:
    return intent(latent, parent_id=None if parent is None else f"int-{parent:08x}", **changes)


def labels(forest: list[dict[str, Any]]) -> list[str]:
    return [label for tree in forest for label in (tree["label"], *labels(tree["children"]))]


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=30), st.sets(st.integers(0, 29)))
def test_every_published_intent_is_in_the_forest_once(parents: list[int], hidden: set[int]) -> None:
    intents = [
        child(
            latent,
            parent if 0 <= parent < latent else None,
            state="unpublished" if latent in hidden else "active",
        )
        for latent, parent in enumerate(parents)
    ]
    found = labels(intent_forest(catalogue(intents)))
    assert sorted(found) == sorted(f"topic{each}" for each in range(len(parents)) if each not in hidden)


def test_children_stand_below_their_parents_larger_ones_first() -> None:
    intents = [
        child(0, None, item_count=10),
        child(1, None, item_count=90),
        child(2, 0, item_count=3),
        child(3, 0, item_count=4, detection_auc=None),
        child(4, 3, item_count=1),
    ]
    forest = intent_forest(catalogue(intents))
    assert labels(forest) == ["topic1", "topic0", "topic3", "topic4", "topic2"]
    third = forest[1]["children"][0]
    assert third["auc"] is None
    assert third["items"] == 4
    assert [each["label"] for each in third["children"]] == ["topic4"]


def test_a_child_of_an_unpublished_parent_stands_alone() -> None:
    intents = [child(0, None, state="blocked"), child(1, 0)]
    assert labels(intent_forest(catalogue(intents))) == ["topic1"]


class Lists(HTMLParser):
    """How deep in lists each text stands."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.depths: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.depths[data.strip()] = self.open.count("ul")


def test_the_page_nests_lists_as_families_are_nested() -> None:
    intents = [child(0, None, label="<care> & more"), child(1, 0), child(2, 1), child(3, None)]
    page = family_tree(intent_forest(catalogue(intents)))
    reader = Lists()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert reader.depths["<care> & more"] == 1
    assert reader.depths["topic1"] == 2
    assert reader.depths["topic2"] == 3
    assert reader.depths["topic3"] == 1
    assert "3 published intents in 1 families" in page
    assert "1 published intents with none above or below" in page
    assert "(10, 0.90)" in page


def test_an_intent_nobody_could_judge_has_no_figure_and_no_intents_no_section() -> None:
    page = family_tree(intent_forest(catalogue([child(0, None, detection_auc=None)])))
    assert re.search(r"topic0 <small>\(10\)</small>", page)
    assert "Families" not in page
    assert family_tree([]) == ""


def test_three_hundred_intents_make_a_page_of_moderate_size() -> None:
    intents = [child(latent, None if latent < 200 else latent % 40) for latent in range(300)]
    page = family_tree(intent_forest(catalogue(intents)))
    assert page.count("<li>") == 300
    assert len(page) < 30_000
