"""The page: well formed, self-contained, and every figure with a sentence."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saerec_ray.evaluation.build import build_report
from saerec_ray.evaluation.cold_exposure import NO_COMPANIONS
from saerec_ray.evaluation.html_report import html_report
from saerec_ray.evaluation.markdown_report import markdown_report
from saerec_ray.evaluation.segments import FEWEST_RUNS
from saerec_ray.evaluation.svg_plots import Bars, Series, bar_chart, grouped_bars, line_chart, nice_ticks
from saerec_ray.evaluation_settings import EvaluateConfig
from tests.evaluation.finished_stages import encode, write_stages
from tests.evaluation.other_domain import other_domains
from tests.synthetic import synthetic_config

VOID = {"meta", "br", "hr", "img", "link"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("page")
    write_stages(folder, cold=True)
    config = EvaluateConfig(
        completeness_users=4,
        faithfulness_users=4,
        history_users=8,
        steering_users=4,
        steering_intents=3,
        steering_strengths=[0.5, 1.0],
        simulated_users=3,
        calibration_users=5,
        recovery_users=10,
        probed_attributes=2,
        intruder_latents=5,
    )
    stages = [folder / name for name in ("prepare", "intents", "train")]
    build_report(
        config,
        synthetic_config().train,
        7,
        *stages,
        folder,
        embedded=folder / "embed",
        dictionary=folder / "dictionary",
        encode=encode,
        others=other_domains(folder, "mugs", "toys"),
    )
    found: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    found["steering"]["intents"][0]["label"] = "<script>alert(1)</script> | x"
    found["written"] = (folder / "report.html").read_text("utf-8")
    return found


class Reader(HTMLParser):
    """Checks that tags close in order, and keeps every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_every_tag_of_the_page_closes_and_every_plot_is_xml(report: dict[str, Any]) -> None:
    page = html_report(report)
    read(page)
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == page.count("<figure>") >= 20
    for drawing in drawings:
        ElementTree.fromstring(drawing)


@pytest.mark.parametrize(
    ("section", "across", "up"),
    [
        ("Explanations", "explained share of the score", "recommended items"),
        ("Faithfulness", "share of the list's intents removed", "list's score, 0 to 1"),
        ("Faithfulness", "share of the list's intents kept", "list's score, 0 to 1"),
        ("Steering", "strength", "exposure"),
        ("Steering", "strength", "share with the attribute"),
        ("Steering", "strength", "NDCG@20"),
        ("Steering", "lift of the exposure, log10", "share of NDCG@20 kept"),
        ("Over- and under-representation", "history length", "power"),
        ("Over- and under-representation", "history length", "share of wrong verdicts"),
        ("Transfer between domains", "dictionary from", "variance unexplained"),
        ("Transfer between domains", "names from", "AUC of the label"),
        ("Transfer between domains", "history from", "HR@10"),
        ("Dictionary", "log10 of the share of items", "latents"),
        ("Dictionary", "active latents an item (L0)", "variance unexplained"),
        ("Intents", "AUC of the label", "intents"),
    ],
)
def test_every_section_has_its_plots(report: dict[str, Any], section: str, across: str, up: str) -> None:
    """Told by their axes."""
    measured = copy.deepcopy(report)
    for curve in measured["steering"]["random"].values():  # so few users may give no curve of costs
        curve |= {"lift": [1.5] * len(curve["exposure"]), "ndcg_loss": [0.1] * len(curve["exposure"])}
    page = html_report(measured)
    content = page.partition(f"<h1>{section}</h1>")[2].partition("</section>")[0]
    drawings = re.findall(r"<svg.*?</svg>", content, re.DOTALL)
    axes = [["".join(text.itertext()) for text in ElementTree.fromstring(each).iter(f"{SVG}text")]
            for each in drawings]  # fmt: skip
    assert sum({across, up} <= set(texts) for texts in axes) == 1


def test_the_page_loads_nothing_and_runs_nothing(report: dict[str, Any]) -> None:
    page = html_report(report)
    tags = read(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "image", "use"}
    assert not [attrs for _, attrs in tags if {"src", "href", "onload", "onclick"} & set(attrs)]
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}


def test_every_figure_says_in_a_sentence_what_it_shows(report: dict[str, Any]) -> None:
    figures = re.findall(r"<figure>.*?</figure>", html_report(report), re.DOTALL)
    captions = [re.search(r"<figcaption>(.+?)</figcaption>", figure) for figure in figures]
    sentences = [caption.group(1) for caption in captions if caption]
    assert len(sentences) == len(set(sentences)) == len(figures)
    assert all(sentence.endswith(".") and len(sentence) > 40 for sentence in sentences)
    for figure, sentence in zip(figures, sentences, strict=True):
        assert f'aria-label="{sentence}"' in figure, "those who cannot see it hear the same"


def test_the_page_is_the_same_from_memory_and_from_the_written_report(report: dict[str, Any]) -> None:
    page = html_report(report)
    assert page == report["written"], "JSON sorts its keys; rows and lines must not follow"


@pytest.mark.parametrize(
    ("keys", "gone"),
    [
        (("accuracy", "accuracy_details"), "Accuracy"),
        (("cold",), "Cold items"),
        (("explanations",), "Explanations"),
        (("faithfulness",), "Faithfulness"),
        (("steering",), "Steering"),
        (("representation",), "Over- and under-representation"),
        (("transfer",), "Transfer between domains"),
        (("dictionary", "dictionary_density"), "Dictionary"),
        (("intents",), "Intents"),
    ],
)
def test_what_was_not_measured_is_not_mentioned(
    report: dict[str, Any], keys: tuple[str, ...], gone: str
) -> None:
    assert f"<h1>{gone}</h1>" in html_report(report)
    rest = {name: value for name, value in report.items() if name not in keys}
    assert f"<h1>{gone}</h1>" not in html_report(rest)
    assert f"\n# {gone}\n" not in markdown_report(rest)
    read(html_report(rest))


def section(page: str, title: str) -> str:
    """What stands below a first-level title."""
    found = re.search(rf"<section><h1>{title}</h1>(.*?)</section>", page, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_cold_items_are_drawn_with_and_without_companions_by_text(report: dict[str, Any]) -> None:
    assert NO_COMPANIONS in report["cold"]["exposure"]["rows"], "or there is nothing to tell apart"
    drawn = section(html_report(report), "Cold items")
    assert drawn.count(f"intents, {NO_COMPANIONS}") >= 2  # a bar of one plot and a line of the other
    older = copy.deepcopy(report)
    del older["cold"]["exposure"]["rows"][NO_COMPANIONS]
    del older["cold"]["models"][f"intents, {NO_COMPANIONS}"]
    assert NO_COMPANIONS not in section(html_report(older), "Cold items")


@pytest.mark.parametrize(
    ("title", "figures"),
    [
        ("Accuracy", ["of the models", "so many known interactions"]),
        ("Cold items", ["that training never met", "the more often cold items are listed"]),
        ("Faithfulness", ["95% intervals", "places an item falls"]),
        ("Steering", ["have the attribute the intent stands for"]),
        ("Over- and under-representation", ["far the intents of a list"]),
        (
            "Transfer between domains",
            ["of other domains lose", "names of other domains", "in another domain is known"],
        ),
    ],
)
def test_every_part_has_its_plots(report: dict[str, Any], title: str, figures: list[str]) -> None:
    captions = " ".join(re.findall("<figcaption>(.*?)</figcaption>", section(html_report(report), title)))
    for words in figures:
        assert words in captions


def test_accuracy_of_a_segment_is_drawn_where_it_has_enough_lists(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    curves = changed["steering"]["random"].values()
    for runs in (FEWEST_RUNS - 1, FEWEST_RUNS):
        for curve in curves:
            curve |= {"segment_runs": runs, "ndcg_segment": [0.1] * len(curve["strengths"])}
        drawn = "a boost should help them" in section(html_report(changed), "Steering")
        assert drawn is (runs == FEWEST_RUNS)


def test_a_win_rate_is_drawn_with_its_interval(report: dict[str, Any]) -> None:
    page = section(html_report(report), "Faithfulness")
    drawing = next(
        figure for figure in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "cases won" in figure
    )
    upright = [
        line
        for line in ElementTree.fromstring(drawing).findall(f"{SVG}line")
        if line.attrib["x1"] == line.attrib["x2"]
    ]
    shown = report["faithfulness"]
    expected = sum(
        len(controls)
        for key in ("cited_against_random", "named_against_random")
        for controls in shown[key].values()
    )
    assert len(upright) == expected > 0


def test_where_a_model_has_one_member_the_text_says_that_another_seed_needs_two(
    report: dict[str, Any],
) -> None:
    text = markdown_report(report)
    assert "It needs two; this model has 1: set train.members to 2." in text
    two = json.loads(json.dumps(report))
    two["faithfulness"]["seed_stability"] = {
        "members": 2,
        "users": 5,
        "items": 50,
        "top_3_jaccard_mean": 0.612,
        "top_3_jaccard_p10": 0.2,
        "by_chance": 0.25,
    }
    text = markdown_report(two)
    assert "It needs two" not in text
    assert "| another seed: member 1 against member 2 | 5 | 0.61 | 0.20 | 0.25 |" in text


def test_where_there_is_no_ratio_the_mean_falls_are_shown(report: dict[str, Any]) -> None:
    odd = json.loads(json.dumps(report))
    row = odd["faithfulness"]["cited_against_random"]["1"]["same_item"]
    row |= {"ratio": None, "median_drop_random": 0.0, "mean_drop_cited": 41.26, "mean_drop_random": 3.75}
    text = markdown_report(odd)
    line = next(line for line in text.splitlines() if line.startswith("| 1 | same item |"))
    assert "| 0 | – | 41.3 | 3.8 |" in line
    assert "There is no ratio where the control's median fall is 0" in text
    assert "best for both areas by construction" in text


def test_bars_of_a_group_stand_side_by_side_with_their_intervals() -> None:
    drawing = grouped_bars(
        ["a", "b"], [Bars("one", [1, 2], [[0.5, 1.5], [1, 4]]), Bars("two", [4, 0])], "x", "y", "said"
    )
    tree = ElementTree.fromstring(drawing)
    lefts = [float(bar.attrib["x"]) for bar in tree.findall(f"{SVG}rect")]
    heights = [float(bar.attrib["height"]) for bar in tree.findall(f"{SVG}rect")]
    assert lefts[0] < lefts[2] < lefts[1] < lefts[3], "one a, two a, one b, two b"
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.2)
    assert heights[3] == 0
    upright = [line for line in tree.findall(f"{SVG}line") if line.attrib["x1"] == line.attrib["x2"]]
    assert len(upright) == 2
    with pytest.raises(ValueError, match="1 bars for 2 groups"):
        grouped_bars(["a", "b"], [Bars("one", [1])], "x", "y", "said")
    assert "nothing to show" in grouped_bars(["a"], [Bars("one", [0])], "x", "y", "said")


def test_text_from_the_data_is_text_on_the_page() -> None:
    odd = "<b>&\"|'</b>"
    names = {"HR@5": 0.5, "NDCG@5": 0.5, "MRR@5": 0.5}
    page = html_report({"protocol": odd, "cutoffs": [5], "accuracy": {"test": {"intents": names}}})
    read(page)
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_tables_keep_their_columns_whatever_cells_hold() -> None:
    from saerec_ray.evaluation.markdown_tables import table

    lines = table(["a", "b"], [["x|y", "two\nlines"]])
    assert lines == ["| a | b |", "|---|---|", "| x\\|y | two lines |", ""]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_span_what_is_shown(low: float, width: float) -> None:
    high = low + width
    ticks = nice_ticks(low, high)
    slack = 1e-6 * max(width, abs(low), abs(high))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 10


def test_ticks_are_steps_of_one_two_or_five() -> None:
    assert nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(0, 7) == list(range(8))
    assert nice_ticks(3, 3)[0] <= 3


def test_a_line_goes_through_its_points_in_order_and_upwards_means_more() -> None:
    drawing = line_chart([Series("one", [0, 1, 2], [0, 1, 3])], "x", "y", "said")
    line = ElementTree.fromstring(drawing).find(f"{SVG}polyline")
    assert line is not None
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert len(points) == 3
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[0][1] > points[1][1] > points[2][1], "y grows downwards in SVG"
    first, second = points[0][1] - points[1][1], points[1][1] - points[2][1]
    assert second == pytest.approx(2 * first, abs=0.2)


def test_a_value_that_is_not_finite_is_left_out_and_nothing_at_all_is_said() -> None:
    drawing = line_chart([Series("one", [0, 1, 2], [0, math.nan, 3])], "x", "y", "said")
    ElementTree.fromstring(drawing)
    assert "nan" not in drawing
    assert "nothing to show" in line_chart([], "x", "y", "said")
    assert "nothing to show" in bar_chart([0, 1], [0], "x", "y", "said")


def test_bars_are_as_high_as_their_counts_and_stand_on_the_axis() -> None:
    drawing = bar_chart([0.0, 0.5, 1.0], [2, 4], "x", "y", "said")
    bars = ElementTree.fromstring(drawing).findall(f"{SVG}rect")
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    feet = [float(bar.attrib["y"]) + float(bar.attrib["height"]) for bar in bars]
    assert feet[0] == pytest.approx(feet[1], abs=0.2)
    with pytest.raises(ValueError, match="3 edges"):
        bar_chart([0, 1], [2, 4], "x", "y", "said")


def test_series_differ_in_colour_and_in_dashes(tmp_path: Path) -> None:
    lines = [Series(str(place), [0, 1], [place, place]) for place in range(4)]
    found = ElementTree.fromstring(line_chart(lines, "x", "y", "said")).findall(f"{SVG}polyline")
    assert len({line.attrib["stroke"] for line in found}) == 4
    assert len({line.attrib["stroke-dasharray"] for line in found}) == 4
