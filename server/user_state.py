"""What is known of a user when a request is answered: stored and given history, and stored steering."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from saerec_ray.data.filtering import without_repeats
from saerec_ray.v1 import recommender_service_pb2 as messages
from saerec_server.failure_log import log_failure
from saerec_server.limits import MAX_HISTORY, MAX_SEEN_EVENTS
from saerec_server.records import StoredInteraction
from saerec_server.registry import LoadedModel
from saerec_server.requests import Interaction, Who
from saerec_server.steering import Profile
from saerec_server.store import Store, StoreError

Failures = dict[messages.Degradation.ValueType, Exception]
"""What could not be read, as the answer says it, and why."""
_NAMES = {
    messages.DEGRADATION_HISTORY_UNAVAILABLE: "history",
    messages.DEGRADATION_STEERING_UNAVAILABLE: "steering",
}


@dataclass(frozen=True)
class KnownUser:
    """A user's interactions with items that the model can read, oldest first, and stored steering.

    Of repeats with one item the interactions hold what the run kept of them for training (`prepare.repeats`).
    """

    interactions: list[Interaction]
    unknown_item_ids: list[str]  # of the request's history
    earlier_item_ids: set[str]  # of all stored interactions that are read, where there are more than these
    profile: Profile
    degradations: list[messages.Degradation.ValueType] = field(default_factory=list)

    def items(self, model: LoadedModel) -> list[int]:
        """The places in `model.history` of the interactions."""
        return [model.history.index[each.item_id] for each in self.interactions]

    def seen(self, model: LoadedModel) -> list[int]:
        """The places of all items of the catalogue that the user met, as far back as is read."""
        index = model.history.index
        earlier = [index[item_id] for item_id in self.earlier_item_ids if item_id in index]
        return model.history.at_home([*self.items(model), *earlier])

    def read(self, model: LoadedModel) -> list[Interaction]:
        """The latest interactions, which are all that the model reads."""
        return self.interactions[-model.bundle.config.train.max_length :]


async def known_user(
    store: Store,
    model: LoadedModel,
    who: Who,
    remaining: float | None,
    *,
    reads_profile: bool,
    degrades: bool = True,
) -> KnownUser:
    """Reads what is stored; a store that fails costs that part of the state, not the answer.

    So does one that takes more than half of the `remaining` seconds of the call, None without a deadline: the rest
    is for the answer. Where the answer cannot do without, `degrades` is False and the failure is a StoreError.
    """
    seconds = None if remaining is None else max(remaining, 0.0) / 2
    failures: Failures = {}
    (stored, earlier), profile = await asyncio.gather(
        _history(store, who, failures, seconds),
        _profile(store, who, failures, reads_profile, seconds),
    )
    if failures and not degrades:
        raise StoreError("the stored state could not be read") from next(iter(failures.values()))
    if failures:
        names = " and ".join(_NAMES[each] for each in sorted(failures))
        log_failure(f"goes without stored {names}", *failures.values())
    past = [Interaction(each.item_id, each.event_time) for each in stored]
    return KnownUser(
        interactions=_as_trained(model, [*past, *who.history]),
        unknown_item_ids=[each.item_id for each in who.history if each.item_id not in model.history.index],
        earlier_item_ids=earlier,
        profile=profile,
        degradations=sorted(failures),
    )


def _as_trained(model: LoadedModel, interactions: Sequence[Interaction]) -> list[Interaction]:
    """Those with items that the model can read, without the repeats that its training left out."""
    index = model.history.index
    readable = [each for each in interactions if each.item_id in index]
    repeats = model.bundle.config.prepare.repeats
    if repeats == "keep":
        return readable
    items = np.array([index[each.item_id] for each in readable], dtype=np.int64)
    return [readable[place] for place in without_repeats(np.zeros_like(items), items, repeats)]


async def _history(
    store: Store, who: Who, failures: Failures, seconds: float | None
) -> tuple[list[StoredInteraction], set[str]]:
    """The latest interactions, and the items of all that count as seen when there are more."""
    if not who.reads_store:
        return [], set()
    try:
        async with asyncio.timeout(seconds):
            latest = await store.history(who.user_id, MAX_HISTORY)
            more = len(latest) == MAX_HISTORY
            return latest, await store.item_ids(who.user_id, MAX_SEEN_EVENTS) if more else set()
    except (StoreError, TimeoutError) as error:
        failures[messages.DEGRADATION_HISTORY_UNAVAILABLE] = error
        return [], set()


async def _profile(
    store: Store,
    who: Who,
    failures: Failures,
    reads_profile: bool,
    seconds: float | None,
) -> Profile:
    if not (reads_profile and who.user_id):
        return Profile()
    try:
        async with asyncio.timeout(seconds):
            return await store.profile(who.user_id)
    except (StoreError, TimeoutError) as error:
        failures[messages.DEGRADATION_STEERING_UNAVAILABLE] = error
        return Profile()
