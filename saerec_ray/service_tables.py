"""Answers as tables for people, or as JSON: pure functions from message to what is printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from saerec_ray.intents.listing import listed
from saerec_ray.v1 import common_pb2 as common
from saerec_ray.v1 import intent_service_pb2 as intents_api
from saerec_ray.v1 import recommender_service_pb2 as recommender

_VISIBLE = 5e-4
"""Smaller amounts would print as 0.000."""
Labels = Mapping[str, str]
"""Intent ids to labels, for messages that carry only ids."""

_MODES = {
    common.ADJUSTMENT_MODE_BOOST: "boost",
    common.ADJUSTMENT_MODE_AVOID: "avoid",
    common.ADJUSTMENT_MODE_SUPPRESS: "suppress",
    common.ADJUSTMENT_MODE_EXCLUDE: "exclude",
}
_REPRESENTATIONS = {
    recommender.REPRESENTATION_OVER: Text("over", style="green"),
    recommender.REPRESENTATION_UNDER: Text("under", style="yellow"),
    recommender.REPRESENTATION_TYPICAL: Text("typical", style="dim"),
}
_ORIGINS = {
    recommender.INTENT_ORIGIN_PERSONAL: "own history",
    recommender.INTENT_ORIGIN_PUBLIC: "public",
    recommender.INTENT_ORIGIN_STEERED: "steering",
}
_DEGRADATIONS = {
    recommender.DEGRADATION_STEERING_UNAVAILABLE: "stored steering could not be read and was not applied",
    recommender.DEGRADATION_HISTORY_UNAVAILABLE: "stored history could not be read",
    recommender.DEGRADATION_RERANK_SHORTENED: "the order is not proved to be that of the whole catalogue",
    recommender.DEGRADATION_POPULARITY_ONLY: "nothing is known of the user, so these are popular items",
}
_SKIPPED = {
    common.ERROR_REASON_UNKNOWN_INTENT: "the serving dictionary does not have it",
    common.ERROR_REASON_INTENT_NOT_STEERABLE: "policy forbids steering it",
    common.ERROR_REASON_STEERING_LIMIT: "more boosts and avoids are stored than may act at once",
}
_STATES = {
    intents_api.INTENT_STATE_ACTIVE: "active",
    intents_api.INTENT_STATE_DEPRECATED: "deprecated",
    intents_api.INTENT_STATE_BLOCKED: "blocked",
}
_SOURCES = {
    intents_api.LABEL_SOURCE_HUMAN: "person",
    intents_api.LABEL_SOURCE_MODEL: "language model",
    intents_api.LABEL_SOURCE_TERMS: "top terms",
    intents_api.LABEL_SOURCE_ATTRIBUTE: "attribute",
}
_DICTIONARIES = {
    intents_api.INTENT_DICTIONARY_TEXT: "texts",
    intents_api.INTENT_DICTIONARY_COOCCURRENCE: "co-occurrence",
    intents_api.INTENT_DICTIONARY_ATTRIBUTES: "attributes",
}

_KINDS = {
    intents_api.INTENT_KIND_UNSPECIFIED: "not known",
    intents_api.INTENT_KIND_INTENT: "intent",
    intents_api.INTENT_KIND_ITEM_PROPERTY: "item property",
    intents_api.INTENT_KIND_NUISANCE: "nuisance",
}


def recommendations(
    response: recommender.RecommendResponse, *, title: str = "Recommendations", labels: Labels | None = None
) -> RenderableType:
    """The ranked items; in the explained view with what made up each score and the history behind it."""
    explained = any(item.HasField("explanation") for item in response.items)
    table = Table(title=title, title_justify="left", show_lines=explained)
    table.add_column("#", justify="right")
    table.add_column("Item", ratio=2, min_width=12)
    table.add_column("Score", justify="right")
    if explained:
        table.add_column("Why: the parts add up to the score", ratio=4, min_width=24)
    for rank, item in enumerate(response.items, start=1):
        row: list[RenderableType] = [str(rank), item_name(item.item_id, item.title), f"{item.score:.3f}"]
        if explained:
            row.append(score_parts(item.explanation, rank, labels or {}))
        table.add_row(*row)
    return Group(table, *notes(response, labels or {}))


def companions_name(explanation: recommender.ItemExplanation) -> str:
    """The companions' part of a score in words: which items of the history speak for it, and how that is known."""
    names = [printable(each.title or each.item_id) for each in explanation.companions]
    known = "new, and its text is closest to" if explanation.companions_by_text else "often taken soon after"
    return f"{known} {', '.join(names) or 'the history'}"


def score_parts(explanation: recommender.ItemExplanation, rank: int, labels: Labels) -> Text:
    """The parts of the score of the item at a rank, a line each, then the history behind them."""
    known = {**labels, **{each.intent_id: each.label for each in explanation.intents}}
    lines = [
        (each.contribution, label(known, each.intent_id), each.rank_without) for each in explanation.intents
    ]
    lines += [
        (each.contribution, f"steering of {label(known, each.intent_id)}", 0) for each in explanation.steering
    ]
    lines += [
        (explanation.other_intents_score, "other intents", 0),
        (explanation.residual_score, "what people with such a history take, beyond intents", 0),
        (explanation.bias_score, "the item itself, for everybody", 0),
        (explanation.companions_score, companions_name(explanation), 0),
        (explanation.rules_score, "rules", 0),
    ]
    text = Text()
    for amount, name, rank_without in lines:
        if abs(amount) < _VISIBLE:
            continue
        text.append(f"{amount:+.3f} ", style="green" if amount >= 0 else "red")
        text.append(name)
        if rank_without not in (0, rank):
            text.append(f", without it at rank {rank_without}", style="dim")
        text.append("\n")
    if explanation.evidence:
        text.append(f"because of {evidence_list(explanation.evidence)}\n", style="dim")
    if explanation.unsteered_rank not in (0, rank):
        text.append(f"without steering at rank {explanation.unsteered_rank}\n", style="dim")
    text.rstrip()
    return text


def comparison(
    before: recommender.RecommendResponse,
    after: recommender.RecommendResponse,
    *,
    count: int | None = None,
    titles: tuple[str, str] = ("Before", "After"),
) -> RenderableType:
    """Two rankings side by side, with the moves of the items on the right.

    `before` may be longer than what is shown, so that moves from further down are known; `count` is the
    number of rows, by default the length of `after`.
    """
    rows = count or len(after.items)
    old = {item.item_id: (rank, item.score) for rank, item in enumerate(before.items, start=1)}
    table = Table(show_lines=False)
    table.add_column("#", justify="right")
    table.add_column(titles[0], ratio=1, min_width=16)
    table.add_column("Score", justify="right")
    table.add_column(titles[1], ratio=1, min_width=16)
    table.add_column("Score", justify="right")
    table.add_column("Move", justify="right")
    table.add_column("Change", justify="right")
    for place in range(min(rows, max(len(before.items), len(after.items)))):
        row: list[RenderableType] = [str(place + 1)]
        row += _place(before, place)
        row += _place(after, place)
        row += _move(old, after, place, len(before.items))
        table.add_row(*row)
    stayed = {item.item_id for item in before.items[:rows]} & {item.item_id for item in after.items[:rows]}
    summary = Text(f"{len(stayed)} of {min(rows, len(after.items))} items stay on the page.", style="dim")
    return Group(table, summary, *notes(after, {}))


def _place(response: recommender.RecommendResponse, place: int) -> list[RenderableType]:
    if place >= len(response.items):
        return ["", ""]
    item = response.items[place]
    return [item_name(item.item_id, item.title), f"{item.score:.3f}"]


def _move(
    old: Mapping[str, tuple[int, float]],
    after: recommender.RecommendResponse,
    place: int,
    known: int,
) -> list[RenderableType]:
    if place >= len(after.items):
        return ["", ""]
    item = after.items[place]
    if item.item_id not in old:
        return [Text(f"from below {known}", style="green"), ""]
    rank, score = old[item.item_id]
    up = rank - (place + 1)
    move = Text(f"↑ {up}", style="green") if up > 0 else Text(f"↓ {-up}", style="red") if up else Text("=")
    change = item.score - score
    return [move, Text(f"{change:+.3f}", style="dim" if abs(change) < _VISIBLE else "")]


def user_profile(response: recommender.ExplainUserResponse, *, title: str = "Intents") -> RenderableType:
    """What drives a user's ranking: over- and under-represented intents, and the history behind each."""
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("Intent, and\nwhere from", ratio=3, min_width=13)
    table.add_column("Against\npopulation")
    table.add_column("Log\nlift", justify="right")
    table.add_column("z", justify="right")
    table.add_column("Weight", justify="right")
    table.add_column("Evidence", ratio=3, min_width=13)
    for intent in response.intents:
        table.add_row(
            Group(intent_name(intent.intent_id, intent.label), _ORIGINS.get(intent.origin, "")),
            _REPRESENTATIONS.get(intent.representation, Text("")),
            f"{intent.log_lift:+.2f}",
            f"{intent.z_score:+.1f}",
            _weight(intent),
            Text(evidence_list(intent.evidence)),
        )
    share = Text(
        f"Intents make up {response.intent_share:.0%} of the first page's scores. "
        f"The intents above rebuild the ranking scores with R² {response.fidelity:.2f}.",
        style="dim",
    )
    parts: list[RenderableType] = [table, share, *_degraded(response.degradations)]
    if response.profile.adjustments:
        known = {each.intent_id: each.label for each in response.intents}
        parts.append(steering_profile(response.profile, known))
    return Group(*parts)


def _weight(intent: recommender.UserIntent) -> Text:
    text = Text(f"{intent.base_weight:.2f}")
    if abs(intent.weight - intent.base_weight) > _VISIBLE:
        text.append(f" → {intent.weight:.2f}", style="bold")
    return text


def steering_profile(profile: recommender.SteeringProfile, labels: Labels) -> RenderableType:
    """A user's stored steering."""
    if not profile.adjustments:
        return Text(f"No steering is stored (revision {profile.revision}, etag {profile.etag or 'none'}).")
    table = Table(title="Stored steering", title_justify="left")
    table.add_column("Intent", min_width=12)
    table.add_column("Mode")
    table.add_column("Strength", justify="right")
    table.add_column("Until")
    table.add_column("By")
    table.add_column("Reason")
    for stored in profile.adjustments:
        change = stored.adjustment
        table.add_row(
            intent_name(change.intent_id, labels.get(change.intent_id, "")),
            _MODES.get(change.mode, ""),
            "" if change.mode == common.ADJUSTMENT_MODE_EXCLUDE else f"{change.strength:g}",
            f"{stored.expire_time.ToDatetime():%Y-%m-%d %H:%M} UTC",
            Text(printable(stored.actor)),
            Text(printable(stored.reason)),
        )
    return Group(table, Text(f"revision {profile.revision}, etag {profile.etag}", style="dim"))


def steering_effect(effect: recommender.SteeringEffect, labels: Labels) -> RenderableType:
    """What a write does to the first page."""
    table = Table(title="Effect on the first page", title_justify="left")
    table.add_column("Intent", min_width=12)
    table.add_column("Mean loading before", justify="right")
    table.add_column("after", justify="right")
    table.add_column("Change", justify="right")
    for each in effect.exposures:
        change = each.after - each.before
        style = "dim" if abs(change) < 5e-5 else "green" if change > 0 else "red"
        table.add_row(
            intent_name(each.intent_id, labels.get(each.intent_id, "")),
            f"{each.before:.4f}",
            f"{each.after:.4f}",
            Text(f"{change:+.4f}", style=style),
        )
    return Group(table, Text(f"{effect.overlap:.0%} of the page stays.", style="dim"))


def steering_write(response: recommender.SteerIntentsResponse, labels: Labels) -> RenderableType:
    """The stored steering after a write, or after its preview, and what it does."""
    return Group(
        steering_profile(response.profile, labels),
        steering_effect(response.effect, labels),
        *_skipped(response.skipped_adjustments, labels),
    )


def intent_list(listed: Sequence[intents_api.Intent], total: int) -> RenderableType:
    """Intents in one table."""
    table = Table(title="Intents", title_justify="left")
    table.add_column("Intent", ratio=3, min_width=12)
    table.add_column("Label\nAUC", justify="right")
    table.add_column("Users", justify="right")
    table.add_column("State,\nkind")
    table.add_column("Steerable")
    mixed = len({intent.dictionary for intent in listed}) > 1
    if mixed:  # most catalogues have texts alone, and the table is narrow
        table.add_column("Found in")
    table.add_column("Strongest items", ratio=4, min_width=12)
    for intent in listed:
        table.add_row(
            intent_name(intent.intent_id, intent.label),
            _auc(intent),
            f"{intent.density:.1%}",
            _list_state(intent),
            "yes" if intent.steerable else "no",
            *([_DICTIONARIES.get(intent.dictionary, "")] if mixed else []),
            Text(_item_names(intent.top_items[:3])),
        )
    return Group(table, Text(f"{len(listed)} of {total} intents.", style="dim"))


def _list_state(intent: intents_api.Intent) -> Text:
    """The state, and under it the kind where it is known."""
    text = Text(_STATES.get(intent.state, ""))
    if intent.kind != intents_api.INTENT_KIND_UNSPECIFIED:
        text.append(f"\n{_KINDS.get(intent.kind, '')}", style="dim")
    return text


def intent_matches(matches: Iterable[intents_api.IntentMatch]) -> RenderableType:
    """The result of a search, best first."""
    table = Table(title="Matches", title_justify="left")
    table.add_column("Score", justify="right")
    table.add_column("Intent", ratio=3, min_width=12)
    table.add_column("Strongest items", ratio=4, min_width=12)
    for match in matches:
        table.add_row(
            f"{match.score:.2f}",
            intent_name(match.intent.intent_id, match.intent.label),
            Text(_item_names(match.intent.top_items[:3])),
        )
    return table


def intent_details(intent: intents_api.Intent, parent: str = "") -> RenderableType:
    """Everything about one intent; `parent` is the label of the broader one."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column()
    facts.add_row("Id", Text(printable(intent.intent_id)))
    facts.add_row("Label", Text(printable(intent.label), style="bold"))
    facts.add_row("Description", Text(printable(intent.description)))
    facts.add_row("Named by", _SOURCES.get(intent.label_source, ""))
    facts.add_row("Label AUC", _auc(intent))
    facts.add_row("Found in", _DICTIONARIES.get(intent.dictionary, ""))
    facts.add_row("Kind", _KINDS.get(intent.kind, ""))
    facts.add_row("State", _STATES.get(intent.state, ""))
    facts.add_row("Steerable", "yes" if intent.steerable else "no")
    facts.add_row("Users", f"{intent.density:.1%}")
    if intent.parent_intent_id:
        facts.add_row("Part of", Text(printable(parent or intent.parent_intent_id)))
    facts.add_row("Terms", Text(printable(", ".join(intent.top_terms))))
    if intent.successor_intent_ids:
        facts.add_row("Use instead", Text(printable(", ".join(intent.successor_intent_ids))))
    items = Table(title="Strongest items", title_justify="left")
    items.add_column("Loading", justify="right")
    items.add_column("Item")
    for item in intent.top_items:
        items.add_row(f"{item.loading:.3f}", item_name(item.item_id, item.title))
    return Group(facts, items)


def notes(response: recommender.RecommendResponse, labels: Labels) -> list[RenderableType]:
    """What a person should know about an answer: what was given up, skipped or unknown."""
    lines: list[RenderableType] = list(_degraded(response.degradations))
    lines += _skipped(response.skipped_adjustments, labels)
    if response.unknown_item_ids:
        unknown = listed([printable(item_id) for item_id in response.unknown_item_ids])
        lines.append(Text(f"Not in the catalogue: {unknown}.", style="yellow"))
    return lines


def _skipped(skipped: Iterable[recommender.SkippedAdjustment], labels: Labels) -> list[RenderableType]:
    return [
        Text(
            f"Not applied: {label(labels, each.intent_id)}: "
            f"{_SKIPPED.get(each.reason, f'reason {each.reason}')}.",
            style="yellow",
        )
        for each in skipped
    ]


def _degraded(degradations: Iterable[recommender.Degradation.ValueType]) -> list[RenderableType]:
    return [
        Text(f"Note: {_DEGRADATIONS.get(each, f'degradation {each}')}.", style="yellow")
        for each in degradations
    ]


def item_name(item_id: str, title: str) -> Text:
    """The title with the id beside it; the id alone when there is no title."""
    text = Text(printable(title))
    if title:
        text.append(" ")
    text.append(printable(item_id), style="dim" if title else "")
    return text


def intent_name(intent_id: str, name: str) -> Text:
    """The label with the id under it; the id alone when there is no label."""
    text = Text(printable(name))
    if name:
        text.append("\n")
    text.append(printable(intent_id), style="dim" if name else "")
    return text


def label(labels: Labels, intent_id: str) -> str:
    """The label of an intent, or its id."""
    return printable(labels.get(intent_id) or intent_id)


def evidence_list(evidence: Iterable[recommender.Evidence]) -> str:
    """History items with their shares, in one line."""
    return ", ".join(f"{printable(each.title or each.item_id)} ({each.share:.0%})" for each in evidence)


def json_answer(value: object) -> str:
    """The lines that --json prints of an answer."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def printable(text: str) -> str:
    """The text without characters that could steer a terminal; titles come from outside."""
    return "".join(character if character.isprintable() else " " for character in text)


def _item_names(items: Iterable[intents_api.ItemLoading]) -> str:
    return ", ".join(printable(item.title or item.item_id) for item in items)


def _auc(intent: intents_api.Intent) -> str:
    if intent.label_source == intents_api.LABEL_SOURCE_ATTRIBUTE:
        return "exact"  # right by construction: nothing was measured
    return f"{intent.label_confidence:.2f}" if intent.label_confidence else "not measured"
