"""The catalogue of intents: list, read, search."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import grpc
from google.protobuf import timestamp_pb2

from saerec_ray.intents.catalogue import DeprecatedIntent, Intent
from saerec_ray.v1 import intent_service_pb2 as messages
from saerec_ray.v1.intent_service_pb2_grpc import IntentServiceServicer
from saerec_server import limits
from saerec_server.compute import Compute
from saerec_server.errors import ApiError, Reason
from saerec_server.paging import entry_before, next_token
from saerec_server.registry import LoadedModel, ModelRegistry
from saerec_server.validation import Checker

# Intents that failed their gate are no part of the public catalogue, and blocked ones must not be shown by any call:
# neither has a state here.
_STATES = {"active": messages.INTENT_STATE_ACTIVE, "deprecated": messages.INTENT_STATE_DEPRECATED}
_ACCEPTED_STATES = [*_STATES.values(), messages.INTENT_STATE_BLOCKED]
_SOURCES = {
    "human": messages.LABEL_SOURCE_HUMAN,
    "model": messages.LABEL_SOURCE_MODEL,
    "terms": messages.LABEL_SOURCE_TERMS,
    "attribute": messages.LABEL_SOURCE_ATTRIBUTE,
}
_DICTIONARIES = {
    "text": messages.INTENT_DICTIONARY_TEXT,
    "cooccurrence": messages.INTENT_DICTIONARY_COOCCURRENCE,
    "attributes": messages.INTENT_DICTIONARY_ATTRIBUTES,
}
_KINDS = {
    "unknown": messages.INTENT_KIND_UNSPECIFIED,
    "intent": messages.INTENT_KIND_INTENT,
    "item property": messages.INTENT_KIND_ITEM_PROPERTY,
    "nuisance": messages.INTENT_KIND_NUISANCE,
}


class IntentService(IntentServiceServicer):
    """Answers from the catalogue of the loaded model."""

    def __init__(self, registry: ModelRegistry, compute: Compute, searching: Compute) -> None:
        """`searching` runs searches: the first one loads a language model and must hold up nothing else."""
        self._registry = registry
        self._compute = compute
        self._searching = searching

    async def ListIntents(
        self, request: messages.ListIntentsRequest, context: grpc.aio.ServicerContext
    ) -> messages.ListIntentsResponse:
        """Lists intents by id, page by page; total_size tells how long the whole list is."""
        model = self._registry.model()
        check = Checker()
        size = check.page_size("page_size", request.page_size, limits.DEFAULT_INTENTS, limits.MAX_INTENTS)
        check.at_most("states", request.states, limits.MAX_INTENT_STATES)
        for place, state in enumerate(request.states[: limits.MAX_INTENT_STATES]):
            check.known_enum(f"states[{place}]", state, _ACCEPTED_STATES)
        serving = model.bundle.catalogue.intents_version
        if request.intents_version not in ("", serving):
            check.add("intents_version", "must be empty or the serving version")
        states = set(request.states) or {messages.INTENT_STATE_ACTIVE}
        what = f"intents of {serving}: {sorted(states)}, {request.steerable_only}"
        last = entry_before(check, request.page_token, what)
        check.done()
        chosen: list[Intent | DeprecatedIntent] = [
            intent
            for intent in model.bundle.catalogue.intents
            if _STATES.get(intent.state) in states and (intent.steerable or not request.steerable_only)
        ]
        if messages.INTENT_STATE_DEPRECATED in states and not request.steerable_only:
            chosen += model.bundle.catalogue.deprecated
        listed = sorted(chosen, key=lambda intent: intent.intent_id)
        start = bisect_right(listed, last, key=lambda intent: intent.intent_id)
        intents = await self._compute.run(context, lambda: _page(model, listed[start : start + size]))
        more = start + len(intents) < len(listed)
        return messages.ListIntentsResponse(
            intents=intents,
            next_page_token=next_token(what, intents[-1].intent_id) if more else "",
            total_size=len(listed),
            intents_version=serving,
        )

    async def GetIntent(
        self, request: messages.GetIntentRequest, _context: grpc.aio.ServicerContext
    ) -> messages.GetIntentResponse:
        """Returns one intent."""
        model = self._registry.model()
        check = Checker()
        check.identifier("intent_id", request.intent_id)
        most = check.page_size(
            "max_top_items", request.max_top_items, limits.DEFAULT_TOP_ITEMS, limits.MAX_TOP_ITEMS
        )
        check.done()
        intent: Intent | DeprecatedIntent | None = model.intents.get(request.intent_id)
        if not isinstance(intent, Intent) or intent.state not in _STATES:
            intent = model.deprecated.get(request.intent_id)
        if intent is None:
            raise ApiError(
                grpc.StatusCode.NOT_FOUND,
                "There is no such intent in the serving dictionary.",
                Reason.UNKNOWN_INTENT,
            )
        return messages.GetIntentResponse(intent=intent_message(model, intent, most))

    async def SearchIntents(
        self, request: messages.SearchIntentsRequest, context: grpc.aio.ServicerContext
    ) -> messages.SearchIntentsResponse:
        """Finds published intents by text or by example items."""
        model = self._registry.model()
        check = Checker()
        size = check.page_size("page_size", request.page_size, limits.DEFAULT_MATCHES, limits.MAX_MATCHES)
        check.unsupported("page_token", present=bool(request.page_token))
        kind = request.WhichOneof("query")
        if kind is None:
            check.add("query", "must be text or example items")
        elif kind == "text":
            if not request.text.strip():
                check.add("text", "must not be empty")
            if len(request.text) > limits.MAX_SEARCH_CHARACTERS:
                check.add("text", f"must have at most {limits.MAX_SEARCH_CHARACTERS} characters")
        else:
            _check_examples(check, request.examples)
        check.done()
        if kind == "text":
            matches = await self._searching.run(context, lambda: model.search.by_text(request.text, size))
        else:
            ids = dict.fromkeys(request.examples.item_ids)
            known = model.history.index
            items = [known[item_id] for item_id in ids if item_id in known]
            matches = await self._searching.run(context, lambda: model.search.by_items(items, size))
        intents = model.bundle.catalogue.intents
        return messages.SearchIntentsResponse(
            matches=[
                messages.IntentMatch(
                    intent=intent_message(model, intents[intent], limits.DEFAULT_TOP_ITEMS), score=score
                )
                for intent, score in matches
            ]
        )


def _check_examples(check: Checker, examples: messages.ExampleItems) -> None:
    if not examples.item_ids:
        check.add("examples.item_ids", "must not be empty")
    check.at_most("examples.item_ids", examples.item_ids, limits.MAX_EXAMPLE_ITEMS)
    for place, item_id in enumerate(examples.item_ids[: limits.MAX_EXAMPLE_ITEMS]):
        check.identifier(f"examples.item_ids[{place}]", item_id)


def _page(model: LoadedModel, listed: Sequence[Intent | DeprecatedIntent]) -> list[messages.Intent]:
    """As many of the intents, from the first on, as every client takes in one answer; at least one if there are any."""
    page: list[messages.Intent] = []
    left = limits.MAX_PAGE_BYTES
    for intent in listed:
        found = intent_message(model, intent, limits.DEFAULT_TOP_ITEMS)
        left -= found.ByteSize()
        if left < 0 and page:
            break
        page.append(found)
    return page


def intent_message(
    model: LoadedModel, intent: Intent | DeprecatedIntent, max_top_items: int
) -> messages.Intent:
    """One intent with its strongest items; a deprecated one has no items, but says what to use instead."""
    if isinstance(intent, DeprecatedIntent):
        return messages.Intent(
            intent_id=intent.intent_id,
            label=intent.label,
            description=intent.description,
            label_source=_SOURCES[intent.label_source],
            state=messages.INTENT_STATE_DEPRECATED,
            top_terms=intent.terms,
            successor_intent_ids=intent.successors,
            intents_version=intent.last_version,
            dictionary=_DICTIONARIES[intent.dictionary],
        )
    titles, index = model.bundle.items.titles, model.item_index
    updated = timestamp_pb2.Timestamp(seconds=int(model.created.timestamp()))
    return messages.Intent(
        intent_id=intent.intent_id,
        label=intent.label,
        description=intent.description,
        label_source=_SOURCES[intent.label_source],
        label_confidence=intent.label_confidence or 0.0,
        state=_STATES[intent.state],
        steerable=intent.steerable,
        density=intent.user_density,
        top_items=[
            messages.ItemLoading(item_id=top.item_id, title=titles[index[top.item_id]], loading=top.loading)
            for top in intent.top_items[:max_top_items]
            if top.item_id in index
        ],
        top_terms=intent.terms,
        parent_intent_id=intent.parent_id or "",
        dictionary=_DICTIONARIES[intent.dictionary],
        kind=_KINDS[intent.kind],
        intents_version=model.bundle.catalogue.intents_version,
        update_time=updated,
    )
