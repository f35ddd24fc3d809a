"""The models this process can answer with."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from saerec_ray.backbone.encoder import UserEncoder
from saerec_ray.bundle import Bundle, load_bundle
from saerec_ray.errors import BundleError
from saerec_ray.intents.catalogue import DeprecatedIntent, Intent
from saerec_ray.retrieval import EXACT_LIMIT, POOL_SIZE, Retriever
from saerec_server.errors import ApiError, Reason
from saerec_server.filters import AttributeIndex, Filter
from saerec_server.history_items import HistoryItems, load_history_items
from saerec_server.ranking import Ranker
from saerec_server.search import IntentSearch


@dataclass(frozen=True)
class LoadedModel:
    """A bundle with everything derived from it; never changes."""

    bundle: Bundle
    ranker: Ranker
    attributes: AttributeIndex
    search: IntentSearch
    item_index: dict[str, int]  # of the catalogue
    history: HistoryItems
    intents: dict[str, Intent]
    deprecated: dict[str, DeprecatedIntent]

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.bundle.manifest.model_version

    @cached_property
    def created(self) -> datetime.datetime:
        """When the bundle was written."""
        return datetime.datetime.fromisoformat(self.bundle.manifest.created)


def load_model(
    folder: Path,
    exact_limit: int = EXACT_LIMIT,
    pool_size: int = POOL_SIZE,
    cross_domain: Sequence[Path] = (),
) -> LoadedModel:
    """Loads a bundle and computes what requests share; histories may also hold the items in `cross_domain`.

    Raises BundleError when the bundle is refused and InputError when a folder of foreign items is.
    """
    bundle = load_bundle(folder)
    history = load_history_items(bundle, cross_domain)
    try:
        encoder = UserEncoder(bundle.config.train, bundle.backbone, history.space, bundle.prior)
    except ValueError as error:
        raise BundleError(f"Bundle {folder} is refused: {error}.") from error
    model = LoadedModel(
        bundle=bundle,
        ranker=Ranker(
            bundle, encoder, Retriever(bundle.space, bundle.steering, exact_limit, pool_size), history
        ),
        attributes=AttributeIndex(bundle.items),
        search=IntentSearch(bundle, history.space.codes),
        item_index={item_id: index for index, item_id in enumerate(bundle.items.ids)},
        history=history,
        intents=bundle.catalogue.by_id(),
        deprecated={intent.intent_id: intent for intent in bundle.catalogue.deprecated},
    )
    _warm(model)
    return model


def _warm(model: LoadedModel) -> None:
    """Answers once, so that lazily built arrays exist before the first request."""
    user = model.ranker.user([0])
    mask = model.attributes.mask(Filter())
    model.ranker.explain(model.ranker.rank(user, [], mask, 1))
    _ = model.bundle.space.postings


class ModelRegistry:
    """Loaded models by version, and the one that answers when no version is asked for."""

    def __init__(self, model: LoadedModel) -> None:
        self._models = {model.version: model}
        self._default = model

    def model(self, version: str = "") -> LoadedModel:
        """The model of a version. Raises ApiError when it is not loaded."""
        if not version:
            return self._default
        try:
            return self._models[version]
        except KeyError:
            raise ApiError.precondition(
                Reason.MODEL_VERSION_NOT_LOADED, "The pinned model version is not loaded here."
            ) from None
