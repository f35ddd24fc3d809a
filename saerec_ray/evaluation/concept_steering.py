"""Steering by a concept: one intent against a group of intents, for attribute values that no intent was made for.

The attribute is ground truth that steering never sees. For a value such as "category: Nail Polish", learnt intents are
found from example items, as `saerec intents group --items` does. Boosting the strongest alone is compared with
boosting the whole group, and with the intent that stands for the value itself, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from saerec_ray.backbone.validation import EncodedUsers
from saerec_ray.evaluation.scored_users import ScoredUser, sample_cases, scored_users
from saerec_ray.evaluation.segments import NOBODY, Population, members, places_by_case, segment_users
from saerec_ray.evaluation.steering_runs import LIST_LENGTH, gain
from saerec_ray.intents.catalogue import Catalogue
from saerec_ray.intents.groups import group_from_items
from saerec_ray.scoring import (
    MAX_LIMITED_ADJUSTMENTS,
    Adjustment,
    Floats,
    Indices,
    ItemSpace,
    Mode,
    PriorTable,
    SteeringTable,
    apply_shifts,
    shifts,
    top_items,
)

EXAMPLES = 20
"""Items that stand for the concept when its group is looked for; as many as a person might point at."""
MIN_CARRIERS = 2 * EXAMPLES
MAX_SHARE = 0.2
"""Attribute values of fewer items, or of more than this share of the catalogue, are no concepts to steer by."""
RULES = ("single", "group", "exact")


@dataclass(frozen=True)
class Concept:
    """An attribute value with the adjustments of each rule at full strength."""

    name: str
    carriers: npt.NDArray[np.bool_]  # ground truth: (items,)
    edits: dict[str, list[Adjustment]]


def draw_concepts(
    catalogue: Catalogue, space: ItemSpace, attributes: Sequence[dict[str, list[str]]], count: int, seed: int
) -> list[Concept]:
    """At most `count` random attribute values with a group of at least two learnt intents.

    `attributes` are those of each item, {name: values}. Held-out items have no say: neither in the choice of
    values nor of examples.
    """
    rng = np.random.default_rng(seed)
    carriers: dict[tuple[str, str], list[int]] = {}
    for item, values in enumerate(attributes):
        for name, found in values.items():
            for value in found:
                carriers.setdefault((name, value), []).append(item)
    most = MAX_SHARE * space.item_count
    able = sorted(key for key, items in carriers.items() if MIN_CARRIERS <= len(items) <= most)
    learnt = [
        intent.model_copy(update={"steerable": intent.steerable and intent.dictionary == "text"})
        for intent in catalogue.intents
    ]
    exact = {
        (intent.attribute.attribute, intent.attribute.value): intent
        for intent in catalogue.intents
        if intent.attribute and intent.dictionary == "attributes" and intent.published and intent.steerable
    }
    concepts: list[Concept] = []
    for place in rng.permutation(len(able)):
        if len(concepts) == count:
            break
        key = able[place]
        examples = rng.choice(carriers[key], EXAMPLES, replace=False).tolist()
        members = group_from_items(learnt, space.codes, examples, MAX_LIMITED_ADJUSTMENTS)
        if len(members) < 2:
            continue
        group = [Adjustment(member.intent.latent, Mode.BOOST, member.weight) for member in members]
        edits = {"single": group[:1], "group": group}
        if key in exact:
            edits["exact"] = [Adjustment(exact[key].latent, Mode.BOOST)]
        truth = np.zeros(space.item_count, dtype=bool)
        truth[carriers[key]] = True
        concepts.append(Concept(f"{key[0]}: {key[1]}", truth, edits))
    return concepts


class _Sums:
    """What the lists of one concept under one rule add up to; one entry a strength, from 0 up."""

    def __init__(self, steps: int) -> None:
        self.runs = self.segment_runs = 0
        self.shares, self.gains, self.segment_gains, self.overlaps = np.zeros((4, steps))

    def add(self, concept: Concept, outcomes: list[tuple[Indices, float]]) -> None:
        """Adds the lists of a random user."""
        lists, gains = [items for items, _ in outcomes], np.array([found for _, found in outcomes])
        self.runs += 1
        self.shares += [float(concept.carriers[items].mean()) if len(items) else 0.0 for items in lists]
        self.gains += gains
        self.overlaps += [len(np.intersect1d(items, lists[0])) / max(len(lists[0]), 1) for items in lists]

    def add_segment(self, outcomes: list[tuple[Indices, float]]) -> None:
        """Adds the accuracy of the lists of a user whose held-out item has the attribute."""
        self.segment_runs += 1
        self.segment_gains += [found for _, found in outcomes]


def concept_steering(
    space: ItemSpace,
    table: PriorTable,
    steering_table: SteeringTable,
    users: EncodedUsers,
    concepts: Sequence[Concept],
    strengths: Sequence[float],
    count: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    population: Population | None = None,
) -> dict[str, Any]:
    """Boosts every concept for `count` random users under every rule, at every strength.

    A strength multiplies all strengths of a rule's adjustments. For each rule: the number of concepts, the mean
    share of the list of 20 that has the attribute, the share of NDCG@20 lost against no steering (`ndcg_loss`, over
    these users), NDCG@20 of users whose held-out item has the attribute (`ndcg_segment`) and overlap, each a list over
    [0, *strengths]. The segment is of the `population`, at most `most` random users a concept; `segment_runs` counts
    their lists, none without `population`. `paired` holds the same for the concepts that have an exact intent, so
    that three rules can be compared on the same concepts.
    """
    steps = [0.0, *strengths]
    sums = {(place, rule): _Sums(len(steps)) for place, each in enumerate(concepts) for rule in each.edits}
    chosen = sample_cases(users, count, seed)
    rng = np.random.default_rng(seed)
    segments = [
        members(population.cases, each.carriers, rng)[: population.most] if population else NOBODY
        for each in concepts
    ]
    of_segments = places_by_case(segments)
    total = len(chosen) + len(of_segments)

    def lists(user: ScoredUser, edits: list[Adjustment]) -> list[tuple[Indices, float]]:
        """The list and its accuracy at every strength, from 0 up."""
        outcomes = [_outcome(user, user.scores)]
        for strength in strengths:
            scaled = [Adjustment(edit.intent, edit.mode, edit.strength * strength) for edit in edits]
            made = shifts(space, steering_table, user.scores, user.values, scaled)
            outcomes.append(_outcome(user, apply_shifts(user.scores, made)))
        return outcomes

    for done, user in enumerate(scored_users(space, table, users, chosen)):
        for (place, rule), found in sums.items():
            found.add(concepts[place], lists(user, concepts[place].edits[rule]))
        if on_progress:
            on_progress(done + 1, total)
    if population is not None:
        drawn = segment_users(space, table, population, list(of_segments))
        for done, (user, places) in enumerate(zip(drawn, of_segments.values(), strict=True)):
            for place in places:
                for rule, edits in concepts[place].edits.items():
                    sums[place, rule].add_segment(lists(user, edits))
            if on_progress:
                on_progress(len(chosen) + done + 1, total)
    with_exact = {place for place, rule in sums if rule == "exact"}
    return {
        "users": len(chosen),
        "strengths": steps,
        "concepts": [
            {"name": each.name, "intents": len(each.edits["group"]), "exact": "exact" in each.edits}
            for each in concepts
        ],
        "rules": _summaries(sums, set(range(len(concepts)))),
        "paired": _summaries(sums, with_exact),
    }


def _outcome(user: ScoredUser, scores: Floats) -> tuple[Indices, float]:
    return top_items(user.eligible(scores), LIST_LENGTH), gain(user, scores)


def _summaries(sums: dict[tuple[int, str], _Sums], places: set[int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for rule in RULES:
        found = [each for (place, name), each in sums.items() if name == rule and place in places]
        runs = sum(each.runs for each in found)
        if not runs:
            continue
        segment = sum(each.segment_runs for each in found)
        gains = np.sum([each.gains for each in found], axis=0)
        result[rule] = {
            "concepts": len(found),
            "attribute_share": (np.sum([each.shares for each in found], axis=0) / runs).tolist(),
            "ndcg_loss": (1 - gains / gains[0]).tolist() if gains[0] > 0 else None,
            "segment_runs": segment,
            "ndcg_segment": (
                (np.sum([each.segment_gains for each in found], axis=0) / segment).tolist()
                if segment
                else None
            ),
            "overlap": (np.sum([each.overlaps for each in found], axis=0) / runs).tolist(),
        }
    return result
