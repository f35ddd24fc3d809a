"""Answers of a server that knows three intents."""

from __future__ import annotations

from saerec_ray.v1 import intent_service_pb2 as intents_api
from saerec_ray.v1 import recommender_service_pb2 as recommender

SHAMPOO, GENTLE, RAZOR = "int-00000001", "int-00000002", "int-00000003"
LABELS = {SHAMPOO: "shampoo", GENTLE: "gentle shampoo", RAZOR: "razors & blades"}


def intent(intent_id: str) -> intents_api.Intent:
    return intents_api.Intent(
        intent_id=intent_id,
        label=LABELS[intent_id],
        description="Items of this kind.",
        label_source=intents_api.LABEL_SOURCE_TERMS,
        label_confidence=0.91,
        state=intents_api.INTENT_STATE_ACTIVE,
        steerable=True,
        density=0.125,
        top_items=[intents_api.ItemLoading(item_id="i1", loading=2.5, title="Oat [bold]Wash[/bold]")],
        top_terms=["wash", "hair"],
    )


def ranking(*items: tuple[str, float]) -> recommender.RecommendResponse:
    return recommender.RecommendResponse(
        items=[recommender.RecommendedItem(item_id=each, score=score) for each, score in items]
    )
