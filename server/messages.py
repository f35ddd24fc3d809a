"""Plain values to response messages of the recommender."""

from __future__ import annotations

from collections.abc import Sequence

from saerec_ray.evidence import Evidence as HistoryEvidence
from saerec_ray.intents.population import Verdict
from saerec_ray.v1 import common_pb2
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server.errors import Reason
from saerec_server.insight import Effect, UserInsight, UserReason
from saerec_server.ranking import ItemReasons, Ranking
from saerec_server.records import Revision
from saerec_server.registry import LoadedModel
from saerec_server.requests import MODES, timestamp
from saerec_server.steering import Change, Profile, StoredChange, WriteMode
from saerec_server.user_state import KnownUser

_WIRE_MODES = {mode: number for number, mode in MODES.items()}
_WIRE_WRITE_MODES = {
    WriteMode.MERGE: messages.STEER_MODE_MERGE,
    WriteMode.REPLACE: messages.STEER_MODE_REPLACE,
    WriteMode.CLEAR: messages.STEER_MODE_CLEAR,
}
_REPRESENTATIONS = {
    Verdict.TYPICAL: messages.REPRESENTATION_TYPICAL,
    Verdict.OVER: messages.REPRESENTATION_OVER,
    Verdict.UNDER: messages.REPRESENTATION_UNDER,
}


def serving_version(model: LoadedModel) -> common_pb2.ServingVersion:
    """Which models produced an answer."""
    manifest = model.bundle.manifest
    return common_pb2.ServingVersion(
        model_version=manifest.model_version,
        intents_version=manifest.intents_version,
        catalog_version=manifest.catalog_version,
    )


def recommended_items(
    model: LoadedModel, known: KnownUser, ranking: Ranking, reasons: Sequence[ItemReasons] | None
) -> list[messages.RecommendedItem]:
    """The ranked items, explained when there are reasons."""
    popular = ranking.user.cold
    source = messages.ITEM_SOURCE_POPULAR if popular else messages.ITEM_SOURCE_PERSONALIZED
    result = []
    for place, (item, score) in enumerate(zip(ranking.items.tolist(), ranking.scores.tolist(), strict=True)):
        message = messages.RecommendedItem(
            item_id=model.bundle.items.ids[item],
            title=model.bundle.items.titles[item],
            score=score,
            source=source,
        )
        if reasons is not None:
            message.explanation.CopyFrom(_explanation(model, known, reasons[place]))
        result.append(message)
    return result


def _explanation(model: LoadedModel, known: KnownUser, reasons: ItemReasons) -> messages.ItemExplanation:
    intents = model.bundle.catalogue.intents
    return messages.ItemExplanation(
        intents=[
            messages.IntentContribution(
                intent_id=intents[reason.intent].intent_id,
                label=intents[reason.intent].label,
                contribution=reason.contribution,
                contribution_vs_average=reason.contribution_vs_average,
                rank_without=reason.rank_without,
            )
            for reason in reasons.intents
        ],
        other_intents_score=reasons.other_intents,
        residual_score=reasons.residual,
        bias_score=reasons.bias,
        steering=[
            messages.SteeringContribution(intent_id=intents[intent].intent_id, contribution=change)
            for intent, change in reasons.steering
        ],
        unsteered_rank=reasons.unsteered_rank,
        evidence=_evidence(model, known, reasons.evidence),
        companions_score=reasons.companions,
        companions_by_text=reasons.companions_by_text,
        companions=[
            _companion(model, known.read(model)[part.place].item_id, part.contribution)
            for part in reasons.companion_parts
        ],
    )


def _companion(model: LoadedModel, item_id: str, contribution: float) -> messages.CompanionContribution:
    title = model.history.titles[model.history.index[item_id]]
    return messages.CompanionContribution(item_id=item_id, title=title, contribution=contribution)


def _evidence(
    model: LoadedModel, known: KnownUser, evidence: Sequence[HistoryEvidence]
) -> list[messages.Evidence]:
    result = []
    for each in evidence:
        interaction = known.read(model)[each.place]
        title = model.history.titles[model.history.index[interaction.item_id]]
        message = messages.Evidence(item_id=interaction.item_id, title=title, share=each.share)
        if interaction.event_time is not None:
            message.event_time.CopyFrom(timestamp(interaction.event_time))
        result.append(message)
    return result


def user_intents(model: LoadedModel, known: KnownUser, insight: UserInsight) -> list[messages.UserIntent]:
    """The intents that drive a user."""
    intents = model.bundle.catalogue.intents
    return [
        messages.UserIntent(
            intent_id=intents[reason.intent].intent_id,
            label=intents[reason.intent].label,
            origin=_origin(reason),
            base_weight=reason.base_weight,
            weight=reason.weight,
            percentile=reason.percentile,
            evidence=_evidence(model, known, reason.evidence),
            log_lift=reason.log_lift,
            z_score=reason.z_score,
            representation=_REPRESENTATIONS[reason.verdict],
        )
        for reason in insight.reasons
    ]


def _origin(reason: UserReason) -> messages.IntentOrigin.ValueType:
    if reason.personal:
        return messages.INTENT_ORIGIN_PERSONAL
    return messages.INTENT_ORIGIN_STEERED if reason.steered else messages.INTENT_ORIGIN_PUBLIC


def steering_profile(
    user_id: str, profile: Profile, stored: Sequence[StoredChange]
) -> messages.SteeringProfile:
    """A profile with the given adjustments."""
    message = messages.SteeringProfile(
        user_id=user_id,
        adjustments=[
            messages.StoredAdjustment(
                adjustment=adjustment(each.change),
                expire_time=timestamp(each.expire_time),
                actor=each.actor,
                reason=each.reason,
            )
            for each in stored
        ],
        revision=profile.revision,
        etag=profile.etag,
    )
    if profile.revision:
        message.update_time.CopyFrom(timestamp(profile.update_time))
    return message


def adjustment(change: Change) -> common_pb2.IntentAdjustment:
    """One adjustment."""
    return common_pb2.IntentAdjustment(
        intent_id=change.intent_id, mode=_WIRE_MODES[change.mode], strength=change.strength
    )


def skipped_adjustments(skipped: Sequence[tuple[str, Reason]]) -> list[messages.SkippedAdjustment]:
    """Adjustments that had no effect, and why."""
    return [
        messages.SkippedAdjustment(
            intent_id=intent_id, reason=common_pb2.ErrorReason.Value(f"ERROR_REASON_{reason.name}")
        )
        for intent_id, reason in skipped
    ]


def steering_effect(model: LoadedModel, effect: Effect) -> messages.SteeringEffect:
    """Before and after of a steering write."""
    intents = model.bundle.catalogue.intents
    return messages.SteeringEffect(
        overlap=effect.overlap,
        exposures=[
            messages.ExposureChange(intent_id=intents[intent].intent_id, before=before, after=after)
            for intent, before, after in effect.exposures
        ],
    )


def steering_revision(revision: Revision) -> messages.SteeringRevision:
    """One audited write."""
    return messages.SteeringRevision(
        revision=revision.revision,
        create_time=timestamp(revision.create_time),
        actor=revision.actor,
        mode=_WIRE_WRITE_MODES[revision.mode],
        adjustments=[adjustment(change) for change in revision.changes],
        reason=revision.reason,
        request_id=revision.request_id,
    )
