"""The data plane: recommend, explain, steer."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import grpc

from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_ray.v1.recommender_service_pb2_grpc import RecommenderServiceServicer
from saerec_server import limits
from saerec_server import messages as build
from saerec_server.compute import Compute
from saerec_server.errors import ApiError
from saerec_server.insight import explain_user
from saerec_server.paging import next_token, number_before
from saerec_server.ranking import Ranking
from saerec_server.registry import LoadedModel, ModelRegistry
from saerec_server.requests import (
    CheckedFilter,
    Who,
    check_changes,
    check_common,
    check_filter,
    check_inline_limit,
    check_known,
    check_steerable,
)
from saerec_server.steering import Change, overlay
from saerec_server.steering_writes import SteeringWriter
from saerec_server.store import Store, StoreError
from saerec_server.user_state import known_user
from saerec_server.validation import Checker, now_microseconds


@dataclass(frozen=True)
class _Ask:
    """A checked Recommend request."""

    who: Who
    page_size: int
    filter: CheckedFilter
    inline: list[Change]


class RecommenderService(RecommenderServiceServicer):
    """Answers from the loaded model and the stored user state."""

    def __init__(self, registry: ModelRegistry, store: Store, compute: Compute) -> None:
        self._registry = registry
        self._store = store
        self._compute = compute
        self._writer = SteeringWriter(registry, store, compute)

    async def Recommend(
        self, request: messages.RecommendRequest, context: grpc.aio.ServicerContext
    ) -> messages.RecommendResponse:
        """Returns one page of ranked items."""
        model = self._registry.model(request.model_version)
        ask = self._checked(request, model)
        known = await known_user(
            self._store,
            model,
            ask.who,
            context.time_remaining(),
            reads_profile=not request.steering.ignore_profile,
        )
        applied = overlay(model.intents, known.profile.active(now_microseconds()), ask.inline)
        history = known.items(model)
        ranker = model.ranker
        user = await self._compute.run(context, lambda: ranker.user(history))
        seen = known.seen(model) if ask.filter.exclude_seen else ()

        def rank() -> Ranking:
            mask = model.attributes.mask(ask.filter.filter, seen)
            return ranker.rank(user, applied.acting, mask, ask.page_size)

        def items() -> list[messages.RecommendedItem]:
            explained = request.view == messages.RECOMMEND_VIEW_EXPLAINED
            reasons = ranker.explain(ranking) if explained else None
            return build.recommended_items(model, known, ranking, reasons)

        ranking = await self._compute.run(context, rank)
        listed = await self._compute.run(context, items)
        degradations = list(known.degradations)
        if user.cold:
            degradations.append(messages.DEGRADATION_POPULARITY_ONLY)
        if not ranking.exact:
            degradations.append(messages.DEGRADATION_RERANK_SHORTENED)
        return messages.RecommendResponse(
            recommendation_id=str(uuid.uuid4()),
            items=listed,
            version=build.serving_version(model),
            degradations=degradations,
            unknown_item_ids=list(dict.fromkeys([*known.unknown_item_ids, *ask.filter.unknown_item_ids])),
            skipped_adjustments=build.skipped_adjustments(applied.skipped),
            steering_revision=known.profile.revision,
        )

    def _checked(self, request: messages.RecommendRequest, model: LoadedModel) -> _Ask:
        check = Checker()
        who = check_common(check, request, self._store.store_id)
        page_size = check.page_size(
            "page_size", request.page_size, limits.DEFAULT_PAGE_SIZE, limits.MAX_PAGE_SIZE
        )
        check.unsupported("page_token", present=bool(request.page_token))
        check.unsupported("diversity", present=request.HasField("diversity"))
        check.unsupported("context", present=bool(request.context))
        check.known_enum("view", request.view, messages.RecommendView.values())
        wanted = check_filter(check, request.filter, model)
        field, entries = "steering.adjustments", request.steering.adjustments
        inline = check_changes(check, field, entries, limits.MAX_INLINE_ADJUSTMENTS)
        check_known(check, field, entries[: limits.MAX_INLINE_ADJUSTMENTS], model)
        check.done()
        check_steerable(field, inline, model)
        check_inline_limit(inline)
        return _Ask(who, page_size, wanted, inline)

    async def ExplainUser(
        self, request: messages.ExplainUserRequest, context: grpc.aio.ServicerContext
    ) -> messages.ExplainUserResponse:
        """Returns the intents that drive a user's ranking, with evidence."""
        model = self._registry.model(request.model_version)
        check = Checker()
        who = check_common(check, request, self._store.store_id)
        max_intents = check.page_size(
            "max_intents", request.max_intents, limits.DEFAULT_USER_INTENTS, limits.MAX_USER_INTENTS
        )
        max_evidence = check.page_size(
            "max_evidence", request.max_evidence, limits.DEFAULT_EVIDENCE, limits.MAX_EVIDENCE
        )
        check.done()
        known = await known_user(self._store, model, who, context.time_remaining(), reads_profile=True)
        active = known.profile.active(now_microseconds())
        acting = overlay(model.intents, active, []).acting
        history, seen = known.items(model), known.seen(model)
        user = await self._compute.run(context, lambda: model.ranker.user(history))
        insight = await self._compute.run(
            context,
            lambda: explain_user(model.ranker, user, history, seen, acting, max_intents, max_evidence),
        )
        response = messages.ExplainUserResponse(
            intents=build.user_intents(model, known, insight),
            intent_share=insight.intent_share,
            fidelity=insight.fidelity,
            version=build.serving_version(model),
            degradations=[
                *known.degradations,
                *([messages.DEGRADATION_POPULARITY_ONLY] if user.cold else []),
            ],
        )
        if known.profile.revision:
            response.profile.CopyFrom(build.steering_profile(who.user_id, known.profile, active))
        return response

    async def SteerIntents(
        self, request: messages.SteerIntentsRequest, context: grpc.aio.ServicerContext
    ) -> messages.SteerIntentsResponse:
        """Changes a user's stored steering profile."""
        return await self._writer.write(request, context)

    async def GetSteeringProfile(
        self, request: messages.GetSteeringProfileRequest, _context: grpc.aio.ServicerContext
    ) -> messages.GetSteeringProfileResponse:
        """Returns a user's stored steering profile."""
        check = Checker()
        check.identifier("user_id", request.user_id)
        check.done()
        try:
            profile = await self._store.profile(request.user_id)
        except StoreError as error:
            raise ApiError.unavailable("Steering profiles cannot be read right now.") from error
        active = profile.active(now_microseconds())
        return messages.GetSteeringProfileResponse(
            profile=build.steering_profile(request.user_id, profile, active)
        )

    async def ListSteeringRevisions(
        self, request: messages.ListSteeringRevisionsRequest, _context: grpc.aio.ServicerContext
    ) -> messages.ListSteeringRevisionsResponse:
        """Lists past revisions of a user's steering profile, newest first."""
        check = Checker()
        check.identifier("user_id", request.user_id)
        size = check.page_size("page_size", request.page_size, limits.DEFAULT_REVISIONS, limits.MAX_REVISIONS)
        what = f"revisions of {request.user_id}"
        last = number_before(check, request.page_token, what)
        check.done()
        try:
            revisions = await self._store.revisions(request.user_id, size + 1, last)
        except StoreError as error:
            raise ApiError.unavailable("Steering revisions cannot be read right now.") from error
        page = revisions[:size]
        return messages.ListSteeringRevisionsResponse(
            revisions=[build.steering_revision(revision) for revision in page],
            next_page_token=next_token(what, str(page[-1].revision)) if len(revisions) > size else "",
        )
