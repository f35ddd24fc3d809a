"""`saerec recommend` and `explain`: what is sent, and what a person sees of the answer."""

from __future__ import annotations

import json
import re

from saerec_ray.v1 import common_pb2
from saerec_ray.v1 import recommender_service_pb2 as recommender
from tests.command_line import Run
from tests.scripted_server import ScriptedServer
from tests.service_commands.answers import LABELS, RAZOR, SHAMPOO, ranking


def explained_answer() -> recommender.RecommendResponse:
    return recommender.RecommendResponse(
        recommendation_id="r1",
        items=[
            recommender.RecommendedItem(
                item_id="i7",
                title="Rose Wash",
                score=2.25,
                explanation=recommender.ItemExplanation(
                    intents=[
                        recommender.IntentContribution(
                            intent_id=SHAMPOO, label="shampoo", contribution=1.25, rank_without=37
                        )
                    ],
                    other_intents_score=0.125,
                    residual_score=-0.125,
                    bias_score=0.25,
                    steering=[recommender.SteeringContribution(intent_id=RAZOR, contribution=0.25)],
                    unsteered_rank=4,
                    evidence=[recommender.Evidence(item_id="i2", title="Oat Wash", share=0.6)],
                    companions_score=0.5,
                    companions=[
                        recommender.CompanionContribution(item_id="i2", title="Oat Wash", contribution=0.375),
                        recommender.CompanionContribution(item_id="i3", contribution=0.125),
                    ],
                ),
            )
        ],
        unknown_item_ids=["nowhere"],
        skipped_adjustments=[
            recommender.SkippedAdjustment(
                intent_id="int-0000000f", reason=common_pb2.ERROR_REASON_UNKNOWN_INTENT
            )
        ],
    )


def test_recommend_shows_items_the_parts_of_their_scores_and_the_evidence(
    server: ScriptedServer, run: Run
) -> None:
    server.answer("Recommend", explained_answer())
    done = run("recommend", "--user", "u1", "--count", "5", "--boost", "razors=0.25")

    assert done.code == 0
    for part in ("Rose Wash i7", "2.250", "+1.250 shampoo", "+0.125 other intents", "-0.125 what people"):
        assert part in done.flat
    assert "+1.250 shampoo, without it at rank 37" in done.flat
    assert "+0.250 steering of razors & blades" in done.flat
    assert "+0.500 often taken soon after Oat Wash, i3" in done.flat
    assert "because of Oat Wash (60%)" in done.flat
    assert "without steering at rank 4" in done.flat
    assert "Not in the catalogue: nowhere." in done.flat
    assert "Not applied: int-0000000f: the serving dictionary does not have it." in done.flat
    (sent,) = server.requests["Recommend"]
    assert (sent.user_id, sent.page_size, sent.view) == ("u1", 5, recommender.RECOMMEND_VIEW_EXPLAINED)
    (boost,) = sent.steering.adjustments
    assert (boost.intent_id, boost.strength) == (RAZOR, 0.25)
    assert not sent.steering.ignore_profile


def test_an_intent_that_moves_nothing_is_listed_without_a_rank(server: ScriptedServer, run: Run) -> None:
    found = explained_answer()
    found.items[0].explanation.intents[0].rank_without = 1
    server.answer("Recommend", found)
    done = run("recommend", "--user", "u1")
    assert "+1.250 shampoo" in done.flat
    assert "without it" not in done.flat


def test_a_new_item_is_not_said_to_be_taken_by_anybody(server: ScriptedServer, run: Run) -> None:
    found = explained_answer()
    found.items[0].explanation.companions_by_text = True
    server.answer("Recommend", found)
    done = run("recommend", "--user", "u1")
    assert "+0.500 new, and its text is closest to Oat Wash, i3" in done.flat
    assert "taken" not in done.flat


def test_json_is_the_answer_and_nothing_else(server: ScriptedServer, run: Run) -> None:
    server.answer("Recommend", explained_answer())
    done = run("recommend", "--user", "u1", "--suppress", "razors", "--json")
    answer = json.loads(done.out)
    assert answer["items"][0]["explanation"]["intents"][0]["intent_id"] == SHAMPOO
    assert "razors is “razors & blades” (int-00000003)." in done.complaint


def test_filters_and_history_reach_the_server(server: ScriptedServer, run: Run) -> None:
    server.answer("Recommend", ranking(("a", 1.0)))
    run(
        "recommend", "--history", "h1", "--history", "h2", "--allow", "a", "--deny", "b", "--seen",
        "--where", "brand=x", "--where", "brand=y=z", "--where", "type!=w", "--no-explain",
    )  # fmt: skip
    (sent,) = server.requests["Recommend"]
    assert [entry.item_id for entry in sent.history] == ["h1", "h2"]
    assert (list(sent.filter.allow_item_ids), list(sent.filter.deny_item_ids)) == (["a"], ["b"])
    brand, kind = sent.filter.conditions
    assert (brand.attribute, list(brand.any_of.values)) == ("brand", ["x", "y=z"])
    assert (kind.attribute, list(kind.none_of.values)) == ("type", ["w"])
    assert sent.filter.seen_policy == recommender.SEEN_POLICY_ALLOW
    assert sent.view == recommender.RECOMMEND_VIEW_BASIC


def test_compare_shows_how_items_move(server: ScriptedServer, run: Run) -> None:
    server.answer(
        "Recommend",
        ranking(("a", 3.0), ("b", 2.0), ("c", 1.0)),
        ranking(("c", 3.5), ("a", 3.0), ("d", 2.5)),
    )
    done = run("recommend", "--user", "u1", "--boost", SHAMPOO, "--compare", "--count", "3")

    before, after = server.requests["Recommend"]
    assert not before.steering.adjustments
    assert not before.steering.ignore_profile
    assert before.page_size == 200
    assert [each.intent_id for each in after.steering.adjustments] == [SHAMPOO]
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in done.out.splitlines() if line.startswith("│")]
    assert rows == [
        ["1", "a", "3.000", "c", "3.500", "↑ 2", "+2.500"],
        ["2", "b", "2.000", "a", "3.000", "↓ 1", "+0.000"],
        ["3", "c", "1.000", "d", "2.500", "from below 3"],
    ]
    assert "2 of 3 items stay on the page." in done.flat


def test_compare_without_adjustments_shows_what_the_stored_ones_do(server: ScriptedServer, run: Run) -> None:
    server.answer("Recommend", ranking(("a", 3.0)), ranking(("b", 3.5)))
    answer = json.loads(run("recommend", "--user", "u1", "--compare", "--json").out)
    before, after = server.requests["Recommend"]
    assert (before.steering.ignore_profile, after.steering.ignore_profile) == (True, False)
    assert answer["before"]["items"][0]["item_id"] == "a"
    assert answer["after"]["items"][0]["item_id"] == "b"


def test_explain_shows_what_is_over_and_under_represented(server: ScriptedServer, run: Run) -> None:
    def user_intent(intent_id: str, representation: int, lift: float) -> recommender.UserIntent:
        return recommender.UserIntent(
            intent_id=intent_id,
            label=LABELS[intent_id],
            origin=recommender.INTENT_ORIGIN_PERSONAL,
            base_weight=0.5,
            weight=0.75 if lift > 0 else 0.5,
            log_lift=lift,
            z_score=4 * lift,
            representation=representation,
            evidence=[recommender.Evidence(item_id="i2", title="Oat Wash", share=0.6)] if lift > 0 else [],
        )

    server.answer(
        "ExplainUser",
        recommender.ExplainUserResponse(
            intents=[
                user_intent(SHAMPOO, recommender.REPRESENTATION_OVER, 1.5),
                user_intent(RAZOR, recommender.REPRESENTATION_UNDER, -0.5),
            ],
            intent_share=0.62,
            fidelity=0.8,
        ),
    )
    done = run("explain", "--user", "u1", "--count", "2", "--evidence", "1")
    assert re.search(r"shampoo over \+1\.50 \+6\.0 0\.50 → 0\.75 Oat Wash \(60%\)", done.flat)
    assert re.search(rf"{SHAMPOO} own history", done.flat), "the whole id, to be copied"
    rows = [line for line in done.out.splitlines() if line.startswith("│")]
    assert rows
    assert all(line.endswith("│") for line in rows), "a table fits into the width of the terminal"
    assert re.search(r"razors & blades under -0\.50 -2\.0 0\.50", done.flat)
    assert "62%" in done.flat
    (sent,) = server.requests["ExplainUser"]
    assert (sent.max_intents, sent.max_evidence) == (2, 1)


def test_titles_cannot_steer_the_terminal(server: ScriptedServer, run: Run) -> None:
    answer = ranking(("a", 1.0))
    answer.items[0].title = "nice\x1b[2J\x07item"
    server.answer("Recommend", answer)
    done = run("recommend", "--user", "u", "--no-explain")
    assert "\x1b" not in done.out
    assert "nice [2J item" in done.flat
